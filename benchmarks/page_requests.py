"""All that can be asked of the lists and the pages, by name."""

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

PAGE, DEEP = 50, 1_000  # rows on a page; the page that is asked for beside the first


@dataclass(frozen=True)
class Ask:
    """A request, by its name."""

    name: str
    path: str = "/api/packages"
    query: Mapping[str, Any] = field(default_factory=dict)


def asks(database: Database, many: int) -> Iterator[Ask]:
    """All that is asked."""
    with database.read() as connection:
        named = [*_orders(connection, many), *_filters(connection, many), *_others(many), *_pages(connection, many)]
    assert len({one.name for one in named}) == len(named)
    return iter(named)


def _orders(connection: Connection, many: int) -> Iterator[Ask]:
    shown = {"trashed": "false", "deleted": "false", "type": "PACKAGE"}
    for sort in [f"{sign}{key}" for key in SORTS for sign in ("", "-")]:
        yield Ask(f"sort={sort}", query={"sort": sort})
        yield Ask(f"sort={sort}, 1,000th page", query={"sort": sort, "cursor": _cursor(connection, sort, _deep(many))})
    newest = "-updated_at"
    back = _cursor(connection, newest, _deep(many), backwards=True)
    yield Ask("1,000th page, backwards", query={"sort": newest, "cursor": back})
    yield Ask("as the page shows them", query=shown)
    yield Ask("as the page shows them, 1,000th", query={**shown, "cursor": _cursor(connection, newest, _deep(many))})
    yield Ask("200 on a page", query={"limit": 200})


def _deep(many: int) -> int:
    """How many packages stand before the 1,000th page; in a list that has no such page, before its middle."""
    return min(PAGE * DEEP, many // 2)


def _cursor(connection: Connection, sort: str, rows: int, *, backwards: bool = False) -> str:
    """What leads on from so many rows down the list."""
    column, way = SORTS[sort.removeprefix("-")], "DESC" if sort.startswith("-") else "ASC"
    found = text(
        f"SELECT {column} AS value, id FROM packages ORDER BY {column} {way} NULLS LAST, id {way} LIMIT 1 OFFSET {rows}"
    )
    row = connection.execute(found.columns(value=Package.__table__.c[column].type)).one()
    return write_cursor(sort, row.value, row.id, backwards)


def _filters(connection: Connection, many: int) -> Iterator[Ask]:
    middle = dataset.NOW - dataset.LASTED / 2
    deep = _cursor(connection, "-updated_at", _deep(many))
    single: dict[str, Mapping[str, Any]] = {f"status={one}": {"status": one} for one in dataset.STATUSES}
    single |= {"status=SENT or DRAFT": {"status": ["SENT", "DRAFT"]}, "status of none": {"status": "LOST"}}
    single |= {f"{flag}={value}": {flag: value} for flag in ("trashed", "deleted") for value in ("true", "false")}
    single |= {"type=TEMPLATE": {"type": "TEMPLATE"}}
    single |= {f"attention={one}": {"attention": one} for one in ("any", "none", *sorted(set(dataset.REASONS)))}
    single |= {
        "attention=PARKED_HANDLER": {"attention": "PARKED_HANDLER"},
        "attention=DECLINED": {"attention": "DECLINED"},
    }
    single |= {"updated_since": {"updated_since": dataset.NOW.isoformat()[:10]}}
    single |= {
        f"{name} the middle": {name: middle.isoformat()} for name in ("created_since", "created_until", "updated_until")
    }
    single |= {
        "created on one day": {"created_since": "2026-01-31", "created_until": "2026-02-01"},
        "created on one day, by name": {"created_since": "2026-01-31", "created_until": "2026-02-01", "sort": "name"},
        "signer by address": {"signer": dataset.person(7)[2]},
        "signer by id": {"signer": dataset.person(7)[0]},
        "signer of one in a hundred": {"signer": dataset.BUSY},
        "signer of none": {"signer": "nobody@nowhere.example"},
    }
    words = {
        "common": "agreement",
        "of one in fifty": "合同",
        "middling (a family)": dataset.word(7919).lower()[:8],
        "middling (one in a hundred)": "contoso",
        "rare (a number)": f"{many * 2 // 7}",
        "absent": "xyzzy",
        "two words": "contoso agreement",
        "three words, one absent": "contoso agreement xyzzy",
        "in every text": "example",
        "absent, of common parts": "agreementracting",
        "an id": dataset.package_id(many // 2)[:12],
        "an address": dataset.person(11)[2],
        "2 letters, common": "ab",
        "2 letters, rare": "q7",
        "2 letters, absent": "qx",
        "1 letter": "z",
        "Chinese, 2": "王伟",
        "Chinese, absent": "龙龘",
        "Greek": "ΠΑΠΑΔΌΠΟΥΛΟΣ",
    }
    single |= {f"q {kind}": {"q": word} for kind, word in words.items()}
    single |= {
        "q rare, of a status": {"q": words["rare (a number)"], "status": "SENT"},
        "q middling, attention=any": {"q": words["middling (one in a hundred)"], "attention": "any"},
        "q common, attention=KBA_FAILURE": {"q": words["common"], "attention": "KBA_FAILURE"},
        "q absent, attention=any": {"q": words["absent"], "attention": "any"},
        "q common, by name": {"q": words["common"], "sort": "name"},
        "all filters at once": {
            "q": words["common"],
            "status": ["SENT", "COMPLETED"],
            "trashed": "false",
            "deleted": "false",
            "type": "PACKAGE",
            "signer": dataset.BUSY,
            "attention": "any",
            "created_since": "2025-01-01",
            "sort": "due_at",
        },
    }
    for name, query in single.items():
        yield Ask(name, query=query)
        if "sort" not in query and name.split(" ")[0] in (
            "q",
            "attention=any",
            "signer",
            "status=SENT",
            "trashed=false",
        ):
            yield Ask(f"{name}, 1,000th page", query={**query, "cursor": deep})


def _others(many: int) -> Iterator[Ask]:
    one, events = dataset.package_id(many // 2), many * dataset.EVENTS
    deep = max(1, events - PAGE * DEEP)
    yield Ask("one package", f"/api/packages/{one}")
    yield Ask("its history", f"/api/packages/{one}/history")
    yield Ask("one event", f"/api/events/{events // 2}")
    asked: dict[str, Mapping[str, Any]] = {
        "events": {},
        "events of a package": {"package": one},
        "events by name": {"name": "DOCUMENT_SIGNED"},
        "events by a rare name": {"name": "PACKAGE_TRASH"},
        "events of no name": {"name": "PACKAGE_LOST"},
        "events that were found": {"source": "reconcile"},
        "events that were told": {"source": "callback"},
        **{f"events, {state}": {"state": state} for state in dataset.STATES},
        "events, name and state": {"name": "EMAIL_BOUNCE", "state": "parked"},
        "events, name, source and state": {"name": "PACKAGE_COMPLETE", "source": "reconcile", "state": "discarded"},
        "events, package, name and state": {"package": one, "name": "DOCUMENT_SIGNED", "state": "done"},
        "events, found and running": {"source": "reconcile", "state": "running"},
    }
    for name, query in asked.items():
        yield Ask(name, "/api/events", query)
        yield Ask(f"{name}, 1,000th page", "/api/events", {**query, "cursor": deep})
    for name, query in {"missed": {}, **_missed(one)}.items():
        yield Ask(name, "/api/missed", query)
        yield Ask(f"{name}, 1,000th page", "/api/missed", {**query, "cursor": deep})
    yield Ask("changes", "/api/changes")
    yield Ask("changes, 1,000th page", "/api/changes", {"after": min(PAGE * DEEP, many * dataset.CHANGES - PAGE)})
    yield Ask("missed/rate", "/api/missed/rate")
    yield Ask("missed/rate of a year", "/api/missed/rate", {"days": 366})
    yield Ask("reconciles", "/api/reconciles")
    yield Ask("reconciles, a late page", "/api/reconciles", {"cursor": PAGE})
    yield Ask("callbacks", "/api/callbacks")
    yield Ask("callbacks, 1,000th page", "/api/callbacks", {"cursor": write_cursor(deep)})
    for state in ("waiting", "digested", "unreadable", "unknown"):
        yield Ask(f"callbacks, {state}", "/api/callbacks", {"state": state})
    yield Ask("callbacks, by key", "/api/callbacks", {"key": "first"})
    yield Ask("callbacks of a package", "/api/callbacks", {"package": one})
    yield Ask("callbacks, by a key of none", "/api/callbacks", {"key": "second"})
    yield Ask("dispatches", "/api/dispatches")
    yield Ask("dispatches, parked", "/api/dispatches", {"state": "parked"})
    yield Ask("dispatches, parked of a name", "/api/dispatches", {"state": "parked", "name": "EMAIL_BOUNCE"})
    yield Ask("dispatches of a handler", "/api/dispatches", {"handler": "file_signed_documents"})
    yield Ask("attention", "/api/attention")
    yield Ask("attention, by reason", "/api/attention", {"reason": "KBA_FAILURE"})
    for path in ("/api/attention/counts", "/api/handlers", "/api/flow", "/api/health", "/metrics"):
        yield Ask(path, path)


def _missed(package: str) -> dict[str, Mapping[str, Any]]:
    return {
        "missed of a package": {"package": package},
        "missed by name": {"name": "PACKAGE_COMPLETE"},
        "missed by cause": {"cause": "down"},
        "missed, not reported yet": {"reported": "false"},
        "missed, reported": {"reported": "true"},
        "missed by name and cause": {"name": "PACKAGE_TRASH", "cause": "refused"},
    }


def _pages(connection: Connection, many: int) -> Iterator[Ask]:
    deep = _cursor(connection, "-updated_at", _deep(many))
    events = many * dataset.EVENTS
    late = str(max(1, events - PAGE * DEEP))
    looks: dict[str, tuple[str, Mapping[str, Any]]] = {
        "transactions": ("/", {}),
        "transactions, 1,000th": ("/", {"cursor": deep}),
        "transactions of a status": ("/", {"status": "SENT"}),
        "transactions by name": ("/", {"sort": "name"}),
        "transactions by due date": ("/", {"sort": "due_at"}),
        "transactions created on one day": ("/", {"since": "2026-01-31", "until": "2026-01-31"}),
        "transactions that need a hand": ("/", {"attention": "EMAIL_BOUNCE"}),
        "templates": ("/", {"view": "templates"}),
        "trash": ("/", {"view": "trash"}),
        "transactions, q middling": ("/", {"q": "contoso"}),
        "transactions, q rare": ("/", {"q": f"{many * 2 // 7}"}),
        "one transaction": (f"/transactions/{dataset.package_id(many // 2)}", {}),
        "attention": ("/attention", {}),
        "attention, one reason": ("/attention", {"reason": "KBA_FAILURE"}),
        "events": ("/events", {}),
        "events, 1,000th": ("/events", {"cursor": late}),
        "events, parked": ("/events", {"state": "parked"}),
        "one event": (f"/events/{events // 2}", {}),
        "callbacks": ("/callbacks", {}),
        "callbacks, 1,000th": ("/callbacks", {"cursor": write_cursor(int(late))}),
        "one callback": (f"/callbacks/{events // 2}", {}),
        "handlers": ("/handlers", {}),
        "handlers, done": ("/handlers", {"state": "done"}),
        "health": ("/health", {}),
    }
    for name, (path, query) in looks.items():
        yield Ask(f"page: {name}", path, query)
