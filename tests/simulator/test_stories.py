"""The simulator: lives that are plausible, and that the service understands."""

import ast
import re
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest
from flask import Flask

from app.onespan.catalogue import CATALOGUE
from app.simulator import callbacks, ids
from app.simulator.account import Account
from app.simulator.actions import perform
from app.simulator.delivery import Delivery
from app.simulator.packages import CONSENT, Act, Event, Impossible, Package
from tests.conftest import KEY, NOON, Clock
from tests.support.simulated import ROOT, SECOND, Step, asked_of, many_steps, place, serving, steps

# Every step from one status to another, and the event that tells of it; None: OneSpan has no event for it.
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
BESIDE_THE_STATUS = {"PACKAGE_TRASH", "PACKAGE_RESTORE", "PACKAGE_DELETE"}
BY_SIGNERS = {"DOCUMENT_SIGNED", "DOCUMENT_VIEWED", "SIGNER_COMPLETE", "KBA_FAILURE", "PACKAGE_ATTACHMENT"}


def bodies(seed: int) -> list[bytes]:
    """All that a small account ever tells."""
    return [callbacks.body(event) for step in steps(Account(seed, packages=10)) for event in step.events]


@pytest.fixture(scope="module")
def lives() -> list[Step]:
    """Many whole lives."""
    return many_steps()


@pytest.fixture(scope="module")
def told(lives: list[Step]) -> dict[str, list[tuple[Package, Event]]]:
    """By package, each event in order, with the package as it then stood."""
    by_package: dict[str, list[tuple[Package, Event]]] = {}
    for step in lives:
        by_package.setdefault(step.after.id, []).extend((step.after, event) for event in step.events)
    return by_package


def test_a_seed_tells_the_same_lives_again():
    """Whatever was found with a seed can be looked at again."""
    assert bodies(7) == bodies(7)
    assert bodies(7) != bodies(8)


def test_every_event_of_the_catalogue_happens_and_no_other(lives):
    """A developer sees each of their handlers run."""
    assert {event.name for step in lives for event in step.events} == set(CATALOGUE)


def test_every_kind_of_bounce_happens(lives):
    """OneSpan's documentation knows four."""
    bounces = {event.message for step in lives for event in step.events if event.name == "EMAIL_BOUNCE"}

    assert bounces == {"BOUNCE", "COMPLAINT", "OOTO", "UNKNOWN"}


def test_statuses_only_take_the_steps_of_the_lifecycle(lives):
    """And each step is told by its own event, or by none where there is none."""
    taken = set()
    for before, after, events in lives:
        if before and before.status != after.status:
            step = before.status, after.status
            taken.add(step)
            assert [event.name for event in events][-1:] == list(filter(None, [LIFECYCLE[step]]))

    assert taken == set(LIFECYCLE)


def test_what_is_no_step_is_told_without_one(lives):
    """No event that stands for a status comes where the status stays."""
    stepping = set(LIFECYCLE.values()) - {None}
    for before, after, events in lives:
        if before and before.status == after.status:
            assert not stepping & {event.name for event in events}


def test_trash_stands_beside_the_status_and_deletion_is_the_end(told):
    """A trashed package waits to be restored or deleted; of a deleted one nothing more is heard."""
    for story in told.values():
        names = [event.name for _, event in story]
        for here, name in enumerate(names):
            then = names[here + 1 :][:1]
            if name == "PACKAGE_TRASH":
                assert then in ([], ["PACKAGE_RESTORE"], ["PACKAGE_DELETE"])
            if name == "PACKAGE_DELETE":
                assert then == []


def test_a_signer_consents_first_and_completes_last(told):
    """Each signer signs every document asked of them once, beginning with the consent."""
    for story in told.values():
        signed: dict[str, list[str]] = {}
        for package, event in story:
            if event.name == "DOCUMENT_SIGNED":
                signed.setdefault(event.session_user, []).append(event.document_id)
            if event.name == "SIGNER_COMPLETE":
                assert sorted(signed[event.session_user]) == sorted(asked_of(package, event.session_user))

        for documents in signed.values():
            assert documents[0] == CONSENT
            assert len(set(documents)) == len(documents)


def test_a_package_completes_when_the_last_signer_has(told):
    """Without anybody's help, or by its sender's hand where it was made so."""
    for story in told.values():
        names = [event.name for _, event in story]
        for here, (package, event) in enumerate(story):
            if event.name == "PACKAGE_COMPLETE":
                before = "SIGNER_COMPLETE" if package.autocomplete else "PACKAGE_READY_FOR_COMPLETE"
                assert names[here - 1] == before
                assert package.is_signed()
                assert (event.session_user == package.sender.id) or package.autocomplete


def test_signers_keep_to_the_signing_order(lives):
    """Who has a later place signs only when all before have; equal places sign in any order."""
    for step in lives:
        for event in step.events:
            if event.name == "DOCUMENT_SIGNED":
                mine = place(step.after, event.session_user)
                earlier = [n for n, role in enumerate(step.after.roles) if role.index < step.after.roles[mine].index]
                assert all(step.after.is_signed(n) for n in earlier if step.after.approvals(n))


def test_some_sign_in_parallel_and_some_in_order(lives):
    """Both kinds of package are there."""
    kinds = {len({role.index for role in step.after.roles}) > 1 for step in lives if len(step.after.roles) > 2}

    assert kinds == {True, False}


def test_a_reassigned_role_gets_a_new_id_and_a_new_signer(lives):
    """The event carries the new role's id, under which the package is shown from then on."""
    reassigned = [step for step in lives if step.events and step.events[0].name == "ROLE_REASSIGN"]
    for before, after, (event,) in reassigned:
        seat = place(before, event.session_user)
        assert after.roles[seat].id == event.more["newRoleId"] != before.roles[seat].id
        assert after.roles[seat].person.id != event.session_user

    assert reassigned


def test_events_of_signers_name_signers_and_the_rest_names_the_sender(lives):
    """`sessionUser` is who did it."""
    for step in lives:
        for event in step.events:
            signers = {role.person.id for role in step.after.roles if role.person}
            if event.name in BY_SIGNERS:
                assert event.session_user in signers
            if event.name in BESIDE_THE_STATUS | {"PACKAGE_CREATE", "PACKAGE_ACTIVATE", "TEMPLATE_CREATE"}:
                assert event.session_user == step.after.sender.id


@pytest.mark.parametrize("pause", [timedelta(0), SECOND], ids=["at once", "slowly"])
def test_no_two_events_of_a_package_share_a_date(pause):
    """Dates go forward by a millisecond at least, even where all happens at once."""
    last: dict[str, str] = {}
    for step in steps(Account(1, packages=30), pause=pause):
        for event in step.events:
            date = callbacks.timestamp(event.at)
            assert last.get(event.package_id, "") < date
            last[event.package_id] = date


def test_an_account_without_end_goes_on():
    """Until somebody stops it."""
    account = Account(1, packages=None)
    for number in range(2000):
        account.step(NOON + number * SECOND)

    assert not account.is_over
    assert account.ended > 50


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
def test_what_cannot_be_done_is_refused(verb, change):
    """A mistake in a history shows at once."""
    account = Account(3, packages=1)
    account.step(NOON)
    (draft,) = account.packages()

    with pytest.raises(Impossible):
        perform(replace(draft, **change), Act(verb), now=NOON)


def test_ids_look_like_onespans():
    """So that columns, URLs and eyes meet the real thing."""
    dice = Random(5)

    assert re.fullmatch(r"[A-Za-z0-9_-]{27}=", ids.package_id(dice))
    assert re.fullmatch(r"[A-Za-z0-9]{12}", ids.sender_id(dice))
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", ids.uuid(dice))
    assert re.fullmatch(r"[0-9a-f]{48}", ids.document_id(dice))


def test_the_service_believes_what_the_simulator_lived(app: Flask, clock: Clock, picture):
    """Every callback is taken, and in the end each package is to the service what it is to OneSpan."""
    account = Account(11, packages=20)
    with serving(app) as url, Delivery(url, KEY) as delivery:
        while not account.is_over:
            clock.forward(SECOND)
            for event in account.step(clock.now):
                assert delivery.post(callbacks.body(event)) is None

    for truth in account.packages():
        believed = picture(truth.id)
        assert (believed.status, believed.trashed, believed.deleted) == (truth.status, truth.trashed, truth.deleted)
        assert (believed.type, believed.sender.id) == (truth.type, truth.sender.id)
        assert {one.id for one in believed.signers if one.status == "COMPLETED"} == {
            role.person.id for n, role in enumerate(truth.roles) if role.person and truth.is_signed(n)
        }
        assert (believed.completed_at is None) == (truth.completed is None)
    assert delivery.tally.accepted > 200


def test_the_simulator_knows_nothing_of_ours_but_the_catalogue():
    """It can only talk to the service as OneSpan does, over HTTP."""
    for file in (ROOT / "app" / "simulator").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [f"{'.' * node.level}{node.module or ''}"] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                ours = name.split(".")[0] in ("app", "config", "wsgi", "tests", "")
                allowed = re.match(r"app\.(simulator|onespan\.catalogue)(\.|$)", name)
                assert allowed or not ours, f"{file.name} imports {name}"
