"""Immutable values: packages as OneSpan stores them, events as OneSpan sends them, and actions on packages."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.simulator.people import Person

CONSENT = "default-consent"  # the id of the document with which signers agree to sign electronically
STATUSES = frozenset({"DRAFT", "SENT", "COMPLETED", "ARCHIVED", "DECLINED", "OPTED_OUT", "EXPIRED"})
# The statuses of a completed package in an account that archives with Arkhineo. OneSpan's list of statuses lacks them.
ARCHIVAL_STATUSES = ("ARCHIVAL_PENDING", "ARCHIVAL_VALIDATING", "ARCHIVAL_INTERVENTION_REQUIRED", "ARCHIVAL_COMPLETED")


class ImpossibleAction(Exception):
    """The package does not allow this action in its present state."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that a signer is asked to upload."""

    id: str
    name: str
    uploaded: bool = False


@dataclass(frozen=True, slots=True)
class Role:
    """A seat in a package, and the person who has the seat. In a template `person` is None.

    `index` is the position in the signing order; roles with the same index sign in parallel. `scheme` is the signer's
    authentication method, `kba` the result of knowledge-based authentication.
    """

    id: str
    index: int
    person: Person | None
    is_sender: bool = False
    scheme: str = "NONE"
    kba: str = "NOT_YET_ATTEMPTED"
    locked: bool = False
    attachment: Attachment | None = None


@dataclass(frozen=True, slots=True)
class Approval:
    """A requested signature. `role` is the position of the role in the package, `at` the time of the signature."""

    id: str
    role: int
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A document and its requested signatures."""

    id: str
    name: str
    pages: int
    approvals: tuple[Approval, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """The reason that a signer gave for declining or opting out."""

    by: Person
    content: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Package:
    """A package as OneSpan stores it. A `deleted` package is visible only inside the simulator."""

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

    def approvals(self, role: int | None = None, *, document: int | None = None) -> list[Approval]:
        """Return the requested signatures of the package, or only of the role or document at this position."""
        documents = self.documents if document is None else (self.documents[document],)
        return [
            approval for requested in documents for approval in requested.approvals if role in (None, approval.role)
        ]

    def is_signed(self, role: int | None = None, *, document: int | None = None) -> bool:
        """Return whether all signatures, or those of a role or document, are made; False if none is requested."""
        requested = self.approvals(role, document=document)
        return bool(requested) and all(approval.at for approval in requested)

    def person(self, role: int) -> Person:
        """Return the person in the role at this position of the package."""
        person = self.roles[role].person
        if person is None:
            raise ImpossibleAction(f"role {role} of {self.id} has no person")
        return person

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
    `due` is the new due date, or the time from the action to the new due date.
    """

    verb: str
    role: int = 0
    document: int = 0
    text: str = ""
    person: Person | None = None
    due: datetime | timedelta | None = None
