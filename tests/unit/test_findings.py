"""What two readings of a package tell that no callback did."""

from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.onespan.catalogue import CATALOGUE
from app.onespan.findings import NEVER_FOUND, ORDER, Finding, ToldEvent, findings
from app.onespan.lifecycle import STEPS
from app.onespan.packages import PackageReading, read_package
from app.types import iso
from tests.conftest import ADA, BEN, CLEO, HOUR, NOON, onespan_time
from tests.support import strategies
from tests.support.fixtures import CONSENT, CONTRACT, approval, document, package, person, role
from tests.support.strategies import examples

BEFORE, NOW = iso(NOON), iso(NOON + HOUR)
BETWEEN = iso(NOON + HOUR / 2)
ROLE_OF_ADA = "role-of-ada"


def shown(status: str, **members: Any) -> PackageReading:
    """A reading of a package in which Ada signs the contract."""
    return read_package(package(status, **members))


def signed(*, consent: bool = False, contract: bool = False, **more: Any) -> dict[str, Any]:
    """What a package shows when Ada has signed so much."""
    when = NOON + HOUR / 4
    return {
        "roles": [role(ADA, index=1)],
        "documents": [
            document(CONSENT, [approval(ROLE_OF_ADA, accepted=when if consent else None)], index=0),
            document(CONTRACT, [approval(ROLE_OF_ADA, signed=when if contract else None)], index=1),
        ],
        **more,
    }


def found(before: PackageReading | None, now: PackageReading, *told: ToldEvent) -> list[Finding]:
    """What is found between noon and one o'clock."""
    return findings(before, now, after=BEFORE, until=NOW, told=told)


def names(found: list[Finding]) -> list[str]:
    """Only what they are called."""
    return [one.name for one in found]


def test_two_equal_readings_find_nothing():
    """An unchanged package never fires anything."""
    assert found(shown("SENT", **signed(consent=True)), shown("SENT", **signed(consent=True))) == []


def test_a_package_first_seen_completed_was_also_created_sent_and_signed():
    """In the order in which it must have happened."""
    now = shown("COMPLETED", **signed(consent=True, contract=True, completed=iso(NOON + HOUR / 2)))

    assert names(findings(None, now, until=NOW, told=())) == [
        "PACKAGE_CREATE",
        "PACKAGE_ACTIVATE",
        "DOCUMENT_SIGNED",
        "DOCUMENT_SIGNED",
        "SIGNER_COMPLETE",
        "PACKAGE_COMPLETE",
    ]


def test_what_was_told_is_not_found():
    """Each event explains its part of the difference."""
    told = [
        ToldEvent("PACKAGE_ACTIVATE", BETWEEN, CLEO),
        ToldEvent("DOCUMENT_SIGNED", BETWEEN, ADA, CONSENT),
        ToldEvent("SIGNER_COMPLETE", BETWEEN, ROLE_OF_ADA),
    ]

    now = shown("COMPLETED", **signed(consent=True, contract=True))

    assert names(found(shown("DRAFT", **signed()), now, *told)) == ["DOCUMENT_SIGNED", "PACKAGE_COMPLETE"]


def test_what_was_told_before_or_after_explains_nothing():
    """It is another fact of the same name."""
    told = [ToldEvent("PACKAGE_ACTIVATE", at, CLEO) for at in (BEFORE, iso(NOON + 2 * HOUR))]

    assert names(found(shown("DRAFT"), shown("SENT"), *told)) == ["PACKAGE_ACTIVATE"]


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ("DRAFT", "SENT", ["PACKAGE_ACTIVATE"]),
        ("SENT", "DRAFT", ["PACKAGE_DEACTIVATE"]),
        ("DRAFT", "EXPIRED", ["PACKAGE_ACTIVATE", "PACKAGE_EXPIRE"]),
        ("SENT", "OPTED_OUT", ["PACKAGE_OPT_OUT"]),
        ("SENT", "ARCHIVED", ["PACKAGE_COMPLETE", "PACKAGE_ARCHIVE"]),
        ("DECLINED", "SENT", ["PACKAGE_ACTIVATE"]),
        ("DECLINED", "COMPLETED", ["PACKAGE_ACTIVATE", "PACKAGE_COMPLETE"]),
        ("EXPIRED", "SENT", ["PACKAGE_ACTIVATE"]),
        ("EXPIRED", "DRAFT", []),
        ("ARCHIVED", "COMPLETED", []),
        ("COMPLETED", "DRAFT", []),
        ("DECLINED", "DRAFT", []),
        ("SENT", "ARCHIVAL_PENDING", ["PACKAGE_COMPLETE"]),
        ("DRAFT", "ARCHIVAL_COMPLETED", ["PACKAGE_ACTIVATE", "PACKAGE_COMPLETE"]),
        ("COMPLETED", "ARCHIVAL_VALIDATING", []),
        ("ARCHIVAL_PENDING", "ARCHIVAL_INTERVENTION_REQUIRED", []),
        ("ARCHIVAL_COMPLETED", "COMPLETED", []),
    ],
)
def test_status_steps_are_found_along_the_lifecycle(before, now, expected):
    """The shortest way that OneSpan documents, and only the steps that have an event."""
    assert names(found(shown(before), shown(now))) == expected


def test_a_step_between_two_that_were_told():
    """Sent, declined, and sent again without a word."""
    at = [iso(NOON + timedelta(minutes=minute)) for minute in (10, 20, 30)]
    told = [
        ToldEvent("PACKAGE_ACTIVATE", at[0]),
        ToldEvent("PACKAGE_DECLINE", at[1], ADA),
        ToldEvent("PACKAGE_COMPLETE", at[2], ADA),
    ]

    (one,) = found(shown("DRAFT"), shown("COMPLETED"), *told)

    assert (one.name, one.after, one.until) == ("PACKAGE_ACTIVATE", at[1], at[2])


def test_who_declined_and_why_stands_in_the_newest_message():
    """Whatever order they come in."""
    messages = [
        {"created": iso(NOON + timedelta(minutes=9)), "content": "too dear", "from": {"id": BEN}},
        {"created": iso(NOON - HOUR), "content": "wrong name", "from": {"id": ADA}},
        {"created": None, "content": 7, "from": None},
    ]

    (one,) = found(shown("SENT"), shown("DECLINED", messages=messages))

    assert (one.name, one.signer_id, one.message) == ("PACKAGE_DECLINE", BEN, "too dear")


def test_trash_and_back():
    """The last that was told counts."""
    there, gone = shown("SENT"), shown("SENT", trashed=True)
    trash = ToldEvent("PACKAGE_TRASH", BETWEEN)

    assert names(found(there, gone)) == ["PACKAGE_TRASH"]
    assert names(found(gone, there)) == ["PACKAGE_RESTORE"]
    assert names(found(there, gone, trash)) == []
    assert [(one.name, one.after) for one in found(there, there, trash)] == [("PACKAGE_RESTORE", BETWEEN)]


def test_what_happens_once_may_be_told_with_a_date_that_is_a_little_later():
    """OneSpan's clocks differ, or the date is that of sending; what may happen again was another one."""
    at = iso(NOON + HOUR + timedelta(seconds=20))
    told = [
        ToldEvent("PACKAGE_CREATE", iso(NOON + 5 * HOUR)),
        ToldEvent("PACKAGE_ACTIVATE", at),
        ToldEvent("DOCUMENT_SIGNED", at, ADA, CONTRACT),
        ToldEvent("SIGNER_COMPLETE", iso(NOON + HOUR + timedelta(seconds=61)), ADA),
        ToldEvent("PACKAGE_COMPLETE", at, ADA),
    ]
    now = shown("COMPLETED", **signed(contract=True, consent=True))

    assert names(findings(None, now, until=NOW, told=told)) == [
        "PACKAGE_ACTIVATE",
        "DOCUMENT_SIGNED",
        "SIGNER_COMPLETE",
    ]


def test_what_happened_while_onespan_looked_may_not_be_shown_yet():
    """It is told to have happened before the answer came, and perhaps after OneSpan looked."""
    there, at = shown("SENT"), {"after": BEFORE, "seen": BETWEEN, "until": NOW}
    later = iso(NOON + 2 * HOUR / 3)

    for name in ("PACKAGE_EXPIRE", "PACKAGE_DEACTIVATE", "PACKAGE_TRASH"):
        assert findings(there, there, **at, told=[ToldEvent(name, later)]) == []
    # What must have come before it was missed all the same.
    (one,) = findings(shown("DRAFT"), shown("DRAFT"), **at, told=[ToldEvent("PACKAGE_EXPIRE", later)])
    assert one.name == "PACKAGE_ACTIVATE"
    # Nobody knows better when it happened than that it was shown.
    (one,) = findings(there, shown("EXPIRED"), **at, told=())
    assert one.at == BETWEEN


def test_a_draft_with_another_due_date_was_taken_back_or_has_expired_so_neither_is_found():
    """An expired package becomes a draft again when it is given more time, and no event tells of that."""
    due, later = onespan_time(NOON + HOUR), onespan_time(NOON + 24 * HOUR)

    assert names(found(shown("SENT", due=due), shown("DRAFT", due=due))) == ["PACKAGE_DEACTIVATE"]
    assert names(found(shown("SENT"), shown("DRAFT"))) == ["PACKAGE_DEACTIVATE"]
    assert names(found(shown("SENT", due=due), shown("DRAFT"))) == []
    assert names(found(shown("SENT", due=due), shown("DRAFT", due=later))) == []


def test_two_upload_what_is_called_the_same():
    """What was told of one explains nothing of the other."""
    asked = {"id": "1", "name": "passport", "required": True}
    before, now = (
        shown("SENT", roles=[role(one, attachmentRequirements=[{**asked, "status": status}]) for one in (ADA, BEN)])
        for status in ("INCOMPLETE", "COMPLETE")
    )

    (one,) = found(before, now, ToldEvent("PACKAGE_ATTACHMENT", BETWEEN, ADA, message="passport"))

    assert one.signer_id == BEN


def test_locked_and_uploaded():
    """A lock and an attachment leave their mark; an unlock has no event."""
    asked = {"id": "1", "name": "passport", "required": True}
    free = shown("SENT", roles=[role(ADA, attachmentRequirements=[{**asked, "status": "INCOMPLETE"}])])
    caught = shown("SENT", roles=[role(ADA, locked=True, attachmentRequirements=[{**asked, "status": "COMPLETE"}])])

    assert [(one.name, one.signer_id, one.message) for one in found(free, caught)] == [
        ("SIGNER_LOCKED", ADA, None),
        ("PACKAGE_ATTACHMENT", ADA, "passport"),
    ]
    assert names(found(caught, shown("SENT", roles=[role(ADA)]))) == []


def test_a_seat_that_was_handed_over():
    """The former signer is whom it is about."""
    ada, ben = shown("SENT", roles=[role(ADA, "role-1")]), shown("SENT", roles=[role(BEN, "role-1")])

    (one,) = found(ada, ben)

    assert (one.name, one.signer_id, one.extra) == ("ROLE_REASSIGN", ADA, {"newRoleId": "role-1"})
    for who, to in (("role-1", None), (ADA, "role-9"), (CLEO, None), (CLEO, "role-1"), (CLEO, BEN)):
        assert found(ada, ben, ToldEvent("ROLE_REASSIGN", BETWEEN, who, to=to)) == []
    for who, to in ((CLEO, "role-2"), ("dan", "role-2"), ("dan", None)):
        assert names(found(ada, ben, ToldEvent("ROLE_REASSIGN", BETWEEN, who, to=to))) == ["ROLE_REASSIGN"]


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ("DRAFT", "DRAFT", None),
        ("DRAFT", "SENT", None),
        ("SENT", "DRAFT", "PACKAGE_DEACTIVATE"),
        ("SENT", "DECLINED", None),
        ("DECLINED", "SENT", None),
        ("SENT", "SENT", "PACKAGE_DEACTIVATE"),
        ("SENT", "SENT", "PACKAGE_ACTIVATE"),
    ],
)
def test_a_sender_may_have_put_another_person_into_a_package_that_was_not_out_all_the_time(before, now, told):
    """Which is no hand-over, and nobody is told of one."""
    ada, ben = shown(before, roles=[role(ADA, "role-1")]), shown(now, roles=[role(BEN, "role-1")])
    events = [ToldEvent(told, BETWEEN, CLEO)] if told else []

    assert "ROLE_REASSIGN" not in names(found(ada, ben, *events))


def test_a_seat_may_be_handed_over_and_the_package_signed():
    """Both before anybody looked again."""
    ada, ben = shown("SENT", roles=[role(ADA, "role-1")]), shown("ARCHIVED", roles=[role(BEN, "role-1")])

    assert names(found(ada, ben)) == ["ROLE_REASSIGN", "PACKAGE_COMPLETE", "PACKAGE_ARCHIVE"]


def test_ready_for_its_sender():
    """Also when the sender has completed it meanwhile."""
    open_, done = signed(autocomplete=False), signed(consent=True, contract=True, autocomplete=False)

    assert names(found(shown("SENT", **open_), shown("SENT", **done)))[-1] == "PACKAGE_READY_FOR_COMPLETE"
    assert names(found(shown("SENT", **open_), shown("COMPLETED", **done)))[-2:] == [
        "PACKAGE_READY_FOR_COMPLETE",
        "PACKAGE_COMPLETE",
    ]


@pytest.mark.parametrize("member", ["trashed", "status", "autocomplete"])
def test_what_one_reading_does_not_show_has_not_changed(member):
    """Not shown is not the same as not so, on either side."""
    done, open_ = signed(contract=True, consent=True, autocomplete=False), signed(autocomplete=False)
    one, other = shown("SENT", trashed=True, **done), shown("SENT", **open_)
    vague = shown(**{"status": "SENT", **done, member: None})

    vague_before, vague_now = names(found(vague, one)), names(found(other, vague))

    assert not {"PACKAGE_TRASH", "PACKAGE_RESTORE", "PACKAGE_ACTIVATE"} & {*vague_now}
    assert "PACKAGE_RESTORE" not in vague_before + vague_now
    assert ("PACKAGE_READY_FOR_COMPLETE" in vague_now) is (member == "trashed")
    assert ("PACKAGE_TRASH" in vague_before) is (member != "trashed")
    assert "PACKAGE_READY_FOR_COMPLETE" not in vague_before


def test_a_document_that_cannot_be_read_may_have_been_signed_before():
    """Nor has who signed the rest of them signed all."""
    one_null = signed(consent=True, contract=True, autocomplete=False)
    one_null["documents"] = [one_null["documents"][0], None]
    done = shown("SENT", **signed(consent=True, contract=True, autocomplete=False))

    assert names(found(shown("SENT", **one_null), done)) == []
    assert names(found(shown("SENT", **signed()), shown("SENT", **one_null))) == ["DOCUMENT_SIGNED"]


def test_who_is_not_shown_may_still_have_to_sign():
    """So a package is not ready when the others have signed."""
    both = [document(CONTRACT, [approval(ROLE_OF_ADA, signed=NOON), approval("role-of-ben")])]
    shows = {"autocomplete": False, "documents": both}
    before, now = shown("DRAFT", roles=[], **shows), shown("SENT", roles=[role(ADA), None], **shows)

    assert now.all_signed is None
    assert "PACKAGE_READY_FOR_COMPLETE" not in names(found(before, now))


# Of these a null says something: no due date, not signed yet, and no need to be told otherwise.
SAYS_SOMETHING = {"due", "signed", "accepted", "optional"}


@settings(max_examples=examples(500))
@given(strategies.snapshots(), strategies.snapshots(), st.data())
def test_what_is_not_shown_adds_no_fact(first, second, data):
    """Any value of either reading taken away, or null: of what remains nothing more is found."""
    readings = [first[0], second[0]]
    told = data.draw(st.lists(told_events, max_size=3))
    vague = [deepcopy(one) for one in readings]
    for which in data.draw(st.sets(st.integers(0, 1), min_size=1)):
        place, member = data.draw(
            st.sampled_from([one for one in _members(vague[which]) if one[1] != "id" or one[0] is not vague[which]])
        )
        if isinstance(place, dict) and data.draw(st.booleans()):
            del place[member]
        else:
            place[member] = None

    (before, now), (vague_before, vague_now) = map(read_package, readings), map(read_package, vague)
    assume(vague_before.whole and vague_now.whole)

    assert not Counter(names(found(vague_before, vague_now, *told))) - Counter(names(found(before, now, *told)))


told_events = st.builds(
    ToldEvent,
    strategies.names,
    st.integers(1, 59).map(lambda minute: iso(NOON + timedelta(minutes=minute))),
    st.sampled_from((ADA, BEN, None)),
    st.sampled_from((CONTRACT, CONSENT, None)),
    st.sampled_from(("passport.pdf", None)),
)


def _members(shown: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value where something stands, as the container and what it is called there."""
    for member, value in shown.items() if isinstance(shown, dict) else enumerate(shown):
        if member not in SAYS_SOMETHING or isinstance(shown, list):
            yield shown, member
        if isinstance(value, dict | list):
            yield from _members(value)


def test_templates_are_created_as_templates_and_layouts_without_a_word():
    """OneSpan has no event for a layout."""
    created = {"created": iso(NOON)}

    assert names(findings(None, shown("DRAFT", type="TEMPLATE", **created), until=NOW, told=())) == ["TEMPLATE_CREATE"]
    assert names(findings(None, shown("DRAFT", type="LAYOUT", **created), until=NOW, told=())) == []


def test_every_event_is_found_or_named_as_one_that_never_is():
    """Nothing is forgotten: the two lists are the catalogue."""
    assert set(ORDER) | NEVER_FOUND == set(CATALOGUE)
    assert not set(ORDER) & NEVER_FOUND
    assert {event for event in STEPS.values() if event} <= set(ORDER)


@settings(max_examples=examples(300))
@given(strategies.snapshots(), strategies.snapshots(), st.data())
def test_what_is_found_explains_itself(first, second, data):
    """Told what was found, one finds nothing more; and all of it lies between the two readings, in order."""
    before, now = read_package(first[0]), read_package(second[0])
    told = [
        ToldEvent(
            data.draw(strategies.names), iso(NOON + timedelta(minutes=minute)), data.draw(st.sampled_from((ADA, BEN)))
        )
        for minute in data.draw(st.lists(st.integers(1, 59), max_size=4, unique=True))
    ]

    first_time = found(before, now, *told)
    again = found(before, now, *told, *map(_as_told, first_time))

    assert names(again) == []
    assert all(BEFORE <= one.after < one.at <= one.until <= NOW for one in first_time)
    assert all(a.at <= b.at for a, b in pairwise(first_time))


def _as_told(one: Finding) -> ToldEvent:
    return ToldEvent(one.name, one.at, one.signer_id, one.document_id, one.message)


def test_who_takes_a_seat_has_not_done_what_was_done_in_it_before():
    """Locks, uploads and signatures are shown of the role; whose they were was told."""
    done = {"attachmentRequirements": [{"id": "1", "name": "passport", "required": True, "status": "COMPLETE"}]}
    marks = [document(CONTRACT, [approval("role-1", signed=NOON - HOUR)])]
    ada = shown("SENT", roles=[role(ADA, "role-1", locked=True, **done)], documents=marks)
    ben = shown("SENT", roles=[role(BEN, "role-1", locked=True, **done)], documents=marks)

    assert names(found(ada, ben, ToldEvent("ROLE_REASSIGN", BETWEEN, ADA, None, None))) == []


def shared(*people: str, done: bool, role_id: str = "role-1") -> PackageReading:
    """A role in which these sit, and what is shown of it: nothing, or all that can be; and Cleo's, who does nothing."""
    marks = [approval(role_id, signed=NOON + HOUR / 4 if done else None), approval("role-2")]
    passport = {"id": "1", "name": "passport", "required": True, "status": "COMPLETE" if done else "INCOMPLETE"}
    members = {"signers": [person(one) for one in people], "locked": done, "attachmentRequirements": [passport]}
    roles = [role(None, role_id, **members), role(CLEO, "role-2", index=2)]
    return shown("SENT", roles=roles, documents=[document(CONTRACT, marks)])


OF_A_ROLE = ("DOCUMENT_SIGNED", "SIGNER_COMPLETE", "PACKAGE_ATTACHMENT", "SIGNER_LOCKED")


def test_what_one_of_two_in_a_role_did_is_found_once_and_of_the_role():
    """A reading shows that the role has signed, and not which of its people."""
    result = found(shared(ADA, BEN, done=False), shared(ADA, BEN, done=True))

    assert sorted((one.name, one.signer_id) for one in result) == sorted((name, "role-1") for name in OF_A_ROLE)


@pytest.mark.parametrize("who", [ADA, BEN, "role-1"])
@pytest.mark.parametrize("name", OF_A_ROLE)
def test_whoever_of_a_role_was_told_of_explains_what_it_shows(name, who):
    """By either of its people, or by its own id."""
    told = ToldEvent(name, BETWEEN, who, CONTRACT, "passport")

    result = found(shared(ADA, BEN, done=False), shared(ADA, BEN, done=True), told)

    assert sorted(names(result)) == sorted(set(OF_A_ROLE) - {name})


def test_who_sits_in_another_role_explains_nothing():
    """What Cleo did is another fact."""
    told = [ToldEvent(name, BETWEEN, CLEO, CONTRACT) for name in OF_A_ROLE]

    result = found(shared(ADA, BEN, done=False), shared(ADA, BEN, done=True), *told)

    assert sorted(names(result)) == sorted(OF_A_ROLE)


@pytest.mark.parametrize(("before", "now"), [((ADA,), (ADA, BEN)), ((ADA, BEN), (BEN,)), ((ADA, BEN), (BEN, ADA))])
def test_who_joins_or_leaves_a_role_has_done_nothing(before, now):
    """What was shown of the role before is shown of it still."""
    assert not set(names(found(shared(*before, done=True), shared(*now, done=True)))) & set(OF_A_ROLE)


def test_who_is_shown_in_a_role_of_another_id_has_done_nothing():
    """They are known by their own."""
    assert found(shared(ADA, BEN, done=True), shared(ADA, BEN, done=True, role_id="role-3")) == []


@pytest.mark.parametrize("now", [(ADA,), (ADA, "dan"), ("dan",)])
def test_what_was_told_of_who_has_left_the_role_since_is_not_found_of_those_who_stay(now):
    """Ben did it, and then his seat was handed over or taken away."""
    told = [ToldEvent(name, BETWEEN, BEN, CONTRACT, "passport") for name in OF_A_ROLE]

    assert not set(names(found(shared(ADA, BEN, done=False), shared(*now, done=True), *told))) & set(OF_A_ROLE)


def test_one_of_two_in_a_role_hands_over_their_seat():
    """Who it was can be seen; the other stays."""
    (one,) = found(shared(ADA, BEN, done=False), shared(ADA, "dan", done=False))

    assert (one.name, one.signer_id, one.extra) == ("ROLE_REASSIGN", BEN, {"newRoleId": "role-1"})
