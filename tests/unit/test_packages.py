"""Tests of the package parser. All packages are synthetic and follow OneSpan's published schema."""

import json
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import UnreadablePackage
from app.onespan.packages import parse_package
from app.onespan.snapshot import PackageSnapshot, Seat
from app.onespan.values import Sender
from app.store import journal
from app.store.journal import Entry
from tests.conftest import ADA, BEN, CLEO, NOON
from tests.support import fixtures
from tests.support.fixtures import CONSENT, CONTRACT, ROLE_OF, approval, document, package, role, sent_to
from tests.support.strategies import any_json, examples

LATER = NOON + timedelta(minutes=1)
A, B = ROLE_OF[ADA], ROLE_OF[BEN]


def seats(package_json: fixtures.JSON) -> dict[str, Seat]:
    """Return the seats of a package by signer id."""
    return {seat.signer_id: seat for seat in parse_package(package_json).seats}


def completed(*documents: fixtures.JSON) -> bool | None:
    """Whether the signer Ada has signed everything in these documents."""
    return seats(package(roles=[role(ADA)], documents=list(documents)))[ADA].completed


def test_sent_package_is_parsed():
    """The parser reads the signing order, locks, attachments and signatures of a sent package."""
    snapshot = parse_package(fixtures.snapshot("sent"))

    assert (snapshot.id, snapshot.name, snapshot.type, snapshot.status) == ("pkg-1", "Lease", "PACKAGE", "SENT")
    assert snapshot.sender == Sender(CLEO, "Cleo Sends", f"{CLEO}@example.com")
    assert snapshot.created == "2026-03-02T12:00:00.000000+00:00"
    assert snapshot.due == "2026-04-01T12:00:00.000000+00:00"
    assert not snapshot.trashed
    ada, ben, empty = snapshot.seats
    assert (ada.signer_id, ada.role_id, ada.order, ada.name, ada.email) == (
        *(ADA, A, 1, "Ada Signs"),
        f"{ADA}@example.com",
    )
    assert (ada.locked, ada.owes, ada.completed, ada.uploaded) == (False, True, True, ("passport.pdf",))
    assert (ben.signer_id, ben.order, ben.locked, ben.completed) == (BEN, 2, True, False)
    assert (empty.signer_id, empty.name, empty.completed) == ("role-of-a-guest", None, None)
    assert [document.id for document in snapshot.documents] == [CONSENT, CONTRACT, "appendix"]
    contract = snapshot.documents[1]
    assert (contract.signed_at(A), contract.signed_at(B)) == ("2026-03-02T12:03:00.000000+00:00", None)


def test_completed_package_is_parsed():
    """The parser marks all signers of a completed package as complete."""
    snapshot = parse_package(fixtures.snapshot("completed"))

    assert snapshot.status == "COMPLETED"
    assert snapshot.completed == "2026-03-02T12:06:00.000000+00:00"
    assert [seat.completed for seat in snapshot.seats] == [True, True]


def test_consent_must_be_accepted():
    """A signer is complete only after accepting the consent, a document that is accepted, not signed."""
    signed = document(CONTRACT, [approval(A, signed=NOON)])

    assert completed(document(CONSENT, [approval(A)]), signed) is False
    assert completed(document(CONSENT, [approval(A, accepted=NOON)]), signed) is True


def test_optional_approval_need_not_be_signed():
    """A signer who has signed all required approvals is complete, even if optional approvals are unsigned."""
    assert completed(document(CONTRACT, [approval(A, signed=NOON), approval(A, optional=True)])) is True
    assert completed(document(CONTRACT, [approval(A), approval(A, signed=NOON, optional=True)])) is False


def test_snapshot_never_says_that_optional_approvals_are_open():
    """A signer with only optional approvals may finish without signing, so only a signature says anything."""
    unsigned = [approval(A, optional=True), approval(A, optional=True)]
    one_signed = [approval(A, optional=True), approval(A, optional=True, signed=NOON)]

    assert completed(document(CONTRACT, unsigned)) is None
    assert completed(document(CONTRACT, one_signed)) is True


def test_completion_is_unknown_without_approvals():
    """Whether a signer has completed is unknown if the signer has no document to sign."""
    assert completed() is None
    assert completed(document(CONTRACT, [approval(B, signed=NOON)])) is None


def test_document_is_signed_at_its_last_approval():
    """A signer with several approvals in a document signs the document at the time of the last approval."""
    marks = [approval(A, signed=LATER), approval(A, signed=NOON)]

    (parsed,) = parse_package(package(roles=[role(ADA)], documents=[document(CONTRACT, marks)])).documents

    assert parsed.signed_at(A) == "2026-03-02T12:01:00.000000+00:00"


def test_empty_seat_has_the_id_of_its_role():
    """A role without a person is an empty seat, which has the id of the role."""
    assert seats(package(roles=[role(None, "role-of-a-guest")]))["role-of-a-guest"].role_id == "role-of-a-guest"


def test_sender_is_a_signer_only_with_approvals():
    """The sender counts as a signer only with something to sign; every package has a role for the sender."""
    owner = role(CLEO, type="SENDER")
    contract = document(CONTRACT, [approval(ROLE_OF[CLEO])])

    assert not seats(package(roles=[owner]))
    assert CLEO in seats(package(roles=[owner], documents=[contract]))


def test_signed_package_without_autocomplete_is_ready():
    """A package without autocomplete is ready for completion when all have signed; the sender must complete it."""
    all_signed = {ADA: NOON, BEN: NOON}

    assert parse_package(sent_to(ADA, BEN, signed=all_signed, autocomplete=False)).ready
    assert not parse_package(sent_to(ADA, BEN, signed=all_signed)).ready
    assert not parse_package(sent_to(ADA, BEN, signed={ADA: NOON}, autocomplete=False)).ready
    assert not parse_package(sent_to(ADA, BEN, signed=all_signed, autocomplete=False, status="COMPLETED")).ready


def test_unknown_members_and_values_are_accepted():
    """The parser accepts unknown members and values, because OneSpan adds them; an unknown status is kept."""
    snapshot = parse_package(
        {**sent_to(ADA), "status": "ARCHIVAL_PENDING", "type": "BLUEPRINT", "shape": {"round": True}}
    )

    assert (snapshot.status, snapshot.type) == ("ARCHIVAL_PENDING", "BLUEPRINT")
    assert [seat.signer_id for seat in snapshot.seats] == [ADA]


def test_nulls_and_invalid_values_count_as_missing():
    """A null, or a value of another type, counts as missing and does not fail the parser."""
    snapshot = parse_package(
        {
            "id": "pkg-1",
            "name": None,
            "status": 7,
            "trashed": None,
            "created": "yesterday",
            "due": 12,
            "sender": "Cleo",
            "roles": [None, {"id": None}, {"id": A, "index": "first", "signers": [None, {"id": None, "email": 3}]}],
            "documents": [{"id": None}, {"id": CONTRACT, "approvals": {"role": A}}, "contract"],
        }
    )

    assert snapshot == PackageSnapshot(
        id="pkg-1",
        name=None,
        type=None,
        status=None,
        trashed=None,
        sender=Sender(),
        created=None,
        updated=None,
        due=None,
        completed=None,
        autocomplete=None,
        seats=(Seat(A, A, None, None, None, None, None, None, occupied=False),),
        documents=snapshot.documents,
        incomplete=True,
        documents_incomplete=True,
        has_odd_values=True,
    )
    assert [(document.id, document.signatures) for document in snapshot.documents] == [(CONTRACT, None)]


def test_invalid_characters_are_replaced():
    """Invalid characters are replaced, because a NUL in a package name would fail a whole batch of writes."""
    assert parse_package(package(name="Lea\0se \ud83d")).name == "Lea\ufffdse \ufffd"


@pytest.mark.parametrize("value", [None, [], "pkg-1", 7, {}, {"id": None}, {"id": ""}, {"id": 7}], ids=repr)
def test_json_without_an_id_is_rejected(value):
    """The parser rejects a package without an id."""
    with pytest.raises(UnreadablePackage):
        parse_package(value)


anything = any_json(st.just("2026-03-02T12:00:00Z"))
seat_like = st.fixed_dictionaries(
    {},
    optional={
        "id": st.just(A) | anything,
        "index": anything,
        "type": st.just("SENDER") | anything,
        "signers": st.lists(st.fixed_dictionaries({"id": st.just(ADA) | anything}) | anything, max_size=2) | anything,
        "attachmentRequirements": anything | st.lists(st.fixed_dictionaries({"status": st.just("COMPLETE")})),
    },
)
approval_like = st.fixed_dictionaries(
    {}, optional={"role": st.just(A) | anything, "signed": anything, "optional": anything}
)
document_like = st.fixed_dictionaries(
    {}, optional={"id": anything | st.just(CONTRACT), "approvals": anything | st.lists(approval_like, max_size=3)}
)
package_like = st.fixed_dictionaries(
    {"id": st.just("pkg-1")},
    optional={
        "status": anything,
        "sender": anything | st.fixed_dictionaries({"id": anything, "firstName": anything}),
        "roles": anything | st.lists(seat_like | anything, max_size=3),
        "documents": anything | st.lists(document_like | anything, max_size=3),
        "created": anything,
    },
)


@settings(max_examples=examples(200))
@given(anything | package_like)
def test_any_json_is_parsed_or_rejected(value):
    """Arbitrary JSON is parsed as a package or rejected; the parser raises no other error."""
    try:
        snapshot = parse_package(json.loads(json.dumps(value)))
    except UnreadablePackage:
        return
    assert snapshot.id
    assert "\0" not in repr((snapshot.name, snapshot.status, snapshot.seats))


@pytest.mark.parametrize(
    "members",
    [
        {"type": "T" * 41},
        {"status": "S" * 81},
        {"sender": {"id": "s" * 300}},
        {"roles": [{"id": "r" * 300, "signers": [{"id": ADA}]}]},
        {"roles": [{"id": A, "index": True, "signers": [{"id": "s" * 300}]}]},
        {"roles": [{"id": A, "index": 10**30, "signers": [{"id": ADA}]}]},
        {"roles": [{"id": A, "index": 2**31, "signers": [{"id": ADA}]}]},
        {"documents": [{"id": "d" * 300, "name": "n" * 5000}]},
        {"name": "n" * 5000, "messages": [{"from": {"id": "f" * 300}, "content": "c" * 5000}], "status": "DECLINED"},
    ],
)
def test_law_10_invalid_value_does_not_lose_the_snapshot(members, service, read):
    """A snapshot value that does not fit its database column is ignored; all other values are stored."""
    package_json = {
        "id": "pkg-1",
        "name": "Lease",
        "status": "SENT",
        "trashed": True,
        "roles": [],
        "documents": [],
        **members,
    }
    with service.database.write() as connection:
        entry = Entry("snapshot", NOON, json.dumps(package_json).encode(), package_id="pkg-1", read_at=NOON)
        journal.add(connection, [entry])
    service.digest.turn()

    assert read("/api/packages/pkg-1")["trashed"] is True
