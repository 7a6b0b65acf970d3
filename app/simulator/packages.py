"""A package as OneSpan has it, an event as OneSpan tells it, and an act that somebody may do: immutable values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.simulator.people import Person

CONSENT = "default-consent"  # the id of the document in which signers agree to sign electronically
STATUSES = frozenset({"DRAFT", "SENT", "COMPLETED", "ARCHIVED", "DECLINED", "OPTED_OUT", "EXPIRED"})
# What a completed package goes through where an account archives with Arkhineo; no document lists them with the others.
ARCHIVAL = ("ARCHIVAL_PENDING", "ARCHIVAL_VALIDATING", "ARCHIVAL_INTERVENTION_REQUIRED", "ARCHIVAL_COMPLETED")


class Impossible(Exception):
    """Nobody can do this to a package that stands so."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that a signer is asked to upload."""

    id: str
    name: str
    uploaded: bool = False


@dataclass(frozen=True, slots=True)
class Role:
    """A seat in a package and who sits in it; nobody does in a template.

    `index` is the place in the signing order, equal ones sign in parallel. `scheme` is how the signer proves who
    they are, `kba` how that went where it is knowledge-based.
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
    """A signature that is asked of a role (its place among the package's), and when it was given."""

    id: str
    role: int
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A document and the signatures it asks for."""

    id: str
    name: str
    pages: int
    approvals: tuple[Approval, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """What a signer wrote to the sender on declining."""

    by: Person
    content: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Package:
    """A package as OneSpan has it. One that is `deleted` is gone, and known only to us."""

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
        """All that are asked for; only of one role, or in one document, where it is named by its place."""
        documents = self.documents if document is None else (self.documents[document],)
        return [one for each in documents for one in each.approvals if role in (None, one.role)]

    def is_signed(self, role: int | None = None, *, document: int | None = None) -> bool:
        """Whether all of these are given, and there are any."""
        asked = self.approvals(role, document=document)
        return bool(asked) and all(one.at for one in asked)

    def person(self, role: int) -> Person:
        """Who sits in the role of that place."""
        person = self.roles[role].person
        if person is None:
            raise Impossible(f"nobody sits in role {role} of {self.id}")
        return person

    @property
    def people(self) -> list[Person]:
        """All who sit in its roles."""
        return [role.person for role in self.roles if role.person]


@dataclass(frozen=True, slots=True)
class Event:
    """What OneSpan tells of a package. `session_user` is the id of who caused it; an undated one has no `at`."""

    name: str
    package_id: str
    session_user: str | None
    at: datetime | None
    document_id: str | None = None
    message: str | None = None
    more: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Act:
    """Something that is done to a package: `verb` is one of `acts.VERBS`, `role` and `document` are places in it.

    `text` is what the verb needs besides: a reason, an address, a role's new id, an event's name; `person` is who
    comes in; `due` the new due date, or how long after the act it is.
    """

    verb: str
    role: int = 0
    document: int = 0
    text: str = ""
    person: Person | None = None
    due: datetime | timedelta | None = None
