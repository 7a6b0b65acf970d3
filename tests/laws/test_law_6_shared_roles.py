"""Law 6 with two people in one role: a callback may name the person who acted, a snapshot shows only the role."""

# ruff: noqa: PLR0917  (pytest passes fixtures by name)

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
    """A package with these people in one role. If `done`, the role has a lock, an upload and a signature."""
    passport = {"id": "1", "name": "passport", "required": True, "status": "COMPLETE" if done else "INCOMPLETE"}
    members = {
        "signers": [person(signer_id) for signer_id in people],
        "locked": done,
        "attachmentRequirements": [passport],
    }
    marks = [approval(ROLE, signed=ACTED if done else None), approval("role-of-cleo")]
    roles = [role(None, ROLE, **members), role(CLEO, "role-of-cleo", index=2)]
    return package("SENT", roles=roles, documents=[document(CONTRACT, marks)])


@pytest.fixture
def handled(handlers) -> Counter[tuple[str, str | None]]:
    """How often the catch-all handler ran, by event and signer."""
    handled: Counter[tuple[str, str | None]] = Counter()

    @handlers.on("*")
    def count(event: Event, package: Package) -> None:
        handled[event.name, event.signer_id] += 1

    return handled


@pytest.fixture
def store_snapshot(service: Service, clock: Clock, work) -> Callable[[JSON, datetime], None]:
    """Journal a snapshot with the given time, and digest the snapshot."""

    def store_snapshot(shown: JSON, at: datetime) -> None:
        clock.now = at
        with service.database.write() as connection:
            entry = Entry("snapshot", at, json.dumps(shown).encode(), package_id="pkg-1", read_at=at)
            journal.add(connection, [entry])
        work()

    return store_snapshot


@pytest.fixture(autouse=True)
def sent(handled, send_callback, store_snapshot, runner) -> Iterator[None]:
    """Send and read the package before the test; after the test, `rebuild --check` must find no difference."""
    send_callback("PACKAGE_ACTIVATE")
    store_snapshot(shared(ADA, BEN, done=False), NOON + MINUTE)
    handled.clear()
    yield
    assert runner.invoke(args=["rebuild", "--check"]).exit_code == 0


@pytest.mark.parametrize("who", [ADA, BEN, ROLE])
def test_law_6_callback_of_any_member_confirms_what_a_snapshot_showed(
    who, handled, send_callback, store_snapshot, work, read
):
    """If a snapshot showed that a role acted, the callback that names the person runs no handler again."""
    store_snapshot(shared(ADA, BEN, done=True), READ)
    assert handled == {(name, ROLE): 1 for name in FACTS}

    for name, members in FACTS.items():
        send_callback(name, happened_at=ACTED, sessionUser=who, **members)
    work()

    assert handled == {(name, ROLE): 1 for name in FACTS}
    events = [event for event in read("/api/events")["items"] if event["name"] in FACTS]
    assert [(event["source"], len(event["callbacks"])) for event in events] == [("reconcile", 1)] * len(FACTS)


@pytest.mark.parametrize("who", [ADA, BEN, ROLE])
def test_law_6_fact_reported_by_any_member_is_not_found_for_the_role(who, handled, send_callback, store_snapshot, work):
    """If a callback reported a fact for one person of a role, a snapshot that shows the role adds no event."""
    for minute, (name, members) in enumerate(FACTS.items(), start=2):
        send_callback(name, happened_at=NOON + minute * MINUTE, sessionUser=who, **members)
    work()

    store_snapshot(shared(ADA, BEN, done=True), READ)

    assert handled == {(name, who): 1 for name in FACTS}


def test_law_6_former_member_of_the_role_confirms_it_too(handled, send_callback, store_snapshot, work):
    """A late callback of Ben, who has left the role, still confirms what a snapshot showed for the role."""
    store_snapshot(shared(ADA, BEN, done=True), READ)
    store_snapshot(shared(ADA, done=True), READ + HOUR)
    before = Counter(handled)

    for name, members in FACTS.items():
        send_callback(name, happened_at=ACTED, sessionUser=BEN, **members)
    work()

    assert handled == before


def test_law_6_snapshot_names_a_single_member_and_a_callback_may_name_the_role(
    handled, send_callback, store_snapshot, work
):
    """If Ada is the only person in a role, a callback that names the role confirms what a snapshot showed for Ada."""
    store_snapshot(shared(ADA, done=True), READ)
    before = Counter(handled)

    for name, members in FACTS.items():
        send_callback(name, happened_at=ACTED, sessionUser=ROLE, **members)
    work()

    assert handled == before
    assert all(handled[name, ADA] == 1 for name in FACTS)


def test_law_6_member_of_another_role_confirms_nothing(handled, send_callback, store_snapshot, work):
    """A callback about Cleo, who has another role, reports new facts and confirms no fact of the shared role."""
    store_snapshot(shared(ADA, BEN, done=True), READ)

    for name, members in FACTS.items():
        send_callback(name, happened_at=ACTED, sessionUser=CLEO, **members)
    work()

    assert handled == {(name, who): 1 for name in FACTS for who in (ROLE, CLEO)}


def test_a_handler_finds_the_people_of_the_role_in_the_package(handlers, store_snapshot):
    """If an event names a role instead of a person, a handler finds the role's signers by their `role_id`."""
    signed: list[list[str]] = []

    @handlers.on("DOCUMENT_SIGNED")
    def find_signers(event: Event, package: Package) -> None:
        signed.append([signer.id for signer in package.signers if event.signer_id in (signer.id, signer.role_id)])

    store_snapshot(shared(ADA, BEN, done=True), READ)

    assert signed == [[ADA, BEN]]
