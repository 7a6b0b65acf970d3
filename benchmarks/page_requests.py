"""The requests of the benchmark `pages`: each API list in every order and with every filter, each dashboard page."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import Connection

from app.store.db import Database
from app.store.models import Package
from app.store.queries import SORTS
from app.store.queries.paging import write_cursor
from benchmarks import dataset

PAGE_ROWS = 50
DEEP_PAGE = 1_000  # the number of the page that is measured beside the first page
# Searches and filters that are also measured on the 1,000th page of a list.
MEASURED_DEEP = ("q", "attention=any", "signer", "status=SENT", "trashed=false")


@dataclass(frozen=True)
class PageRequest:
    """A GET request and its name in the results."""

    name: str
    path: str = "/api/packages"
    query: Mapping[str, Any] = field(default_factory=dict)


def build_requests(database: Database, size: int) -> list[PageRequest]:
    """Build all requests that are measured on a dataset of this size."""
    with database.read() as connection:
        requests = [
            *_package_orders(connection, size),
            *_package_filters(connection, size),
            *_other_lists(size),
            *_pages(connection, size),
        ]
    assert len({request.name for request in requests}) == len(requests)
    return requests


def _package_orders(connection: Connection, size: int) -> Iterator[PageRequest]:
    for sort in [f"{sign}{key}" for key in SORTS for sign in ("", "-")]:
        yield PageRequest(f"sort={sort}", query={"sort": sort})
        cursor = _package_cursor(connection, sort, _deep_offset(size))
        yield PageRequest(f"sort={sort}, 1,000th page", query={"sort": sort, "cursor": cursor})
    newest, default_filters = "-updated_at", {"trashed": "false", "deleted": "false", "type": "PACKAGE"}
    deep = _package_cursor(connection, newest, _deep_offset(size))
    deep_backwards = _package_cursor(connection, newest, _deep_offset(size), backwards=True)
    yield PageRequest("1,000th page, backwards", query={"sort": newest, "cursor": deep_backwards})
    yield PageRequest("default view", query=default_filters)
    yield PageRequest("default view, 1,000th page", query={**default_filters, "cursor": deep})
    yield PageRequest("200 on a page", query={"limit": 200})


def _deep_offset(size: int) -> int:
    """The number of packages before the 1,000th page, or half of all packages if the list is shorter."""
    return min(PAGE_ROWS * DEEP_PAGE, size // 2)


def _package_cursor(connection: Connection, sort: str, offset: int, *, backwards: bool = False) -> str:
    """Return the cursor of the page that begins after `offset` packages."""
    column, direction = SORTS[sort.removeprefix("-")], "DESC" if sort.startswith("-") else "ASC"
    order = f"{column} {direction} NULLS LAST, id {direction}"
    query = text(f"SELECT {column} AS value, id FROM packages ORDER BY {order} LIMIT 1 OFFSET {offset}")
    row = connection.execute(query.columns(value=Package.__table__.c[column].type)).one()
    return write_cursor(sort, row.value, row.id, backwards)


def _package_filters(connection: Connection, size: int) -> Iterator[PageRequest]:
    middle = dataset.NOW - dataset.PERIOD / 2
    deep = _package_cursor(connection, "-updated_at", _deep_offset(size))
    queries: dict[str, Mapping[str, Any]] = {f"status={status}": {"status": status} for status in dataset.STATUSES}
    queries |= {"status=SENT or DRAFT": {"status": ["SENT", "DRAFT"]}, "status, no match": {"status": "LOST"}}
    queries |= {f"{flag}={value}": {flag: value} for flag in ("trashed", "deleted") for value in ("true", "false")}
    queries |= {"type=TEMPLATE": {"type": "TEMPLATE"}}
    reasons = ("any", "none", *sorted(set(dataset.REASONS)), "PARKED_HANDLER", "DECLINED")
    queries |= {f"attention={reason}": {"attention": reason} for reason in reasons}
    queries |= {"updated_since": {"updated_since": dataset.NOW.isoformat()[:10]}}
    dates = ("created_since", "created_until", "updated_until")
    queries |= {f"{name} half of the period": {name: middle.isoformat()} for name in dates}
    queries |= {
        "created on one day": {"created_since": "2026-01-31", "created_until": "2026-02-01"},
        "created on one day, by name": {"created_since": "2026-01-31", "created_until": "2026-02-01", "sort": "name"},
        "signer by address": {"signer": dataset.person(7)[2]},
        "signer by id": {"signer": dataset.person(7)[0]},
        "signer of 1 % of packages": {"signer": dataset.BUSY_SIGNER},
        "signer, no match": {"signer": "nobody@nowhere.example"},
    }
    words = {
        "common": "agreement",
        "in 2 % of packages": "合同",
        "medium (a family name)": dataset.word(7919).lower()[:8],
        "medium (1 % of packages)": "contoso",
        "rare (a number)": f"{size * 2 // 7}",
        "absent": "xyzzy",
        "two words": "contoso agreement",
        "three words, one absent": "contoso agreement xyzzy",
        "in every text": "example",
        "absent, of common parts": "agreementracting",
        "an id": dataset.package_id(size // 2)[:12],
        "an address": dataset.person(11)[2],
        "2 letters, common": "ab",
        "2 letters, rare": "q7",
        "2 letters, absent": "qx",
        "1 letter": "z",
        "Chinese, 2": "王伟",
        "Chinese, absent": "龙龘",
        "Greek": "ΠΑΠΑΔΌΠΟΥΛΟΣ",
    }
    queries |= {f"q {kind}": {"q": word} for kind, word in words.items()}
    queries |= {
        "q rare, of a status": {"q": words["rare (a number)"], "status": "SENT"},
        "q medium, attention=any": {"q": words["medium (1 % of packages)"], "attention": "any"},
        "q common, attention=KBA_FAILURE": {"q": words["common"], "attention": "KBA_FAILURE"},
        "q absent, attention=any": {"q": words["absent"], "attention": "any"},
        "q common, by name": {"q": words["common"], "sort": "name"},
        "all filters at once": {
            "q": words["common"],
            "status": ["SENT", "COMPLETED"],
            "trashed": "false",
            "deleted": "false",
            "type": "PACKAGE",
            "signer": dataset.BUSY_SIGNER,
            "attention": "any",
            "created_since": "2025-01-01",
            "sort": "due_at",
        },
    }
    for name, query in queries.items():
        yield PageRequest(name, query=query)
        if "sort" not in query and name.replace(",", " ").split(" ")[0] in MEASURED_DEEP:
            yield PageRequest(f"{name}, 1,000th page", query={**query, "cursor": deep})


def _other_lists(size: int) -> Iterator[PageRequest]:
    package, events = dataset.package_id(size // 2), size * dataset.EVENTS
    deep = max(1, events - PAGE_ROWS * DEEP_PAGE)
    yield PageRequest("one package", f"/api/packages/{package}")
    yield PageRequest("its history", f"/api/packages/{package}/history")
    yield PageRequest("one event", f"/api/events/{events // 2}")
    for name, query in (_event_queries(package) | _missed_queries(package)).items():
        path = "/api/missed" if name.startswith("missed") else "/api/events"
        yield PageRequest(name, path, query)
        yield PageRequest(f"{name}, 1,000th page", path, {**query, "cursor": deep})
    last_change = size * dataset.CHANGES
    yield PageRequest("changes", "/api/changes")
    yield PageRequest(
        "changes, 1,000th page", "/api/changes", {"after": min(PAGE_ROWS * DEEP_PAGE, last_change - PAGE_ROWS)}
    )
    yield PageRequest("missed/rate", "/api/missed/rate")
    yield PageRequest("missed/rate of a year", "/api/missed/rate", {"days": 366})
    yield PageRequest("reconciles", "/api/reconciles")
    yield PageRequest("reconciles, a late page", "/api/reconciles", {"cursor": PAGE_ROWS})
    yield PageRequest("callbacks", "/api/callbacks")
    yield PageRequest("callbacks, 1,000th page", "/api/callbacks", {"cursor": write_cursor(deep)})
    for state in ("waiting", "digested", "unreadable", "unknown"):
        yield PageRequest(f"callbacks, {state}", "/api/callbacks", {"state": state})
    yield PageRequest("callbacks, by key", "/api/callbacks", {"key": "first"})
    yield PageRequest("callbacks of a package", "/api/callbacks", {"package": package})
    yield PageRequest("callbacks, by key, no match", "/api/callbacks", {"key": "second"})
    yield PageRequest("dispatches", "/api/dispatches")
    yield PageRequest("dispatches, parked", "/api/dispatches", {"state": "parked"})
    yield PageRequest("dispatches, parked, by name", "/api/dispatches", {"state": "parked", "name": "EMAIL_BOUNCE"})
    yield PageRequest("dispatches of a handler", "/api/dispatches", {"handler": "file_signed_documents"})
    yield PageRequest("attention", "/api/attention")
    yield PageRequest("attention, by reason", "/api/attention", {"reason": "KBA_FAILURE"})
    for path in ("/api/attention/counts", "/api/handlers", "/api/flow", "/api/health", "/metrics"):
        yield PageRequest(path, path)


def _event_queries(package: str) -> dict[str, Mapping[str, Any]]:
    return {
        "events": {},
        "events of a package": {"package": package},
        "events by name": {"name": "DOCUMENT_SIGNED"},
        "events by a rare name": {"name": "PACKAGE_TRASH"},
        "events by name, no match": {"name": "PACKAGE_LOST"},
        "events, source=reconcile": {"source": "reconcile"},
        "events, source=callback": {"source": "callback"},
        **{f"events, {state}": {"state": state} for state in dataset.STATES},
        "events, name and state": {"name": "EMAIL_BOUNCE", "state": "parked"},
        "events, name, source and state": {"name": "PACKAGE_COMPLETE", "source": "reconcile", "state": "discarded"},
        "events, package, name and state": {"package": package, "name": "DOCUMENT_SIGNED", "state": "done"},
        "events, source and state": {"source": "reconcile", "state": "running"},
    }


def _missed_queries(package: str) -> dict[str, Mapping[str, Any]]:
    return {
        "missed": {},
        "missed of a package": {"package": package},
        "missed by name": {"name": "PACKAGE_COMPLETE"},
        "missed by cause": {"cause": "down"},
        "missed, not reported yet": {"reported": "false"},
        "missed, reported": {"reported": "true"},
        "missed by name and cause": {"name": "PACKAGE_TRASH", "cause": "refused"},
    }


def _pages(connection: Connection, size: int) -> Iterator[PageRequest]:
    deep = _package_cursor(connection, "-updated_at", _deep_offset(size))
    events = size * dataset.EVENTS
    deep_event = max(1, events - PAGE_ROWS * DEEP_PAGE)
    pages: dict[str, tuple[str, Mapping[str, Any]]] = {
        "transactions": ("/", {}),
        "transactions, 1,000th": ("/", {"cursor": deep}),
        "transactions of a status": ("/", {"status": "SENT"}),
        "transactions by name": ("/", {"sort": "name"}),
        "transactions by due date": ("/", {"sort": "due_at"}),
        "transactions created on one day": ("/", {"since": "2026-01-31", "until": "2026-01-31"}),
        "transactions, one attention reason": ("/", {"attention": "EMAIL_BOUNCE"}),
        "templates": ("/", {"view": "templates"}),
        "trash": ("/", {"view": "trash"}),
        "transactions, q medium": ("/", {"q": "contoso"}),
        "transactions, q rare": ("/", {"q": f"{size * 2 // 7}"}),
        "one transaction": (f"/transactions/{dataset.package_id(size // 2)}", {}),
        "attention": ("/attention", {}),
        "attention, one reason": ("/attention", {"reason": "KBA_FAILURE"}),
        "events": ("/events", {}),
        "events, 1,000th": ("/events", {"cursor": str(deep_event)}),
        "events, parked": ("/events", {"state": "parked"}),
        "one event": (f"/events/{events // 2}", {}),
        "callbacks": ("/callbacks", {}),
        "callbacks, 1,000th": ("/callbacks", {"cursor": write_cursor(deep_event)}),
        "one callback": (f"/callbacks/{events // 2}", {}),
        "handlers": ("/handlers", {}),
        "handlers, done": ("/handlers", {"state": "done"}),
        "health": ("/health", {}),
    }
    for name, (path, query) in pages.items():
        yield PageRequest(f"page: {name}", path, query)
