"""Tests of the simulator's stories: they are plausible, and the service reaches the same state."""

import ast
import re
from dataclasses import replace
from datetime import timedelta
from itertools import zip_longest
from random import Random

import pytest
from flask import Flask

from app.onespan.event_catalogue import CATALOGUE
from app.simulator import callbacks, ids
from app.simulator.account import Account
from app.simulator.actions import perform
from app.simulator.delivery import Delivery
from app.simulator.packages import CONSENT, Action, Event, ImpossibleAction, Package
from tests.conftest import KEY, NOON, Clock
from tests.support.simulated import ROOT, SECOND, Step, documents_to_sign, recorded_steps, role_position, serving, steps

# Every change of status with its event, or with None if OneSpan has no event for the change.
LIFECYCLE = {
    ("DRAFT", "SENT"): "PACKAGE_ACTIVATE",
    ("DECLINED", "SENT"): "PACKAGE_ACTIVATE",
    ("SENT", "DRAFT"): "PACKAGE_DEACTIVATE",
    ("SENT", "COMPLETED"): "PACKAGE_COMPLETE",
    ("SENT", "DECLINED"): "PACKAGE_DECLINE",
    ("SENT", "OPTED_OUT"): "PACKAGE_OPT_OUT",
    ("SENT", "EXPIRED"): "PACKAGE_EXPIRE",
    ("EXPIRED", "DRAFT"): None,
    ("COMPLETED", "ARCHIVED"): "PACKAGE_ARCHIVE",
}
WITHOUT_STATUS_CHANGE = {"PACKAGE_TRASH", "PACKAGE_RESTORE", "PACKAGE_DELETE"}
BY_SIGNERS = {"DOCUMENT_SIGNED", "DOCUMENT_VIEWED", "SIGNER_COMPLETE", "KBA_FAILURE", "PACKAGE_ATTACHMENT"}


def bodies(seed: int) -> list[bytes]:
    """Return the bodies of all callbacks of a small account."""
    return [callbacks.body(event) for step in steps(Account(seed, packages=10)) for event in step.events]


@pytest.fixture(scope="module")
def all_steps() -> list[Step]:
    """The steps of many simulated stories."""
    return recorded_steps()


@pytest.fixture(scope="module")
def events_by_package(all_steps: list[Step]) -> dict[str, list[tuple[Package, Event]]]:
    """The events of each package in order, each event with the state of the package after the event."""
    by_package: dict[str, list[tuple[Package, Event]]] = {}
    for step in all_steps:
        by_package.setdefault(step.after.id, []).extend((step.after, event) for event in step.events)
    return by_package


def test_a_seed_replays_the_same_stories():
    """The same seed replays the same stories, so a failure found with a seed can be reproduced."""
    assert bodies(7) == bodies(7)
    assert bodies(7) != bodies(8)


def test_the_events_of_the_catalogue_happen(all_steps):
    """Stories contain the 22 events that OneSpan documents and no unknown event, so a developer's handlers run."""
    names = {event.name for step in all_steps for event in step.events}

    assert names <= set(CATALOGUE)
    assert len(names) >= 22


def test_every_kind_of_bounce_happens(all_steps):
    """Stories contain all four kinds of e-mail bounces that OneSpan documents."""
    bounces = {event.message for step in all_steps for event in step.events if event.name == "EMAIL_BOUNCE"}

    assert bounces == {"BOUNCE", "COMPLAINT", "OOTO", "UNKNOWN"}


def test_statuses_change_only_along_the_lifecycle(all_steps):
    """The status of a package changes only along the lifecycle; each change has its event, if OneSpan has one."""
    changes = set()
    for before, after, events in all_steps:
        if before and before.status != after.status:
            change = before.status, after.status
            changes.add(change)
            assert [event.name for event in events][-1:] == list(filter(None, [LIFECYCLE[change]]))

    assert changes == set(LIFECYCLE)


def test_no_event_of_a_status_change_happens_without_one(all_steps):
    """An event of a status change happens only together with the change."""
    status_events = set(LIFECYCLE.values()) - {None}
    for before, after, events in all_steps:
        if before and before.status == after.status:
            assert not status_events & {event.name for event in events}


def test_a_trashed_package_is_restored_or_deleted_and_a_deleted_one_has_no_more_events(events_by_package):
    """A trashed package is only restored or deleted, and a deleted package has no further events."""
    for story in events_by_package.values():
        names = [event.name for _, event in story]
        for name, following in zip_longest(names, names[1:]):
            if name == "PACKAGE_TRASH":
                assert following in (None, "PACKAGE_RESTORE", "PACKAGE_DELETE")
            if name == "PACKAGE_DELETE":
                assert following is None


def test_a_signer_consents_first_and_completes_last(events_by_package):
    """Each signer signs each of their documents once, and the consent first."""
    for story in events_by_package.values():
        signed: dict[str, list[str]] = {}
        for package, event in story:
            if event.name == "DOCUMENT_SIGNED":
                signed.setdefault(event.session_user, []).append(event.document_id)
            if event.name == "SIGNER_COMPLETE":
                assert sorted(signed[event.session_user]) == sorted(documents_to_sign(package, event.session_user))

        for documents in signed.values():
            assert documents[0] == CONSENT
            assert len(set(documents)) == len(documents)


def test_a_package_completes_after_its_last_signer(events_by_package):
    """A package completes after its last signer, by itself or, without autocomplete, by its sender."""
    for story in events_by_package.values():
        names = [event.name for _, event in story]
        for number, (package, event) in enumerate(story):
            if event.name == "PACKAGE_COMPLETE":
                before = "SIGNER_COMPLETE" if package.autocomplete else "PACKAGE_READY_FOR_COMPLETE"
                assert names[number - 1] == before
                assert package.is_signed()
                assert (event.session_user == package.sender.id) or package.autocomplete


def test_signers_keep_to_the_signing_order(all_steps):
    """A signer signs after all signers with a lower index; signers with the same index sign in any order."""
    for step in all_steps:
        for event in step.events:
            if event.name == "DOCUMENT_SIGNED":
                position = role_position(step.after, event.session_user)
                index = step.after.roles[position].index
                earlier = [n for n, role in enumerate(step.after.roles) if role.index < index]
                assert all(step.after.is_signed(n) for n in earlier if step.after.approvals(n))


def test_some_packages_are_signed_in_parallel_and_some_in_order(all_steps):
    """In some packages the signers sign in parallel, in others in a signing order."""
    kinds = {len({role.index for role in step.after.roles}) > 1 for step in all_steps if len(step.after.roles) > 2}

    assert kinds == {True, False}


def test_a_reassigned_role_gets_a_new_id_and_a_new_signer(all_steps):
    """A reassigned role gets a new signer and a new id, which the reassignment event carries."""
    reassigned = [step for step in all_steps if step.events and step.events[0].name == "ROLE_REASSIGN"]
    for before, after, (event,) in reassigned:
        position = role_position(before, event.session_user)
        assert after.roles[position].id == event.extra["newRoleId"] != before.roles[position].id
        assert after.roles[position].person.id != event.session_user

    assert reassigned


def test_session_user_is_the_actor(all_steps):
    """`sessionUser` is the signer's id in events of signers, and otherwise the sender's id."""
    for step in all_steps:
        for event in step.events:
            signers = {role.person.id for role in step.after.roles if role.person}
            if event.name in BY_SIGNERS:
                assert event.session_user in signers
            if event.name in WITHOUT_STATUS_CHANGE | {"PACKAGE_CREATE", "PACKAGE_ACTIVATE", "TEMPLATE_CREATE"}:
                assert event.session_user == step.after.sender.id


@pytest.mark.parametrize("pause", [timedelta(0), SECOND], ids=["at once", "slowly"])
def test_no_two_events_of_a_package_have_the_same_date(pause):
    """The events of a package are dated at least a millisecond apart, even if all steps happen at once."""
    last: dict[str, str] = {}
    for step in steps(Account(1, packages=30), pause=pause):
        for event in step.events:
            date = callbacks.timestamp(event.at)
            assert last.get(event.package_id, "") < date
            last[event.package_id] = date


def test_an_account_without_a_limit_never_ends():
    """An account without a limit never ends, because new packages follow finished packages."""
    account = Account(1, packages=None)
    for number in range(2000):
        account.step(NOON + number * SECOND)

    assert not account.is_over
    assert account.ended_count > 50


@pytest.mark.parametrize(
    ("verb", "change"),
    [
        ("sign", {}),
        ("complete", {"status": "SENT"}),
        ("archive", {"status": "DECLINED"}),
        ("activate", {"status": "COMPLETED"}),
        ("activate", {"trashed": True}),
        ("restore", {}),
        ("delete", {"deleted": True}),
    ],
)
def test_an_impossible_action_raises(verb, change):
    """An impossible action raises an error, so that a mistake in a story shows at once."""
    account = Account(3, packages=1)
    account.step(NOON)
    (draft,) = account.packages()

    with pytest.raises(ImpossibleAction):
        perform(replace(draft, **change), Action(verb), now=NOON)


def test_ids_look_like_onespans():
    """Simulated ids look like OneSpan's ids, so columns, URLs and pages are tested with realistic ids."""
    rng = Random(5)

    assert re.fullmatch(r"[A-Za-z0-9_-]{27}=", ids.package_id(rng))
    assert re.fullmatch(r"[A-Za-z0-9]{12}", ids.sender_id(rng))
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", ids.uuid(rng))
    assert re.fullmatch(r"[0-9a-f]{48}", ids.document_id(rng))


def test_the_service_reaches_the_state_of_the_simulator(app: Flask, clock: Clock, stored_package):
    """The service accepts every callback, and each package has the same state in the service and the simulator."""
    account = Account(11, packages=20)
    with serving(app) as url, Delivery(url, KEY) as delivery:
        while not account.is_over:
            clock.forward(SECOND)
            for event in account.step(clock.now):
                assert delivery.post(callbacks.body(event)) is None

    for expected in account.packages():
        package = stored_package(expected.id)
        state = (expected.status, expected.trashed, expected.deleted)
        assert (package.status, package.trashed, package.deleted) == state
        assert (package.type, package.sender.id) == (expected.type, expected.sender.id)
        assert {signer.id for signer in package.signers if signer.status == "COMPLETED"} == {
            role.person.id for n, role in enumerate(expected.roles) if role.person and expected.is_signed(n)
        }
        assert (package.completed_at is None) == (expected.completed is None)
    assert delivery.counts.accepted > 200


def test_the_simulator_imports_only_the_event_catalogue_of_the_service():
    """The simulator imports only the event catalogue of the service, so it must use HTTP, like OneSpan."""
    for file in (ROOT / "app" / "simulator").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [f"{'.' * node.level}{node.module or ''}"] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                is_own = name.split(".")[0] in ("app", "config", "wsgi", "tests", "")
                allowed = re.match(r"app\.(simulator|onespan\.event_catalogue)(\.|$)", name)
                assert allowed or not is_own, f"{file.name} imports {name}"
