"""What it takes to read: every list of the API, its first and its 1,000th page, each filter, each order, each search.

Asked of the Flask app itself, in this process: no server, no network. Beside each figure is what the same takes with
fewer packages.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.engine import Connection

from app import EXTENSION, create_app
from app.store.db import Database
from app.store.models import Package
from app.store.queries import SORTS
from app.store.queries.cursors import Place, write_cursor
from app.store.queries.places import write_parts
from app.work.dispatch import Handlers
from benchmarks import crowd, plan
from benchmarks.places import Databases
from benchmarks.progress import Progress
from config import Settings

AIM, RATIO = 50, 2  # milliseconds; times what it takes with fewer packages
WARM_UP = 12  # times before: PostgreSQL plans a statement anew a few times
PAGE, DEEP = 50, 1_000  # rows on a page; the page that is asked for beside the first
SLOWEST = 5  # whose plans are kept
TOKEN = "the-token-of-the-benchmarks"

Answers = dict[str, list[float]]


@dataclass(frozen=True)
class Ask:
    """A request, by its name."""

    name: str
    path: str = "/api/packages"
    query: Mapping[str, Any] = field(default_factory=dict)


def run(databases: Databases, *, sizes: Mapping[str, tuple[int, int]], asked: int, keeps_plans: bool) -> bool:
    """Measure on each kind of database with few and with many packages. Returns whether all aims were met."""
    met = [_compare(databases, kind, *both, asked=asked, keeps_plans=keeps_plans) for kind, both in sizes.items()]
    return all(met)


def _compare(databases: Databases, kind: str, few: int, many: int, *, asked: int, keeps_plans: bool) -> bool:
    print(f"\nReading, {kind}: {few:,} packages beside {many:,}; each asked {asked} times, in milliseconds")
    took = []
    with ExitStack() as stack:
        for size in (few, many):
            url, began = stack.enter_context(databases.fresh(kind)), time.perf_counter()
            crowd.fill(url, size)
            print(f"  {size:,} packages written in {time.perf_counter() - began:.0f} s")
            took.append(measure(url, size, asked=asked))
        if keeps_plans:
            keep_plans(url, many, took[1])
    return show(*took)


def measure(url: str, many: int, *, asked: int) -> Answers:
    """Milliseconds of each answer, by what was asked."""
    progress, took = Progress(), {}
    with serving(url) as app, app.test_client() as client:
        for ask in asks(app, many):
            progress.show(f"{many:,} packages: {ask.name}")
            took[ask.name] = [_answered(client, ask) for _ in range(WARM_UP + asked)][WARM_UP:]
    progress.end()
    return took


def show(few: Answers, many: Answers) -> bool:
    """Print the table. Returns whether all aims were met."""
    print(f"  {'':<44}{'p50':>7}{'p95':>7}{'p50':>9}{'p95':>7}{'ratio':>7}")
    missed = 0
    for name, after in many.items():
        small, large = quantile(few[name], 0.95), quantile(after, 0.95)
        is_met = large <= AIM and large <= RATIO * small
        missed += not is_met
        print(
            f"  {name:<44}{quantile(few[name], 0.5):>7.1f}{small:>7.1f}{quantile(after, 0.5):>9.1f}{large:>7.1f}"
            f"{large / small:>7.2f}{'' if is_met else '   MISSED'}"
        )
    print(f"  (aim: a p95 of {AIM} ms, and {RATIO} times that of few, at most: {missed} of {len(many)} missed)")
    return not missed


def keep_plans(url: str, many: int, took: Answers) -> None:
    """Keep the plans of what took longest."""
    slowest = sorted(took, key=lambda name: -quantile(took[name], 0.95))[:SLOWEST]
    with serving(url) as app, app.test_client() as client:
        for ask in [ask for ask in asks(app, many) if ask.name in slowest]:
            with plan.kept(_database(app), f"{ask.name}, {many:,} packages"):
                _answered(client, ask)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that so large a share of them does not exceed."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


@contextmanager
def serving(url: str) -> Iterator[Flask]:
    """The service on this database."""
    settings = Settings(database_url=url, api_tokens=f"benchmarks={TOKEN}")
    app = create_app(settings, handlers=Handlers(), clock=lambda: crowd.NOW)
    yield app
    _database(app).close()


def _database(app: Flask) -> Database:
    return app.extensions[EXTENSION].database


def _answered(client: FlaskClient, ask: Ask) -> float:
    began = time.perf_counter()
    answer = client.get(ask.path, query_string=ask.query, headers={"Authorization": f"Bearer {TOKEN}"})
    took = (time.perf_counter() - began) * 1000
    assert answer.status_code == 200, (ask, answer.text[:500])
    return took


def asks(app: Flask, many: int) -> Iterator[Ask]:
    """All that is asked."""
    with _database(app).read() as connection:
        named = [*_orders(connection, many), *_filters(connection, many), *_others(many)]
    assert len({one.name for one in named}) == len(named)
    return iter(named)


def _orders(connection: Connection, many: int) -> Iterator[Ask]:
    shown, rows = {"trashed": "false", "deleted": "false", "type": "PACKAGE"}, min(PAGE * DEEP, many - 2 * PAGE)
    for sort in [f"{sign}{key}" for key in SORTS for sign in ("", "-")]:
        yield Ask(f"sort={sort}", query={"sort": sort})
        yield Ask(f"sort={sort}, 1,000th page", query={"sort": sort, "cursor": _cursor(connection, sort, rows)})
    newest = "-updated_at"
    back = _cursor(connection, newest, rows, backwards=True)
    yield Ask("1,000th page, backwards", query={"sort": newest, "cursor": back})
    yield Ask("as the page shows them", query=shown)
    yield Ask("as the page shows them, 1,000th", query={**shown, "cursor": _cursor(connection, newest, rows)})
    yield Ask("200 on a page", query={"limit": 200})


def _cursor(connection: Connection, sort: str, rows: int, *, backwards: bool = False) -> str:
    """What leads on from so many rows down the list."""
    column, way = SORTS[sort.removeprefix("-")], "DESC NULLS LAST" if sort.startswith("-") else "ASC NULLS FIRST"
    found = text(
        f"SELECT {column} AS value, id FROM packages ORDER BY {column} {way}, id {way[:4]} LIMIT 1 OFFSET {rows}"
    )
    row = connection.execute(found.columns(value=Package.__table__.c[column].type)).one()
    return write_cursor(sort, Place(row.value, row.id, backwards=backwards))


def _filters(connection: Connection, many: int) -> Iterator[Ask]:
    middle = crowd.NOW - crowd.LASTED / 2
    deep = _cursor(connection, "-updated_at", min(PAGE * DEEP, many - 2 * PAGE))
    single: dict[str, Mapping[str, Any]] = {f"status={one}": {"status": one} for one in crowd.STATUSES}
    single |= {"status=SENT or DRAFT": {"status": ["SENT", "DRAFT"]}, "status of none": {"status": "LOST"}}
    single |= {f"{flag}={value}": {flag: value} for flag in ("trashed", "deleted") for value in ("true", "false")}
    single |= {"type=TEMPLATE": {"type": "TEMPLATE"}}
    single |= {f"attention={one}": {"attention": one} for one in ("any", "none", *sorted(set(crowd.REASONS)))}
    single |= {
        "attention=PARKED_HANDLER": {"attention": "PARKED_HANDLER"},
        "attention=DECLINED": {"attention": "DECLINED"},
    }
    single |= {"updated_since": {"updated_since": crowd.NOW.isoformat()[:10]}}
    single |= {
        f"{name} the middle": {name: middle.isoformat()} for name in ("created_since", "created_until", "updated_until")
    }
    single |= {
        "created on one day": {"created_since": "2026-01-31", "created_until": "2026-02-01"},
        "created on one day, by name": {"created_since": "2026-01-31", "created_until": "2026-02-01", "sort": "name"},
        "signer by address": {"signer": crowd.person(7)[2]},
        "signer by id": {"signer": crowd.person(7)[0]},
        "signer of one in a hundred": {"signer": crowd.BUSY},
        "signer of none": {"signer": "nobody@nowhere.example"},
    }
    words = {
        "common": "agreement",
        "of one in fifty": "合同",
        "middling (a family)": crowd.word(7919).lower()[:8],
        "middling (one in a hundred)": "contoso",
        "rare (a number)": f" {many // 3}",
        "absent": "xyzzy plugh",
        "absent, of common parts": "agreementracting",
        "an id": crowd.package_id(many // 2)[:12],
        "an address": crowd.person(11)[2],
        "2 letters, common": "ab",
        "2 letters, rare": "q7",
        "2 letters, absent": "ß!",
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
            "signer": crowd.BUSY,
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
    one, events = crowd.package_id(many // 2), many * crowd.EVENTS
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
        **{f"events, {state}": {"state": state} for state in crowd.STATES},
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
    yield Ask("changes, 1,000th page", "/api/changes", {"after": min(PAGE * DEEP, many * crowd.CHANGES - PAGE)})
    yield Ask("missed/rate", "/api/missed/rate")
    yield Ask("missed/rate of a year", "/api/missed/rate", {"days": 366})
    yield Ask("reconciles", "/api/reconciles")
    yield Ask("reconciles, a late page", "/api/reconciles", {"cursor": PAGE})
    yield Ask("callbacks", "/api/callbacks")
    yield Ask("callbacks, 1,000th page", "/api/callbacks", {"cursor": write_parts(deep)})
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
        "missed, not told yet": {"told": "false"},
        "missed, told": {"told": "true"},
        "missed by name and cause": {"name": "PACKAGE_TRASH", "cause": "refused"},
    }
