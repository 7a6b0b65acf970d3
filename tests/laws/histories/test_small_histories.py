"""Small histories that OneSpan's users report: each has a source, and what must come of it."""

import pytest

from tests.conftest import ADA, BEN, CLEO, on_both, onespan_time
from tests.support.fixtures import person
from tests.support.histories import block, group, seat, shown

pytestmark = on_both

SIGNING = ("DOCUMENT_SIGNED", "SIGNER_COMPLETE")
ENDING = (*SIGNING, "PACKAGE_COMPLETE")


def sent(history, *arguments, **members) -> None:
    """Let OneSpan show a sent package, report it, and fetch it."""
    history.serve(shown(*arguments, **members))
    history.callback("PACKAGE_ACTIVATE")
    history.fetch()


def test_a_click_is_not_a_signature(history):
    """A signer who clicked a block has begun; the signature is reported by later callbacks, once (a user's report)."""
    sent(history, [seat(ADA)], block(ADA))
    history.serve_changed(shown([seat(ADA)], block(ADA, accepted=history.now)))
    history.fetch()
    assert (history.package.signers_completed, history.package.next_signers) == (0, (ADA,))
    assert history.package.signers[0].begun_at is not None
    assert not {*SIGNING} & {*history.events}

    history.wait(3)
    history.callbacks(*ENDING, who=ADA)
    signed = block(ADA, history.ago(3), accepted=history.ago(8))
    history.serve_changed(shown([seat(ADA)], signed, status="COMPLETED", completed=onespan_time(history.ago(1))))
    history.fetch()

    assert history.package.status == "COMPLETED"
    assert (history.package.signers_completed, history.package.signers_total) == (1, 1)
    assert history.events == history.runs == {"PACKAGE_ACTIVATE": 1, **dict.fromkeys(ENDING, 1)}


@pytest.mark.parametrize("kind", ["GROUP_SIGNER", "AD_HOC_GROUP_SIGNER"])
def test_a_signature_by_a_member_of_a_group_is_one_fact(history, kind):
    """A member signs for the group; members without a signature of their own owe nothing (OneSpan's SDK)."""
    seats = [seat(ADA), seat(BEN), group("board", ADA, BEN, kind=kind)]
    sent(history, seats, block("board"))
    assert (history.package.next_signers, history.package.signers_total) == (("board",), 1)

    history.callbacks(*ENDING, who=ADA)
    signed = block("board", history.ago(3))
    history.serve_changed(shown(seats, signed, status="COMPLETED", completed=onespan_time(history.ago(1))))
    history.fetch()

    assert (history.package.signers_total, history.package.signers_completed) == (1, 1)
    assert history.package.documents[0].signed_by == ("board",)
    assert history.events == history.runs == {"PACKAGE_ACTIVATE": 1, **dict.fromkeys(ENDING, 1)}


def test_a_disabled_block_is_owed_by_no_signer(history):
    """A block that a condition disabled is not missing in a complete package (OneSpan's guide to conditions)."""
    signed, disabled = block(ADA, history.now), block(ADA, disabled=True)
    history.serve_changed(shown([seat(ADA)], signed, disabled, status="COMPLETED", completed=onespan_time(history.now)))
    history.callbacks(*ENDING, who=ADA)
    history.fetch()

    assert (history.package.signers_total, history.package.signers_completed) == (1, 1)
    assert history.package.next_signers == ()
    assert history.package.documents[0].signed_by == (ADA,)


def test_a_snapshot_does_not_take_back_what_a_signer_with_optional_signatures_finished(history):
    """A signer with only optional signatures may finish without signing (OneSpan's guide to optional signatures)."""
    seats, optional = [seat(ADA), seat(BEN)], block(BEN, optional=True)
    sent(history, seats, block(ADA), optional, autocomplete=False)
    history.callback("SIGNER_COMPLETE", ADA)
    history.callback("SIGNER_COMPLETE", BEN)
    history.callback("PACKAGE_READY_FOR_COMPLETE", BEN)
    history.serve_changed(shown(seats, block(ADA, history.ago(3)), optional, autocomplete=False))
    history.fetch()

    assert (history.package.signers_completed, history.package.next_signers) == (2, ())
    assert history.attention == ["READY_FOR_COMPLETION"]


def test_a_reviewer_is_not_waited_for(history):
    """A role without a signature gets emails but owes nothing (OneSpan's community)."""
    seats = [seat("reviewer"), seat(ADA, index=2)]
    sent(history, seats, block(ADA))
    assert (history.package.next_signers, history.package.signers_total) == ((ADA,), 1)

    completed = onespan_time(history.ago(1))
    history.serve_changed(shown(seats, block(ADA, history.ago(3)), status="COMPLETED", completed=completed))
    history.fetch()

    assert (history.package.signers_total, history.package.signers_completed) == (1, 1)
    assert history.package.next_signers == ()
    assert history.statuses == {"reviewer": None, ADA: "COMPLETED"}


def test_a_corrected_address_needs_no_attention(history):
    """The sender corrects the address that bounced (OneSpan's blog)."""
    ada = {**person(ADA), "email": "wrong@example.com"}
    sent(history, [seat(ADA, signers=[ada])], block(ADA))
    history.callback("EMAIL_BOUNCE", ADA, message="BOUNCE")
    assert history.attention == ["EMAIL_BOUNCE"]

    history.wait(3)
    history.serve_changed(shown([seat(ADA, signers=[{**ada, "email": "right@example.com"}])], block(ADA)))
    history.fetch()

    assert history.attention == []


def test_a_package_that_is_sent_after_its_deletion_is_not_deleted(history):
    """OneSpan documents the step from DELETED to SENT. Callbacks suffice to follow it."""
    history.callback("PACKAGE_CREATE", at=history.ago(180))
    history.callback("PACKAGE_DELETE", at=history.ago(120))
    history.callback("PACKAGE_ACTIVATE", at=history.ago(60))

    assert (history.package.status, history.package.deleted) == ("SENT", False)


def test_an_api_that_lags_takes_nothing_back(history):
    """OneSpan's API shows a draft for 20 seconds after the callback that the package was sent."""
    history.serve(shown([seat(ADA)], block(ADA), status="DRAFT"))
    history.callback("PACKAGE_CREATE", at=history.ago(100))
    history.fetch()
    history.callback("PACKAGE_ACTIVATE")
    history.wait(20)
    assert history.package.status == "SENT"

    history.serve_changed(shown([seat(ADA)], block(ADA)))
    history.wait(95)

    assert history.package.status == "SENT"
    assert history.package.read_at is not None
    assert history.package.read_at > history.ago(90)
    assert history.events == history.runs == {"PACKAGE_CREATE": 1, "PACKAGE_ACTIVATE": 1}


@pytest.mark.parametrize(
    "member", [{"createdDate": 1772452800000}, {"message": {"name": "id.pdf"}}, {"documentId": 3}], ids=str
)
def test_a_callback_with_a_member_of_another_type_is_understood(history, member):
    """A callback that names its event and its package is accepted, whatever its other members are."""
    history.callback("PACKAGE_ACTIVATE", CLEO, **member)

    assert history.package.status == "SENT"
    assert onespan_time(history.package.status_at) == onespan_time(history.now)
    assert history.events == {"PACKAGE_ACTIVATE": 1}
