"""What is claimed, and which claim is believed. Sentences about the pure core."""

import json
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from app.onespan import claims
from app.onespan.callbacks import read_callback
from app.onespan.catalogue import STATUSES
from app.onespan.claims import AHEAD, Claim, State
from app.onespan.packages import read_package
from app.types import iso
from tests.conftest import ADA, CLEO, HOUR, NOON
from tests.support.fixtures import JSON, callback, package, sent_to

MS = timedelta(milliseconds=1)


def told(
    name: str, happened_at: datetime | None = NOON, *, received_at: datetime = NOON + 24 * HOUR, **members: object
) -> State:
    """What is held after one callback."""
    read = read_callback(json.dumps(callback(name, happened_at, **members)).encode())
    return claims.merge({}, claims.told_by(read, received_at=received_at))


def shown(reading: JSON, at: datetime = NOON) -> State:
    """What is held after one snapshot."""
    return claims.merge({}, claims.shown_by(read_package(reading), at=at))


def both(*states: State) -> State:
    """What is held by whoever knows all of these."""
    merged: State = {}
    for state in states:
        merged = claims.merge(
            merged,
            [
                Claim(subject, attribute, value, at, witness)
                for subject, attributes in state.items()
                for attribute, registers in attributes.items()
                for witness, (at, value) in registers.items()
            ],
        )
    return merged


def belief(state: State, attribute: str, subject: str = claims.PACKAGE) -> object:
    """The believed value."""
    return claims.believed(state[subject][attribute])[1]


def test_the_newest_claim_is_believed_whichever_came_first():
    """OneSpan's clock decides, not the order of arrival."""
    old, new = told("PACKAGE_CREATE"), told("PACKAGE_ACTIVATE", NOON + MS)

    assert belief(both(old, new), "status") == belief(both(new, old), "status") == "SENT"


def test_a_snapshot_outranks_an_event_of_the_same_instant():
    """It is dated at a time that it surely had passed, so it has seen what the event told."""
    event, snapshot = told("PACKAGE_COMPLETE"), shown(package("SENT"))

    assert belief(both(event, snapshot), "status") == belief(both(snapshot, event), "status") == "SENT"


def test_an_event_outranks_an_older_snapshot():
    """By a millisecond."""
    event, snapshot = told("PACKAGE_COMPLETE", NOON + MS), shown(package("SENT"))

    assert belief(both(event, snapshot), "status") == belief(both(snapshot, event), "status") == "COMPLETED"


@pytest.mark.parametrize(("earlier", "later"), list(pairwise(STATUSES)))
def test_of_two_statuses_of_one_instant_the_later_in_life_is_believed(earlier, later):
    """OneSpan's clock has milliseconds; what happens in the same one happened in the order of life."""
    one, other = shown(package(earlier)), shown(package(later))

    assert belief(both(one, other), "status") == belief(both(other, one), "status") == later


def test_of_two_readings_of_one_instant_something_outweighs_nothing():
    """Readings are dated by the second: a signature seen by only one of two was given between them."""
    before, after = shown(sent_to(ADA)), shown(sent_to(ADA, signed={ADA: NOON}))

    signed = {
        belief(state, f"signed {ADA}", "document:contract") for state in (both(before, after), both(after, before))
    }
    assert signed == {"2026-03-02T12:00:00.000000+00:00"}


def test_what_a_reading_does_not_show_it_does_not_claim():
    """An item of a list may be a summary: without roles it says nothing of who signs."""
    summary = {"id": "pkg-1", "status": "COMPLETED"}

    known = both(shown(sent_to(ADA)), shown(summary, NOON + HOUR))

    assert belief(known, "status") == "COMPLETED"
    assert belief(known, "name") == "Lease"
    assert belief(known, "seats") == [[ADA, "role-of-ada"]]
    assert belief(known, "documents") == ["contract"]


def test_a_due_date_that_is_gone_is_gone():
    """A whole package without a due date says that there is none."""
    known = both(shown(package(due="2026-04-01T12:00:00Z")), shown(package(), NOON + HOUR))

    assert belief(known, "due") is None


def test_a_callback_dated_2099_does_not_outrank_later_readings():
    """Its clock is not believed; it counts from its arrival."""
    wild = told("PACKAGE_COMPLETE", datetime.fromisoformat("2099-01-01T00:00:00Z"), received_at=NOON)
    later = shown(package("SENT"), NOON + HOUR)

    assert belief(both(wild, later), "status") == belief(both(later, wild), "status") == "SENT"
    assert belief(wild, "completed") == iso(NOON)


def test_a_clock_a_little_ahead_is_believed():
    """Up to 15 minutes after the arrival; a millisecond more and it counts from its arrival."""
    ahead = told("PACKAGE_COMPLETE", NOON + AHEAD, received_at=NOON)
    too_far = told("PACKAGE_COMPLETE", NOON + AHEAD + MS, received_at=NOON)

    assert timedelta(minutes=15) == AHEAD
    assert belief(ahead, "completed") == iso(NOON + AHEAD)
    assert belief(too_far, "completed") == iso(NOON)


def test_an_undated_callback_speaks_of_its_arrival():
    """There is no other time to go by."""
    assert belief(told("PACKAGE_COMPLETE", None, received_at=NOON + HOUR), "completed") == iso(NOON + HOUR)


def test_deletion_yields_to_a_later_reading_and_to_nothing_else():
    """Whoever could read the package afterwards knows that it is there."""
    deleted = told("PACKAGE_DELETE", NOON + HOUR)

    assert belief(both(deleted, told("PACKAGE_COMPLETE", NOON + 2 * HOUR)), "deleted") is True
    assert belief(both(deleted, shown(package(), NOON)), "deleted") is True
    assert belief(both(deleted, shown(package(), NOON + 2 * HOUR)), "deleted") is False


def test_an_event_nobody_has_heard_of_claims_only_that_it_was():
    """Nothing is guessed."""
    assert told("PACKAGE_FRAMED", sessionUser=ADA).keys() == {claims.PACKAGE}
    assert told("PACKAGE_FRAMED")[claims.PACKAGE].keys() == {"event"}


def test_the_sender_is_who_created_the_package():
    """And not who sent any later event."""
    known = both(told("PACKAGE_CREATE"), told("PACKAGE_TRASH", NOON + HOUR, sessionUser="somebody"))

    assert belief(known, "sender_id") == CLEO


def test_nothing_new_gives_back_the_very_same_state():
    """So that nobody writes a row that did not change."""
    state = both(told("PACKAGE_CREATE"), shown(sent_to(ADA)))

    assert both(state, told("PACKAGE_CREATE")) == state
    assert claims.merge(state, claims.shown_by(read_package(sent_to(ADA)), at=NOON)) is state
    assert claims.merge(state, claims.shown_by(read_package(sent_to(ADA)), at=NOON - HOUR)) is state


def test_merging_leaves_the_given_state_as_it_was():
    """A state is a value."""
    state = told("PACKAGE_CREATE")
    before = json.dumps(state)

    both(state, told("PACKAGE_COMPLETE", NOON + HOUR))

    assert json.dumps(state) == before
