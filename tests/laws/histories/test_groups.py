"""Groups: a signature by any member is one fact about the group's seat, however it becomes known."""

from collections import Counter
from itertools import permutations

import pytest

from tests.conftest import ADA, BEN, CLEO, in_all, onespan_time
from tests.support.fixtures import CONTRACT, document, role
from tests.support.histories import block, group, seat, shown

SIGNING = ("DOCUMENT_SIGNED", "SIGNER_COMPLETE")
STRANGER = "person-in-no-role"
ACTS = ("first", "second", "snapshot")


def complete(history, seats, *blocks, **members):
    """The package after its last signature, three seconds ago."""
    completed = onespan_time(history.ago(1))
    return shown(seats, *blocks, status="COMPLETED", completed=completed, updated=onespan_time(history.now), **members)


def send(history, package) -> None:
    """Let OneSpan show a sent package, report it, and fetch it."""
    history.serve(package)
    history.callback("PACKAGE_ACTIVATE")
    history.fetch()
    history.runs.clear()
    history.wait(60)


@pytest.mark.parametrize("is_callback_first", [True, False], ids=["callbacks first", "snapshot first"])
@pytest.mark.parametrize("who", [ADA, STRANGER, *in_all(BEN, "board")])
def test_a_group_signs_once_whichever_member_acts(history, who, is_callback_first):
    """The callbacks of a member and the snapshot with the group's signature are one fact, in either order."""
    seats = [group("board", ADA, BEN)]
    send(history, shown(seats, block("board")))
    signed_at = history.now

    history.wait(3)
    if is_callback_first:
        history.callback("DOCUMENT_SIGNED", who, documentId=CONTRACT, at=signed_at)
        history.callback("SIGNER_COMPLETE", who, at=signed_at)
    history.serve(complete(history, seats, block("board", signed_at)))
    history.fetch()
    if not is_callback_first:
        history.callback("DOCUMENT_SIGNED", who, documentId=CONTRACT, at=signed_at)
        history.callback("SIGNER_COMPLETE", who, at=signed_at)
    history.wait(30)

    assert history.runs == {"DOCUMENT_SIGNED": 1, "SIGNER_COMPLETE": 1, "PACKAGE_COMPLETE": 1}
    assert history.statuses == {"board": "COMPLETED"}
    assert history.package.documents[0].signed_by == ("board",)


@pytest.mark.parametrize("who", [ADA, STRANGER])
def test_a_group_is_complete_before_its_signature_is_fetched(history, who):
    """Callbacks of a member suffice to show that the group has signed."""
    send(history, shown([group("board", ADA, BEN)], block("board")))

    history.onespan.set_lags(10_000)
    history.callbacks(*SIGNING, who=who)

    assert history.statuses == {"board": "COMPLETED"}
    assert history.package.documents[0].signed_by == ("board",)
    assert history.package.next_signers == ()


@pytest.mark.parametrize("order", [ACTS, ACTS[::-1], *in_all(*[(order,) for order in permutations(ACTS)])], ids=str)
def test_an_unlisted_member_of_one_of_two_groups_acts_once(history, order):
    """A person in no role and no group may act for either group; each handler still runs once per fact."""
    seats = [group("board", ADA), group("council", BEN)]
    send(history, shown(seats, block("board"), block("council")))
    board_at = history.now
    history.wait(30)
    council_at = history.now
    history.wait(3)
    both = complete(history, seats, block("board", board_at), block("council", council_at))

    for step in order:
        if step == "snapshot":
            history.serve(both)
            history.fetch()
        else:
            who, at = (STRANGER, board_at) if step == "first" else ("another-stranger", council_at)
            history.callback("DOCUMENT_SIGNED", who, documentId=CONTRACT, at=at)
            history.callback("SIGNER_COMPLETE", who, at=at)
            history.wait(5)
    history.wait(400)

    assert history.runs == {"DOCUMENT_SIGNED": 2, "SIGNER_COMPLETE": 2, "PACKAGE_COMPLETE": 1}
    assert history.statuses == {"board": "COMPLETED", "council": "COMPLETED"}
    assert history.package.documents[0].signed_by == ("board", "council")


def test_an_unlisted_member_who_may_act_for_two_groups_is_no_signer(history):
    """Such a callback is an event without a seat; the package is fetched."""
    seats = [group("board", ADA), group("council", BEN)]
    send(history, shown(seats, block("board"), block("council")))
    requests = history.onespan.requests

    history.callbacks(*SIGNING, who=STRANGER)
    history.wait(5)

    assert history.statuses == {"board": "PENDING", "council": "PENDING"}
    assert history.onespan.requests > requests
    assert history.events >= Counter(SIGNING)


@pytest.mark.parametrize("is_callback_first", [True, False], ids=["callback first", "snapshot first"])
@pytest.mark.parametrize("is_only", [True, False], ids=["one group", "two groups"])
def test_a_group_completes_when_a_condition_disables_its_last_signature(history, is_only, is_callback_first):
    """The callback is dated long after the group's last signature, and still both are one fact."""
    seats = [group("board"), *([] if is_only else [group("council")])]
    open_block = [] if is_only else [block("council")]

    def package(signed_at, **annex):
        contract = document(CONTRACT, [block("board", signed_at), *open_block])
        return shown(seats, documents=[contract, document("annex", [block("board", **annex)], index=1)])

    send(history, package(None))
    signed_at = history.now
    history.serve_changed(package(signed_at))
    history.callback("DOCUMENT_SIGNED", STRANGER, documentId=CONTRACT)
    history.wait(1200)
    history.serve_changed(package(signed_at, disabled=True))
    completed_at = history.now
    history.wait(3)
    if is_callback_first:
        history.callback("SIGNER_COMPLETE", STRANGER, at=completed_at)
    history.fetch()
    if not is_callback_first:
        history.callback("SIGNER_COMPLETE", STRANGER, at=completed_at)
    history.wait(30)

    assert history.runs == {"DOCUMENT_SIGNED": 1, "SIGNER_COMPLETE": 1}
    assert history.statuses == {"board": "COMPLETED"} | ({} if is_only else {"council": "PENDING"})


def test_an_unlisted_member_acts_for_the_group_that_is_still_open(history):
    """Just after one of two groups has signed, a stranger's signature is the other's, and a late callback no third."""
    seats = [group("board", ADA), group("council")]
    send(history, shown(seats, block("board"), block("council")))
    board_at = history.now
    history.wait(9)
    history.serve_changed(shown(seats, block("board", board_at), block("council")))
    history.fetch()
    history.wait(12)
    council_at = history.now
    history.callbacks(*SIGNING, who=STRANGER)
    history.wait(5)
    history.serve(complete(history, seats, block("board", board_at), block("council", council_at)))
    history.fetch()
    history.callback("DOCUMENT_SIGNED", ADA, documentId=CONTRACT, at=board_at)
    history.callback("SIGNER_COMPLETE", ADA, at=board_at)
    history.wait(5)

    assert history.runs == {"DOCUMENT_SIGNED": 2, "SIGNER_COMPLETE": 2, "PACKAGE_COMPLETE": 1}


def test_an_undated_callback_long_after_a_group_has_signed_is_for_the_other(history):
    """Without a date, a callback is taken for recent: it does not confirm what was found before."""
    seats = [group("board", ADA), group("council")]
    send(history, shown(seats, block("board"), block("council")))
    history.serve_changed(shown(seats, block("board", history.now), block("council")))
    history.wait(180)
    history.fetch()
    history.wait(240)
    history.callback("SIGNER_COMPLETE", STRANGER, createdDate=None)
    history.wait(5)

    assert history.runs == {"DOCUMENT_SIGNED": 1, "SIGNER_COMPLETE": 2}


@pytest.mark.parametrize("is_callback_first", [True, False], ids=["callbacks first", "snapshot first"])
@pytest.mark.parametrize("pause", [1, *in_all(0, 30, 300)])
@pytest.mark.parametrize("documents", ["one document", *in_all("two documents")])
@pytest.mark.parametrize("order", ["group first", *in_all("own first")])
def test_a_member_with_an_own_signature_signs_twice(history, pause, documents, order, is_callback_first):
    """A person signs for themselves and for the group. Both are facts, each once."""
    seats = [seat(ADA), group("board", ADA, BEN)]
    if documents == "one document":
        parts = lambda own, board: [document(CONTRACT, [block(ADA, own), block("board", board)])]  # noqa: E731
    else:
        parts = lambda own, board: [  # noqa: E731
            document(CONTRACT, [block(ADA, own)]),
            document("annex", [block("board", board)], index=1),
        ]
    of_group = CONTRACT if documents == "one document" else "annex"
    send(history, shown(seats, documents=parts(None, None)))
    first = history.now
    history.wait(pause)
    second = history.now
    own, board = (first, second) if order == "own first" else (second, first)
    history.wait(3)

    def post() -> None:
        for document_id, at in sorted([(CONTRACT, own), (of_group, board)], key=lambda pair: pair[1]):
            history.callback("DOCUMENT_SIGNED", ADA, documentId=document_id, at=at)
            history.callback("SIGNER_COMPLETE", ADA, at=at)

    both = complete(history, seats, documents=parts(own, board))
    if is_callback_first:
        post()
    history.serve(both)
    history.fetch()
    if not is_callback_first:
        post()
    history.wait(400)

    assert history.statuses == {ADA: "COMPLETED", "board": "COMPLETED"}
    assert history.package.signers_completed == 2
    facts = {"DOCUMENT_SIGNED": 2, "SIGNER_COMPLETE": 2, "PACKAGE_COMPLETE": 1}
    assert history.runs == facts


@pytest.mark.parametrize("message", [None, "id.pdf", {"name": "id.pdf"}], ids=str)
def test_only_the_message_of_an_upload_is_part_of_the_fact(history, message):
    """A member with an own signature signs for the group. Whatever its callback's `message`, that is one fact."""
    seats = [seat(ADA), group("board", ADA, BEN)]
    send(history, shown(seats, block(ADA), block("board")))
    history.callback("DOCUMENT_SIGNED", ADA, documentId=CONTRACT, message=message)
    history.serve_changed(shown(seats, block(ADA), block("board", history.now)))
    history.fetch()
    history.wait(30)

    assert history.runs == {"DOCUMENT_SIGNED": 1, "SIGNER_COMPLETE": 1}
    assert history.statuses == {ADA: "PENDING", "board": "COMPLETED"}


def test_a_member_declines_for_the_group(history):
    """A member who declines ends the package for the group."""
    seats = [seat(ADA), group("board", ADA, BEN)]
    send(history, shown(seats, block("board")))
    history.callback("PACKAGE_DECLINE", ADA, message="Too expensive")

    assert history.statuses == {ADA: None, "board": "DECLINED"}
    (reason,) = history.package.attention
    assert (reason.reason, reason.who, reason.detail) == ("DECLINED", "board", "Too expensive")

    history.serve_changed(shown(seats, block("board"), status="DECLINED"))
    history.fetch()

    assert history.statuses == {ADA: None, "board": "DECLINED"}
    assert history.runs == {"PACKAGE_DECLINE": 1}


@pytest.mark.parametrize("who", ["board", ADA, STRANGER, None])
@pytest.mark.parametrize(
    ("status", "name"), [("DECLINED", "PACKAGE_DECLINE"), *in_all(("OPTED_OUT", "PACKAGE_OPT_OUT"))]
)
@pytest.mark.parametrize("others", [[], *in_all([seat(ADA)], [group("council", ADA)])], ids=str)
def test_a_group_ends_a_package_once_by_any_name_in_the_callback(history, who, status, name, others):
    """A snapshot names the member. The late callback may name the role, the member, a stranger or no one."""
    seats, blocks = [*others, group("board", ADA, BEN)], [block("board"), *[block("council")] * bool(others)]
    send(history, shown(seats, *blocks))
    ended_at = history.now
    message = {"content": "Too expensive", "created": onespan_time(ended_at), "from": {"id": ADA}}
    history.wait(30)
    history.serve(shown(seats, *blocks, status=status, messages=[message], updated=onespan_time(ended_at)))
    history.fetch()

    history.callback(name, who, message="Too expensive", at=ended_at)
    history.wait(30)

    assert history.runs == {name: 1}


def test_a_decline_for_another_seat_is_another_fact(history):
    """A late callback of a decline before the package was sent again does not report the later decline."""
    seats, blocks = [group("council", CLEO), group("board", ADA, BEN)], [block("council"), block("board")]
    send(history, shown(seats, *blocks))
    first = history.now
    history.wait(30)
    history.callback("PACKAGE_ACTIVATE")
    history.wait(30)
    message = {"content": "Too expensive", "created": onespan_time(history.now), "from": {"id": ADA}}
    history.serve_changed(shown(seats, *blocks, status="DECLINED", messages=[message]))
    history.fetch()
    history.callback("PACKAGE_DECLINE", "council", message="Not now", at=first)
    history.wait(30)

    assert history.events["PACKAGE_DECLINE"] == 2


@pytest.mark.parametrize("documents", ["one document", "two documents"])
def test_a_member_stays_complete_when_the_member_signs_for_the_group(history, documents):
    """The callbacks of the second signature are about the group, and take nothing from the member's own seat."""
    seats = [seat(ADA), group("board", ADA), seat(BEN)]
    of_group = CONTRACT if documents == "one document" else "annex"

    def package(own):
        if documents == "one document":
            return shown(seats, block(ADA, own), block("board"), block(BEN))
        annex = document("annex", [block("board")], index=1)
        return shown(seats, documents=[document(CONTRACT, [block(ADA, own), block(BEN)]), annex])

    send(history, package(None))
    history.callbacks(*SIGNING, who=ADA)
    history.serve_changed(package(history.now))
    history.fetch()
    assert history.statuses == {ADA: "COMPLETED", "board": "PENDING", BEN: "PENDING"}

    history.wait(300)
    history.onespan.set_lags(10_000)
    history.callbacks(*SIGNING, who=ADA, document_id=of_group)

    assert history.statuses == {ADA: "COMPLETED", "board": "COMPLETED", BEN: "PENDING"}
    signed_by = {signer for part in history.package.documents for signer in part.signed_by}
    assert signed_by == {ADA, "board"}
    assert history.runs == {"DOCUMENT_SIGNED": 2, "SIGNER_COMPLETE": 2}


def test_what_a_member_did_for_themselves_stays_theirs_after_a_snapshot(history):
    """No snapshot can say that the group, whose only signature is optional, has not signed."""
    seats, optional = [seat(ADA), group("board", ADA)], block("board", optional=True)
    send(history, shown(seats, block(ADA), optional))
    history.callbacks(*SIGNING, who=ADA)
    history.serve_changed(shown(seats, block(ADA, history.now), optional))
    history.wait(600)
    history.fetch()

    assert history.statuses == {ADA: "COMPLETED", "board": "PENDING"}
    assert history.runs == {"DOCUMENT_SIGNED": 1, "SIGNER_COMPLETE": 1}


@pytest.mark.parametrize("is_callback_first", [True, False], ids=["callbacks first", "snapshot first"])
@pytest.mark.parametrize("who", [ADA, "role-of-ada"])
def test_a_member_is_known_by_the_id_of_their_own_role(history, who, is_callback_first):
    """A callback may name the role of a person who acted for a group. It is one fact about the group."""
    seats = [role(ADA, "role-of-ada"), group("board", ADA, BEN)]
    send(history, shown(seats, block("role-of-ada"), block("board")))
    signed_at = history.now
    history.wait(3)
    history.serve_changed(shown(seats, block("role-of-ada"), block("board", signed_at)))
    if not is_callback_first:
        history.fetch()
    history.callback("DOCUMENT_SIGNED", who, documentId=CONTRACT, at=signed_at)
    history.callback("SIGNER_COMPLETE", who, at=signed_at)
    history.fetch()
    history.wait(30)

    assert history.statuses == {ADA: "PENDING", "board": "COMPLETED"}
    assert history.runs == {"DOCUMENT_SIGNED": 1, "SIGNER_COMPLETE": 1}


def test_a_member_whose_own_signature_is_optional_signs_for_the_group(history):
    """The group's signature has the date of the callback, and the member's own is not made."""
    seats = [seat(ADA), group("board", ADA, BEN)]
    send(history, shown(seats, block(ADA, optional=True), block("board")))
    signed_at = history.now
    history.callbacks("DOCUMENT_SIGNED", who=ADA)
    history.wait(3)
    history.serve_changed(shown(seats, block(ADA, optional=True), block("board", signed_at)))
    history.fetch()

    assert history.package.documents[0].signed_by == ("board",)
    assert history.statuses == {ADA: "PENDING", "board": "COMPLETED"}
    assert history.runs == {"DOCUMENT_SIGNED": 1, "SIGNER_COMPLETE": 1}


@pytest.mark.parametrize("is_callback_first", [True, False], ids=["callback first", "snapshot first"])
@pytest.mark.parametrize("who", [ADA, STRANGER])
def test_a_member_uploads_after_the_group_has_signed(history, who, is_callback_first):
    """The upload is one fact about the group, by any member, at any time."""

    def package(status, signed_at):
        requirement = {"name": "Passport", "required": True, "status": status}
        return shown([{**group("board", ADA), "attachmentRequirements": [requirement]}], block("board", signed_at))

    send(history, package("INCOMPLETE", None))
    signed_at = history.now
    history.callbacks(*SIGNING, who=ADA)
    history.serve_changed(package("INCOMPLETE", signed_at))
    history.fetch()
    history.wait(600)
    uploaded_at = history.now
    history.serve_changed(package("COMPLETE", signed_at))
    history.wait(3)
    if not is_callback_first:
        history.fetch()
    history.callback("PACKAGE_ATTACHMENT", who, message="Passport", at=uploaded_at)
    history.fetch()
    history.wait(5)

    assert history.runs == {"DOCUMENT_SIGNED": 1, "SIGNER_COMPLETE": 1, "PACKAGE_ATTACHMENT": 1}
