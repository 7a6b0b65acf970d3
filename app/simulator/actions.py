"""All actions on packages. Each action returns the changed package and the events that OneSpan sends.

The module is pure: packages are immutable, actions are data, and callers give the time. An action that the package
does not allow, such as signing a draft, is a mistake in a story and raises `ImpossibleAction`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from uuid import UUID, uuid5

from app.simulator import sending, signing
from app.simulator.packages import (
    ARCHIVAL_STATUSES,
    CONSENT,
    SIGNATURE,
    STATUSES,
    Action,
    Approval,
    Document,
    Event,
    ImpossibleAction,
    Message,
    Package,
    Role,
)
from app.simulator.signing import Outcome, change_approvals, with_role

MILLISECOND = timedelta(milliseconds=1)  # the resolution of OneSpan's times
EXTENSION = timedelta(days=30)
CREATED = {"PACKAGE": "PACKAGE_CREATE", "TEMPLATE": "TEMPLATE_CREATE"}  # OneSpan sends no event for a new layout
BUSINESS_HOURS = ("Morning - 9AM to 12PM ((GMT 0:00) GMT)",)

Verb = Callable[[Package, Action, datetime], Outcome]


def perform(package: Package, action: Action, *, now: datetime) -> Outcome:
    """Perform an action. Return the changed package and the events that OneSpan sends, possibly none.

    No two events of a package have the same date: their dates are at least one millisecond apart, in the order of the
    events. If many events happen at once, the dates run a few milliseconds ahead of `now`.
    """
    possible_in, verb = VERBS[action.verb]
    trash_allows = package.trashed == (action.verb == "restore") or action.verb in IN_AND_OUT_OF_TRASH
    is_possible = package.status in possible_in and package.deleted == (action.verb == "undelete")
    if not is_possible or not trash_allows:
        raise ImpossibleAction(f"{action.verb} is not possible: status={package.status}, trashed={package.trashed}")
    at = now.replace(microsecond=now.microsecond // 1000 * 1000)
    if action.verb != "create":
        at = max(at, (package.touched or package.updated) + MILLISECOND)
    after, events = verb(package, action, at)
    events = [replace(event, at=at + number * MILLISECOND) for number, event in enumerate(events)]
    last = at + max(0, len(events) - 1) * MILLISECOND
    if action.verb == "lie":
        return replace(package, touched=last), events
    return replace(after, updated=last, touched=None), events


def _sender_verb(name: str, **values: object) -> Verb:
    """Return a verb that sets `values` on the package and sends the event `name`, with the sender as actor."""

    def verb(package: Package, _: Action, at: datetime) -> Outcome:
        return _with(package, values), [Event(name, package.id, package.sender.id, at)]

    return verb


def _signer_verb(name: str, **values: object) -> Verb:
    """Return a verb that sets `values` on a signer's role and sends the event `name`, with the signer as actor."""

    def verb(package: Package, action: Action, at: datetime) -> Outcome:
        event = Event(name, package.id, package.actor(action).id, at, message=action.text or None)
        return with_role(package, action.role, values), [event]

    return verb


def _silent_role_verb(**values: object) -> Verb:
    """Return a verb that sets `values` on a signer's role and sends no event."""

    def verb(package: Package, action: Action, _: datetime) -> Outcome:
        return with_role(package, action.role, values), []

    return verb


def _with(package: Package, values: Mapping[str, object]) -> Package:
    return replace(package, **values)  # type: ignore[arg-type]


def _create(package: Package, _: Action, at: datetime) -> Outcome:
    events = [Event(CREATED[package.type], package.id, package.sender.id, at)] if package.type in CREATED else []
    return replace(package, created=at), events


def _view(package: Package, action: Action, at: datetime) -> Outcome:
    document = package.documents[action.document].id
    return package, [Event("DOCUMENT_VIEWED", package.id, package.actor(action).id, at, document_id=document)]


def _complete(package: Package, _: Action, at: datetime) -> Outcome:
    if not package.is_signed():
        raise ImpossibleAction("complete is not possible: a signature is missing")
    event = Event("PACKAGE_COMPLETE", package.id, package.sender.id, at)
    return replace(package, status="COMPLETED", completed=at), [event]


def _expire(package: Package, _: Action, at: datetime) -> Outcome:
    """Expire a package. The due date moves to the present, because a simulated story takes seconds and not days."""
    return replace(package, status="EXPIRED", due=at), [Event("PACKAGE_EXPIRE", package.id, package.sender.id, at)]


def _refusal_verb(name: str, status: str) -> Verb:
    """Return a verb with which a signer ends the package for all signers and gives a reason."""

    def verb(package: Package, action: Action, at: datetime) -> Outcome:
        signer = package.actor(action)
        messages = (*package.messages, Message(signer, action.text, at))
        event = Event(name, package.id, signer.id, at, message=action.text)
        return replace(package, status=status, messages=messages), [event]

    return verb


def _redate(package: Package, action: Action, at: datetime) -> Outcome:
    """Change the due date of a package. OneSpan sends no event."""
    due = action.due or EXTENSION
    return replace(package, due=at + due if isinstance(due, timedelta) else due), []


def _extend(package: Package, action: Action, at: datetime) -> Outcome:
    """Move the due date of an expired package, which makes the package a draft. OneSpan sends no event."""
    return replace(_redate(package, action, at)[0], status="DRAFT"), []


def _rename(package: Package, action: Action, _: datetime) -> Outcome:
    """Change the name of a package. OneSpan sends no event."""
    return replace(package, name=action.text), []


def _optional_event_verb(**values: object) -> Verb:
    """Return a verb that sets `values` on the package. The action's text names the event; no text means no event."""

    def verb(package: Package, action: Action, at: datetime) -> Outcome:
        events = [Event(action.text, package.id, package.sender.id, at)] if action.text else []
        return _with(package, values), events

    return verb


def _undelete(package: Package, _: Action, at: datetime) -> Outcome:
    """Let OneSpan's support bring a deleted package back: sent to its signers, or complete as it was."""
    if package.type != "PACKAGE":
        raise ImpossibleAction(f"undelete is not possible: type={package.type}")
    is_complete = package.status in COMPLETE
    event = Event("PACKAGE_RESTORE" if is_complete else "PACKAGE_ACTIVATE", package.id, package.sender.id, at)
    return replace(package, deleted=False, trashed=False, status=package.status if is_complete else "SENT"), [event]


def _lie(package: Package, action: Action, at: datetime) -> Outcome:
    """Send the event that the action's text names, although nothing happened."""
    by_signer, document = LIES[action.text]
    who = package.actor(action) if by_signer else package.sender
    message = "BOUNCE" if action.text == "EMAIL_BOUNCE" else None
    document_id = package.documents[action.document].id if document else None
    return package, [Event(action.text, package.id, who.id, at, document_id=document_id, message=message)]


def _archival(package: Package, action: Action, _: datetime) -> Outcome:
    """Give a package the archiving status that the action's text names. OneSpan sends no event."""
    return replace(package, status=action.text), []


def _reassign(package: Package, action: Action, at: datetime) -> Outcome:
    """Give a signer's seat to another person, under a new role id."""
    package, events = _reassign_in_place(package, action, at)
    return with_role(package, action.role, {"id": action.text}), events


def _reassign_in_place(package: Package, action: Action, at: datetime) -> Outcome:
    """Give a signer's seat to another person under the same role id, without the signatures and the lock.

    The action's text is the `newRoleId` of the event.
    """
    if package.roles[action.role].group:
        raise ImpossibleAction("reassign is not possible: the role is a group's")
    extra = MappingProxyType({"newRoleId": action.text})
    event = Event("ROLE_REASSIGN", package.id, package.person(action.role).id, at, extra=extra)
    package = with_role(package, action.role, {"person": action.person, "finished": None, "locked": False})
    for number in range(len(package.documents)):
        package = change_approvals(package, action.role, number, lambda made: replace(made, accepted=None, signed=None))
    return package, [event]


def _replace_signer(package: Package, action: Action, at: datetime) -> Outcome:
    """Let the sender give a signer's seat to another person, as a signer can do for their own seat."""
    if package.is_signed(action.role):
        raise ImpossibleAction("the signer has signed already")
    package, events = _reassign_in_place(package, action, at)
    return package, [replace(event, session_user=package.sender.id) for event in events]


def with_signer(package: Package, action: Action) -> Package:
    """Return the package with one more signer, who has the last position and signs every document.

    The action's person is the signer, and the action's text is the role id.
    """
    position = len(package.roles)
    role = Role(action.text, max(role.index for role in package.roles), action.person)
    documents = [_with_approval(document, role, position) for document in package.documents]
    return replace(package, roles=(*package.roles, role), documents=tuple(documents))


def _with_approval(document: Document, role: Role, position: int) -> Document:
    fields = () if document.id == CONSENT else SIGNATURE
    approval = Approval(str(uuid5(UUID(role.id), document.id)), position, fields=fields)
    return replace(document, approvals=(*document.approvals, approval))


def _add_signer(package: Package, action: Action, _: datetime) -> Outcome:
    """Add a signer to a package. OneSpan sends no event."""
    return with_signer(package, action), []


def _readdress(package: Package, action: Action, _: datetime) -> Outcome:
    """Correct the e-mail address of a signer. OneSpan sends no event."""
    person = replace(package.person(action.role), email=action.text)
    return with_role(package, action.role, {"person": person}), []


def _cobrowse(package: Package, action: Action, at: datetime) -> Outcome:
    extra = {"phone": "+32 2 555 01 00", "comment": action.text, "selectedSupportBusinessHours": list(BUSINESS_HOURS)}
    return package, [Event("COBROWSE_REQUEST", package.id, package.actor(action).id, at, extra=extra)]


# The verbs that are possible inside and outside the trash.
IN_AND_OUT_OF_TRASH = frozenset({"delete", "undelete", "retain", "lie"})
SYSTEM_VERBS = frozenset({"expire", "bounce", "retain", "undelete"})  # verbs whose events no person causes
_DRAFT, _SENT = frozenset({"DRAFT"}), frozenset({"SENT"})
_EDITABLE = frozenset({"DRAFT", "DECLINED", "EXPIRED"})
COMPLETE = frozenset({"COMPLETED", "ARCHIVED"})
_OPEN, _ALL = _DRAFT | _SENT, STATUSES | frozenset(ARCHIVAL_STATUSES)
# The events that the verb `lie` can send: whether a signer causes them, and whether they name a document.
LIES: Mapping[str, tuple[bool, bool]] = MappingProxyType(
    {
        "PACKAGE_COMPLETE": (True, False),
        "SIGNER_COMPLETE": (True, False),
        "DOCUMENT_SIGNED": (True, True),
        "EMAIL_BOUNCE": (True, False),
        "PACKAGE_DELETE": (False, False),
        "PACKAGE_TRASH": (False, False),
    }
)

# The package statuses in which each verb is possible, and the function of the verb.
VERBS: Mapping[str, tuple[frozenset[str], Verb]] = MappingProxyType(
    {
        "create": (_DRAFT, _create),
        "activate": (frozenset({"DRAFT", "DECLINED"}), sending.activate),
        "deactivate": (_SENT, _sender_verb("PACKAGE_DEACTIVATE", status="DRAFT")),
        "complete": (_SENT, _complete),
        "expire": (_SENT, _expire),
        "extend": (frozenset({"EXPIRED"}), _extend),
        "archive": (frozenset({"COMPLETED"}), _sender_verb("PACKAGE_ARCHIVE", status="ARCHIVED")),
        "unarchive": (frozenset({"ARCHIVED"}), _optional_event_verb(status="COMPLETED")),
        "archival": (frozenset({"COMPLETED", *ARCHIVAL_STATUSES}), _archival),
        "trash": (STATUSES, _sender_verb("PACKAGE_TRASH", trashed=True)),
        "restore": (STATUSES, _sender_verb("PACKAGE_RESTORE", trashed=False)),
        "delete": (STATUSES, _sender_verb("PACKAGE_DELETE", deleted=True)),
        "undelete": (STATUSES, _undelete),
        "retain": (_ALL, _optional_event_verb(deleted=True)),
        "lie": (_ALL, _lie),
        "redate": (_OPEN, _redate),
        "rename": (_ALL, _rename),
        "add signer": (_OPEN, _add_signer),
        "edit": (STATUSES - {"COMPLETED", "ARCHIVED"}, sending.edit),
        "edit signers": (_EDITABLE | _SENT, sending.edit),
        "edit documents": (_EDITABLE, sending.edit),
        "view": (_SENT, _view),
        "begin": (_SENT, signing.begin),
        "sign": (_SENT, signing.sign),
        "finish": (_SENT, signing.finish),
        "disable": (_SENT, signing.disable),
        "enable": (_SENT, signing.enable),
        "decline": (_SENT, _refusal_verb("PACKAGE_DECLINE", "DECLINED")),
        "opt out": (_SENT, _refusal_verb("PACKAGE_OPT_OUT", "OPTED_OUT")),
        "reassign": (_SENT, _reassign),
        "reassign in place": (_SENT, _reassign_in_place),
        "replace signer": (_SENT, _replace_signer),
        "upload": (_SENT, signing.upload),
        "reject": (_SENT, signing.reject),
        "bounce": (_SENT, _signer_verb("EMAIL_BOUNCE")),
        "readdress": (_OPEN, _readdress),
        "fail kba": (_SENT, _signer_verb("KBA_FAILURE", kba="FAILED")),
        "lock": (_SENT, _signer_verb("SIGNER_LOCKED", locked=True)),
        "unlock": (_SENT, _silent_role_verb(locked=False)),
        "cobrowse": (_SENT, _cobrowse),
    }
)
