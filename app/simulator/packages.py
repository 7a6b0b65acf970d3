"""Immutable values: packages as OneSpan stores them, events as OneSpan sends them, and actions on packages."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.simulator.people import Person, no_members

CONSENT = "default-consent"  # the id of the document with which signers agree to sign electronically
STATUSES = frozenset({"DRAFT", "SENT", "COMPLETED", "ARCHIVED", "DECLINED", "OPTED_OUT", "EXPIRED"})
# The statuses of a completed package in an account that archives with Arkhineo. OneSpan's list of statuses lacks them.
ARCHIVAL_STATUSES = ("ARCHIVAL_PENDING", "ARCHIVAL_VALIDATING", "ARCHIVAL_INTERVENTION_REQUIRED", "ARCHIVAL_COMPLETED")


class ImpossibleAction(Exception):
    """The package does not allow this action in its present state."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that a signer is asked to upload. The sender may reject a file with a comment."""

    id: str
    name: str
    status: str = "INCOMPLETE"  # or REJECTED or COMPLETE
    comment: str = ""
    description: str = ""
    required: bool = True

    @property
    def uploaded(self) -> bool:
        """Whether the signer has uploaded a file that the sender has not rejected."""
        return self.status == "COMPLETE"


@dataclass(frozen=True, slots=True)
class Group:
    """People who sign for each other: one signature is enough. Members of an ad hoc group also have their own roles."""

    id: str
    name: str
    members: tuple[Person, ...]
    is_ad_hoc: bool = False


@dataclass(frozen=True, slots=True)
class Role:
    """A seat in a package, and the person who has the seat. In a template `person` is None.

    `index` is the position in the signing order; roles with the same index sign in parallel. `scheme` is the signer's
    authentication method, `kba` the result of knowledge-based authentication. The person of a `group`'s role has the
    group's name and address. `finished` is when a signer without required signatures finished.
    """

    id: str
    index: int
    person: Person | None
    is_sender: bool = False
    scheme: str = "NONE"
    kba: str = "NOT_YET_ATTEMPTED"
    locked: bool = False
    attachments: tuple[Attachment, ...] = ()
    group: Group | None = None
    finished: datetime | None = None
    members: Mapping[str, object] = no_members()

    @property
    def attachment(self) -> Attachment | None:
        """The first requested attachment, if any."""
        return self.attachments[0] if self.attachments else None


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a requested signature, such as the place of the signature itself. Without an id it gets one."""

    type: str = "SIGNATURE"
    subtype: str = "FULLNAME"
    id: str = ""
    page: int = 0
    left: float = 100.0
    top: float = 100.0
    width: float = 200.0
    height: float = 50.0


SIGNATURE = (Field(),)  # the fields of an ordinary requested signature
INPUT = (Field("INPUT", "TEXTFIELD"),)  # the fields of a document that is only filled in and accepted


@dataclass(frozen=True, slots=True)
class Approval:
    """A requested signature, or without a signature field a requested acceptance.

    `role` is the position of the role in the package. `accepted` is when the signer clicked, and `signed` when the
    signer confirmed the document. An acceptance has no `signed`.
    """

    id: str
    role: int
    accepted: datetime | None = None
    signed: datetime | None = None
    optional: bool = False
    disabled: bool = False
    fields: tuple[Field, ...] = SIGNATURE
    members: Mapping[str, object] = no_members()

    @property
    def is_acceptance(self) -> bool:
        """Whether the signer has nothing to sign here, only to accept."""
        return not any(field.type == "SIGNATURE" for field in self.fields)

    @property
    def at(self) -> datetime | None:
        """When the signature was made, or the acceptance given."""
        return self.accepted if self.is_acceptance else self.signed


@dataclass(frozen=True, slots=True)
class Document:
    """A document and its requested signatures. `file` is the content that the sender uploaded, if any."""

    id: str
    name: str
    pages: int
    approvals: tuple[Approval, ...]
    file: bytes = field(default=b"", repr=False)
    members: Mapping[str, object] = no_members()


@dataclass(frozen=True, slots=True)
class Message:
    """The reason that a signer gave for declining or opting out."""

    by: Person
    content: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Package:
    """A package as OneSpan stores it. A `deleted` package is visible only inside the simulator.

    `data` holds the sender's own attributes. `touched` is the time of the last event if it is later than `updated`.
    """

    id: str
    name: str
    type: str
    sender: Person
    roles: tuple[Role, ...]
    documents: tuple[Document, ...]
    autocomplete: bool
    created: datetime
    updated: datetime
    due: datetime | None = None
    completed: datetime | None = None
    status: str = "DRAFT"
    trashed: bool = False
    deleted: bool = False
    messages: tuple[Message, ...] = ()
    description: str = ""
    data: Mapping[str, object] = field(default_factory=dict)
    touched: datetime | None = None
    members: Mapping[str, object] = no_members()

    def approvals(self, role: int | None = None, *, document: int | None = None) -> list[Approval]:
        """Return the requested signatures of the package, or only of the role or document at this position."""
        documents = self.documents if document is None else (self.documents[document],)
        return [
            approval for requested in documents for approval in requested.approvals if role in (None, approval.role)
        ]

    def owed(self, role: int | None = None, *, document: int | None = None) -> list[Approval]:
        """Return the signatures that a signer must make. Without any, return the optional signatures."""
        enabled = [approval for approval in self.approvals(role, document=document) if not approval.disabled]
        return [approval for approval in enabled if not approval.optional] or enabled

    def is_signed(self, role: int | None = None, *, document: int | None = None) -> bool:
        """Return whether a role, or by default every signing role, has signed all that it must, or finished.

        With a document, return whether all that must be signed there is signed. False if nothing is requested.
        """
        if role is None and document is None:
            roles = [position for position in range(len(self.roles)) if self.owed(position)]
            return bool(roles) and all(self.is_signed(position) for position in roles)
        if role is not None and document is None and self.roles[role].finished:
            return True
        owed = self.owed(role, document=document)
        return bool(owed) and all(approval.at for approval in owed)

    def person(self, role: int) -> Person:
        """Return the person in the role at this position of the package."""
        person = self.roles[role].person
        if person is None:
            raise ImpossibleAction(f"role {role} of {self.id} has no person")
        return person

    def actor(self, action: "Action") -> Person:
        """Return the person who takes a signer's action: the person in the role, or a member of the role's group."""
        group = self.roles[action.role].group
        return group.members[action.member % len(group.members)] if group else self.person(action.role)

    def is_reviewer(self, role: int) -> bool:
        """Return whether the role has no signature, and is neither the sender's nor that of a group's member."""
        seat, groups = self.roles[role], [role.group for role in self.roles if role.group]
        is_member = any(seat.person in group.members for group in groups)
        return not seat.is_sender and not is_member and not self.approvals(role)

    @property
    def people(self) -> list[Person]:
        """The people in all roles of the package."""
        return [role.person for role in self.roles if role.person]


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a package. `session_user` is the id of the actor; `at` is None in an undated event."""

    name: str
    package_id: str
    session_user: str | None
    at: datetime | None
    document_id: str | None = None
    message: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Action:
    """An action on a package. `verb` is a key of `actions.VERBS`; `role` and `document` are positions in the package.

    `text` depends on the verb: a reason, an address, a role's new id, an event's name. `person` is the new signer.
    `due` is the new due date, or the time from the action to the new due date. `member` is the position of the member
    who acts for a group. `attachment` is the position of the attachment in the role. `values` are the attributes of
    the package that an edit replaces.
    """

    verb: str
    role: int = 0
    document: int = 0
    text: str = ""
    person: Person | None = None
    due: datetime | timedelta | None = None
    member: int = 0
    attachment: int = 0
    values: Mapping[str, object] = no_members()
