"""A package, and all that can be done to it: each act makes the next package and the events OneSpan tells of it.

Pure: packages are immutable, acts are data, and the time comes from outside. An act that is not possible, such as
signing what was never sent, is a mistake in a history and raises `Impossible`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType

from app.simulator.people import Person

CONSENT = "default-consent"  # the id of the document in which signers agree to sign electronically
MILLISECOND = timedelta(milliseconds=1)  # the grain of OneSpan's times
EXTENSION = timedelta(days=30)
STATUSES = frozenset({"DRAFT", "SENT", "COMPLETED", "ARCHIVED", "DECLINED", "OPTED_OUT", "EXPIRED"})
BUSINESS_HOURS = ("Morning - 9AM to 12PM ((GMT 0:00) GMT)",)


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


@dataclass(frozen=True, slots=True)
class Event:
    """What OneSpan tells of a package. `session_user` is the id of who caused it."""

    name: str
    package_id: str
    session_user: str
    at: datetime
    document_id: str | None = None
    message: str | None = None
    more: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Act:
    """Something that is done to a package: `verb` is one of `VERBS`, `role` and `document` are places in it.

    `text` is what the verb needs besides: a reason, an address, a role's new id; `person` is who comes in.
    """

    verb: str
    role: int = 0
    document: int = 0
    text: str = ""
    person: Person | None = None


Outcome = tuple[Package, list[Event]]
Verb = Callable[[Package, Act, datetime], Outcome]


def perform(package: Package, act: Act, *, now: datetime) -> Outcome:
    """Do it, and say what OneSpan tells of it: nothing, where it has no event for it.

    Events of one package are dated apart by a millisecond at least, in the order in which they happened, so two of
    them never share a date; `now` therefore is exceeded by a few milliseconds where much happens at once.
    """
    possible_in, verb = VERBS[act.verb]
    in_place = package.trashed == (act.verb == "restore") or act.verb == "delete"
    if package.deleted or package.status not in possible_in or not in_place:
        raise Impossible(f"{act.verb} of a package that is {package.status}, trashed={package.trashed}")
    at = now.replace(microsecond=now.microsecond // 1000 * 1000)
    if act.verb != "create":
        at = max(at, package.updated + MILLISECOND)
    package, events = verb(package, act, at)
    events = [replace(event, at=at + number * MILLISECOND) for number, event in enumerate(events)]
    return replace(package, updated=max([at, *(event.at for event in events)])), events


def _by_sender(name: str, **becomes: object) -> Verb:
    """A verb of the sender, who is told of under that event's name; the package takes the given values."""

    def verb(package: Package, _: Act, at: datetime) -> Outcome:
        return _take(package, becomes), [Event(name, package.id, package.sender.id, at)]

    return verb


def _by_signer(name: str, **becomes: object) -> Verb:
    """A verb of the signer in a role, which takes the given values."""

    def verb(package: Package, act: Act, at: datetime) -> Outcome:
        told = Event(name, package.id, package.person(act.role).id, at, message=act.text or None)
        return _seat(package, act.role, becomes), [told]

    return verb


def _silently(**becomes: object) -> Verb:
    """A verb of the sender's for one role, of which OneSpan tells nothing."""

    def verb(package: Package, act: Act, _: datetime) -> Outcome:
        return _seat(package, act.role, becomes), []

    return verb


def _take(package: Package, becomes: Mapping[str, object]) -> Package:
    return replace(package, **becomes)  # type: ignore[arg-type]


def _seat(package: Package, place: int, becomes: Mapping[str, object]) -> Package:
    role = replace(package.roles[place], **becomes)  # type: ignore[arg-type]
    return replace(package, roles=(*package.roles[:place], role, *package.roles[place + 1 :]))


def _create(package: Package, _: Act, at: datetime) -> Outcome:
    name = "TEMPLATE_CREATE" if package.type == "TEMPLATE" else "PACKAGE_CREATE"
    return replace(package, created=at), [Event(name, package.id, package.sender.id, at)]


def _view(package: Package, act: Act, at: datetime) -> Outcome:
    document = package.documents[act.document].id
    return package, [Event("DOCUMENT_VIEWED", package.id, package.person(act.role).id, at, document_id=document)]


def _sign(package: Package, act: Act, at: datetime) -> Outcome:
    """Signing the last document completes the signer; the last signer completes the package, if it may do so itself."""
    who, document = package.person(act.role).id, package.documents[act.document]
    package = _approve(package, act.role, act.document, at=at)
    if package.roles[act.role].scheme == "KBA":
        package = _seat(package, act.role, {"kba": "PASSED"})
    events = [Event("DOCUMENT_SIGNED", package.id, who, at, document_id=document.id)]
    if package.is_signed(act.role):
        events.append(Event("SIGNER_COMPLETE", package.id, who, at))
    if package.is_signed() and package.autocomplete:
        package = replace(package, status="COMPLETED", completed=at)
        events.append(Event("PACKAGE_COMPLETE", package.id, who, at))
    elif package.is_signed():
        events.append(Event("PACKAGE_READY_FOR_COMPLETE", package.id, who, at))
    return package, events


def _approve(package: Package, role: int, document: int, *, at: datetime | None) -> Package:
    paper = package.documents[document]
    approvals = tuple(replace(one, at=at) if one.role == role else one for one in paper.approvals)
    changed = replace(paper, approvals=approvals)
    return replace(package, documents=(*package.documents[:document], changed, *package.documents[document + 1 :]))


def _complete(package: Package, _: Act, at: datetime) -> Outcome:
    if not package.is_signed():
        raise Impossible("complete what is not signed by all")
    told = Event("PACKAGE_COMPLETE", package.id, package.sender.id, at)
    return replace(package, status="COMPLETED", completed=at), [told]


def _expire(package: Package, _: Act, at: datetime) -> Outcome:
    """Its time is over, sooner than was said: these histories are told in seconds."""
    return replace(package, status="EXPIRED", due=at), [Event("PACKAGE_EXPIRE", package.id, package.sender.id, at)]


def _leave(name: str, status: str) -> Verb:
    """A signer ends the package for everybody and says why."""

    def verb(package: Package, act: Act, at: datetime) -> Outcome:
        who = package.person(act.role)
        messages = (*package.messages, Message(who, act.text, at))
        told = Event(name, package.id, who.id, at, message=act.text)
        return replace(package, status=status, messages=messages), [told]

    return verb


def _extend(package: Package, _: Act, at: datetime) -> Outcome:
    """The sender gives more time; OneSpan has no event for it."""
    return replace(package, status="DRAFT", due=at + EXTENSION), []


def _reassign(package: Package, act: Act, at: datetime) -> Outcome:
    """Somebody else comes in under a new role id and begins anew, with the consent."""
    told = Event(
        "ROLE_REASSIGN", package.id, package.person(act.role).id, at, more=MappingProxyType({"newRoleId": act.text})
    )
    package = _seat(package, act.role, {"id": act.text, "person": act.person})
    for place in range(len(package.documents)):
        package = _approve(package, act.role, place, at=None)
    return package, [told]


def _upload(package: Package, act: Act, at: datetime) -> Outcome:
    attachment = package.roles[act.role].attachment
    if attachment is None:
        raise Impossible("upload what was not asked for")
    told = Event("PACKAGE_ATTACHMENT", package.id, package.person(act.role).id, at, message=attachment.name)
    return _seat(package, act.role, {"attachment": replace(attachment, uploaded=True)}), [told]


def _readdress(package: Package, act: Act, _: datetime) -> Outcome:
    """The sender corrects a signer's e-mail address; OneSpan has no event for it."""
    person = replace(package.person(act.role), email=act.text)
    return _seat(package, act.role, {"person": person}), []


def _cobrowse(package: Package, act: Act, at: datetime) -> Outcome:
    more = {"phone": "+32 2 555 01 00", "comment": act.text, "selectedSupportBusinessHours": list(BUSINESS_HOURS)}
    return package, [Event("COBROWSE_REQUEST", package.id, package.person(act.role).id, at, more=more)]


_DRAFT, _SENT = frozenset({"DRAFT"}), frozenset({"SENT"})

# Each verb: the statuses in which it is possible, and what it does.
VERBS: Mapping[str, tuple[frozenset[str], Verb]] = MappingProxyType(
    {
        "create": (_DRAFT, _create),
        "activate": (frozenset({"DRAFT", "DECLINED"}), _by_sender("PACKAGE_ACTIVATE", status="SENT")),
        "deactivate": (_SENT, _by_sender("PACKAGE_DEACTIVATE", status="DRAFT")),
        "complete": (_SENT, _complete),
        "expire": (_SENT, _expire),
        "extend": (frozenset({"EXPIRED"}), _extend),
        "archive": (frozenset({"COMPLETED"}), _by_sender("PACKAGE_ARCHIVE", status="ARCHIVED")),
        "trash": (STATUSES, _by_sender("PACKAGE_TRASH", trashed=True)),
        "restore": (STATUSES, _by_sender("PACKAGE_RESTORE", trashed=False)),
        "delete": (STATUSES, _by_sender("PACKAGE_DELETE", deleted=True)),
        "view": (_SENT, _view),
        "sign": (_SENT, _sign),
        "decline": (_SENT, _leave("PACKAGE_DECLINE", "DECLINED")),
        "opt out": (_SENT, _leave("PACKAGE_OPT_OUT", "OPTED_OUT")),
        "reassign": (_SENT, _reassign),
        "upload": (_SENT, _upload),
        "bounce": (_SENT, _by_signer("EMAIL_BOUNCE")),
        "readdress": (_SENT, _readdress),
        "fail kba": (_SENT, _by_signer("KBA_FAILURE", kba="FAILED")),
        "lock": (_SENT, _by_signer("SIGNER_LOCKED", locked=True)),
        "unlock": (_SENT, _silently(locked=False)),
        "cobrowse": (_SENT, _cobrowse),
    }
)
