"""The simulator: what callbacks cannot tell happens as often as one asks for, and its quirks change what is told."""

from dataclasses import replace
from datetime import timedelta

import pytest

from app.onespan.catalogue import CATALOGUE
from app.simulator.account import Account
from app.simulator.anomalies import BAD_DAY, ODDITIES
from app.simulator.packages import ARCHIVAL, STATUSES, Act, Impossible
from app.simulator.quirks import Quirks
from tests.conftest import NOON
from tests.support.simulated import SECOND, Step, many_steps, steps

SILENT = {"redate": "due", "rename": "name", "readdress": "roles", "add-signer": "roles"}


def odd_steps(rates, *, quirks: Quirks | None = None, seeds=range(4)) -> list[Step]:
    """Lives that are odd."""
    return [
        step
        for seed in seeds
        for step in steps(Account(seed, packages=25, odd=rates, quirks=quirks or Quirks()))
        if step.before
    ]


def test_by_default_callbacks_tell_all():
    """Who keeps to them misses nothing: every change of status, trash or existence comes with an event."""
    for before, after, events in many_steps():
        if before and before.status != "EXPIRED":
            shown = [(one.status, one.trashed, one.deleted, one.type) for one in (before, after)]
            assert events or shown[0] == shown[1]


@pytest.mark.parametrize("oddity", SILENT)
def test_silent_changes_are_told_by_no_event(oddity):
    """But they move `updated`, which is all there is to find them by."""
    found = [
        (before, after)
        for before, after, events in odd_steps({oddity: 1.0})
        if not events and getattr(before, SILENT[oddity]) != getattr(after, SILENT[oddity])
    ]

    assert len(found) > 20
    assert all(after.updated > before.updated for before, after in found)


def test_an_added_signer_signs_like_the_others():
    """Their package is not complete without them."""
    grown = [after for before, after, _ in odd_steps({"add-signer": 1.0}) if len(after.roles) > len(before.roles)]
    ends = {step.after.id: step.after for step in odd_steps({"add-signer": 1.0})}

    completed = [ends[one.id] for one in grown if ends[one.id].completed]
    assert len(completed) > 10
    assert all(one.is_signed(len(one.roles) - 1) for one in completed)


def test_newer_statuses_are_taken_in_their_order():
    """No event tells of them, and no list of statuses has them."""
    taken = [(before.status, after.status, events) for before, after, events in odd_steps({"archival": 1.0})]
    newer = [(before, after, events) for before, after, events in taken if after in ARCHIVAL and after != before]

    assert {after for _, after, _ in newer} == set(ARCHIVAL)
    assert all(not events for _, _, events in newer)
    assert {before for before, _, _ in newer} <= {"COMPLETED", *ARCHIVAL[:-1]}
    assert not set(ARCHIVAL) & STATUSES


@pytest.mark.parametrize("name", ["none", "PACKAGE_COMPLETE", "PACKAGE_UNARCHIVE"])
def test_unarchiving_is_told_by_the_event_one_names_or_none(name):
    """Nobody says which it is."""
    told = [
        [event.name for event in events]
        for before, after, events in odd_steps({"unarchive": 1.0}, quirks=Quirks(unarchive_event=name))
        if (before.status, after.status) == ("ARCHIVED", "COMPLETED")
    ]

    assert told
    assert all(names == ([] if name == "none" else [name]) for names in told)


@pytest.mark.parametrize("name", ["none", "PACKAGE_DELETE"])
def test_retention_deletes_with_an_event_or_without(name):
    """In any condition a package may be in at its end."""
    gone = [
        (before.status, [event.name for event in events])
        for before, after, events in odd_steps({"retention": 1.0}, quirks=Quirks(retention_event=name))
        if after.deleted
    ]

    assert {"COMPLETED", "DECLINED", "EXPIRED"} <= {status for status, _ in gone}
    assert sum(names == ([] if name == "none" else [name]) for _, names in gone) > 50


def test_layouts_are_made_silently():
    """They are neither packages nor templates."""
    layouts = [step for step in steps(Account(1, packages=40, odd={"layout": 0.5})) if step.after.type == "LAYOUT"]

    assert layouts
    assert not [step.events for step in layouts if step.before is None and step.events]


def test_on_a_bad_day_every_oddity_happens_and_no_life_is_impossible():
    """All of them together, too."""
    every = odd_steps(dict.fromkeys(BAD_DAY, 0.5), quirks=Quirks(reassign_role="stays"), seeds=range(12))

    assert set(BAD_DAY) == set(ODDITIES)
    assert {event.name for step in every for event in step.events} <= set(CATALOGUE)
    assert {step.after.status for step in every} == STATUSES | set(ARCHIVAL)


@pytest.mark.parametrize("where", ["changes", "stays", "signer"])
def test_a_reassigned_role_keeps_its_id_or_not(where):
    """And `newRoleId` may say the role, or the new signer."""
    found = []
    for before, after, events in odd_steps({}, quirks=Quirks(reassign_role=where), seeds=range(8)):
        if events and events[0].name == "ROLE_REASSIGN":
            (seat,) = (n for n, role in enumerate(before.roles) if role.person != after.roles[n].person)
            found.append((before.roles[seat], after.roles[seat], events[0].more["newRoleId"]))

    assert found
    for before, after, told in found:
        assert (after.id == before.id) == (where != "changes")
        assert told == (after.person.id if where == "signer" else after.id)


def test_session_user_can_be_the_role():
    """An old article of OneSpan's says so."""
    for before, after, events in odd_steps({}, quirks=Quirks(session_user="role")):
        for event in events:
            roles = {role.id for role in (*before.roles, *after.roles)}
            if event.name in ("DOCUMENT_SIGNED", "SIGNER_COMPLETE", "ROLE_REASSIGN"):
                assert event.session_user in {*roles, after.sender.id}


@pytest.mark.parametrize(("quirk", "user"), [("system", "onespan-system"), ("null", None)])
def test_nobody_expires_a_package(quirk, user):
    """What `sessionUser` holds then is not known."""
    every = odd_steps({}, quirks=Quirks(system_user=quirk))
    told = [event for step in every for event in step.events if event.name in ("PACKAGE_EXPIRE", "EMAIL_BOUNCE")]

    assert {event.name for event in told} == {"PACKAGE_EXPIRE", "EMAIL_BOUNCE"}
    assert {event.session_user for event in told} == {user}


def test_oddities_do_not_change_the_lives_they_do_not_befall():
    """The dice are the same; only what is added differs."""
    plain = [step.after.name for step in steps(Account(3, packages=5))]

    assert plain == [step.after.name for step in steps(Account(3, packages=5, odd=dict.fromkeys(ODDITIES, 0.0)))]


def test_updated_moves_with_every_change():
    """A reader that looks for what was updated since finds all."""
    for before, after, _ in odd_steps(dict.fromkeys(BAD_DAY, 0.3)):
        assert after.updated > before.updated


def test_somebodys_hand_ends_what_was_to_happen():
    """A package that was taken away before its signers came is over; the others live on."""
    account = Account(3, packages=6)
    now = NOON
    for _ in range(10):
        account.step(now := now + SECOND)
    taken = [one for one in account.packages() if not one.deleted][:2]
    for one in taken:
        account.act(one.id, Act("delete"), now=now)

    told = [event for number in range(2000) for event in account.step(now + number * SECOND)]

    assert account.is_over
    assert {one.id for one in taken}.isdisjoint(event.package_id for event in told)
    assert {event.name for event in told} >= {"PACKAGE_COMPLETE"}


def test_a_mistake_in_a_history_still_shows():
    """Only where somebody's hand was in it is an impossible act forgiven."""
    account = Account(3, packages=1)
    account.step(NOON)
    (draft,) = account.packages()
    account.hold([replace(draft, deleted=True)])

    with pytest.raises(Impossible):
        account.step(NOON + timedelta(seconds=1))
