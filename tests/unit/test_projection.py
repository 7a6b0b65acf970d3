"""What is believed of a package, told as short stories of Ada who signs, Ben who declines and Cleo who sends."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import permutations

import pytest

from app.onespan import claims
from app.onespan.callbacks import read_callback
from app.onespan.packages import read_package
from app.onespan.projection import derive
from app.onespan.values import Attention, Package
from tests.conftest import ADA, BEN, CLEO, HOUR, NOON
from tests.support.fixtures import JSON, callback, document, package, role, sent_to

DAN = "dan-who-takes-over"
A = "role-of-ada"
Told = JSON | tuple[JSON, datetime]


def at(hours: float) -> datetime:
    """So many hours after noon."""
    return NOON + hours * HOUR


def event(name: str, hours: float, **members: object) -> JSON:
    """A callback that happened so many hours after noon."""
    return callback(name, at(hours), **members)


def believe(*told: Told) -> Package:
    """What is believed after callbacks and dated snapshots, in whatever order they come: tries a few."""
    pictures = [_believe(order) for order in _orders(told)]
    assert all(one == pictures[0] for one in pictures)
    return pictures[0]


def statuses(believed: Package) -> dict[str, str]:
    """The status of every signer."""
    return {one.id: one.status for one in believed.signers}


def reasons(believed: Package) -> list[tuple[str, str | None]]:
    """Which reasons are open, and whom they are about."""
    return [(one.reason, one.who) for one in believed.attention]


def test_who_declined_is_named_with_the_reason():
    """Cleo must act on it."""
    believed = believe(event("PACKAGE_ACTIVATE", 0), event("PACKAGE_DECLINE", 1, sessionUser=BEN, message="too dear"))

    assert believed.status == "DECLINED"
    assert believed.status_at == at(1)
    assert statuses(believed) == {BEN: "DECLINED"}
    assert believed.attention == (Attention("DECLINED", at(1), BEN, "too dear"),)


def test_a_declined_package_that_is_sent_again_waits_again():
    """Declining is not the end."""
    believed = believe(
        event("PACKAGE_ACTIVATE", 0),
        event("PACKAGE_DECLINE", 1, sessionUser=BEN, message="too dear"),
        event("PACKAGE_ACTIVATE", 2),
    )

    assert believed.status == "SENT"
    assert statuses(believed) == {BEN: "PENDING"}
    assert believed.attention == ()


def test_who_declined_before_it_was_sent_again_is_not_blamed_for_the_next_time():
    """Ada declined the first draft; it is Ben who declined the second."""
    believed = believe(
        event("PACKAGE_DECLINE", 1, sessionUser=ADA, message="wrong name"),
        event("PACKAGE_ACTIVATE", 2),
        event("PACKAGE_DECLINE", 3, sessionUser=BEN, message="too dear"),
    )

    assert statuses(believed) == {ADA: "PENDING", BEN: "DECLINED"}
    assert believed.attention == (Attention("DECLINED", at(3), BEN, "too dear"),)


def test_an_old_decline_does_not_explain_one_that_only_a_snapshot_shows():
    """The callback of the second decline was lost: nobody is named, and no reason."""
    believed = believe(
        event("PACKAGE_DECLINE", 1, sessionUser=ADA, message="wrong name"),
        event("PACKAGE_ACTIVATE", 2),
        (sent_to(ADA, BEN, status="DECLINED"), at(3)),
    )

    assert statuses(believed) == {ADA: "PENDING", BEN: "PENDING"}
    assert [(one.who, one.detail) for one in believed.attention] == [(None, None)]


def test_an_expired_package_needs_a_hand_until_it_is_sent_again():
    """Expired, back to draft with a new date, sent."""
    expired = [event("PACKAGE_ACTIVATE", 0), event("PACKAGE_EXPIRE", 1)]

    assert reasons(believe(*expired)) == [("EXPIRED", None)]
    assert reasons(believe(*expired, event("PACKAGE_DEACTIVATE", 2))) == []
    assert reasons(believe(*expired, event("PACKAGE_DEACTIVATE", 2), event("PACKAGE_ACTIVATE", 3))) == []


def test_a_locked_signer_needs_a_hand_until_they_sign():
    """Who signs is not locked out any more."""
    locked = [event("PACKAGE_ACTIVATE", 0), event("SIGNER_LOCKED", 1, sessionUser=ADA)]
    open_, solved = believe(*locked), believe(*locked, event("DOCUMENT_SIGNED", 2, sessionUser=ADA, documentId="c"))

    assert statuses(open_) == {ADA: "LOCKED"}
    assert open_.attention == (Attention("SIGNER_LOCKED", at(1), ADA),)
    assert statuses(solved) == {ADA: "PENDING"}
    assert solved.attention == ()


def test_a_snapshot_that_shows_the_signer_unlocked_solves_it_too():
    """Cleo unlocked Ada; no event tells of that."""
    believed = believe(event("SIGNER_LOCKED", 1, sessionUser=ADA), (sent_to(ADA), at(2)))

    assert statuses(believed) == {ADA: "PENDING"}
    assert believed.attention == ()


def test_being_locked_twice_is_one_reason_since_the_last_time():
    """Locked, let in, locked again."""
    believed = believe(
        event("SIGNER_LOCKED", 1, sessionUser=ADA),
        event("DOCUMENT_SIGNED", 2, sessionUser=ADA, documentId="c"),
        event("SIGNER_LOCKED", 3, sessionUser=ADA),
    )

    assert believed.attention == (Attention("SIGNER_LOCKED", at(3), ADA),)


def test_failures_to_authenticate_are_counted_and_close_when_the_signer_signs():
    """The count stays, the reason goes."""
    failed = [event("KBA_FAILURE", hour, sessionUser=ADA) for hour in (1, 2)]
    open_, solved = believe(*failed), believe(*failed, event("SIGNER_COMPLETE", 3, sessionUser=ADA))

    assert reasons(open_) == [("KBA_FAILURE", ADA)]
    assert reasons(solved) == []
    assert [one.kba_failures for one in (*open_.signers, *solved.signers)] == [2, 2]


def test_a_bounce_closes_when_the_signer_signs_all_the_same():
    """The e-mail came back, Ada signed: she was reached."""
    bounced = event("EMAIL_BOUNCE", 1, sessionUser=ADA, message="OOTO")
    open_ = believe((sent_to(ADA), at(0)), bounced)
    solved = believe(
        (sent_to(ADA), at(0)), bounced, event("DOCUMENT_SIGNED", 2, sessionUser=ADA, documentId="contract")
    )

    assert open_.attention == (Attention("EMAIL_BOUNCE", at(1), ADA, "OOTO"),)
    assert solved.attention == ()
    assert solved.signers[0].email_bounce is None


def test_a_bounce_to_the_sender_is_open_but_makes_no_signer_of_them():
    """Cleo's own e-mail came back; she does not sign."""
    told = [
        event("PACKAGE_CREATE", 0),
        event("PACKAGE_ACTIVATE", 1),
        event("EMAIL_BOUNCE", 2, sessionUser=CLEO, message="BOUNCE"),
    ]

    for believed in (believe(*told), believe(*told, (sent_to(ADA), at(3)))):
        assert CLEO not in statuses(believed)
        assert believed.attention == (Attention("EMAIL_BOUNCE", at(2), None, f"BOUNCE ({CLEO})"),)


def test_all_signed_waits_for_the_sender_until_the_package_is_complete():
    """It opens with the event and closes with the next step of the package."""
    ready = [event("PACKAGE_ACTIVATE", 0), event("PACKAGE_READY_FOR_COMPLETE", 1)]

    assert believe(*ready).attention == (Attention("READY_FOR_COMPLETION", at(1)),)
    assert believe(*ready, event("PACKAGE_COMPLETE", 2)).attention == ()
    assert believe(*ready, event("PACKAGE_DEACTIVATE", 2), event("PACKAGE_ACTIVATE", 3)).attention == ()


def test_a_snapshot_shows_that_a_package_is_ready():
    """The callback was lost; all have signed, and it does not complete by itself."""
    believed = believe((sent_to(ADA, signed={ADA: at(1)}, autocomplete=False), at(2)))

    assert reasons(believed) == [("READY_FOR_COMPLETION", None)]


@pytest.mark.parametrize("gone", ["PACKAGE_TRASH", "PACKAGE_DELETE"])
@pytest.mark.parametrize(
    "trouble",
    [
        event("SIGNER_LOCKED", 1, sessionUser=ADA),
        event("PACKAGE_EXPIRE", 1),
        event("PACKAGE_DECLINE", 1, sessionUser=BEN),
        event("PACKAGE_READY_FOR_COMPLETE", 1),
    ],
    ids=lambda body: body["name"],
)
def test_what_is_thrown_away_needs_no_hand(gone, trouble):
    """Nor is it anybody's turn."""
    believed = believe((sent_to(ADA), at(0)), trouble, event(gone, 2))

    assert believed.attention == ()
    assert believed.next_signers == ()


def test_what_comes_back_from_the_trash_needs_a_hand_again():
    """Trash is a flag beside the status; beneath it nothing was solved."""
    believed = believe(
        event("SIGNER_LOCKED", 1, sessionUser=ADA), event("PACKAGE_TRASH", 2), event("PACKAGE_RESTORE", 3)
    )

    assert not believed.trashed
    assert reasons(believed) == [("SIGNER_LOCKED", ADA)]


def test_trashing_leaves_the_status_alone():
    """A trashed package is still what it was."""
    believed = believe(event("PACKAGE_COMPLETE", 0), event("PACKAGE_TRASH", 1))

    assert (believed.status, believed.trashed) == ("COMPLETED", True)


def test_a_deleted_package_that_can_be_read_is_not_deleted():
    """The reading is the newer truth."""
    deleted = [event("PACKAGE_COMPLETE", 0), event("PACKAGE_DELETE", 1)]

    assert believe(*deleted).deleted
    assert not believe(*deleted, (sent_to(ADA), at(2))).deleted


def test_archived_and_back_is_completed_again():
    """No event tells of un-archiving; a snapshot shows it."""
    told = [event("PACKAGE_COMPLETE", 1), event("PACKAGE_ARCHIVE", 2)]

    assert believe(*told).status == "ARCHIVED"
    assert believe(*told, (package("COMPLETED", completed="2026-03-02T13:00:00Z"), at(3))).status == "COMPLETED"


def test_a_creation_that_is_told_last_changes_nothing_but_the_beginning():
    """PACKAGE_CREATE may come after everything else."""
    believed = believe(event("PACKAGE_COMPLETE", 2), event("PACKAGE_CREATE", 0))

    assert (believed.status, believed.status_at) == ("COMPLETED", at(2))
    assert (believed.created_at, believed.completed_at, believed.sender.id) == (at(0), at(2), CLEO)


def test_an_event_without_a_user_says_nothing_false_of_the_package():
    """Somebody signed all, nobody knows who: that the package was completed at one is still so."""
    believed = believe(
        (package("COMPLETED", completed="2026-03-02T13:00:00Z"), at(2)), event("SIGNER_COMPLETE", 3, sessionUser=None)
    )

    assert believed.completed_at == at(1)
    assert believed.signers == ()


def test_it_is_the_turn_of_who_comes_next_in_the_order():
    """Ada has signed; Ben and Dan sign at once, after her; Cleo is last."""
    shown = sent_to(ADA, BEN, DAN, CLEO, signed={ADA: at(0)})
    shown["roles"][2]["index"] = 2

    assert believe((shown, at(1))).next_signers == (BEN, DAN)
    assert believe((shown, at(1)), event("SIGNER_COMPLETE", 2, sessionUser=BEN)).next_signers == (DAN,)
    assert believe((shown, at(1)), event("SIGNER_LOCKED", 2, sessionUser=BEN)).next_signers == (BEN, DAN)


def test_before_anybody_showed_the_order_it_is_nobodys_turn():
    """Events do not tell the signing order, and nothing is guessed."""
    assert believe(event("PACKAGE_ACTIVATE", 0), event("SIGNER_LOCKED", 1, sessionUser=ADA)).next_signers == ()


@pytest.mark.parametrize("told_id", [ADA, A])
def test_a_signer_is_known_by_their_own_id_and_by_their_roles(told_id):
    """OneSpan's sources disagree which one `sessionUser` is; a snapshot says who sits where."""
    believed = believe(
        event("KBA_FAILURE", 1, sessionUser=told_id),
        (sent_to(ADA), at(2)),
        event("DOCUMENT_SIGNED", 3, sessionUser=told_id, documentId="contract"),
        event("SIGNER_COMPLETE", 4, sessionUser=A),
    )

    assert statuses(believed) == {ADA: "COMPLETED"}
    assert believed.signers[0].kba_failures == 1
    assert [one.signed_by for one in believed.documents] == [(ADA,)]
    assert (believed.signers_completed, believed.signers_total) == (1, 1)


def test_an_empty_seat_becomes_who_sits_down_in_it():
    """A seat goes by its role's id until it is taken; nobody has left it then."""
    empty = package(roles=[role(None, A)], documents=[document("contract", [])])
    signed = event("SIGNER_COMPLETE", 3, sessionUser=A)

    believed = believe((empty, at(1)), (sent_to(ADA), at(2)), signed)

    assert statuses(believe((empty, at(1)))) == {A: "PENDING"}
    assert statuses(believed) == {ADA: "COMPLETED"}


def test_without_a_snapshot_a_reassignment_is_taken_at_its_word():
    """Ada left her seat, somebody has the new one."""
    believed = believe(
        event("PACKAGE_ACTIVATE", 0), event("ROLE_REASSIGN", 1, sessionUser=ADA, newRoleId="role-of-dan")
    )

    assert statuses(believed) == {ADA: "REASSIGNED", "role-of-dan": "PENDING"}
    assert believed.signers_total == 1


@pytest.mark.parametrize("told_id", [ADA, A])
def test_a_reassignment_is_the_same_whichever_id_told_it(told_id):
    """Ada gave a seat that was shown to be hers to Dan, who got a seat of his own."""
    believed = believe(
        (sent_to(ADA), at(0)),
        event("ROLE_REASSIGN", 1, sessionUser=told_id, newRoleId="role-of-dan"),
        (package(roles=[role(DAN, "role-of-dan")]), at(2)),
    )

    assert statuses(believed) == {ADA: "REASSIGNED", DAN: "PENDING"}
    assert believed.signers_total == 1


def test_who_left_before_anybody_read_who_sat_there_is_kept():
    """The first reading was after it, and shows Dan alone."""
    believed = believe(
        event("ROLE_REASSIGN", 1, sessionUser=ADA, newRoleId="role-of-dan"),
        (package(roles=[role(DAN, "role-of-dan")]), at(2)),
    )

    assert statuses(believed) == {ADA: "REASSIGNED", DAN: "PENDING"}


def test_a_seat_that_a_snapshot_shows_with_somebody_else_was_reassigned():
    """The callback was lost."""
    believed = believe((sent_to(ADA), at(0)), (package(roles=[role(DAN, A)]), at(1)))

    assert statuses(believed) == {ADA: "REASSIGNED", DAN: "PENDING"}


def test_a_snapshot_of_the_same_instant_has_seen_the_reassignment():
    """It shows Ada in her seat, so she has it: whatever it was, it is over."""
    believed = believe(event("ROLE_REASSIGN", 1, sessionUser=ADA), (sent_to(ADA), at(1)))

    assert statuses(believed) == {ADA: "PENDING"}


def test_whom_the_sender_takes_out_of_a_draft_has_left_nothing():
    """They were never asked; once the package was sent to them it is a hand-over."""
    before, now = {"roles": [role(ADA, "role-1")]}, {"roles": [role(DAN, "role-1")]}
    draft, sent, other = package("DRAFT", **before), package("SENT", **before), package("DRAFT", **now)

    assert statuses(believe((draft, at(0)), (other, at(1)))) == {DAN: "PENDING"}
    assert statuses(believe((sent, at(0)), (draft, at(1)), (other, at(2)))) == {DAN: "PENDING"}
    assert statuses(believe((draft, at(0)), (sent, at(1)), (package("SENT", **now), at(2)))) == {
        ADA: "REASSIGNED",
        DAN: "PENDING",
    }


def test_who_got_their_seat_back_sits_in_it():
    """To Dan and back to Ada."""
    believed = believe(
        (sent_to(ADA), at(0)),
        event("ROLE_REASSIGN", 1, sessionUser=ADA, newRoleId=DAN),
        (package(roles=[role(DAN, A)]), at(2)),
        (sent_to(ADA), at(3)),
    )

    assert statuses(believed)[ADA] == "PENDING"


def test_whom_the_newest_reading_does_not_show_is_no_signer():
    """Ben was taken out of the draft."""
    assert statuses(believe((sent_to(ADA, BEN), at(0)), (sent_to(ADA), at(1)))) == {ADA: "PENDING"}


def test_whom_a_later_event_names_signs_until_a_reading_says_otherwise():
    """Ben was added after the reading."""
    told = [(sent_to(ADA), at(0)), event("DOCUMENT_SIGNED", 1, sessionUser=BEN, documentId="annex")]

    assert statuses(believe(*told)) == {ADA: "PENDING", BEN: "PENDING"}
    assert [one.id for one in believe(*told).documents] == ["contract", "annex"]
    assert statuses(believe(*told, (sent_to(ADA), at(2)))) == {ADA: "PENDING"}


def test_a_signature_that_a_later_reading_does_not_show_is_not_there():
    """The sender changed the document, and Ada has to sign again."""
    signed = event("DOCUMENT_SIGNED", 1, sessionUser=ADA, documentId="contract")

    assert [one.signed_by for one in believe((sent_to(ADA), at(0)), signed).documents] == [(ADA,)]
    assert [one.signed_by for one in believe(signed, (sent_to(ADA), at(2))).documents] == [()]


def test_a_status_nobody_has_heard_of_is_shown_as_it_is():
    """OneSpan adds statuses."""
    assert believe((package("ARCHIVAL_PENDING"), at(0))).status == "ARCHIVAL_PENDING"


def test_a_package_nobody_told_anything_about_is_blank():
    """Nothing is guessed."""
    assert derive("pkg-1", {}) == Package("pkg-1")


def test_a_seat_handed_over_and_back_is_the_first_ones_again():
    """Ada to Ben, and Ben to Ada: without a reading and after one."""
    there = event("ROLE_REASSIGN", 1, sessionUser=ADA, newRoleId=BEN)
    back = event("ROLE_REASSIGN", 2, sessionUser=BEN, newRoleId=ADA)

    assert statuses(believe(there, back)) == {ADA: "PENDING", BEN: "REASSIGNED"}
    assert statuses(believe((sent_to(ADA), at(0)), there, back)) == {ADA: "PENDING", BEN: "REASSIGNED"}
    assert statuses(believe(there, back, event("SIGNER_COMPLETE", 3, sessionUser=ADA)))[ADA] == "COMPLETED"


@pytest.mark.parametrize("name", ["SIGNER_LOCKED", "KBA_FAILURE", "EMAIL_BOUNCE"])
def test_what_was_told_of_nobody_in_particular_closes_when_all_have_signed(name):
    """A reading that shows it of nobody."""
    told = event(name, 1, sessionUser=None, message="BOUNCE" if name == "EMAIL_BOUNCE" else None)
    signed = sent_to(ADA, BEN, signed={ADA: at(2), BEN: at(2)})

    assert reasons(believe((sent_to(ADA, BEN), at(0)), told)) == [(name, None)]
    assert (name, None) not in reasons(believe((sent_to(ADA, BEN), at(0)), told, (signed, at(3))))


def test_a_reason_belongs_to_the_decline_it_was_given_for():
    """Not to an expiry after it, and not to a decline that only a reading shows."""
    declined = event("PACKAGE_DECLINE", 1, sessionUser=None, message="too dear")
    again = event("PACKAGE_ACTIVATE", 2)

    assert believe(declined, again, event("PACKAGE_EXPIRE", 3)).attention == (Attention("EXPIRED", at(3)),)
    (reason,) = believe(declined, again, (package("DECLINED"), at(3))).attention
    assert (reason.who, reason.detail) == (None, None)


def test_who_declined_is_read_from_the_newest_message():
    """A reading alone tells who, and why; whoever declined before is not blamed again."""
    first = event("PACKAGE_DECLINE", 1, sessionUser=ADA, message="too dear")
    seen_sent = (sent_to(ADA, BEN), at(2))
    messages = [
        {"created": at(1).isoformat(), "from": {"id": ADA}, "content": "too dear"},
        {"created": at(3).isoformat(), "from": {"id": BEN}, "content": "wrong name"},
    ]
    seen_declined = (sent_to(ADA, BEN, status="DECLINED", messages=messages), at(4))

    believed = believe(first, seen_sent, seen_declined)

    assert statuses(believed) == {ADA: "PENDING", BEN: "DECLINED"}
    assert [(one.reason, one.who, one.detail) for one in believed.attention] == [("DECLINED", BEN, "wrong name")]


def test_who_declines_was_in_reach():
    """What hindered them is no hindrance when the package is sent again."""
    believed = believe(
        event("PACKAGE_ACTIVATE", 0),
        event("EMAIL_BOUNCE", 1, sessionUser=BEN, message="OOTO"),
        event("KBA_FAILURE", 1, sessionUser=BEN),
        event("PACKAGE_DECLINE", 2, sessionUser=BEN),
        event("PACKAGE_ACTIVATE", 3),
    )

    assert believed.attention == ()


def test_a_package_in_an_external_archive_needs_no_hand():
    """Arkhineo's statuses come after COMPLETED."""
    bounce = event("EMAIL_BOUNCE", 1, sessionUser=None, message="BOUNCE")

    assert reasons(believe(bounce, (package("ARCHIVAL_PENDING"), at(2)))) == []


@pytest.mark.parametrize(
    ("without", "status"),
    [
        ({"documents": None}, "COMPLETED"),  # as in a list
        ({"roles": [{**role(ADA, index=1), "locked": None}]}, "LOCKED"),
        ({"documents": [document("contract")]}, "COMPLETED"),  # nothing is asked of her
    ],
)
def test_a_reading_claims_only_what_it_shows(without, status):
    """Ada is locked and complete, as far as was told; what is not shown of that stays."""
    shown = (sent_to(ADA, **without), at(2))
    believed = believe(event("SIGNER_COMPLETE", 0, sessionUser=ADA), event("SIGNER_LOCKED", 1, sessionUser=ADA), shown)

    assert statuses(believed) == {ADA: status}


def test_an_attachment_without_a_name_is_none():
    """There is nothing to show."""
    assert believe(event("PACKAGE_ATTACHMENT", 0, sessionUser=ADA)).signers[0].attachments == ()


def test_law_3_an_undated_callback_told_again_soon_is_not_news(tell, picture, clock):
    """The bounce is old news when it is told again: Ada has signed since."""
    tell("EMAIL_BOUNCE", happened_at=None, sessionUser=ADA, message="BOUNCE")
    clock.forward(timedelta(minutes=1))
    tell("SIGNER_COMPLETE", happened_at=None, sessionUser=ADA)
    clock.forward(timedelta(minutes=4))
    tell("EMAIL_BOUNCE", happened_at=None, sessionUser=ADA, message="BOUNCE")

    assert [one.email_bounce for one in picture("pkg-1").signers] == [None]


def test_an_undated_callback_told_again_later_is_news(tell, picture, clock, read):
    """After more than five minutes it happened again."""
    tell("SIGNER_LOCKED", happened_at=None, sessionUser=ADA)
    clock.forward(timedelta(minutes=5, seconds=1))
    tell("SIGNER_LOCKED", happened_at=None, sessionUser=ADA)

    assert picture("pkg-1").attention == (Attention("SIGNER_LOCKED", clock(), ADA),)
    assert [one["repeats"] for one in read("/api/events")["items"]] == [0, 0]


def test_a_callback_from_2099_is_over_when_the_next_one_comes(tell, picture, clock):
    """A wild clock must not hold the picture for ever."""
    tell("PACKAGE_EXPIRE", happened_at=datetime.fromisoformat("2099-01-01T00:00:00Z"))
    clock.forward(HOUR)
    tell("PACKAGE_ACTIVATE", happened_at=clock())

    assert picture("pkg-1").status == "SENT"


def _orders(told: tuple[Told, ...]) -> Iterator[tuple[Told, ...]]:
    return iter(permutations(told)) if len(told) < 5 else iter((told, told[::-1]))


def _believe(told: tuple[Told, ...]) -> Package:
    state: claims.State = {}
    for one in told:
        if isinstance(one, tuple):
            claimed = claims.shown_by(read_package(one[0]), at=one[1])
        else:
            claimed = claims.told_by(read_callback(json.dumps(one).encode()), received_at=NOON + 24 * HOUR)
        state = claims.merge(state, claimed)
    return derive("pkg-1", state)
