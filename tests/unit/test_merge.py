"""Tests of claims and of the merge, which keeps the newest claim for each attribute."""

import json
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from app.onespan import merge
from app.onespan.callbacks import parse_callback
from app.onespan.claims import MAX_CLOCK_AHEAD, callback_claims, snapshot_claims
from app.onespan.event_catalogue import STATUSES
from app.onespan.merge import Claim, State
from app.onespan.packages import parse_package
from app.types import iso
from tests.conftest import ADA, CLEO, HOUR, NOON
from tests.support.fixtures import JSON, callback, package, sent_to

MS = timedelta(milliseconds=1)


def after_callback(
    name: str, happened_at: datetime | None = NOON, *, received_at: datetime = NOON + 24 * HOUR, **members: object
) -> State:
    """Return the merged state after a single callback."""
    parsed = parse_callback(json.dumps(callback(name, happened_at, **members)).encode())
    return merge.merge_claims({}, callback_claims(parsed, received_at=received_at))


def after_snapshot(shown: JSON, at: datetime = NOON) -> State:
    """Return the merged state after a single snapshot."""
    return merge.merge_claims({}, snapshot_claims(parse_package(shown), at=at))


def both(*states: State) -> State:
    """Return the merge of several states."""
    merged: State = {}
    for state in states:
        merged = merge.merge_claims(
            merged,
            [
                Claim(subject, attribute, value, at, origin)
                for subject, attributes in state.items()
                for attribute, registers in attributes.items()
                for origin, (at, value) in registers.items()
            ],
        )
    return merged


def current(state: State, attribute: str, subject: str = merge.PACKAGE) -> object:
    """Return the current value of an attribute."""
    return merge.current_value(state[subject][attribute])[1]


def test_newest_claim_wins_in_any_order_of_arrival():
    """The claim with the newest time on OneSpan's clock wins, in any order of arrival."""
    old, new = after_callback("PACKAGE_CREATE"), after_callback("PACKAGE_ACTIVATE", NOON + MS)

    assert current(both(old, new), "status") == current(both(new, old), "status") == "SENT"


def test_snapshot_wins_over_event_of_same_instant():
    """A snapshot wins over an event of the same instant, because the snapshot already includes the event."""
    event, snapshot = after_callback("PACKAGE_COMPLETE"), after_snapshot(package("SENT"))

    assert current(both(event, snapshot), "status") == current(both(snapshot, event), "status") == "SENT"


def test_event_wins_over_older_snapshot():
    """An event wins over a snapshot that is a millisecond older."""
    event, snapshot = after_callback("PACKAGE_COMPLETE", NOON + MS), after_snapshot(package("SENT"))

    assert current(both(event, snapshot), "status") == current(both(snapshot, event), "status") == "COMPLETED"


@pytest.mark.parametrize(("earlier", "later"), list(pairwise(STATUSES)))
def test_later_status_wins_within_one_instant(earlier, later):
    """If two statuses have the same millisecond, the status that is later in the lifecycle wins."""
    first, second = after_snapshot(package(earlier)), after_snapshot(package(later))

    assert current(both(first, second), "status") == current(both(second, first), "status") == later


def test_value_wins_over_none_in_snapshots_of_one_instant():
    """If only one of two snapshots of the same second shows a signature, the signature counts."""
    before, after = after_snapshot(sent_to(ADA)), after_snapshot(sent_to(ADA, signed={ADA: NOON}))

    signed = {
        current(state, f"signed {ADA}", "document:contract") for state in (both(before, after), both(after, before))
    }
    assert signed == {"2026-03-02T12:00:00.000000+00:00"}


def test_snapshot_claims_only_what_it_contains():
    """A list item may be a summary of a package; without roles it claims nothing about signers."""
    summary = {"id": "pkg-1", "status": "COMPLETED"}

    known = both(after_snapshot(sent_to(ADA)), after_snapshot(summary, NOON + HOUR))

    assert current(known, "status") == "COMPLETED"
    assert current(known, "name") == "Lease"
    assert current(known, "seats") == [[ADA, "role-of-ada"]]
    assert current(known, "documents") == ["contract"]


def test_missing_due_date_in_a_whole_package_clears_it():
    """A complete snapshot without a due date clears an earlier due date."""
    known = both(after_snapshot(package(due="2026-04-01T12:00:00Z")), after_snapshot(package(), NOON + HOUR))

    assert current(known, "due") is None


def test_callback_dated_2099_loses_to_later_snapshot():
    """A callback dated 2099 counts from its arrival, so a later snapshot wins over the callback."""
    wild = after_callback("PACKAGE_COMPLETE", datetime.fromisoformat("2099-01-01T00:00:00Z"), received_at=NOON)
    later = after_snapshot(package("SENT"), NOON + HOUR)

    assert current(both(wild, later), "status") == current(both(later, wild), "status") == "SENT"
    assert current(wild, "completed") == iso(NOON)


def test_date_slightly_in_the_future_is_accepted():
    """A callback date up to 15 minutes after arrival is accepted; a later date is replaced by the arrival time."""
    ahead = after_callback("PACKAGE_COMPLETE", NOON + MAX_CLOCK_AHEAD, received_at=NOON)
    too_far = after_callback("PACKAGE_COMPLETE", NOON + MAX_CLOCK_AHEAD + MS, received_at=NOON)

    assert timedelta(minutes=15) == MAX_CLOCK_AHEAD
    assert current(ahead, "completed") == iso(NOON + MAX_CLOCK_AHEAD)
    assert current(too_far, "completed") == iso(NOON)


def test_undated_callback_holds_from_arrival():
    """A callback without a date counts from its arrival, because no other time is known."""
    assert current(after_callback("PACKAGE_COMPLETE", None, received_at=NOON + HOUR), "completed") == iso(NOON + HOUR)


def test_only_a_later_fact_revokes_a_deletion():
    """A snapshot revokes only an earlier deletion, and so does an event that only an existing package can have."""
    deleted = after_callback("PACKAGE_DELETE", NOON + HOUR)

    assert current(both(deleted, after_callback("PACKAGE_COMPLETE", NOON)), "deleted") is True
    assert current(both(deleted, after_callback("EMAIL_BOUNCE", NOON + 2 * HOUR)), "deleted") is True
    assert current(both(deleted, after_callback("PACKAGE_COMPLETE", NOON + 2 * HOUR)), "deleted") is False
    assert current(both(deleted, after_snapshot(package(), NOON)), "deleted") is True
    assert current(both(deleted, after_snapshot(package(), NOON + 2 * HOUR)), "deleted") is False


def test_unknown_event_claims_only_its_occurrence():
    """A callback with an unknown event name claims only that the event happened."""
    assert after_callback("PACKAGE_FRAMED", sessionUser=ADA).keys() == {merge.PACKAGE}
    assert after_callback("PACKAGE_FRAMED")[merge.PACKAGE].keys() == {"event"}


def test_creator_is_the_sender():
    """The user of PACKAGE_CREATE is the sender of the package; the users of later events are not."""
    known = both(after_callback("PACKAGE_CREATE"), after_callback("PACKAGE_TRASH", NOON + HOUR, sessionUser="another"))

    assert current(known, "sender_id") == CLEO


def test_merge_without_new_claims_returns_the_same_object():
    """A merge without new claims returns the same object, so that unchanged rows are not written."""
    state = both(after_callback("PACKAGE_CREATE"), after_snapshot(sent_to(ADA)))

    assert both(state, after_callback("PACKAGE_CREATE")) == state
    assert merge.merge_claims(state, snapshot_claims(parse_package(sent_to(ADA)), at=NOON)) is state
    older = [
        claim
        for claim in snapshot_claims(parse_package(sent_to(ADA)), at=NOON - HOUR)
        if not claim.attribute.startswith(merge.FIRST)
    ]
    assert merge.merge_claims(state, older) is state


def test_merge_does_not_modify_its_input():
    """A merge does not change its input, because states are immutable values."""
    state = after_callback("PACKAGE_CREATE")
    before = json.dumps(state)

    both(state, after_callback("PACKAGE_COMPLETE", NOON + HOUR))

    assert json.dumps(state) == before
