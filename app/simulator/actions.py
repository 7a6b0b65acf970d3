"""All that can be done to a package: each act makes the next package and the events OneSpan tells of it.

Pure: packages are immutable, acts are data, and the time comes from outside. An act that is not possible, such as
signing what was never sent, is a mistake in a history and raises `Impossible`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from uuid import UUID, uuid5

from app.simulator.packages import (
    ARCHIVAL,
    STATUSES,
    Act,
    Approval,
    Document,
    Event,
    Impossible,
    Message,
    Package,
    Role,
)

MILLISECOND = timedelta(milliseconds=1)  # the grain of OneSpan's times
EXTENSION = timedelta(days=30)
CREATED = {"PACKAGE": "PACKAGE_CREATE", "TEMPLATE": "TEMPLATE_CREATE"}  # for a layout there is no event
BUSINESS_HOURS = ("Morning - 9AM to 12PM ((GMT 0:00) GMT)",)

Outcome = tuple[Package, list[Event]]
Verb = Callable[[Package, Act, datetime], Outcome]


def perform(package: Package, act: Act, *, now: datetime) -> Outcome:
    """Do it, and say what OneSpan tells of it: nothing, where it has no event for it.

    Events of one package are dated apart by a millisecond at least, in the order in which they happened, so two of
    them never share a date; `now` therefore is exceeded by a few milliseconds where much happens at once.
    """
    possible_in, verb = VERBS[act.verb]
    in_place = package.trashed == (act.verb == "restore") or act.verb in ANYWHERE
    if package.deleted or package.status not in possible_in or not in_place:
        raise Impossible(f"{act.verb} of a package that is {package.status}, trashed={package.trashed}")
    at = now.replace(microsecond=now.microsecond // 1000 * 1000)
    if act.verb != "create":
        at = max(at, package.updated + MILLISECOND)
    package, events = verb(package, act, at)
    events = [replace(event, at=at + number * MILLISECOND) for number, event in enumerate(events)]
    return replace(package, updated=at + max(0, len(events) - 1) * MILLISECOND), events


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
    told = [Event(CREATED[package.type], package.id, package.sender.id, at)] if package.type in CREATED else []
    return replace(package, created=at), told


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


def _redate(package: Package, act: Act, at: datetime) -> Outcome:
    """The sender sets another due date; OneSpan has no event for it."""
    due = act.due or EXTENSION
    return replace(package, due=at + due if isinstance(due, timedelta) else due), []


def _extend(package: Package, act: Act, at: datetime) -> Outcome:
    """The sender gives more time to what had expired, which makes it a draft again; no event tells of it."""
    return replace(_redate(package, act, at)[0], status="DRAFT"), []


def _rename(package: Package, act: Act, _: datetime) -> Outcome:
    """The sender names it otherwise; OneSpan has no event for it."""
    return replace(package, name=act.text), []


def _quietly(**becomes: object) -> Verb:
    """A verb on the package for which OneSpan may have an event or none: the act's text names it."""

    def verb(package: Package, act: Act, at: datetime) -> Outcome:
        told = [Event(act.text, package.id, package.sender.id, at)] if act.text else []
        return _take(package, becomes), told

    return verb


def _archival(package: Package, act: Act, _: datetime) -> Outcome:
    """A step of archiving with Arkhineo: a newer status, and no event."""
    return replace(package, status=act.text), []


def _reassign(package: Package, act: Act, at: datetime) -> Outcome:
    """Somebody else comes in, under a new role id."""
    package, told = _hand_over(package, act, at)
    return _seat(package, act.role, {"id": act.text}), told


def _hand_over(package: Package, act: Act, at: datetime) -> Outcome:
    """Somebody else comes in under the same role id and begins anew, with the consent; `newRoleId` says the text."""
    more = MappingProxyType({"newRoleId": act.text})
    told = Event("ROLE_REASSIGN", package.id, package.person(act.role).id, at, more=more)
    package = _seat(package, act.role, {"person": act.person})
    for place in range(len(package.documents)):
        package = _approve(package, act.role, place, at=None)
    return package, [told]


def with_signer(package: Package, act: Act) -> Package:
    """With one more signer, in the last place: the act's person, in a role of the act's text, who is to sign it all."""
    place = len(package.roles)
    role = Role(act.text, max(one.index for one in package.roles), act.person)
    documents = [_asking_also(document, role, place) for document in package.documents]
    return replace(package, roles=(*package.roles, role), documents=tuple(documents))


def _asking_also(document: Document, role: Role, place: int) -> Document:
    approval = Approval(str(uuid5(UUID(role.id), document.id)), place)
    return replace(document, approvals=(*document.approvals, approval))


def _add_signer(package: Package, act: Act, _: datetime) -> Outcome:
    """The sender asks one more; OneSpan has no event for it."""
    return with_signer(package, act), []


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


ANYWHERE = frozenset({"delete", "retain"})  # in the trash or out of it
BY_SYSTEM = frozenset({"expire", "bounce", "retain"})  # nobody does these, they happen
_DRAFT, _SENT = frozenset({"DRAFT"}), frozenset({"SENT"})
_OPEN, _ALL = _DRAFT | _SENT, STATUSES | frozenset(ARCHIVAL)

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
        "unarchive": (frozenset({"ARCHIVED"}), _quietly(status="COMPLETED")),
        "archival": (frozenset({"COMPLETED", *ARCHIVAL}), _archival),
        "trash": (STATUSES, _by_sender("PACKAGE_TRASH", trashed=True)),
        "restore": (STATUSES, _by_sender("PACKAGE_RESTORE", trashed=False)),
        "delete": (STATUSES, _by_sender("PACKAGE_DELETE", deleted=True)),
        "retain": (_ALL, _quietly(deleted=True)),
        "redate": (_OPEN, _redate),
        "rename": (_ALL, _rename),
        "add signer": (_OPEN, _add_signer),
        "view": (_SENT, _view),
        "sign": (_SENT, _sign),
        "decline": (_SENT, _leave("PACKAGE_DECLINE", "DECLINED")),
        "opt out": (_SENT, _leave("PACKAGE_OPT_OUT", "OPTED_OUT")),
        "reassign": (_SENT, _reassign),
        "hand over": (_SENT, _hand_over),
        "upload": (_SENT, _upload),
        "bounce": (_SENT, _by_signer("EMAIL_BOUNCE")),
        "readdress": (_OPEN, _readdress),
        "fail kba": (_SENT, _by_signer("KBA_FAILURE", kba="FAILED")),
        "lock": (_SENT, _by_signer("SIGNER_LOCKED", locked=True)),
        "unlock": (_SENT, _silently(locked=False)),
        "cobrowse": (_SENT, _cobrowse),
    }
)
