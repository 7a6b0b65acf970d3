"""Law 6, where two people sit in one role: one of them acts, one callback tells it, a reading shows only the role."""

# ruff: noqa: PLR0917  (fixtures come by their names)

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest

from app import Service
from app.handling import Event, Package
from app.store import journal
from app.store.journal import Entry
from tests.conftest import ADA, BEN, CLEO, HOUR, NOON, Clock
from tests.support.fixtures import CONTRACT, JSON, approval, document, package, person, role

ROLE = "role-of-both"
MINUTE = timedelta(minutes=1)
ACTED, READ = NOON + 30 * MINUTE, NOON + HOUR
FACTS: dict[str, JSON] = {
    "SIGNER_LOCKED": {},
    "PACKAGE_ATTACHMENT": {"message": "passport"},
    "DOCUMENT_SIGNED": {"documentId": CONTRACT},
    "SIGNER_COMPLETE": {},
}


def shared(*people: str, done: bool) -> JSON:
    """A package with one role in which these sit; with `done` it shows a lock, an upload and a signature."""
    passport = {"id": "1", "name": "passport", "required": True, "status": "COMPLETE" if done else "INCOMPLETE"}
    members = {"signers": [person(one) for one in people], "locked": done, "attachmentRequirements": [passport]}
    marks = [approval(ROLE, signed=ACTED if done else None), approval("role-of-cleo")]
    roles = [role(None, ROLE, **members), role(CLEO, "role-of-cleo", index=2)]
    return package("SENT", roles=roles, documents=[document(CONTRACT, marks)])


@pytest.fixture
def told(handlers) -> Counter[tuple[str, str | None]]:
    """What the handler of everything was told, and how often."""
    told: Counter[tuple[str, str | None]] = Counter()

    @handlers.on("*")
    def see(event: Event, package: Package) -> None:
        told[event.name, event.signer_id] += 1

    return told


@pytest.fixture
def look(service: Service, clock: Clock, work) -> Callable[[JSON, datetime], None]:
    """Read the package, at this time, and digest it."""

    def look(shown: JSON, at: datetime) -> None:
        clock.now = at
        with service.database.write() as connection:
            entry = Entry("snapshot", at, json.dumps(shown).encode(), package_id="pkg-1", read_at=at)
            journal.add(connection, [entry])
        work()

    return look


@pytest.fixture(autouse=True)
def sent(told, tell, look, runner) -> Iterator[None]:
    """The package was sent and read before anybody did anything. In the end its picture is what its journal says."""
    tell("PACKAGE_ACTIVATE")
    look(shared(ADA, BEN, done=False), NOON + MINUTE)
    told.clear()
    yield
    assert runner.invoke(args=["rebuild", "--check"]).exit_code == 0


@pytest.mark.parametrize("who", [ADA, BEN, ROLE])
def test_law_6_what_a_reading_found_of_a_role_any_of_its_people_confirms(who, told, tell, look, work, read):
    """Nobody knows which of them it was until the callback comes; it runs no handler again."""
    look(shared(ADA, BEN, done=True), READ)
    assert told == {(name, ROLE): 1 for name in FACTS}

    for name, members in FACTS.items():
        tell(name, happened_at=ACTED, sessionUser=who, **members)
    work()

    assert told == {(name, ROLE): 1 for name in FACTS}
    events = [one for one in read("/api/events")["items"] if one["name"] in FACTS]
    assert [(one["source"], len(one["callbacks"])) for one in events] == [("reconcile", 1)] * len(FACTS)


@pytest.mark.parametrize("who", [ADA, BEN, ROLE])
def test_law_6_what_any_of_its_people_told_is_not_found_of_the_role(who, told, tell, look, work):
    """One callback tells what a reading shows of both."""
    for minute, (name, members) in enumerate(FACTS.items(), start=2):
        tell(name, happened_at=NOON + minute * MINUTE, sessionUser=who, **members)
    work()

    look(shared(ADA, BEN, done=True), READ)

    assert told == {(name, who): 1 for name in FACTS}


def test_law_6_who_has_left_the_role_since_confirms_it_too(told, tell, look, work):
    """Ben's callback comes when only Ada sits there."""
    look(shared(ADA, BEN, done=True), READ)
    look(shared(ADA, done=True), READ + HOUR)
    before = Counter(told)

    for name, members in FACTS.items():
        tell(name, happened_at=ACTED, sessionUser=BEN, **members)
    work()

    assert told == before


def test_law_6_of_who_sits_alone_a_reading_names_the_person_and_a_callback_may_name_the_role(told, tell, look, work):
    """Ben has left before anything was done, so it was Ada."""
    look(shared(ADA, done=True), READ)
    before = Counter(told)

    for name, members in FACTS.items():
        tell(name, happened_at=ACTED, sessionUser=ROLE, **members)
    work()

    assert told == before
    assert all(told[name, ADA] == 1 for name in FACTS)


def test_law_6_who_sits_in_another_role_confirms_nothing(told, tell, look, work):
    """What Cleo did is a fact of its own."""
    look(shared(ADA, BEN, done=True), READ)

    for name, members in FACTS.items():
        tell(name, happened_at=ACTED, sessionUser=CLEO, **members)
    work()

    assert told == {(name, who): 1 for name in FACTS for who in (ROLE, CLEO)}


def test_a_handler_finds_the_people_of_the_role_in_the_package(handlers, look):
    """By `role_id`, where the event names the role."""
    signed: list[list[str]] = []

    @handlers.on("DOCUMENT_SIGNED")
    def know_them(event: Event, package: Package) -> None:
        signed.append([one.id for one in package.signers if event.signer_id in (one.id, one.role_id)])

    look(shared(ADA, BEN, done=True), READ)

    assert signed == [[ADA, BEN]]
