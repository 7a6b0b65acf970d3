"""Tests of the projection: short stories of a package that Ada signs, Ben declines and Cleo sends."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.onespan import merge
from app.onespan.callbacks import parse_callback
from app.onespan.claims import callback_claims, snapshot_claims
from app.onespan.packages import parse_package
from app.onespan.projection import derive
from app.onespan.values import Attention, Package
from tests.conftest import ADA, BEN, CLEO, HOUR, NOON
from tests.support.fixtures import JSON, callback, document, package, role, sent_to

DAN = "dan-who-takes-over"
A = "role-of-ada"
# The events that only a package that exists can have.
LIVING_EVENTS = (
    *("PACKAGE_ACTIVATE", "PACKAGE_DEACTIVATE", "PACKAGE_READY_FOR_COMPLETE", "PACKAGE_COMPLETE", "PACKAGE_DECLINE"),
    *("PACKAGE_OPT_OUT", "PACKAGE_EXPIRE", "PACKAGE_ARCHIVE", "PACKAGE_TRASH", "PACKAGE_RESTORE"),
    *("PACKAGE_ATTACHMENT", "DOCUMENT_SIGNED", "DOCUMENT_VIEWED", "SIGNER_COMPLETE", "SIGNER_LOCKED", "KBA_FAILURE"),
    *("ROLE_REASSIGN", "COBROWSE_REQUEST"),
)
Fact = JSON | tuple[JSON, datetime]  # a fact is a callback, or a snapshot with its time


def at(hours: float) -> datetime:
    """Return the time that is a number of hours after noon."""
    return NOON + hours * HOUR


def event(name: str, hours: float, **members: object) -> JSON:
    """Return a callback whose event happened a number of hours after noon."""
    return callback(name, at(hours), **members)


def project(*facts: Fact) -> Package:
    """Return the package after callbacks and snapshots; check that their order of arrival does not matter."""
    packages = [_project(order) for order in _orders(facts)]
    assert all(package == packages[0] for package in packages)
    return packages[0]


def statuses(result: Package) -> dict[str, str]:
    """Return the status of every signer."""
    return {signer.id: signer.status for signer in result.signers}


def reasons(result: Package) -> list[tuple[str, str | None]]:
    """Return the open attention reasons with the ids they concern."""
    return [(item.reason, item.who) for item in result.attention]


def test_decline_names_signer_and_reason():
    """A declined package needs attention, with the signer who declined and the reason."""
    result = project(event("PACKAGE_ACTIVATE", 0), event("PACKAGE_DECLINE", 1, sessionUser=BEN, message="too dear"))

    assert result.status == "DECLINED"
    assert result.status_at == at(1)
    assert statuses(result) == {BEN: "DECLINED"}
    assert result.attention == (Attention("DECLINED", at(1), BEN, "too dear"),)


def test_declined_package_sent_again_waits_again():
    """DECLINED is not a final status: a declined package that is sent again waits for its signers again."""
    result = project(
        event("PACKAGE_ACTIVATE", 0),
        event("PACKAGE_DECLINE", 1, sessionUser=BEN, message="too dear"),
        event("PACKAGE_ACTIVATE", 2),
    )

    assert result.status == "SENT"
    assert statuses(result) == {BEN: "PENDING"}
    assert result.attention == ()


def test_earlier_decline_is_not_mixed_with_the_next():
    """If two signers decline a package one after the other, only the second decline is shown."""
    result = project(
        event("PACKAGE_DECLINE", 1, sessionUser=ADA, message="wrong name"),
        event("PACKAGE_ACTIVATE", 2),
        event("PACKAGE_DECLINE", 3, sessionUser=BEN, message="too dear"),
    )

    assert statuses(result) == {ADA: "PENDING", BEN: "DECLINED"}
    assert result.attention == (Attention("DECLINED", at(3), BEN, "too dear"),)


def test_old_decline_does_not_explain_one_from_a_snapshot():
    """A second decline without a callback has no known signer or reason; the first decline does not explain it."""
    result = project(
        event("PACKAGE_DECLINE", 1, sessionUser=ADA, message="wrong name"),
        event("PACKAGE_ACTIVATE", 2),
        (sent_to(ADA, BEN, status="DECLINED"), at(3)),
    )

    assert statuses(result) == {ADA: "PENDING", BEN: "PENDING"}
    assert [(item.who, item.detail) for item in result.attention] == [(None, None)]


def test_expired_package_needs_attention_until_changed():
    """An expired package needs attention until it returns to draft or is sent again."""
    expired = [event("PACKAGE_ACTIVATE", 0), event("PACKAGE_EXPIRE", 1)]

    assert reasons(project(*expired)) == [("EXPIRED", None)]
    assert reasons(project(*expired, event("PACKAGE_DEACTIVATE", 2))) == []
    assert reasons(project(*expired, event("PACKAGE_DEACTIVATE", 2), event("PACKAGE_ACTIVATE", 3))) == []


def test_locked_signer_needs_attention_until_they_sign():
    """A locked signer needs attention until the signer signs, because a signer who signs is no longer locked."""
    locked = [event("PACKAGE_ACTIVATE", 0), event("SIGNER_LOCKED", 1, sessionUser=ADA)]
    open_, solved = project(*locked), project(*locked, event("DOCUMENT_SIGNED", 2, sessionUser=ADA, documentId="c"))

    assert statuses(open_) == {ADA: "LOCKED"}
    assert open_.attention == (Attention("SIGNER_LOCKED", at(1), ADA),)
    assert statuses(solved) == {ADA: "PENDING"}
    assert solved.attention == ()


def test_snapshot_of_unlocked_signer_closes_the_reason():
    """Unlocking a signer has no event, so a later snapshot closes the attention reason."""
    result = project(event("SIGNER_LOCKED", 1, sessionUser=ADA), (sent_to(ADA), at(2)))

    assert statuses(result) == {ADA: "PENDING"}
    assert result.attention == ()


def test_second_lock_reopens_the_reason():
    """When a signer is locked a second time, the attention reason dates from the second lock."""
    result = project(
        event("SIGNER_LOCKED", 1, sessionUser=ADA),
        event("DOCUMENT_SIGNED", 2, sessionUser=ADA, documentId="c"),
        event("SIGNER_LOCKED", 3, sessionUser=ADA),
    )

    assert result.attention == (Attention("SIGNER_LOCKED", at(3), ADA),)


def test_kba_failures_are_counted_and_close_on_signing():
    """A signer's KBA failures stay counted after the signer has completed, but the attention reason closes."""
    failed = [event("KBA_FAILURE", hour, sessionUser=ADA) for hour in (1, 2)]
    open_, solved = project(*failed), project(*failed, event("SIGNER_COMPLETE", 3, sessionUser=ADA))

    assert reasons(open_) == [("KBA_FAILURE", ADA)]
    assert reasons(solved) == []
    assert [signer.kba_failures for signer in (*open_.signers, *solved.signers)] == [2, 2]


def test_bounce_closes_when_the_signer_signs():
    """An e-mail bounce needs no more attention after the signer has signed, because the signer was reached."""
    bounced = event("EMAIL_BOUNCE", 1, sessionUser=ADA, message="BOUNCE")
    open_ = project((sent_to(ADA), at(0)), bounced)
    solved = project(
        (sent_to(ADA), at(0)), bounced, event("DOCUMENT_SIGNED", 2, sessionUser=ADA, documentId="contract")
    )

    assert open_.attention == (Attention("EMAIL_BOUNCE", at(1), ADA, "BOUNCE"),)
    assert solved.attention == ()
    assert solved.signers[0].email_bounce is None


def test_bounce_to_the_sender_does_not_make_them_a_signer():
    """An e-mail that bounces at the sender needs attention but does not make the sender a signer."""
    facts = [
        event("PACKAGE_CREATE", 0),
        event("PACKAGE_ACTIVATE", 1),
        event("EMAIL_BOUNCE", 2, sessionUser=CLEO, message="BOUNCE"),
    ]

    for result in (project(*facts), project(*facts, (sent_to(ADA), at(3)))):
        assert CLEO not in statuses(result)
        assert result.attention == (Attention("EMAIL_BOUNCE", at(2), None, f"BOUNCE ({CLEO})"),)


def test_ready_for_completion_closes_with_the_next_status():
    """The attention reason READY_FOR_COMPLETION opens with its event and closes with the next status."""
    ready = [event("PACKAGE_ACTIVATE", 0), event("PACKAGE_READY_FOR_COMPLETE", 1)]

    assert project(*ready).attention == (Attention("READY_FOR_COMPLETION", at(1)),)
    assert project(*ready, event("PACKAGE_COMPLETE", 2)).attention == ()
    assert project(*ready, event("PACKAGE_DEACTIVATE", 2), event("PACKAGE_ACTIVATE", 3)).attention == ()


def test_snapshot_shows_ready_for_completion():
    """A snapshot shows that a package is ready for completion, even if the callback was lost."""
    result = project((sent_to(ADA, signed={ADA: at(1)}, autocomplete=False), at(2)))

    assert reasons(result) == [("READY_FOR_COMPLETION", None)]


@pytest.mark.parametrize("removal", ["PACKAGE_TRASH", "PACKAGE_DELETE"])
@pytest.mark.parametrize(
    "problem",
    [
        event("SIGNER_LOCKED", 1, sessionUser=ADA),
        event("PACKAGE_EXPIRE", 1),
        event("PACKAGE_DECLINE", 1, sessionUser=BEN),
        event("PACKAGE_READY_FOR_COMPLETE", 1),
    ],
    ids=lambda body: body["name"],
)
def test_trashed_or_deleted_package_needs_no_attention(removal, problem):
    """A trashed or deleted package needs no attention and has no next signers."""
    result = project((sent_to(ADA), at(0)), problem, event(removal, 2))

    assert result.attention == ()
    assert result.next_signers == ()


def test_restored_package_needs_attention_again():
    """A restored package needs attention again, because moving a package to the trash resolves nothing."""
    result = project(event("SIGNER_LOCKED", 1, sessionUser=ADA), event("PACKAGE_TRASH", 2), event("PACKAGE_RESTORE", 3))

    assert not result.trashed
    assert reasons(result) == [("SIGNER_LOCKED", ADA)]


def test_trashing_does_not_change_the_status():
    """Moving a package to the trash does not change its status, because trashed is a separate flag."""
    result = project(event("PACKAGE_COMPLETE", 0), event("PACKAGE_TRASH", 1))

    assert (result.status, result.trashed) == ("COMPLETED", True)


def test_snapshot_revokes_a_deletion():
    """A snapshot that is newer than a deletion revokes the deletion."""
    deleted = [event("PACKAGE_COMPLETE", 0), event("PACKAGE_DELETE", 1)]

    assert project(*deleted).deleted
    assert not project(*deleted, (sent_to(ADA), at(2))).deleted


@pytest.mark.parametrize("name", LIVING_EVENTS)
def test_event_of_a_living_package_revokes_an_earlier_deletion(name):
    """An event that only a living package can have revokes an earlier deletion, but none of the same instant."""
    story = [event("PACKAGE_ACTIVATE", 0), event("PACKAGE_DELETE", 1)]

    assert not project(*story, event(name, 2, sessionUser=ADA)).deleted
    assert project(*story, event(name, 1, sessionUser=ADA)).deleted
    assert project(*story, event(name, 2, sessionUser=ADA), event("PACKAGE_DELETE", 3)).deleted


@pytest.mark.parametrize("name", ["PACKAGE_CREATE", "TEMPLATE_CREATE", "EMAIL_BOUNCE", "PACKAGE_HATCHED"])
def test_other_events_revoke_no_deletion(name):
    """A creation comes before any deletion, a bounce may come late, and an unknown event claims nothing."""
    assert project(event("PACKAGE_DELETE", 1), event(name, 2)).deleted


@given(st.lists(st.tuples(st.sampled_from((*LIVING_EVENTS, "PACKAGE_DELETE")), st.integers(0, 5)), max_size=6))
def test_package_is_deleted_if_the_deletion_is_the_last_event(events):
    """A package is deleted if no event of a living package is later than its last deletion."""
    result = project(*(event(name, hours) for name, hours in events))

    deletions = [hours for name, hours in events if name == "PACKAGE_DELETE"]
    others = [hours for name, hours in events if name != "PACKAGE_DELETE"]
    assert result.deleted is (max(deletions, default=-1) >= max(others, default=0))


def test_deleted_package_that_is_sent_is_sent():
    """OneSpan's support can bring a deleted package back, so its sender can send it."""
    result = project(event("PACKAGE_CREATE", 0), event("PACKAGE_DELETE", 1), event("PACKAGE_ACTIVATE", 2))

    assert (result.status, result.deleted) == ("SENT", False)


def test_unarchived_package_is_completed_again():
    """Un-archiving a package has no event; a later snapshot shows that its status is COMPLETED again."""
    facts = [event("PACKAGE_COMPLETE", 1), event("PACKAGE_ARCHIVE", 2)]

    assert project(*facts).status == "ARCHIVED"
    assert project(*facts, (package("COMPLETED", completed="2026-03-02T13:00:00Z"), at(3))).status == "COMPLETED"


def test_late_creation_sets_only_creation_values():
    """A PACKAGE_CREATE callback that arrives last sets only the creation time and the sender."""
    result = project(event("PACKAGE_COMPLETE", 2), event("PACKAGE_CREATE", 0))

    assert (result.status, result.status_at) == ("COMPLETED", at(2))
    assert (result.created_at, result.completed_at, result.sender.id) == (at(0), at(2), CLEO)


def test_event_without_user_does_not_change_the_package():
    """A SIGNER_COMPLETE event without a user changes neither the signers nor the package's completion time."""
    result = project(
        (package("COMPLETED", completed="2026-03-02T13:00:00Z"), at(2)), event("SIGNER_COMPLETE", 3, sessionUser=None)
    )

    assert result.completed_at == at(1)
    assert result.signers == ()


def test_next_signers_follow_the_signing_order():
    """Next signers follow the signing order: Ben and Dan sign in parallel after Ada, and Cleo signs last."""
    shown = sent_to(ADA, BEN, DAN, CLEO, signed={ADA: at(0)})
    shown["roles"][2]["index"] = 2

    assert project((shown, at(1))).next_signers == (BEN, DAN)
    assert project((shown, at(1)), event("SIGNER_COMPLETE", 2, sessionUser=BEN)).next_signers == (DAN,)
    assert project((shown, at(1)), event("SIGNER_LOCKED", 2, sessionUser=BEN)).next_signers == (BEN, DAN)


def test_next_signers_are_empty_without_a_snapshot():
    """Without a snapshot a package has no next signers, because events do not contain the signing order."""
    assert project(event("PACKAGE_ACTIVATE", 0), event("SIGNER_LOCKED", 1, sessionUser=ADA)).next_signers == ()


def test_new_role_is_not_awaited_in_a_complete_package_that_was_never_read():
    """A complete package waits for no signer, and a new role may only be another id of a signer."""
    done = [event("SIGNER_COMPLETE", 2, sessionUser=DAN), event("PACKAGE_COMPLETE", 3)]
    result = project(event("ROLE_REASSIGN", 1, sessionUser=ADA, newRoleId="role-of-dan"), *done)

    assert statuses(result) == {ADA: "REASSIGNED", "role-of-dan": None, DAN: "COMPLETED"}
    assert (result.signers_completed, result.signers_total) == (1, 1)


@pytest.mark.parametrize("user_id", [ADA, A])
def test_signer_is_recognised_by_own_id_and_role_id(user_id):
    """A signer is recognised by signer id and by role id, because OneSpan's `sessionUser` may be either."""
    result = project(
        event("KBA_FAILURE", 1, sessionUser=user_id),
        (sent_to(ADA), at(2)),
        event("DOCUMENT_SIGNED", 3, sessionUser=user_id, documentId="contract"),
        event("SIGNER_COMPLETE", 4, sessionUser=A),
    )

    assert statuses(result) == {ADA: "COMPLETED"}
    assert result.signers[0].kba_failures == 1
    assert [document.signed_by for document in result.documents] == [(ADA,)]
    assert (result.signers_completed, result.signers_total) == (1, 1)


def test_empty_seat_becomes_its_new_signer():
    """An empty seat has the id of its role; filling the seat with a person is not a reassignment."""
    empty = package(roles=[role(None, A)], documents=[document("contract", [])])
    signed = event("SIGNER_COMPLETE", 3, sessionUser=A)

    result = project((empty, at(1)), (sent_to(ADA), at(2)), signed)

    assert statuses(project((empty, at(1)))) == {A: "PENDING"}
    assert statuses(result) == {ADA: "COMPLETED"}


def test_reassignment_before_the_first_snapshot():
    """A reassignment before the first snapshot replaces the signer by the new role."""
    result = project(event("PACKAGE_ACTIVATE", 0), event("ROLE_REASSIGN", 1, sessionUser=ADA, newRoleId="role-of-dan"))

    assert statuses(result) == {ADA: "REASSIGNED", "role-of-dan": "PENDING"}
    assert result.signers_total == 1


@pytest.mark.parametrize("user_id", [ADA, A])
def test_reassignment_may_use_either_id(user_id):
    """A reassignment event may name the former signer by signer id or by role id."""
    result = project(
        (sent_to(ADA), at(0)),
        event("ROLE_REASSIGN", 1, sessionUser=user_id, newRoleId="role-of-dan"),
        (package(roles=[role(DAN, "role-of-dan")]), at(2)),
    )

    assert statuses(result) == {ADA: "REASSIGNED", DAN: "PENDING"}
    assert result.signers_total == 1


def test_signer_replaced_before_the_first_snapshot_is_kept():
    """A signer who was replaced before the first snapshot stays in the package as REASSIGNED."""
    result = project(
        event("ROLE_REASSIGN", 1, sessionUser=ADA, newRoleId="role-of-dan"),
        (package(roles=[role(DAN, "role-of-dan")]), at(2)),
    )

    assert statuses(result) == {ADA: "REASSIGNED", DAN: "PENDING"}


def test_snapshot_with_another_person_shows_a_reassignment():
    """A snapshot with another person in a role shows a reassignment whose callback was lost."""
    result = project((sent_to(ADA), at(0)), (package(roles=[role(DAN, A)]), at(1)))

    assert statuses(result) == {ADA: "REASSIGNED", DAN: "PENDING"}


def test_snapshot_of_the_same_instant_includes_the_reassignment():
    """If a snapshot of the same instant as a reassignment shows the former signer, the signer keeps the role."""
    result = project(event("ROLE_REASSIGN", 1, sessionUser=ADA), (sent_to(ADA), at(1)))

    assert statuses(result) == {ADA: "PENDING"}


def test_signer_removed_from_a_draft_is_not_reassigned():
    """A signer who is replaced in a draft was never asked to sign, so the replacement is not a reassignment."""
    before, now = {"roles": [role(ADA, "role-1")]}, {"roles": [role(DAN, "role-1")]}
    draft, sent, other = package("DRAFT", **before), package("SENT", **before), package("DRAFT", **now)

    assert statuses(project((draft, at(0)), (other, at(1)))) == {DAN: "PENDING"}
    assert statuses(project((sent, at(0)), (draft, at(1)), (other, at(2)))) == {DAN: "PENDING"}
    assert statuses(project((draft, at(0)), (sent, at(1)), (package("SENT", **now), at(2)))) == {
        ADA: "REASSIGNED",
        DAN: "PENDING",
    }


def test_signer_who_gets_the_role_back_is_pending():
    """A signer whose role goes to another person and back is pending again."""
    result = project(
        (sent_to(ADA), at(0)),
        event("ROLE_REASSIGN", 1, sessionUser=ADA, newRoleId=DAN),
        (package(roles=[role(DAN, A)]), at(2)),
        (sent_to(ADA), at(3)),
    )

    assert statuses(result)[ADA] == "PENDING"


def test_signer_missing_in_the_newest_snapshot_is_gone():
    """A signer who is missing in the newest snapshot is no longer part of the package."""
    assert statuses(project((sent_to(ADA, BEN), at(0)), (sent_to(ADA), at(1)))) == {ADA: "PENDING"}


def test_signer_from_a_later_event_counts_until_the_next_snapshot():
    """A signer who was added after a snapshot is known from later events until the next snapshot."""
    facts = [(sent_to(ADA), at(0)), event("DOCUMENT_SIGNED", 1, sessionUser=BEN, documentId="annex")]

    assert statuses(project(*facts)) == {ADA: "PENDING", BEN: "PENDING"}
    assert [document.id for document in project(*facts).documents] == ["contract", "annex"]
    assert statuses(project(*facts, (sent_to(ADA), at(2)))) == {ADA: "PENDING"}


def test_signature_missing_in_a_later_snapshot_is_gone():
    """A signature that a later snapshot lacks is gone: the document was changed and must be signed again."""
    signed = event("DOCUMENT_SIGNED", 1, sessionUser=ADA, documentId="contract")

    assert [document.signed_by for document in project((sent_to(ADA), at(0)), signed).documents] == [(ADA,)]
    assert [document.signed_by for document in project(signed, (sent_to(ADA), at(2))).documents] == [()]


def test_unknown_status_is_kept():
    """A package status that is unknown is kept, because OneSpan adds statuses."""
    assert project((package("ARCHIVAL_PENDING"), at(0))).status == "ARCHIVAL_PENDING"


def test_package_without_claims_is_empty():
    """A package without claims is empty, because the projection guesses nothing."""
    assert derive("pkg-1", {}) == Package("pkg-1")


def test_reassignment_and_back_by_events():
    """A role that goes to another signer and back belongs to its first signer, with or without a snapshot."""
    forth = event("ROLE_REASSIGN", 1, sessionUser=ADA, newRoleId=BEN)
    back = event("ROLE_REASSIGN", 2, sessionUser=BEN, newRoleId=ADA)

    assert statuses(project(forth, back)) == {ADA: "PENDING", BEN: "REASSIGNED"}
    assert statuses(project((sent_to(ADA), at(0)), forth, back)) == {ADA: "PENDING", BEN: "REASSIGNED"}
    assert statuses(project(forth, back, event("SIGNER_COMPLETE", 3, sessionUser=ADA)))[ADA] == "COMPLETED"


@pytest.mark.parametrize("name", ["SIGNER_LOCKED", "KBA_FAILURE", "EMAIL_BOUNCE"])
def test_problem_without_signer_closes_when_all_have_signed(name):
    """An attention reason that names no signer closes when a snapshot shows that all signers have signed."""
    unassigned = event(name, 1, sessionUser=None, message="BOUNCE" if name == "EMAIL_BOUNCE" else None)
    signed = sent_to(ADA, BEN, signed={ADA: at(2), BEN: at(2)})

    assert reasons(project((sent_to(ADA, BEN), at(0)), unassigned)) == [(name, None)]
    assert (name, None) not in reasons(project((sent_to(ADA, BEN), at(0)), unassigned, (signed, at(3))))


def test_reason_belongs_to_its_own_decline():
    """The reason of a decline does not apply to a later expiry, or to a later decline without a callback."""
    declined = event("PACKAGE_DECLINE", 1, sessionUser=None, message="too dear")
    again = event("PACKAGE_ACTIVATE", 2)

    assert project(declined, again, event("PACKAGE_EXPIRE", 3)).attention == (Attention("EXPIRED", at(3)),)
    (reason,) = project(declined, again, (package("DECLINED"), at(3))).attention
    assert (reason.who, reason.detail) == (None, None)


def test_newest_message_names_who_declined():
    """The newest message in a snapshot names who declined and why; an earlier decline does not count."""
    first = event("PACKAGE_DECLINE", 1, sessionUser=ADA, message="too dear")
    sent = (sent_to(ADA, BEN), at(2))
    messages = [
        {"created": at(1).isoformat(), "from": {"id": ADA}, "content": "too dear"},
        {"created": at(3).isoformat(), "from": {"id": BEN}, "content": "wrong name"},
    ]
    declined = (sent_to(ADA, BEN, status="DECLINED", messages=messages), at(4))

    result = project(first, sent, declined)

    assert statuses(result) == {ADA: "PENDING", BEN: "DECLINED"}
    assert [(item.reason, item.who, item.detail) for item in result.attention] == [("DECLINED", BEN, "wrong name")]


def test_decline_closes_problems_of_the_signer():
    """A decline closes the signer's problems, which stay closed when the package is sent again."""
    result = project(
        event("PACKAGE_ACTIVATE", 0),
        event("EMAIL_BOUNCE", 1, sessionUser=BEN, message="OOTO"),
        event("KBA_FAILURE", 1, sessionUser=BEN),
        event("PACKAGE_DECLINE", 2, sessionUser=BEN),
        event("PACKAGE_ACTIVATE", 3),
    )

    assert result.attention == ()


def test_externally_archived_package_needs_no_attention():
    """A package with an archival status of Arkhineo needs no attention, because it was completed before."""
    bounce = event("EMAIL_BOUNCE", 1, sessionUser=None, message="BOUNCE")

    assert reasons(project(bounce, (package("ARCHIVAL_PENDING"), at(2)))) == []


@pytest.mark.parametrize(
    ("without", "status"),
    [
        ({"documents": None}, "COMPLETED"),  # a list item has no documents
        ({"roles": [{**role(ADA, index=1), "locked": None}]}, "LOCKED"),
        ({"documents": [document("contract")]}, "COMPLETED"),  # the signer has no approvals
    ],
)
def test_snapshot_changes_only_values_it_contains(without, status):
    """A snapshot changes only the values that it contains; other values stay as earlier events reported them."""
    shown = (sent_to(ADA, **without), at(2))
    result = project(event("SIGNER_COMPLETE", 0, sessionUser=ADA), event("SIGNER_LOCKED", 1, sessionUser=ADA), shown)

    assert statuses(result) == {ADA: status}


def test_attachment_without_name_is_ignored():
    """An attachment event without a file name is ignored, because the name is its only value."""
    assert project(event("PACKAGE_ATTACHMENT", 0, sessionUser=ADA)).signers[0].attachments == ()


def test_law_3_undated_callback_repeated_soon_changes_nothing(send_callback, stored_package, clock):
    """An undated bounce that is repeated within five minutes is not newer than a signature after the first bounce."""
    send_callback("EMAIL_BOUNCE", happened_at=None, sessionUser=ADA, message="BOUNCE")
    clock.forward(timedelta(minutes=1))
    send_callback("SIGNER_COMPLETE", happened_at=None, sessionUser=ADA)
    clock.forward(timedelta(minutes=4))
    send_callback("EMAIL_BOUNCE", happened_at=None, sessionUser=ADA, message="BOUNCE")

    assert [signer.email_bounce for signer in stored_package("pkg-1").signers] == [None]


def test_undated_callback_repeated_later_is_a_new_event(send_callback, stored_package, clock, read):
    """An undated callback that is repeated after more than five minutes counts as a new event."""
    send_callback("SIGNER_LOCKED", happened_at=None, sessionUser=ADA)
    clock.forward(timedelta(minutes=5, seconds=1))
    send_callback("SIGNER_LOCKED", happened_at=None, sessionUser=ADA)

    assert stored_package("pkg-1").attention == (Attention("SIGNER_LOCKED", clock(), ADA),)
    assert [item["repeats"] for item in read("/api/events")["items"]] == [0, 0]


def test_callback_dated_2099_loses_to_the_next_callback(send_callback, stored_package, clock):
    """A callback dated 2099 by a wrong clock does not fix the status for ever."""
    send_callback("PACKAGE_EXPIRE", happened_at=datetime.fromisoformat("2099-01-01T00:00:00Z"))
    clock.forward(HOUR)
    send_callback("PACKAGE_ACTIVATE", happened_at=clock())

    assert stored_package("pkg-1").status == "SENT"


def _orders(facts: tuple[Fact, ...]) -> Iterator[tuple[Fact, ...]]:
    return iter(permutations(facts)) if len(facts) < 5 else iter((facts, facts[::-1]))


def _project(facts: tuple[Fact, ...]) -> Package:
    state: merge.State = {}
    for fact in facts:
        if isinstance(fact, tuple):
            claimed = snapshot_claims(parse_package(fact[0]), at=fact[1])
        else:
            claimed = callback_claims(parse_callback(json.dumps(fact).encode()), received_at=NOON + 24 * HOUR)
        state = merge.merge_claims(state, claimed)
    return derive("pkg-1", state)
