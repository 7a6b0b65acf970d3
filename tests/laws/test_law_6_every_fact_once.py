"""Law 6, as far as callbacks go: every handler is told every fact, once."""

import json
from collections import Counter

from app.handling import Event, Handlers, Package
from app.onespan.catalogue import CATALOGUE
from app.store import journal
from app.store.journal import Entry
from tests.conftest import ADA, HOUR, NOON, on_both

pytestmark = on_both


def remember(handlers: Handlers, *names: str, into: Counter[tuple[str, str]], called: str) -> None:
    """Register a handler of this name that counts what it is told."""

    def handler(event: Event, package: Package) -> None:
        into[called, event.name] += 1

    handler.__name__ = called
    handlers.on(*names)(handler)


def test_law_6_every_fact_is_told_once_to_every_handler_that_wants_it(tell, work, handlers):
    """All events, each told twice, before and after the work was done."""
    told: Counter[tuple[str, str]] = Counter()
    for name in CATALOGUE:
        remember(handlers, name, into=told, called=f"only_{name}")
    remember(handlers, "*", into=told, called="everything")
    for _ in range(2):
        for place, name in enumerate(CATALOGUE):
            tell(name, happened_at=NOON + HOUR * place, sessionUser=ADA)
        work()

    assert told == Counter({("everything", name): 1 for name in CATALOGUE} | {(f"only_{n}", n): 1 for n in CATALOGUE})


def test_law_6_a_reading_that_shows_nothing_new_fires_nothing(tell, work, read, handlers, service):
    """A snapshot is a second witness; what it confirms was told already."""
    told: Counter[tuple[str, str]] = Counter()
    remember(handlers, "*", into=told, called="everything")
    tell("PACKAGE_ACTIVATE")
    work()
    shown = json.dumps({"id": "pkg-1", "name": "Lease", "status": "SENT", "roles": [], "documents": []}).encode()
    with service.database.write() as connection:
        entry = Entry("snapshot", NOON + HOUR, shown, package_id="pkg-1", read_at=NOON + HOUR)
        journal.add(connection, [entry, entry])
    work()

    assert told == {("everything", "PACKAGE_ACTIVATE"): 1}
    assert read("/api/packages/pkg-1")["name"] == "Lease"
    assert len(read("/api/events")["items"]) == 1
