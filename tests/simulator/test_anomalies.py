"""Tests of the simulator: anomalies happen at the given rates, and quirks choose the events of changes."""

from dataclasses import replace
from datetime import timedelta

import pytest

from app.onespan.event_catalogue import CATALOGUE
from app.simulator.account import Account
from app.simulator.anomalies import ANOMALIES, BAD_DAY
from app.simulator.packages import ARCHIVAL_STATUSES, STATUSES, Action, ImpossibleAction
from app.simulator.quirks import Quirks
from tests.conftest import NOON
from tests.support.simulated import SECOND, Step, recorded_steps, steps

SILENT = {"redate": "due", "rename": "name", "readdress": "roles", "add-signer": "roles"}


def steps_with(rates, *, quirks: Quirks | None = None, seeds=range(4)) -> list[Step]:
    """Return the steps of stories with these anomalies, without the steps that create packages."""
    return [
        step
        for seed in seeds
        for step in steps(Account(seed, packages=25, anomalies=rates, quirks=quirks or Quirks()))
        if step.before
    ]


def test_by_default_callbacks_report_every_change():
    """Except after expiry, callbacks report every change of a package's status, trash flag, existence or type."""
    for before, after, events in recorded_steps():
        if before and before.status != "EXPIRED":
            before_, after_ = ((state.status, state.trashed, state.deleted, state.type) for state in (before, after))
            assert events or before_ == after_


@pytest.mark.parametrize("anomaly", SILENT)
def test_silent_changes_have_no_event(anomaly):
    """A silent change of a package has no event; a newer `updated` is the only sign of the change."""
    found = [
        (before, after)
        for before, after, events in steps_with({anomaly: 1.0})
        if not events and getattr(before, SILENT[anomaly]) != getattr(after, SILENT[anomaly])
    ]

    assert len(found) > 20
    assert all(after.updated > before.updated for before, after in found)


def test_an_added_signer_signs_like_the_others():
    """A package to which a signer was added completes only after the signature of the added signer."""
    steps_ = steps_with({"add-signer": 1.0})
    extended = [after for before, after, _ in steps_ if len(after.roles) > len(before.roles)]
    ends = {step.after.id: step.after for step in steps_}

    completed = [ends[package.id] for package in extended if ends[package.id].completed]
    assert len(completed) > 10
    assert all(package.is_signed(len(package.roles) - 1) for package in completed)


def test_archival_statuses_follow_each_other_in_order():
    """Archival statuses have no event and are not among OneSpan's documented statuses."""
    changes = [
        (before.status, after.status, events)
        for before, after, events in steps_with({"archival": 1.0})
        if before.status != after.status
    ]
    archival = [(before, after, events) for before, after, events in changes if after in ARCHIVAL_STATUSES]

    assert {after for _, after, _ in archival} == set(ARCHIVAL_STATUSES)
    assert all(not events for _, _, events in archival)
    assert {before for before, _, _ in archival} <= {"COMPLETED", *ARCHIVAL_STATUSES[:-1]}
    assert not set(ARCHIVAL_STATUSES) & STATUSES


@pytest.mark.parametrize("name", ["none", "PACKAGE_COMPLETE", "PACKAGE_UNARCHIVE"])
def test_unarchiving_sends_the_event_of_the_quirk(name):
    """A quirk chooses the event that un-archiving sends, because OneSpan's real event is unknown."""
    sent = [
        [event.name for event in events]
        for before, after, events in steps_with({"unarchive": 1.0}, quirks=Quirks(unarchive_event=name))
        if (before.status, after.status) == ("ARCHIVED", "COMPLETED")
    ]

    assert sent
    assert all(names == ([] if name == "none" else [name]) for names in sent)


@pytest.mark.parametrize("name", ["none", "PACKAGE_DELETE"])
def test_retention_deletes_with_an_event_or_without(name):
    """The retention anomaly deletes packages in every final status, with an event or without."""
    deletions = [
        (before.status, [event.name for event in events])
        for before, after, events in steps_with({"retention": 1.0}, quirks=Quirks(retention_event=name))
        if after.deleted
    ]

    assert {"COMPLETED", "DECLINED", "EXPIRED"} <= {status for status, _ in deletions}
    assert sum(names == ([] if name == "none" else [name]) for _, names in deletions) > 50


def test_layouts_are_created_without_an_event():
    """A layout, which is neither a package nor a template, is created without an event."""
    account = Account(1, packages=40, anomalies={"layout": 0.5})
    layouts = [step for step in steps(account) if step.after.type == "LAYOUT"]

    assert layouts
    assert not [step.events for step in layouts if step.before is None and step.events]


def test_on_a_bad_day_every_anomaly_happens_and_every_action_is_possible():
    """With all anomalies of a bad day at once, stories reach every status and never try an impossible action."""
    all_steps = steps_with(dict.fromkeys(BAD_DAY, 0.5), quirks=Quirks(reassign_role="stays"), seeds=range(12))

    assert set(BAD_DAY) == set(ANOMALIES)
    assert {event.name for step in all_steps for event in step.events} <= set(CATALOGUE)
    assert {step.after.status for step in all_steps} == STATUSES | set(ARCHIVAL_STATUSES)


@pytest.mark.parametrize("quirk", ["changes", "stays", "signer"])
def test_a_reassigned_role_keeps_its_id_or_not(quirk):
    """A quirk decides whether a reassigned role keeps its id, and whether `newRoleId` is the new signer's."""
    reassigned = []
    for before, after, events in steps_with({}, quirks=Quirks(reassign_role=quirk), seeds=range(8)):
        if events and events[0].name == "ROLE_REASSIGN":
            (role,) = (n for n, role in enumerate(before.roles) if role.person != after.roles[n].person)
            reassigned.append((before.roles[role], after.roles[role], events[0].extra["newRoleId"]))

    assert reassigned
    for before, after, new_role_id in reassigned:
        assert (after.id == before.id) == (quirk != "changes")
        assert new_role_id == (after.person.id if quirk == "signer" else after.id)


def test_session_user_can_be_the_role_id():
    """A quirk makes `sessionUser` the id of a role, as an older OneSpan article says."""
    for before, after, events in steps_with({}, quirks=Quirks(session_user="role")):
        for event in events:
            roles = {role.id for role in (*before.roles, *after.roles)}
            if event.name in ("DOCUMENT_SIGNED", "SIGNER_COMPLETE", "ROLE_REASSIGN"):
                assert event.session_user in {*roles, after.sender.id}


@pytest.mark.parametrize(("quirk", "user"), [("system", "onespan-system"), ("null", None)])
def test_session_user_of_events_without_an_actor(quirk, user):
    """A quirk sets the `sessionUser` of events without an actor, because OneSpan's real value is unknown."""
    all_steps = steps_with({}, quirks=Quirks(system_user=quirk))
    names = {"PACKAGE_EXPIRE", "EMAIL_BOUNCE"}
    sent = [event for step in all_steps for event in step.events if event.name in names]

    assert {event.name for event in sent} == names
    assert {event.session_user for event in sent} == {user}


def test_anomalies_with_rate_0_do_not_change_stories():
    """Anomalies with rate 0 do not change stories, because they draw nothing from the random generator."""
    plain = [step.after.name for step in steps(Account(3, packages=5))]

    assert plain == [step.after.name for step in steps(Account(3, packages=5, anomalies=dict.fromkeys(ANOMALIES, 0.0)))]


def test_updated_grows_with_every_change():
    """The `updated` of a package grows with every change, so a client that asks for updates finds all changes."""
    for before, after, _ in steps_with({**dict.fromkeys(BAD_DAY, 0.3), "lie": 0.0}):
        assert after.updated > before.updated


def test_an_action_over_rest_ends_a_story_that_became_impossible():
    """A package that is deleted over REST has no further events, and the stories of other packages go on."""
    account = Account(3, packages=6)
    now = NOON
    for _ in range(10):
        account.step(now := now + SECOND)
    deleted = [package for package in account.packages() if not package.deleted][:2]
    for package in deleted:
        account.act(package.id, Action("delete"), now=now)

    events = [event for number in range(2000) for event in account.step(now + number * SECOND)]

    assert account.is_over
    assert {package.id for package in deleted}.isdisjoint(event.package_id for event in events)
    assert {event.name for event in events} >= {"PACKAGE_COMPLETE"}


def test_a_mistake_in_a_story_raises():
    """An impossible action in a story raises an error, unless an action over REST made it impossible."""
    account = Account(3, packages=1)
    account.step(NOON)
    (draft,) = account.packages()
    account.load([replace(draft, deleted=True)])

    with pytest.raises(ImpossibleAction):
        account.step(NOON + timedelta(seconds=1))
