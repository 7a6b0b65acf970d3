"""Reading a package as OneSpan shows it. Every package here is synthetic, made to the published schema."""

import json
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import UnreadablePackage
from app.onespan.packages import PackageReading, Seat, read_package
from app.onespan.values import Sender
from app.store import journal
from app.store.journal import Entry
from tests.conftest import ADA, BEN, CLEO, NOON
from tests.support import fixtures
from tests.support.fixtures import CONSENT, CONTRACT, ROLE_OF, approval, document, package, role, sent_to
from tests.support.strategies import any_json, examples

LATER = NOON + timedelta(minutes=1)
A, B = ROLE_OF[ADA], ROLE_OF[BEN]


def seats(shown: fixtures.JSON) -> dict[str, Seat]:
    """Who sits in a package, by their id."""
    return {seat.signer_id: seat for seat in read_package(shown).seats}


def completed(*documents: fixtures.JSON) -> bool | None:
    """Whether Ada has signed all that these documents ask."""
    return seats(package(roles=[role(ADA)], documents=list(documents)))[ADA].completed


def test_a_package_out_for_signature_is_read():
    """Who signs in which order, who is locked, what they handed in, what each has signed."""
    shown = read_package(fixtures.snapshot("sent"))

    assert (shown.id, shown.name, shown.type, shown.status) == ("pkg-1", "Lease", "PACKAGE", "SENT")
    assert shown.sender == Sender(CLEO, "Cleo Sends", f"{CLEO}@example.com")
    assert shown.created == "2026-03-02T12:00:00.000000+00:00"
    assert shown.due == "2026-04-01T12:00:00.000000+00:00"
    assert not shown.trashed
    ada, ben, nobody = shown.seats
    assert ada == Seat(ADA, A, 1, "Ada Signs", f"{ADA}@example.com", False, True, ("passport.pdf",))  # noqa: FBT003
    assert (ben.signer_id, ben.order, ben.locked, ben.completed) == (BEN, 2, True, False)
    assert (nobody.signer_id, nobody.name, nobody.completed) == ("role-of-a-witness", None, None)
    assert [one.id for one in shown.documents] == [CONSENT, CONTRACT, "appendix"]
    assert shown.documents[1].signed == {A: "2026-03-02T12:03:00.000000+00:00", B: None}


def test_a_completed_package_is_read():
    """All have signed."""
    shown = read_package(fixtures.snapshot("completed"))

    assert shown.status == "COMPLETED"
    assert shown.completed == "2026-03-02T12:06:00.000000+00:00"
    assert [seat.completed for seat in shown.seats] == [True, True]


def test_the_consent_must_be_accepted_too():
    """It is a document like others, only that it is accepted and not signed."""
    signed = document(CONTRACT, [approval(A, signed=NOON)])

    assert completed(document(CONSENT, [approval(A)]), signed) is False
    assert completed(document(CONSENT, [approval(A, accepted=NOON)]), signed) is True


def test_what_is_optional_need_not_be_signed():
    """A signer who signed all that must be is complete."""
    assert completed(document(CONTRACT, [approval(A, signed=NOON), approval(A, optional=True)])) is True
    assert completed(document(CONTRACT, [approval(A), approval(A, signed=NOON, optional=True)])) is False


def test_where_all_is_optional_something_must_be_signed():
    """Who was asked for nothing but optional signatures and gave none has not signed yet."""
    asked = [approval(A, optional=True), approval(A, optional=True)]
    given_one = [approval(A, optional=True), approval(A, optional=True, signed=NOON)]

    assert completed(document(CONTRACT, asked)) is False
    assert completed(document(CONTRACT, given_one)) is True


def test_who_is_asked_for_nothing_is_neither_complete_nor_not():
    """Before a package has documents nobody can have signed."""
    assert completed() is None
    assert completed(document(CONTRACT, [approval(B, signed=NOON)])) is None


def test_a_document_is_signed_when_the_last_of_its_marks_is():
    """One who signs in several places signed the document at the last of them."""
    marks = [approval(A, signed=LATER), approval(A, signed=NOON)]

    (shown,) = read_package(package(roles=[role(ADA)], documents=[document(CONTRACT, marks)])).documents

    assert shown.signed == {A: "2026-03-02T12:01:00.000000+00:00"}


def test_an_empty_seat_goes_by_its_role():
    """A role nobody sits in yet is a seat all the same."""
    assert seats(package(roles=[role(None, "role-of-a-witness")]))["role-of-a-witness"].role_id == "role-of-a-witness"


def test_the_sender_is_no_signer_without_something_to_sign():
    """OneSpan gives senders a role in every package."""
    owner = role(CLEO, type="SENDER")
    asked = document(CONTRACT, [approval(ROLE_OF[CLEO])])

    assert not seats(package(roles=[owner]))
    assert CLEO in seats(package(roles=[owner], documents=[asked]))


def test_all_signed_and_not_autocompleted_is_ready():
    """The sender must complete it."""
    all_signed = {ADA: NOON, BEN: NOON}

    assert read_package(sent_to(ADA, BEN, signed=all_signed, autocomplete=False)).ready
    assert not read_package(sent_to(ADA, BEN, signed=all_signed)).ready
    assert not read_package(sent_to(ADA, BEN, signed={ADA: NOON}, autocomplete=False)).ready
    assert not read_package(sent_to(ADA, BEN, signed=all_signed, autocomplete=False, status="COMPLETED")).ready


def test_unknown_members_and_values_are_forgiven():
    """OneSpan grows; a status nobody has heard of is kept as it is."""
    shown = read_package({**sent_to(ADA), "status": "ARCHIVAL_PENDING", "type": "BLUEPRINT", "shape": {"round": True}})

    assert (shown.status, shown.type) == ("ARCHIVAL_PENDING", "BLUEPRINT")
    assert [seat.signer_id for seat in shown.seats] == [ADA]


def test_nulls_and_nonsense_count_as_not_shown():
    """A null, or a value of another kind, breaks no reading."""
    shown = read_package(
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

    assert shown == PackageReading(
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
        seats=(Seat(A, A, None, None, None, None, None, None, taken=False),),
        documents=shown.documents,
        vague=True,
        half_shown=True,
    )
    assert [(one.id, one.signed) for one in shown.documents] == [(CONTRACT, None)]


def test_texts_are_cleaned_of_what_no_database_takes():
    """A NUL in a name would break a whole batch."""
    assert read_package(package(name="Lea\0se \ud83d")).name == "Lea\ufffdse \ufffd"


@pytest.mark.parametrize("shown", [None, [], "pkg-1", 7, {}, {"id": None}, {"id": ""}, {"id": 7}], ids=repr)
def test_what_is_no_package_is_refused(shown):
    """Without an id there is nothing to speak of."""
    with pytest.raises(UnreadablePackage):
        read_package(shown)


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
mark_like = st.fixed_dictionaries(
    {}, optional={"role": st.just(A) | anything, "signed": anything, "optional": anything}
)
document_like = st.fixed_dictionaries(
    {}, optional={"id": anything | st.just(CONTRACT), "approvals": anything | st.lists(mark_like, max_size=3)}
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
def test_any_json_is_read_or_refused(value):
    """Nothing else happens, whatever OneSpan answers."""
    try:
        shown = read_package(json.loads(json.dumps(value)))
    except UnreadablePackage:
        return
    assert shown.id
    assert "\0" not in repr((shown.name, shown.status, shown.seats))


@pytest.mark.parametrize(
    "odd",
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
def test_law_10_an_odd_value_costs_no_reading(odd, service, read):
    """What no column holds is not shown; all else is believed."""
    shown = {"id": "pkg-1", "name": "Lease", "status": "SENT", "trashed": True, "roles": [], "documents": [], **odd}
    with service.database.write() as connection:
        entry = Entry("snapshot", NOON, json.dumps(shown).encode(), package_id="pkg-1", read_at=NOON)
        journal.add(connection, [entry])
    service.digest.turn()

    assert read("/api/packages/pkg-1")["trashed"] is True
