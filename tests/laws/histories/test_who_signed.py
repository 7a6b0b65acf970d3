"""Who has begun, who has signed, who owes nothing and whose turn it is, as snapshots and callbacks show it."""

from collections import Counter
from dataclasses import replace
from itertools import permutations

import pytest

from tests.conftest import ADA, BEN, CLEO, in_all, on_both, onespan_time
from tests.support.fixtures import CONTRACT, document
from tests.support.histories import block, seat, shown

SIGNING = ("DOCUMENT_SIGNED", "SIGNER_COMPLETE")
ENDING = (*SIGNING, "PACKAGE_COMPLETE")
REVIEWER = "reviewer"
FINISHED = (f"SIGNER_COMPLETE {ADA}", f"SIGNER_COMPLETE {BEN}", "ready")


@pytest.fixture(autouse=True)
def agree(history):
    """After each test, the figures of the package agree with its signers, and a second reconcile finds nothing."""
    yield
    package = history.package
    owing = [signer for signer in package.signers if signer.owes]
    assert package.signers_total == len(owing)
    assert package.signers_completed == sum(signer.status == "COMPLETED" for signer in owing)
    assert all(
        (signer.status is None) == (not signer.owes) or signer.status == "REASSIGNED" for signer in package.signers
    )
    pending = {signer.id for signer in owing if signer.status in ("PENDING", "LOCKED")}
    assert {*package.next_signers} <= pending
    if package.status == "SENT" and not package.trashed:
        assert bool(package.next_signers) == bool(pending)
    if package.status in ("COMPLETED", "ARCHIVED"):
        assert not pending
    events = history.events
    history.wait(700)
    history.reconcile()
    assert history.events == events
    unknown = {"read_at": None, "completed_at": None, "documents": ()}  # undated callbacks are dated by their arrival
    assert replace(history.package, **unknown) == replace(package, **unknown)


def send(history, *arguments, **members) -> None:
    """Let OneSpan show a sent package, report it, and fetch it."""
    history.serve(shown(*arguments, **members))
    history.callback("PACKAGE_ACTIVATE")
    history.fetch()
    history.wait(60)
    history.runs.clear()


def complete(history, *arguments, **members) -> None:
    """Let OneSpan show the package as completed a second ago."""
    history.serve_changed(
        shown(*arguments, **{"status": "COMPLETED", "completed": onespan_time(history.ago(1)), **members})
    )


def states(history) -> dict[tuple[str, str], str]:
    """The state of each signature, by document and signer."""
    return {
        (part.id, signature.signer_id): signature.state
        for part in history.package.documents
        for signature in part.signatures
    }


@pytest.mark.parametrize("documents", [2, *in_all(1)])
@pytest.mark.parametrize("indexes", [(1, 1), (2, 1), *in_all(((1, 2),))], ids=str)
def test_signers_in_order_and_in_parallel(history, documents, indexes):
    """The next signers are those with the lowest index who still owe a signature."""
    seats = [seat(ADA, index=indexes[0]), seat(BEN, index=indexes[1])]
    first = {(1, 1): (ADA, BEN), (1, 2): (ADA,), (2, 1): (BEN,)}[indexes]

    def parts(signed):
        return [
            document(f"document-{number}", [block(who, signed.get(who)) for who in (ADA, BEN)], index=number)
            for number in range(documents)
        ]

    send(history, seats, documents=parts({}))
    assert history.package.next_signers == first

    who, other = (first[0], BEN if first[0] == ADA else ADA)
    for number in range(documents):
        assert history.statuses == {ADA: "PENDING", BEN: "PENDING"}
        history.callbacks("DOCUMENT_SIGNED", who=who, document_id=f"document-{number}")
    history.callback("SIGNER_COMPLETE", who)
    assert history.package.next_signers == (other,)
    history.serve_changed(shown(seats, documents=parts({who: history.now})))
    history.fetch()

    assert (history.package.next_signers, history.package.signers_completed) == ((other,), 1)
    assert history.runs == {"DOCUMENT_SIGNED": documents, "SIGNER_COMPLETE": 1}


def test_a_signer_with_one_of_two_documents_signed_is_pending(history):
    """A signer is complete after the last document only."""

    def parts(signed):
        return [document("first", [block(ADA, signed)]), document("second", [block(ADA)], index=1)]

    send(history, [seat(ADA)], documents=parts(None))
    history.serve_changed(shown([seat(ADA)], documents=parts(history.now)))
    history.fetch()

    assert history.statuses == {ADA: "PENDING"}
    assert history.runs == {"DOCUMENT_SIGNED": 1}
    assert states(history) == {("first", ADA): "SIGNED", ("second", ADA): "OPEN"}


STEPS = ("DOCUMENT_SIGNED", "SIGNER_COMPLETE", "PACKAGE_COMPLETE", "snapshot")


@pytest.mark.parametrize("is_dated", [True, False], ids=["dated", "undated"])
@pytest.mark.parametrize("order", [STEPS, STEPS[::-1], *in_all(*[(order,) for order in permutations(STEPS)])], ids=str)
def test_every_order_of_callbacks_and_snapshot_ends_equal(history, order, is_dated):
    """Each fact is one event, in whichever order the callbacks and the snapshot arrive."""
    send(history, [seat(ADA)], block(ADA))
    signed_at = history.now
    history.wait(3)
    for step in order:
        if step == "snapshot":
            history.serve(
                shown([seat(ADA)], block(ADA, signed_at), status="COMPLETED", completed=onespan_time(signed_at))
                | {"updated": onespan_time(signed_at)}
            )
            history.fetch()
        else:
            members = {} if is_dated else {"createdDate": None}
            document_id = CONTRACT if step == "DOCUMENT_SIGNED" else None
            history.callback(step, ADA, at=signed_at, documentId=document_id, **members)
        history.wait(5)
    history.wait(400)

    assert history.package.status == "COMPLETED"
    assert (history.package.signers_completed, history.package.documents[0].signed_by) == (1, (ADA,))
    assert history.runs == dict.fromkeys(ENDING, 1)


@pytest.mark.parametrize("who", [REVIEWER, *in_all("viewer")])
@pytest.mark.parametrize("index", [1, 3, *in_all(2)])
def test_a_reviewer_is_never_next(history, who, index):
    """A role without a signature is listed, but it neither counts nor delays the signers after it."""
    kind = "SIGNER" if who == REVIEWER else "VIEWER"
    seats = [seat(who, index=index, type=kind), seat(ADA, index=2), seat(BEN, index=3)]
    send(history, seats, block(ADA), block(BEN))
    assert (history.package.next_signers, history.package.signers_total) == ((ADA,), 2)
    assert history.statuses == {who: None, ADA: "PENDING", BEN: "PENDING"}

    history.callbacks(*SIGNING, who=ADA)
    assert history.package.next_signers == (BEN,)
    history.callbacks(*ENDING, who=BEN)
    assert history.package.signers_completed == 2
    complete(history, seats, block(ADA, history.ago(3)), block(BEN, history.ago(3)))
    history.fetch()

    assert history.statuses == {who: None, ADA: "COMPLETED", BEN: "COMPLETED"}
    assert history.runs == {"DOCUMENT_SIGNED": 2, "SIGNER_COMPLETE": 2, "PACKAGE_COMPLETE": 1}


def test_a_viewer_owes_nothing_in_a_draft_without_signatures(history):
    """A draft does not show yet what its signers will sign, but a viewer never signs."""
    history.serve(shown([seat("viewer", type="VIEWER"), seat(ADA, index=2)], status="DRAFT"))
    history.callback("PACKAGE_CREATE", at=history.ago(24 * 3600))
    history.fetch()

    assert history.statuses == {"viewer": None, ADA: "PENDING"}
    assert history.package.signers_total == 1


@pytest.mark.parametrize("is_reported", [True, False], ids=["reported", "lost"])
@pytest.mark.parametrize("documents", [2, *in_all(1)])
def test_optional_signatures_beside_required_ones_are_not_waited_for(history, documents, is_reported):
    """A signer who has signed the required blocks is complete, whatever is optional."""
    optional = [block(ADA, optional=True)]

    def parts(signed):
        required = [block(ADA, signed)]
        if documents == 1:
            return [document(CONTRACT, [*required, *optional])]
        return [document(CONTRACT, required), document("annex", optional, index=1)]

    send(history, [seat(ADA), seat(BEN)], documents=[*parts(None), document("other", [block(BEN)], index=2)])
    if is_reported:
        history.callbacks(*SIGNING, who=ADA)
    history.serve_changed(
        shown([seat(ADA), seat(BEN)], documents=[*parts(history.now), document("other", [block(BEN)], index=2)])
    )
    history.fetch()

    assert history.statuses == {ADA: "COMPLETED", BEN: "PENDING"}
    assert history.runs == dict.fromkeys(SIGNING, 1)


@pytest.mark.parametrize("is_reported", [True, False], ids=["reported", "lost"])
@pytest.mark.parametrize("status", ["COMPLETED", *in_all("ARCHIVED")])
def test_a_signer_with_optional_signatures_only_is_complete_at_the_end(history, status, is_reported):
    """The end of the package completes the signer without a date; no SIGNER_COMPLETE is made of that."""
    seats, optional = [seat(ADA), seat(BEN)], block(BEN, optional=True)
    send(history, seats, block(ADA), optional)
    assert history.package.next_signers == (ADA, BEN)
    history.callbacks(*SIGNING, who=ADA)
    if is_reported:
        history.callback("PACKAGE_COMPLETE", ADA)
        assert history.statuses == {ADA: "COMPLETED", BEN: "COMPLETED"}
    complete(history, seats, block(ADA, history.now), optional, status=status)
    history.fetch()

    assert history.statuses == {ADA: "COMPLETED", BEN: "COMPLETED"}
    assert [signer.status_at for signer in history.package.signers if signer.id == BEN] == [None]
    archived = {"PACKAGE_ARCHIVE": 1} if status == "ARCHIVED" else {}
    assert history.runs == {**dict.fromkeys(ENDING, 1), **archived}


def test_an_optional_signature_that_is_made_is_a_fact(history):
    """A confirmed document is signed, although the signer left out one of two optional blocks."""
    seats, open_block = [seat(ADA), seat(BEN)], block(BEN)
    both = [block(ADA, optional=True), block(ADA, optional=True)]
    send(history, seats, *both, open_block)
    history.serve_changed(shown(seats, block(ADA, history.now, optional=True), both[1], open_block))
    history.fetch()

    assert history.runs == dict.fromkeys(SIGNING, 1)
    assert history.package.documents[0].signed_by == (ADA,)


def test_a_signer_whose_blocks_are_all_disabled_owes_nothing(history):
    """Conditions may disable all blocks of a signer, and enable them again."""
    seats = [seat(ADA), seat(BEN)]
    send(history, seats, block(ADA, disabled=True), block(BEN))
    assert (history.package.signers_total, history.package.next_signers) == (1, (BEN,))
    assert history.statuses == {ADA: None, BEN: "PENDING"}

    history.serve_changed(shown(seats, block(ADA), block(BEN)))
    history.fetch()
    assert history.statuses == {ADA: "PENDING", BEN: "PENDING"}
    assert history.package.next_signers == (ADA, BEN)

    history.serve_changed(shown(seats, block(ADA, disabled=True), block(BEN, history.now)))
    history.fetch()
    assert history.statuses == {ADA: None, BEN: "COMPLETED"}
    assert history.runs == dict.fromkeys(SIGNING, 1)


@pytest.mark.parametrize("documents", [2, *in_all(1)])
def test_a_disabled_block_does_not_keep_a_signer_open(history, documents):
    """A signer who has signed all blocks that are not disabled is complete before the package is."""
    disabled = block(ADA, disabled=True)

    def parts(signed):
        contract = [block(ADA, signed), *([disabled] if documents == 1 else [])]
        annex = [document("annex", [disabled], index=1)] if documents == 2 else []
        return [document(CONTRACT, contract), *annex, document("other", [block(BEN)], index=2)]

    send(history, [seat(ADA), seat(BEN)], documents=parts(None))
    history.serve_changed(shown([seat(ADA), seat(BEN)], documents=parts(history.now)))
    history.fetch()

    assert history.statuses == {ADA: "COMPLETED", BEN: "PENDING"}
    assert history.runs == dict.fromkeys(SIGNING, 1)


def test_a_signer_who_began_may_decline(history):
    """A click is not a signature, so the signer may still decline."""
    send(history, [seat(ADA)], block(ADA))
    history.serve_changed(shown([seat(ADA)], block(ADA, accepted=history.now)))
    history.fetch()
    assert states(history) == {(CONTRACT, ADA): "BEGUN"}
    history.callback("PACKAGE_DECLINE", ADA, message="No")
    history.serve_changed(shown([seat(ADA)], block(ADA, accepted=history.ago(3)), status="DECLINED"))
    history.fetch()

    assert history.statuses == {ADA: "DECLINED"}
    assert history.runs == {"PACKAGE_DECLINE": 1}
    assert history.package.signers_completed == 0


@pytest.mark.parametrize("is_reported", [True, False], ids=["reported", "lost"])
def test_a_click_is_the_signature_of_a_block_without_a_signature_field(history, is_reported):
    """Documents that are only accepted never get the time of a signature."""
    seats = [seat(ADA), seat(BEN)]
    send(history, seats, block(ADA, field="INPUT"), block(BEN))
    if is_reported:
        history.callbacks(*SIGNING, who=ADA)
    history.serve_changed(shown(seats, block(ADA, accepted=history.now, field="INPUT"), block(BEN)))
    history.fetch()

    assert history.statuses == {ADA: "COMPLETED", BEN: "PENDING"}
    assert history.runs == dict.fromkeys(SIGNING, 1)


def test_a_click_on_a_reported_document_takes_nothing_back(history):
    """Where a callback reported the signature, a snapshot that shows only the click changes nothing."""
    seats = [seat(ADA), seat(BEN)]
    send(history, seats, block(ADA), block(BEN))
    history.callbacks(*SIGNING, who=ADA)
    history.wait(5)
    history.serve_changed(shown(seats, block(ADA, accepted=history.ago(5)), block(BEN)))
    history.fetch()

    assert history.statuses == {ADA: "COMPLETED", BEN: "PENDING"}
    assert history.package.documents[0].signed_by == (ADA,)
    assert history.runs == dict.fromkeys(SIGNING, 1)


@pytest.mark.parametrize("status", ["COMPLETED", *in_all("ARCHIVED")])
@pytest.mark.parametrize("is_reported", [True, False], ids=["reported", "lost"])
def test_a_click_is_a_signature_in_a_complete_package(history, status, is_reported):
    """In a complete package no signature is missing, so a click counts."""
    send(history, [seat(ADA)], block(ADA))
    at = history.now
    if is_reported:
        history.callbacks(*ENDING, who=ADA)
    complete(history, [seat(ADA)], block(ADA, accepted=at), status=status)
    history.fetch()

    assert history.statuses == {ADA: "COMPLETED"}
    assert history.package.documents[0].signed_by == (ADA,)
    archived = {"PACKAGE_ARCHIVE": 1} if status == "ARCHIVED" else {}
    assert history.runs == {**dict.fromkeys(ENDING, 1), **archived}


def test_a_complete_package_is_pending_for_no_signer(history):
    """Whatever the approvals show, and however the end is known."""
    send(history, [seat(ADA), seat(BEN)], block(ADA), block(BEN))
    complete(history, [seat(ADA), seat(BEN)], block(ADA, history.now), block(BEN))
    history.fetch()

    assert history.statuses == {ADA: "COMPLETED", BEN: "COMPLETED"}
    assert history.package.next_signers == ()
    assert history.runs == dict.fromkeys(ENDING, 1)


@pytest.mark.parametrize("lost", ["DOCUMENT_SIGNED", *in_all("SIGNER_COMPLETE", "both")])
def test_a_document_that_is_open_when_its_package_completes_is_fetched(history, lost):
    """A lost callback about a signature is found at once after the callback of the completion."""
    send(history, [seat(ADA)], block(ADA))
    at = history.now
    history.serve(
        shown([seat(ADA)], block(ADA, at), status="COMPLETED", completed=onespan_time(at), updated=onespan_time(at))
    )
    history.callbacks(*(name for name in ENDING if lost not in (name, "both") or name == "PACKAGE_COMPLETE"), who=ADA)
    history.wait(5)

    assert history.package.documents[0].signed_by == (ADA,)
    assert states(history) == {(CONTRACT, ADA): "SIGNED"}
    assert history.package.signers[0].status_at is not None
    assert history.runs == dict.fromkeys(ENDING, 1)


@pytest.mark.parametrize("role_id", [ADA, "role-of-ada"])
def test_a_callback_may_name_the_role(history, role_id):
    """`sessionUser` may be the id of the role."""
    ada = {**seat(ADA), "id": role_id}
    send(history, [ada], block(role_id))
    history.callbacks(*ENDING, who=role_id)
    complete(history, [ada], block(role_id, history.ago(2)))
    history.fetch()

    assert history.statuses == {ADA: "COMPLETED"}
    assert history.package.documents[0].signed_by == (ADA,)
    assert history.runs == dict.fromkeys(ENDING, 1)


@on_both
def test_documents_and_signers_say_when_they_began(history):
    """The time of the first click is kept; a signature replaces the click."""
    send(history, [seat(ADA), seat(BEN)], block(ADA), block(BEN))
    began_at = history.now
    history.serve_changed(shown([seat(ADA), seat(BEN)], block(ADA, accepted=began_at), block(BEN)))
    history.fetch()
    assert states(history) == {(CONTRACT, ADA): "BEGUN", (CONTRACT, BEN): "OPEN"}
    assert [signer.begun_at for signer in history.package.signers] == [began_at, None]

    history.wait(60)
    signed = block(ADA, history.now, accepted=began_at)
    history.serve_changed(shown([seat(ADA), seat(BEN)], signed, block(BEN)))
    history.fetch()

    assert states(history) == {(CONTRACT, ADA): "SIGNED", (CONTRACT, BEN): "OPEN"}
    assert [signer.begun_at for signer in history.package.signers] == [began_at, None]
    assert history.runs == Counter(SIGNING)


@pytest.mark.parametrize(
    "order", [*permutations(("SIGNER_COMPLETE " + ADA, "SIGNER_COMPLETE " + BEN, "ready"))], ids=str
)
def test_ready_for_completion_stays_until_the_sender_completes(history, order):
    """A package that its sender completes is ready once all have finished; snapshots do not take that back."""
    seats, optional = [seat(ADA), seat(BEN)], block(BEN, optional=True)
    send(history, seats, block(ADA), optional, autocomplete=False)
    at = history.now
    for step in order:
        name, _, who = step.partition(" ")
        history.callback("PACKAGE_READY_FOR_COMPLETE" if name == "ready" else name, who or BEN, at=at)
        history.wait(3)
    history.serve_changed(shown(seats, block(ADA, at), optional, autocomplete=False))
    history.fetch()
    assert history.attention == ["READY_FOR_COMPLETION"]
    assert history.package.next_signers == ()

    history.callback("PACKAGE_COMPLETE", CLEO)
    assert history.attention == []
    complete(history, seats, block(ADA, at), optional, autocomplete=False)
    history.fetch()

    assert history.attention == []
    assert history.statuses == {ADA: "COMPLETED", BEN: "COMPLETED"}


@pytest.mark.parametrize("others", [[], [seat(BEN)]], ids=["one signer", "two signers"])
def test_a_package_is_found_ready_after_it_was_only_clicked(history, others):
    """The older snapshot shows a click and an optional signature, so it does not say whether all have finished."""
    seats, optional, began_at = [seat(ADA), *others], block(ADA, optional=True), history.now
    made = [block(BEN, began_at)] * len(others)
    send(history, seats, block(ADA, accepted=began_at), optional, *made, autocomplete=False)
    assert history.runs["PACKAGE_READY_FOR_COMPLETE"] == 0
    history.runs.clear()
    signed = block(ADA, history.now, accepted=began_at)
    history.serve_changed(shown(seats, signed, optional, *made, autocomplete=False))
    history.fetch()

    assert history.attention == ["READY_FOR_COMPLETION"]
    assert history.runs["PACKAGE_READY_FOR_COMPLETE"] == 1


@pytest.mark.parametrize("is_callback_first", [True, False], ids=["callback first", "snapshot first"])
@pytest.mark.parametrize("document_id", [None, {"x": 1}, [CONTRACT, "terms"]], ids=["none", "object", "list"])
def test_a_signature_without_a_readable_document_is_one_fact(history, document_id, is_callback_first):
    """The callback says who signed, the snapshot says what; a second document is another fact."""
    seats = [seat(ADA), seat(BEN)]
    history.serve(shown(seats, block(ADA), block(BEN)))
    history.callback("PACKAGE_ACTIVATE")
    history.fetch()
    history.wait(60)
    steps = [
        lambda: history.callback("DOCUMENT_SIGNED", ADA, at=signed_at, documentId=document_id),
        lambda: (history.serve_changed(shown(seats, block(ADA, signed_at), block(BEN))), history.fetch()),
    ]
    signed_at = history.now
    for step in steps if is_callback_first else reversed(steps):
        step()

    assert history.events["DOCUMENT_SIGNED"] == history.runs["DOCUMENT_SIGNED"] == 1
    assert history.package.documents[0].signed_by == (ADA,)
    history.wait(60)
    history.serve_changed(shown(seats, block(ADA, signed_at), block(BEN, history.now)))
    history.fetch()
    assert history.events["DOCUMENT_SIGNED"] == history.runs["DOCUMENT_SIGNED"] == 2


@pytest.mark.parametrize("reported", ["never", "before the click is seen", "between", "at the end"])
def test_a_click_that_was_seen_before_is_one_signature_of_the_complete_package(history, reported):
    """The same click is begun first, and a signature once the package is complete; a callback may report it."""
    seats = [seat(ADA), seat(BEN)]
    history.serve(shown(seats, block(ADA), block(BEN)))
    history.callback("PACKAGE_ACTIVATE")
    history.fetch()
    history.wait(60)
    clicked_at = history.now
    if reported == "before the click is seen":
        history.callbacks(*SIGNING, who=ADA)
    history.wait(30)
    history.serve_changed(shown(seats, block(ADA, accepted=clicked_at), block(BEN)))
    history.fetch()
    history.wait(30)
    if reported == "between":
        history.callbacks(*SIGNING, who=ADA)
    history.wait(30)
    clicks = [block(ADA, accepted=clicked_at), block(BEN, accepted=history.now)]
    history.serve_changed(shown(seats, *clicks, status="COMPLETED", completed=onespan_time(history.now)))
    history.fetch()
    if reported == "at the end":
        history.callback("DOCUMENT_SIGNED", ADA, at=clicked_at, documentId=CONTRACT)
        history.callback("SIGNER_COMPLETE", ADA, at=clicked_at)

    assert history.statuses == {ADA: "COMPLETED", BEN: "COMPLETED"}
    assert {name: history.events[name] for name in ENDING} == {**dict.fromkeys(SIGNING, 2), "PACKAGE_COMPLETE": 1}
    assert {name: history.runs[name] for name in ENDING} == {**dict.fromkeys(SIGNING, 2), "PACKAGE_COMPLETE": 1}
