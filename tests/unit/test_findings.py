"""Tests of events that no callback reported and that only snapshots of a package show."""

from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.onespan.event_catalogue import CATALOGUE
from app.onespan.findings import findings
from app.onespan.interval import Finding, SnapshotTimes, StoredEvent
from app.onespan.lifecycle import TRANSITIONS
from app.onespan.packages import parse_package
from app.onespan.snapshot import PackageSnapshot
from app.types import iso
from tests.conftest import ADA, BEN, CLEO, HOUR, NOON, onespan_time
from tests.support import strategies
from tests.support.fixtures import CONSENT, CONTRACT, approval, document, package, person, role
from tests.support.strategies import examples

BEFORE, NOW = iso(NOON), iso(NOON + HOUR)
BETWEEN = iso(NOON + HOUR / 2)
ROLE_OF_ADA = "role-of-ada"


def snapshot(status: str, **members: Any) -> PackageSnapshot:
    """Return the snapshot of a package with this status and these JSON members."""
    return parse_package(package(status, **members))


def signed(*, consent: bool = False, contract: bool = False, **more: Any) -> dict[str, Any]:
    """Return the JSON members of a package whose signer has signed the consent, the contract, both or neither."""
    when = NOON + HOUR / 4
    return {
        "roles": [role(ADA, index=1)],
        "documents": [
            document(CONSENT, [approval(ROLE_OF_ADA, accepted=when if consent else None)], index=0),
            document(CONTRACT, [approval(ROLE_OF_ADA, signed=when if contract else None)], index=1),
        ],
        **more,
    }


def missing(before: PackageSnapshot | None, now: PackageSnapshot, *known: StoredEvent) -> list[Finding]:
    """Return the events between noon and one o'clock that two snapshots show and that are not known."""
    return findings(before, now, after=SnapshotTimes.at(BEFORE), at=SnapshotTimes.at(NOW), known=known)


def names(events: list[Finding]) -> list[str]:
    """Return the names of events."""
    return [event.name for event in events]


def test_equal_snapshots_yield_no_events():
    """Two equal snapshots yield no events, so an unchanged package never runs a handler."""
    assert missing(snapshot("SENT", **signed(consent=True)), snapshot("SENT", **signed(consent=True))) == []


def test_first_snapshot_of_completed_package_yields_its_whole_life():
    """The first snapshot of a completed package yields all events of the package, in their necessary order."""
    now = snapshot("COMPLETED", **signed(consent=True, contract=True, completed=iso(NOON + HOUR / 2)))

    assert names(findings(None, now, at=SnapshotTimes.at(NOW), known=())) == [
        "PACKAGE_CREATE",
        "PACKAGE_ACTIVATE",
        "DOCUMENT_SIGNED",
        "DOCUMENT_SIGNED",
        "SIGNER_COMPLETE",
        "PACKAGE_COMPLETE",
    ]


def test_known_events_are_not_repeated():
    """Each known event explains its part of the difference between two snapshots and is not repeated."""
    known = [
        StoredEvent("PACKAGE_ACTIVATE", BETWEEN, CLEO),
        StoredEvent("DOCUMENT_SIGNED", BETWEEN, ADA, CONSENT),
        StoredEvent("SIGNER_COMPLETE", BETWEEN, ROLE_OF_ADA),
    ]

    now = snapshot("COMPLETED", **signed(consent=True, contract=True))

    assert names(missing(snapshot("DRAFT", **signed()), now, *known)) == ["DOCUMENT_SIGNED", "PACKAGE_COMPLETE"]


def test_events_outside_the_interval_do_not_count():
    """A known event outside the time between two snapshots does not explain their difference."""
    known = [StoredEvent("PACKAGE_ACTIVATE", at, CLEO) for at in (BEFORE, iso(NOON + 2 * HOUR))]

    assert names(missing(snapshot("DRAFT"), snapshot("SENT"), *known)) == ["PACKAGE_ACTIVATE"]


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
def test_status_changes_follow_the_lifecycle(before, now, expected):
    """A status change yields the events of the shortest documented path; a transition without an event yields none."""
    assert names(missing(snapshot(before), snapshot(now))) == expected


def test_missing_event_between_known_events():
    """A package that is completed after a decline must have been sent again between the two events."""
    at = [iso(NOON + timedelta(minutes=minute)) for minute in (10, 20, 30)]
    known = [
        StoredEvent("PACKAGE_ACTIVATE", at[0]),
        StoredEvent("PACKAGE_DECLINE", at[1], ADA),
        StoredEvent("PACKAGE_COMPLETE", at[2], ADA),
    ]

    (event,) = missing(snapshot("DRAFT"), snapshot("COMPLETED"), *known)

    assert (event.name, event.after, event.until) == ("PACKAGE_ACTIVATE", at[1], at[2])


def test_newest_message_names_who_declined_and_why():
    """The newest message of a declined package names who declined and why, in any order of the messages."""
    messages = [
        {"created": iso(NOON + timedelta(minutes=9)), "content": "too dear", "from": {"id": BEN}},
        {"created": iso(NOON - HOUR), "content": "wrong name", "from": {"id": ADA}},
        {"created": None, "content": 7, "from": None},
    ]

    (event,) = missing(snapshot("SENT"), snapshot("DECLINED", messages=messages))

    assert (event.name, event.signer_id, event.message) == ("PACKAGE_DECLINE", BEN, "too dear")


def test_trash_and_restore():
    """A change of the trash flag since the last known event yields a trash or restore event."""
    active, trashed = snapshot("SENT"), snapshot("SENT", trashed=True)
    trash = StoredEvent("PACKAGE_TRASH", BETWEEN)

    assert names(missing(active, trashed)) == ["PACKAGE_TRASH"]
    assert names(missing(trashed, active)) == ["PACKAGE_RESTORE"]
    assert names(missing(active, trashed, trash)) == []
    assert [(event.name, event.after) for event in missing(active, active, trash)] == [("PACKAGE_RESTORE", BETWEEN)]


def test_unique_events_may_have_a_slightly_later_date():
    """An event that cannot soon happen twice explains a snapshot even if its date is up to a minute later."""
    at = iso(NOON + HOUR + timedelta(seconds=20))
    known = [
        StoredEvent("PACKAGE_CREATE", iso(NOON + 5 * HOUR)),
        StoredEvent("PACKAGE_ACTIVATE", at),
        StoredEvent("DOCUMENT_SIGNED", at, ADA, CONTRACT),
        StoredEvent("SIGNER_COMPLETE", iso(NOON + HOUR + timedelta(seconds=61)), ADA),
        StoredEvent("PACKAGE_COMPLETE", at, ADA),
    ]
    now = snapshot("COMPLETED", **signed(contract=True, consent=True))

    assert names(findings(None, now, at=SnapshotTimes.at(NOW), known=known)) == [
        "PACKAGE_ACTIVATE",
        "DOCUMENT_SIGNED",
        "SIGNER_COMPLETE",
    ]


def test_event_during_the_request_may_be_missing_in_the_snapshot():
    """A snapshot may lack an event that happened after OneSpan read the package and before its answer came."""
    sent, times = snapshot("SENT"), {"after": SnapshotTimes.at(BEFORE), "at": SnapshotTimes.at(BETWEEN, until=NOW)}
    later = iso(NOON + 2 * HOUR / 3)

    for name in ("PACKAGE_EXPIRE", "PACKAGE_DEACTIVATE", "PACKAGE_TRASH"):
        assert findings(sent, sent, **times, known=[StoredEvent(name, later)]) == []
    # A package must be sent before it expires. The sending is missing once a snapshot shows that the package expired.
    expiry, draft = StoredEvent("PACKAGE_EXPIRE", later), snapshot("DRAFT")
    assert findings(draft, draft, **times, known=[expiry]) == []
    assert names(findings(draft, snapshot("EXPIRED"), **times, known=[expiry])) == ["PACKAGE_ACTIVATE"]
    # The best estimate of an event's time is the time of the snapshot.
    (event,) = findings(sent, snapshot("EXPIRED"), **times, known=())
    assert event.at == BETWEEN


def test_draft_with_new_due_date_yields_no_event():
    """A draft with a new due date was either deactivated or expired before, so neither event is assumed."""
    due, later = onespan_time(NOON + HOUR), onespan_time(NOON + 24 * HOUR)

    assert names(missing(snapshot("SENT", due=due), snapshot("DRAFT", due=due))) == ["PACKAGE_DEACTIVATE"]
    assert names(missing(snapshot("SENT"), snapshot("DRAFT"))) == ["PACKAGE_DEACTIVATE"]
    assert names(missing(snapshot("SENT", due=due), snapshot("DRAFT"))) == []
    assert names(missing(snapshot("SENT", due=due), snapshot("DRAFT", due=later))) == []


def test_uploads_of_the_same_name_are_separate():
    """A known upload of one signer does not explain another signer's upload of the same name."""
    requirement = {"id": "1", "name": "passport", "required": True}
    before, now = (
        snapshot(
            "SENT",
            roles=[role(signer, attachmentRequirements=[{**requirement, "status": status}]) for signer in (ADA, BEN)],
        )
        for status in ("INCOMPLETE", "COMPLETE")
    )

    (event,) = missing(before, now, StoredEvent("PACKAGE_ATTACHMENT", BETWEEN, ADA, message="passport"))

    assert event.signer_id == BEN


def test_lock_and_upload():
    """A signer's lock and upload in a snapshot yield events; an unlocked signer yields none."""
    requirement = {"id": "1", "name": "passport", "required": True}
    before = snapshot("SENT", roles=[role(ADA, attachmentRequirements=[{**requirement, "status": "INCOMPLETE"}])])
    now = snapshot(
        "SENT", roles=[role(ADA, locked=True, attachmentRequirements=[{**requirement, "status": "COMPLETE"}])]
    )

    assert [(event.name, event.signer_id, event.message) for event in missing(before, now)] == [
        ("SIGNER_LOCKED", ADA, None),
        ("PACKAGE_ATTACHMENT", ADA, "passport"),
    ]
    assert names(missing(now, snapshot("SENT", roles=[role(ADA)]))) == []


def test_reassigned_role():
    """The event of a reassigned role names the former signer."""
    ada, ben = snapshot("SENT", roles=[role(ADA, "role-1")]), snapshot("SENT", roles=[role(BEN, "role-1")])

    (event,) = missing(ada, ben)

    assert (event.name, event.signer_id, event.extra) == ("ROLE_REASSIGN", ADA, {"newRoleId": "role-1"})
    for who, to in (("role-1", None), (ADA, "role-9"), (CLEO, None), (CLEO, "role-1"), (CLEO, BEN)):
        assert missing(ada, ben, StoredEvent("ROLE_REASSIGN", BETWEEN, who, to=to)) == []
    for who, to in ((CLEO, "role-2"), ("dan", "role-2"), ("dan", None)):
        assert names(missing(ada, ben, StoredEvent("ROLE_REASSIGN", BETWEEN, who, to=to))) == ["ROLE_REASSIGN"]


@pytest.mark.parametrize(
    ("before", "now", "name"),
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
def test_sender_may_replace_signer_while_package_is_not_sent(before, now, name):
    """A sender who replaces a signer while the package is not sent causes no reassignment event."""
    ada, ben = snapshot(before, roles=[role(ADA, "role-1")]), snapshot(now, roles=[role(BEN, "role-1")])
    events = [StoredEvent(name, BETWEEN, CLEO)] if name else []

    assert "ROLE_REASSIGN" not in names(missing(ada, ben, *events))


def test_reassignment_and_completion_in_one_interval():
    """A reassignment and a completion that happen between the same two snapshots both yield events."""
    ada, ben = snapshot("SENT", roles=[role(ADA, "role-1")]), snapshot("ARCHIVED", roles=[role(BEN, "role-1")])

    assert names(missing(ada, ben)) == ["ROLE_REASSIGN", "PACKAGE_COMPLETE", "PACKAGE_ARCHIVE"]


def test_ready_for_completion():
    """A package that all have signed yields PACKAGE_READY_FOR_COMPLETE, even if the sender has completed it."""
    open_, done = signed(autocomplete=False), signed(consent=True, contract=True, autocomplete=False)

    assert names(missing(snapshot("SENT", **open_), snapshot("SENT", **done)))[-1] == "PACKAGE_READY_FOR_COMPLETE"
    assert names(missing(snapshot("SENT", **open_), snapshot("COMPLETED", **done)))[-2:] == [
        "PACKAGE_READY_FOR_COMPLETE",
        "PACKAGE_COMPLETE",
    ]


@pytest.mark.parametrize("member", ["trashed", "status", "autocomplete"])
def test_unknown_value_is_not_a_change(member):
    """A value that is missing in one of two snapshots is unknown, not false, and yields no event."""
    done, open_ = signed(contract=True, consent=True, autocomplete=False), signed(autocomplete=False)
    trashed, active = snapshot("SENT", trashed=True, **done), snapshot("SENT", **open_)
    incomplete = snapshot(**{"status": "SENT", **done, member: None})

    vague_before, vague_now = names(missing(incomplete, trashed)), names(missing(active, incomplete))

    assert not {"PACKAGE_TRASH", "PACKAGE_RESTORE", "PACKAGE_ACTIVATE"} & {*vague_now}
    assert "PACKAGE_RESTORE" not in vague_before + vague_now
    assert ("PACKAGE_READY_FOR_COMPLETE" in vague_now) is (member == "trashed")
    assert ("PACKAGE_TRASH" in vague_before) is (member != "trashed")
    assert "PACKAGE_READY_FOR_COMPLETE" not in vague_before


def test_unparsable_document_may_have_been_signed_before():
    """If one document cannot be parsed, the snapshot does not show that a signer has signed all documents."""
    with_null = signed(consent=True, contract=True, autocomplete=False)
    with_null["documents"] = [with_null["documents"][0], None]
    done = snapshot("SENT", **signed(consent=True, contract=True, autocomplete=False))

    assert names(missing(snapshot("SENT", **with_null), done)) == []
    assert names(missing(snapshot("SENT", **signed()), snapshot("SENT", **with_null))) == ["DOCUMENT_SIGNED"]


def test_unparsable_signer_may_still_have_to_sign():
    """If one signer cannot be parsed, a package is not ready for completion when all other signers have signed."""
    both = [document(CONTRACT, [approval(ROLE_OF_ADA, signed=NOON), approval("role-of-ben")])]
    members = {"autocomplete": False, "documents": both}
    before, now = snapshot("DRAFT", roles=[], **members), snapshot("SENT", roles=[role(ADA), None], **members)

    assert now.all_signed is None
    assert "PACKAGE_READY_FOR_COMPLETE" not in names(missing(before, now))


# JSON members in which null is a value: no due date, not signed, not accepted, not optional, not disabled, no group, or
# a click that must still be confirmed (`fields`).
NULL_IS_A_VALUE = {"due", "signed", "accepted", "optional", "disabled", "signerType", "group", "fields"}


@settings(max_examples=examples(500))
@given(strategies.snapshots(), strategies.snapshots(), st.data())
def test_missing_values_add_no_events(first, second, data):
    """A value that is removed from a snapshot, or set to null, yields no additional event."""
    originals = [first[0], second[0]]
    known = data.draw(st.lists(known_events, max_size=3))
    incomplete = [deepcopy(original) for original in originals]
    for index in data.draw(st.sets(st.integers(0, 1), min_size=1)):
        package_json = incomplete[index]
        members = [pair for pair in _members(package_json) if pair[1] != "id" or pair[0] is not package_json]
        parent, member = data.draw(st.sampled_from(members))
        if isinstance(parent, dict) and data.draw(st.booleans()):
            del parent[member]
        else:
            parent[member] = None

    (before, now), (vague_before, vague_now) = map(parse_package, originals), map(parse_package, incomplete)
    assume(vague_before.has_parts and vague_now.has_parts)

    assert not Counter(names(missing(vague_before, vague_now, *known))) - Counter(names(missing(before, now, *known)))


known_events = st.builds(
    StoredEvent,
    strategies.names,
    st.integers(1, 59).map(lambda minute: iso(NOON + timedelta(minutes=minute))),
    st.sampled_from((ADA, BEN, None)),
    st.sampled_from((CONTRACT, CONSENT, None)),
    st.sampled_from(("passport.pdf", None)),
)


def _members(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container in a JSON value with each of its keys or indexes."""
    for member, child in value.items() if isinstance(value, dict) else enumerate(value):
        if member not in NULL_IS_A_VALUE or isinstance(value, list):
            yield value, member
        if isinstance(child, dict | list):
            yield from _members(child)


def test_templates_have_a_creation_event_and_layouts_have_none():
    """A new template yields a creation event; a new layout yields none, because OneSpan has no such event."""
    created = {"created": iso(NOON)}

    assert names(findings(None, snapshot("DRAFT", type="TEMPLATE", **created), at=SnapshotTimes.at(NOW), known=())) == [
        "TEMPLATE_CREATE"
    ]
    assert names(findings(None, snapshot("DRAFT", type="LAYOUT", **created), at=SnapshotTimes.at(NOW), known=())) == []


def test_each_event_of_the_lifecycle_is_in_snapshots():
    """The catalogue says of each event of a status transition that snapshots show it."""
    assert [event for event in TRANSITIONS.values() if event and not CATALOGUE[event].in_snapshots] == []


@settings(max_examples=examples(300))
@given(strategies.snapshots(), strategies.snapshots(), st.data())
def test_snapshot_events_explain_the_difference(first, second, data):
    """The events that snapshots yield lie between the snapshots, are in order, and leave no event missing."""
    before, now = parse_package(first[0]), parse_package(second[0])
    known = [
        StoredEvent(
            data.draw(strategies.names), iso(NOON + timedelta(minutes=minute)), data.draw(st.sampled_from((ADA, BEN)))
        )
        for minute in data.draw(st.lists(st.integers(1, 59), max_size=4, unique=True))
    ]

    result = missing(before, now, *known)
    again = missing(before, now, *known, *map(_as_known, result))

    assert names(again) == []
    assert all(BEFORE < event.at <= event.until <= NOW and event.after < event.at for event in result)
    assert all(a.at <= b.at for a, b in pairwise(result))


def test_found_completion_of_a_group_member_is_about_the_own_seat():
    """A signer who has signed long ago and is found to be complete now is not taken for the member of a group."""
    board = role(CLEO, "role-of-board", index=2)
    board["signers"][0] |= {"signerType": "GROUP_SIGNER", "group": {"name": "Board", "members": [{"userId": ADA}]}}
    consent, contract = document(CONSENT, [approval(ROLE_OF_ADA)]), approval("role-of-board")
    own = document(CONTRACT, [approval(ROLE_OF_ADA, signed=NOON - HOUR), contract])
    before = snapshot("SENT", roles=[role(ADA), board], documents=[consent, own])
    now = snapshot("SENT", roles=[role(ADA), board], documents=[own])

    (event,) = missing(before, now)

    assert (event.name, event.signer_id) == ("SIGNER_COMPLETE", ADA)
    assert missing(before, now, _as_known(event)) == []


def test_completion_without_a_last_signature_is_known_for_the_only_group():
    """A condition disables the last open signature of a group some time after an unknown member has signed."""
    board = role(CLEO, "role-of-board")
    board["signers"][0] |= {"signerType": "AD_HOC_GROUP_SIGNER", "group": {"name": "Board", "members": []}}
    contract = document(CONTRACT, [approval("role-of-board", signed=NOON + HOUR / 6)])
    annex = document("annex", [{**approval("role-of-board"), "disabled": True}], index=1)
    now = snapshot("SENT", roles=[board], documents=[contract, annex])
    completed = StoredEvent("SIGNER_COMPLETE", BETWEEN, "person-in-no-role")

    assert names(missing(None, now)).count("SIGNER_COMPLETE") == 1
    assert "SIGNER_COMPLETE" not in names(missing(None, now, completed))


def test_new_signer_who_was_complete_before_yields_no_event():
    """A signer that the older snapshot lacks, with a signature older than that snapshot, completed before it."""
    done = {"roles": [role(ADA)], "documents": [document(CONTRACT, [approval(ROLE_OF_ADA, signed=NOON - HOUR)])]}

    assert missing(snapshot("SENT", roles=[], documents=[]), snapshot("SENT", **done)) == []


def _as_known(event: Finding) -> StoredEvent:
    return StoredEvent(event.name, event.at, event.signer_id, event.document_id, event.message, found=True)


def test_new_person_in_a_role_did_not_do_what_was_done_before():
    """A new person in a role yields no events for locks, uploads and signatures of the former signer."""
    done = {"attachmentRequirements": [{"id": "1", "name": "passport", "required": True, "status": "COMPLETE"}]}
    marks = [document(CONTRACT, [approval("role-1", signed=NOON - HOUR)])]
    ada = snapshot("SENT", roles=[role(ADA, "role-1", locked=True, **done)], documents=marks)
    ben = snapshot("SENT", roles=[role(BEN, "role-1", locked=True, **done)], documents=marks)

    assert names(missing(ada, ben, StoredEvent("ROLE_REASSIGN", BETWEEN, ADA, None, None))) == []


def shared(*people: str, done: bool, role_id: str = "role-1") -> PackageSnapshot:
    """Return a snapshot with a role that these people share, with everything or nothing done, and a second role."""
    marks = [approval(role_id, signed=NOON + HOUR / 4 if done else None), approval("role-2")]
    passport = {"id": "1", "name": "passport", "required": True, "status": "COMPLETE" if done else "INCOMPLETE"}
    members = {"signers": [person(signer) for signer in people], "locked": done, "attachmentRequirements": [passport]}
    roles = [role(None, role_id, **members), role(CLEO, "role-2", index=2)]
    return snapshot("SENT", roles=roles, documents=[document(CONTRACT, marks)])


ROLE_EVENTS = ("DOCUMENT_SIGNED", "SIGNER_COMPLETE", "PACKAGE_ATTACHMENT", "SIGNER_LOCKED")


def test_event_of_a_shared_role_is_yielded_once_for_the_role():
    """A role that several people share yields each event once, because a snapshot does not show who acted."""
    result = missing(shared(ADA, BEN, done=False), shared(ADA, BEN, done=True))

    assert sorted((event.name, event.signer_id) for event in result) == sorted((name, "role-1") for name in ROLE_EVENTS)


@pytest.mark.parametrize("who", [ADA, BEN, "role-1"])
@pytest.mark.parametrize("name", ROLE_EVENTS)
def test_event_of_any_person_in_a_role_explains_it(name, who):
    """A known event explains a change of a shared role if the event names the role or any person in it."""
    known = StoredEvent(name, BETWEEN, who, CONTRACT, "passport")

    result = missing(shared(ADA, BEN, done=False), shared(ADA, BEN, done=True), known)

    assert sorted(names(result)) == sorted(set(ROLE_EVENTS) - {name})


def test_event_of_another_role_does_not_count():
    """A known event of another role does not explain a change of a shared role."""
    known = [StoredEvent(name, BETWEEN, CLEO, CONTRACT) for name in ROLE_EVENTS]

    result = missing(shared(ADA, BEN, done=False), shared(ADA, BEN, done=True), *known)

    assert sorted(names(result)) == sorted(ROLE_EVENTS)


@pytest.mark.parametrize(("before", "now"), [((ADA,), (ADA, BEN)), ((ADA, BEN), (BEN,)), ((ADA, BEN), (BEN, ADA))])
def test_joining_or_leaving_a_role_is_not_an_event(before, now):
    """A person who joins or leaves a shared role yields no events, because the state of the role is unchanged."""
    assert not set(names(missing(shared(*before, done=True), shared(*now, done=True)))) & set(ROLE_EVENTS)


def test_changed_role_id_is_not_an_event():
    """A changed role id yields no event, because signers are recognised by their own ids."""
    assert missing(shared(ADA, BEN, done=True), shared(ADA, BEN, done=True, role_id="role-3")) == []


@pytest.mark.parametrize("now", [(ADA,), (ADA, "dan"), ("dan",)])
def test_known_event_of_a_former_member_explains_the_role(now):
    """A known event of a person who later left a shared role still explains a change of the role."""
    known = [StoredEvent(name, BETWEEN, BEN, CONTRACT, "passport") for name in ROLE_EVENTS]

    assert not set(names(missing(shared(ADA, BEN, done=False), shared(*now, done=True), *known))) & set(ROLE_EVENTS)


def test_reassignment_within_a_shared_role():
    """When a person in a shared role is replaced, the reassignment event names the person who left."""
    (event,) = missing(shared(ADA, BEN, done=False), shared(ADA, "dan", done=False))

    assert (event.name, event.signer_id, event.extra) == ("ROLE_REASSIGN", BEN, {"newRoleId": "role-1"})


def test_upload_that_a_new_role_takes_over_is_no_event():
    """A reassignment may give a new role to a new person, with what the former person has uploaded."""
    passport = {"id": "1", "name": "passport", "required": True, "status": "COMPLETE"}
    before = snapshot("SENT", roles=[role(ADA, "role-1", attachmentRequirements=[passport])])
    others = [role("dan", "role-2"), role(BEN, "role-3", attachmentRequirements=[passport])]
    now = snapshot("SENT", roles=[role("dan", "role-2", attachmentRequirements=[passport])])

    assert names(missing(before, now)) == []
    assert names(missing(snapshot("SENT", roles=others[:1]), snapshot("SENT", roles=others))) == ["PACKAGE_ATTACHMENT"]


def test_reviewer_who_is_a_member_of_a_group_uploads_for_the_own_role():
    """The upload belongs to the role that required it, although the person signs only for a group."""
    passport = {"id": "1", "name": "passport", "required": True, "status": "COMPLETE"}
    board = role(CLEO, "role-of-board", index=2)
    members = [{"memberType": "AD_HOC_GROUP_MEMBER", "userId": ADA}]
    board["signers"][0] |= {"signerType": "AD_HOC_GROUP_SIGNER", "group": {"name": "Board", "members": members}}
    marks = [document(CONTRACT, [approval("role-of-board")])]
    before = snapshot("SENT", roles=[role(ADA, "role-1"), board], documents=marks)
    now = snapshot("SENT", roles=[role(ADA, "role-1", attachmentRequirements=[passport]), board], documents=marks)

    assert names(missing(before, now)) == ["PACKAGE_ATTACHMENT"]
    assert names(missing(before, now, StoredEvent("PACKAGE_ATTACHMENT", BETWEEN, ADA, None, "passport"))) == []
