"""Tests of how signers of the simulator sign: what the REST API shows, and which callbacks are sent."""

from dataclasses import replace
from typing import Any

import pytest

from app.simulator import rest_json
from app.simulator.account import Account
from app.simulator.packages import (
    CONSENT,
    INPUT,
    Action,
    Approval,
    Attachment,
    Document,
    Event,
    Group,
    ImpossibleAction,
    Package,
    Role,
)
from app.simulator.people import Person
from app.simulator.quirks import Quirks
from tests.conftest import NOON
from tests.support.simulated import SECOND, account_of

ADA = Person("ada", "Ada", "Abel", "ada@example.com", "")
BEN = Person("ben", "Ben", "Brandt", "ben@example.com", "")
CLEO = Person("cleo", "Cleo", "Costa", "cleo@example.com", "")
BOARD = Person("board", "Board", "", "0a1b@adhoc.groups.e-signlive.com", "")
MEMBERS = Group("group-1", "Board", (ADA, BEN))

A, B = Approval("a", 0), Approval("b", 1)
OPTIONAL_A = replace(A, optional=True)


def package(*documents: tuple[Approval, ...], roles: tuple[Role, ...] = (), **values: Any) -> Package:
    """Return a sent package in which Ada and Ben sign these documents."""
    own = (Role("role-a", 1, ADA), Role("role-b", 1, BEN))
    return Package(
        id="pkg-1",
        name="Lease",
        type="PACKAGE",
        sender=CLEO,
        roles=roles or own,
        documents=tuple(Document(f"doc-{n}", "Terms", 1, approvals) for n, approvals in enumerate(documents)),
        created=NOON,
        updated=NOON,
        **{"status": "SENT", "autocomplete": True, **values},
    )


class Play:
    """A simulated account with one package, and the events of its actions."""

    def __init__(self, package: Package, **quirks: Any) -> None:
        self.quirks = Quirks(**quirks)
        self.account: Account = account_of([package], quirks=self.quirks)
        self.now = NOON
        self.events: list[Event] = []

    def act(self, verb: str, role: int = 0, document: int = 0, **more: Any) -> list[tuple[str, str | None]]:
        """Perform an action, and return the names and actors of its events."""
        self.now += SECOND
        events = self.account.act("pkg-1", Action(verb, role, document, **more), now=self.now)
        self.events += events
        return [(event.name, event.session_user) for event in events]

    @property
    def package(self) -> Package:
        """The package in its present state."""
        return self.account.package("pkg-1")

    @property
    def json(self) -> Any:
        """The package as the REST API shows it."""
        return rest_json.dump_package(self.package, quirks=self.quirks)

    def dates(self, document: int = 0) -> list[tuple[bool, bool]]:
        """Whether each approval of a document is accepted, and whether it is signed."""
        approvals = self.json["documents"][document]["approvals"]
        return [("accepted" in approval, "signed" in approval) for approval in approvals]


def test_a_begun_signature_is_accepted_but_not_signed():
    """A click sets `accepted` without an event; the confirmation sets `signed` and sends the callbacks."""
    play = Play(package((A, B)))

    assert play.act("begin") == []
    assert play.dates() == [(True, False), (False, False)]
    begun = play.package
    assert begun.updated > NOON

    assert play.act("sign") == [("DOCUMENT_SIGNED", "ada"), ("SIGNER_COMPLETE", "ada")]
    assert play.dates() == [(True, True), (False, False)]
    approval, _ = play.package.approvals()
    assert (approval.accepted, approval.signed) == (begun.updated, play.now)
    assert play.package.updated > begun.updated


def test_signatures_have_a_signature_field_and_acceptances_have_none():
    """An ordinary approval has a signature field; an acceptance has other fields, and a consent has none."""
    play = Play(package((A, replace(B, fields=INPUT), replace(B, id="c", fields=()))))
    fields = [approval["fields"] for approval in play.json["documents"][0]["approvals"]]

    assert [[(field["type"], field["subtype"]) for field in shown] for shown in fields] == [
        [("SIGNATURE", "FULLNAME")],
        [("INPUT", "TEXTFIELD")],
        [],
    ]


@pytest.mark.parametrize(("quirk", "has_signed"), [("accepted", False), ("both", True)])
def test_an_acceptance_is_accepted_at_once(quirk, has_signed):
    """An acceptance has only `accepted`, or both dates by a quirk; DOCUMENT_SIGNED is sent at that moment."""
    play = Play(package((replace(A, fields=INPUT), B)), consent_dates=quirk)
    with pytest.raises(ImpossibleAction):
        play.act("begin")

    assert play.act("sign") == [("DOCUMENT_SIGNED", "ada"), ("SIGNER_COMPLETE", "ada")]
    assert play.dates()[0] == (True, has_signed)


def test_a_disabled_signature_is_not_owed():
    """A disabled signature is shown as disabled, is never signed, and does not keep a package from completing."""
    play = Play(package((A, replace(A, id="a2", disabled=True))))

    assert [name for name, _ in play.act("sign")] == ["DOCUMENT_SIGNED", "SIGNER_COMPLETE", "PACKAGE_COMPLETE"]
    assert [approval.get("disabled") for approval in play.json["documents"][0]["approvals"]] == [None, True]
    assert play.dates() == [(True, True), (False, False)]


def test_a_condition_may_disable_the_last_signature():
    """If a condition disables the last open signature of a signer, the signer and the package complete."""
    play = Play(package((A,), (A,)))
    play.act("sign")
    play.act("disable", document=1)

    assert [event.name for event in play.events] == ["DOCUMENT_SIGNED", "SIGNER_COMPLETE", "PACKAGE_COMPLETE"]
    assert play.json["status"] == "COMPLETED"


def test_a_condition_may_enable_a_signature_again():
    """A signature that is enabled again is owed again, while the signer is not complete."""
    play = Play(package((A,), (replace(A, disabled=True),)))
    play.act("enable", document=1)
    play.act("sign")

    assert [event.name for event in play.events] == ["DOCUMENT_SIGNED"]
    play.act("sign", document=1)
    assert play.json["status"] == "COMPLETED"


def test_a_signer_may_leave_out_an_optional_signature():
    """Without the optional signature the signer is complete, and the signature stays unsigned."""
    play = Play(package((A, replace(OPTIONAL_A, id="a2"))))

    assert [name for name, _ in play.act("sign", text="required")][1:] == ["SIGNER_COMPLETE", "PACKAGE_COMPLETE"]
    assert [approval["optional"] for approval in play.json["documents"][0]["approvals"]] == [False, True]
    assert play.dates() == [(True, True), (False, False)]


@pytest.mark.parametrize("signs", [False, True])
def test_a_signer_with_only_optional_signatures_finishes(signs):
    """A signer with only optional signatures finishes with some of them or none, and is complete only then."""
    play = Play(package((OPTIONAL_A, B), (OPTIONAL_A,)))
    if signs:
        assert play.act("sign") == [("DOCUMENT_SIGNED", "ada")]

    assert play.act("finish") == [("SIGNER_COMPLETE", "ada")]
    assert play.dates()[0] == (signs, signs)
    with pytest.raises(ImpossibleAction):
        play.act("finish")
    assert play.act("sign", 1)[-1] == ("PACKAGE_COMPLETE", "ben")


def test_a_signer_who_owes_a_signature_cannot_finish():
    """Only a signer without required signatures can finish explicitly."""
    with pytest.raises(ImpossibleAction):
        Play(package((A, B))).act("finish")


def test_a_package_that_its_sender_completes_is_ready_after_its_last_signer():
    """PACKAGE_READY_FOR_COMPLETE is sent also if the last signer finishes without a signature."""
    play = Play(package((OPTIONAL_A,), autocomplete=False))

    assert [name for name, _ in play.act("finish")] == ["SIGNER_COMPLETE", "PACKAGE_READY_FOR_COMPLETE"]
    assert [name for name, _ in play.act("complete")] == ["PACKAGE_COMPLETE"]


def test_an_optional_signature_after_completion_completes_nothing_again():
    """An optional signature that is made after all signers are complete sends only DOCUMENT_SIGNED."""
    play = Play(package((A,), (OPTIONAL_A,), autocomplete=False))

    assert [name for name, _ in play.act("sign")][1:] == ["SIGNER_COMPLETE", "PACKAGE_READY_FOR_COMPLETE"]
    assert play.act("sign", document=1) == [("DOCUMENT_SIGNED", "ada")]


@pytest.mark.parametrize("quirk", ["SIGNER", "VIEWER"])
def test_a_reviewer_has_no_signature(quirk):
    """A role without a signature is a reviewer: it may have another type, may look, and is not waited for."""
    play = Play(package((A,)), reviewer_type=quirk)

    assert [role["type"] for role in play.json["roles"]] == ["SIGNER", quirk]
    assert play.act("view", 1) == [("DOCUMENT_VIEWED", "ben")]
    with pytest.raises(ImpossibleAction):
        play.act("sign", 1)
    assert play.act("sign")[-1] == ("PACKAGE_COMPLETE", "ada")


GROUP_SEAT = (Role("role-board", 1, BOARD, group=MEMBERS),)


@pytest.mark.parametrize(("quirk", "members"), [("shown", ["ada", "ben"]), ("hidden", [])])
def test_a_group_is_one_seat(quirk, members):
    """A group of people with logins is one signer with the group's id, and shows its members or hides them."""
    play = Play(package((A,), roles=GROUP_SEAT), group_members=quirk)
    (signer,) = play.json["roles"][0]["signers"]

    assert (signer["id"], signer["signerType"], signer["name"]) == ("board", "GROUP_SIGNER", "Board")
    assert (signer["group"]["id"], signer["group"]["name"]) == ("group-1", "Board")
    assert [member["userId"] for member in signer["group"]["members"]] == members


@pytest.mark.parametrize(("quirk", "user"), [("member", "ben"), ("role", "board"), ("unlisted", None)])
def test_a_member_signs_for_the_group(quirk, user):
    """One signature by any member completes the group; `sessionUser` is the member's id, the group's or unknown."""
    play = Play(package((A,), roles=GROUP_SEAT), group_user=quirk)
    names, users = zip(*play.act("sign", member=1), strict=True)

    assert names == ("DOCUMENT_SIGNED", "SIGNER_COMPLETE", "PACKAGE_COMPLETE")
    assert len({*users}) == 1
    assert users[0] == user or (user is None and users[0] not in str(play.json))


def test_events_of_the_sender_name_the_sender():
    """The sender's events name the sender, also if the sender is a member of a group or no role exists yet."""
    group = replace(MEMBERS, members=(CLEO, BEN))
    drafts = (
        package((A,), roles=(Role("role-board", 1, BOARD, group=group),), status="DRAFT"),
        replace(package(status="DRAFT"), roles=()),
    )
    for draft in drafts:
        assert Play(draft, group_user="unlisted").act("activate") == [("PACKAGE_ACTIVATE", "cleo")]


def test_a_member_declines_for_the_group():
    """The reason for declining comes from the member, not from the group."""
    play = Play(package((A,), roles=GROUP_SEAT))

    assert play.act("decline", member=1, text="No.") == [("PACKAGE_DECLINE", "ben")]
    assert play.json["messages"][0]["from"]["id"] == "ben"


def test_members_of_an_ad_hoc_group_have_roles_without_signatures():
    """An ad hoc group has its own signer type, and its members are listed as roles, too, but not as reviewers."""
    seats = (
        Role("role-a", 1, ADA),
        Role("role-b", 1, BEN),
        Role("role-board", 1, BOARD, group=replace(MEMBERS, is_ad_hoc=True)),
    )
    play = Play(package((replace(A, role=2),), roles=seats), reviewer_type="VIEWER", group_members="hidden")
    signer = play.json["roles"][2]["signers"][0]

    assert [role["type"] for role in play.json["roles"]] == ["SIGNER"] * 3
    assert (signer["signerType"], signer["email"]) == ("AD_HOC_GROUP_SIGNER", BOARD.email)
    assert [(member["memberType"], member["userId"]) for member in signer["group"]["members"]] == [
        ("AD_HOC_GROUP_MEMBER", "ada"),
        ("AD_HOC_GROUP_MEMBER", "ben"),
    ]
    assert play.act("sign", 2)[-1] == ("PACKAGE_COMPLETE", "ada")


def test_a_rejected_attachment_is_uploaded_again():
    """The sender rejects an attachment with a comment; each upload sends a callback, the rejection none."""
    role = Role("role-a", 1, ADA, attachments=(Attachment("att-1", "Passport"), Attachment("att-2", "Licence")))
    play = Play(package((A,), roles=(role,)))
    seen = []
    for verb, text in (("upload", ""), ("reject", "Cannot be read."), ("upload", "")):
        play.act(verb, text=text, attachment=1)
        asked = play.json["roles"][0]["attachmentRequirements"]
        seen.append([(item["status"], item.get("comment")) for item in asked][1])

    assert [status for status, _ in seen] == ["COMPLETE", "REJECTED", "COMPLETE"]
    assert seen[1][1] == "Cannot be read."
    assert [(event.name, event.message) for event in play.events] == [("PACKAGE_ATTACHMENT", "Licence")] * 2
    with pytest.raises(ImpossibleAction):
        play.act("reject", attachment=0)


@pytest.mark.parametrize(
    ("status", "after", "event"),
    [
        ("SENT", "SENT", "PACKAGE_ACTIVATE"),
        ("DRAFT", "SENT", "PACKAGE_ACTIVATE"),
        ("COMPLETED", "COMPLETED", "PACKAGE_RESTORE"),
    ],
)
def test_a_deleted_package_may_be_brought_back(status, after, event):
    """OneSpan's support brings a deleted package back: an open one is sent again, a complete one stays complete."""
    play = Play(package((A,), status=status, trashed=True))
    play.act("delete")

    assert play.act("undelete") == [(event, "cleo")]
    assert (play.package.deleted, play.package.trashed, play.package.status) == (False, False, after)
    with pytest.raises(ImpossibleAction):
        play.act("undelete")


@pytest.mark.parametrize("name", ["PACKAGE_COMPLETE", "SIGNER_COMPLETE", "DOCUMENT_SIGNED", "PACKAGE_DELETE"])
def test_a_lie_sends_an_event_and_changes_nothing(name):
    """A lie is a valid event about something that did not happen: the package stays as it was, `updated` included."""
    play = Play(package((A,)))
    before = play.json

    assert [sent for sent, _ in play.act("lie", text=name)] == [name]
    assert play.json == before


def test_a_lie_and_the_next_event_have_different_dates():
    """Also with lies, no two events of a package have the same date."""
    play = Play(package((A,)))
    play.act("lie", text="SIGNER_COMPLETE")
    play.now -= SECOND
    play.act("sign")

    dates = [event.at for event in play.events]
    assert sorted({*dates}) == dates


@pytest.mark.parametrize(("quirk", "moves"), [("moves", True), ("stays", False)])
def test_the_trash_may_leave_updated_unchanged(quirk, moves):
    """A quirk lets a package move to the trash and back without a new `updated`."""
    play = Play(package((A,)), trash_updated=quirk)
    for verb, trashed in (("trash", True), ("restore", False)):
        before = play.json["updated"]
        play.act(verb)
        assert (play.json["updated"] != before, play.json["trashed"]) == (moves, trashed)


def test_a_signer_without_an_address_has_a_phone():
    """A signer who is notified by SMS only has a phone, and `email` is null."""
    sms = replace(ADA, email=None, phone="+32255501")
    signer = Play(package((A,), roles=(Role("role-a", 1, sms),))).json["roles"][0]["signers"][0]

    assert (signer["email"], signer["phone"], signer["delivery"]["email"]) == (None, "+32255501", False)


def test_a_package_has_a_description_and_attributes():
    """A package shows the description and the attributes that its sender gave."""
    shown = Play(package((A,), description="Renewal", data={"case": "C-1"})).json

    assert (shown["description"], shown["data"]) == ("Renewal", {"case": "C-1"})


def test_documents_may_be_listed_in_another_order():
    """By a quirk, the JSON lists documents in another order than that of `index`."""
    shown = Play(package((A,), (B,)), document_order="reversed").json["documents"]

    assert [(document["index"], document["id"]) for document in shown] == [(1, "doc-1"), (0, "doc-0")]


def test_missing_dates_may_be_null():
    """By a quirk, missing dates are null instead of absent."""
    shown = Play(package((A,)), rest_nulls="null").json
    (approval,) = shown["documents"][0]["approvals"]

    assert [shown[name] for name in ("due", "completed")] == [None, None]
    assert (approval["accepted"], approval["signed"]) == (None, None)


@pytest.mark.parametrize(
    ("quirk", "date"), [("shortest", "2026-03-02T12:00:00Z"), ("lower-case", "2026-03-02t12:00:00.000z")]
)
def test_dates_may_have_another_form(quirk, date):
    """By a quirk, all dates of the REST API omit milliseconds that are zero, or have lower-case letters."""
    shown = Play(package((A,)), rest_dates=quirk).json

    assert (shown["created"], shown["roles"][0]["signers"][0]["created"]) == (date, date)


def test_an_added_signer_accepts_the_consent():
    """A signer who is added after sending only accepts the consent."""
    draft = package((replace(A, fields=()), B), (A, B))
    consent = replace(draft.documents[0], id=CONSENT)
    play = Play(replace(draft, documents=(consent, draft.documents[1])))
    play.act("add signer", text="7f9c24e8-3b1a-4f6e-9d2b-0c5a1e8f7d36", person=CLEO)

    assert [bool(asked.fields) for asked in play.package.approvals(2)] == [False, True]
