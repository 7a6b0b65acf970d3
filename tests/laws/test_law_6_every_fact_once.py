"""Law 6 for callbacks: every handler gets every fact once."""

import json
from collections import Counter

from app.handling import Event, Handlers, Package
from app.onespan.event_catalogue import CATALOGUE
from app.store import journal
from app.store.journal import Entry
from tests.conftest import ADA, HOUR, NOON, on_both

pytestmark = on_both


def count_events(handlers: Handlers, *names: str, into: Counter[tuple[str, str]], called: str) -> None:
    """Register a handler that has the name `called` and counts its events."""

    def handler(event: Event, package: Package) -> None:
        into[called, event.name] += 1

    handler.__name__ = called
    handlers.on(*names)(handler)


def test_law_6_every_fact_reaches_every_handler_for_it_once(send_callback, work, handlers):
    """Each handler runs once per event, although each callback is sent again after the first runs."""
    handled: Counter[tuple[str, str]] = Counter()
    for name in CATALOGUE:
        count_events(handlers, name, into=handled, called=f"only_{name}")
    count_events(handlers, "*", into=handled, called="everything")
    for _ in range(2):
        for place, name in enumerate(CATALOGUE):
            send_callback(name, happened_at=NOON + HOUR * place, sessionUser=ADA)
        work()

    assert handled == Counter(
        {("everything", name): 1 for name in CATALOGUE} | {(f"only_{n}", n): 1 for n in CATALOGUE}
    )


def test_law_6_snapshot_that_shows_nothing_new_runs_no_handler(send_callback, work, read, handlers, service):
    """A snapshot that only confirms what a callback reported runs no handler."""
    handled: Counter[tuple[str, str]] = Counter()
    count_events(handlers, "*", into=handled, called="everything")
    send_callback("PACKAGE_ACTIVATE")
    work()
    shown = json.dumps({"id": "pkg-1", "name": "Lease", "status": "SENT", "roles": [], "documents": []}).encode()
    with service.database.write() as connection:
        entry = Entry("snapshot", NOON + HOUR, shown, package_id="pkg-1", read_at=NOON + HOUR)
        journal.add(connection, [entry, entry])
    work()

    assert handled == {("everything", "PACKAGE_ACTIVATE"): 1}
    assert read("/api/packages/pkg-1")["name"] == "Lease"
    assert len(read("/api/events")["items"]) == 1
