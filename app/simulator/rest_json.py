"""How packages are shown by the REST API: every member that OpenAPI document 11.51 requires, and the useful rest.

No real answer is public, so this is made from the schema: members without a value are left out, none is null.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import MappingProxyType

from app.simulator.callbacks import timestamp
from app.simulator.packages import Approval, Document, Message, Package, Role
from app.simulator.people import Person

Shown = dict[str, object]
PARTS = frozenset({"roles", "documents", "messages"})


def package(one: Package) -> Shown:
    """A `Package`."""
    return {
        "id": one.id,
        "name": one.name,
        "type": one.type,
        "status": one.status,
        "trashed": one.trashed,
        "visibility": "ACCOUNT",
        "created": timestamp(one.created),
        "updated": timestamp(one.updated),
        **_times(due=one.due, completed=one.completed),
        "description": "",
        "emailMessage": "",
        "language": "en",
        "timezoneId": "GMT",
        "autocomplete": one.autocomplete,
        "notarized": False,
        "bulkSendable": False,
        "data": {},
        "sender": _sender(one),
        "roles": roles(one),
        "documents": [_document(document, place, one) for place, document in enumerate(one.documents)],
        "messages": [_message(message, one.sender) for message in one.messages],
    }


def summary(one: Package) -> Shown:
    """A `Package` without its parts, as an item of a list may be."""
    return {name: value for name, value in package(one).items() if name not in PARTS}


def only_id(one: Package) -> Shown:
    """What `fields=id` leaves of it."""
    return {"id": one.id}


def roles(one: Package) -> list[Shown]:
    """The `Role`s of a package."""
    return [_role(role, one) for role in one.roles]


def signing_status(one: Package, approvals: Iterable[Approval]) -> str:
    """The token of `signingStatus`, of the whole package or of the signatures asked about."""
    if one.trashed:
        return "DELETED"
    if one.status != "SENT":
        return one.status
    asked = list(approvals)
    return "SIGNING_COMPLETED" if asked and all(each.at for each in asked) else "SIGNING_PENDING"


def error(code: int, key: str, message: str) -> Shown:
    """A `DefaultError`."""
    return {"code": code, "messageKey": f"error.{key}", "message": message}


def _user(person: Person, since: datetime) -> Shown:
    return {
        "id": person.id,
        "name": person.name,
        "firstName": person.first_name,
        "lastName": person.last_name,
        "email": person.email,
        "company": person.company,
        "title": "",
        "language": "en",
        "timezoneId": "GMT",
        "created": timestamp(since),
        "updated": timestamp(since),
        "userCustomFields": [],
        "professionalIdentityFields": [],
    }


def _sender(one: Package) -> Shown:
    about = {"type": "REGULAR", "status": "ACTIVE", "memberships": [], "hasDelegates": False}
    return {**_user(one.sender, one.created), **about}


def _role(role: Role, one: Package) -> Shown:
    return {
        "id": role.id,
        "name": role.id,
        "type": "SENDER" if role.is_sender else "SIGNER",
        "index": role.index,
        "reassign": not role.is_sender,
        "locked": role.locked,
        "data": {},
        "attachmentRequirements": _attachments(role),
        "signers": [_signer(role, role.person, one.created)] if role.person else [],
    }


def _attachments(role: Role) -> list[Shown]:
    if role.attachment is None:
        return []
    status = "COMPLETE" if role.attachment.uploaded else "INCOMPLETE"
    return [{"id": role.attachment.id, "name": role.attachment.name, "required": True, "status": status}]


def _signer(role: Role, person: Person, since: datetime) -> Shown:
    return {
        **_user(person, since),
        "signerType": "ACCOUNT_SENDER" if role.is_sender else "EXTERNAL_SIGNER",
        "auth": {"scheme": role.scheme, "challenges": []},
        "delivery": {"email": True, "download": False, "provider": False},
        "knowledgeBasedAuthentication": {"knowledgeBasedAuthenticationStatus": role.kba},
    }


def _document(document: Document, place: int, one: Package) -> Shown:
    return {
        "id": document.id,
        "name": document.name,
        "description": "",
        "index": place,
        "size": document.pages * 24_576,
        "extract": False,
        "extractionTypes": [],
        "tagged": False,
        "externalSigned": False,
        "data": {},
        "fields": [],
        "pages": [{"id": f"{document.id}-{number}", "index": number, "version": 0} for number in range(document.pages)],
        "approvals": [_approval(approval, one.roles[approval.role]) for approval in document.approvals],
    }


def _approval(approval: Approval, role: Role) -> Shown:
    given = _times(accepted=approval.at, signed=approval.at)
    return {"id": approval.id, "name": "", "role": role.id, "optional": False, "fields": [], "data": {}, **given}


def _message(message: Message, to: Person) -> Shown:
    return {
        "status": "NEW",
        "from": _user(message.by, message.at),
        "to": [_user(to, message.at)],
        "created": timestamp(message.at),
        "content": message.content,
        "documents": [],
    }


def _times(**moments: datetime | None) -> Shown:
    return {name: timestamp(moment) for name, moment in moments.items() if moment}


# How an item of the list is shown, by the quirk `list_items`.
ITEMS: Mapping[str, Callable[[Package], Shown]] = MappingProxyType({"whole": package, "summary": summary})
