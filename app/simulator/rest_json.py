"""The JSON of the REST API: every member that OpenAPI document 11.51 requires, and useful optional members.

No real answer of OneSpan is public, so the JSON follows the schema. Members without a value are omitted, never null.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType

from app.simulator.callbacks import timestamp
from app.simulator.packages import Approval, Attachment, Document, Field, Group, Message, Package, Role
from app.simulator.people import Person

Json = dict[str, object]
PARTS = frozenset({"roles", "documents", "messages"})


def dump_package(package: Package) -> Json:
    """Return the `Package` of OneSpan's schema for a package."""
    return {
        "id": package.id,
        "name": package.name,
        "type": package.type,
        "status": package.status,
        "trashed": package.trashed,
        "visibility": "ACCOUNT",
        "created": timestamp(package.created),
        "updated": timestamp(package.updated),
        **_times(due=package.due, completed=package.completed),
        "description": package.description,
        "emailMessage": "",
        "language": "en",
        "timezoneId": "GMT",
        "autocomplete": package.autocomplete,
        "notarized": False,
        "bulkSendable": False,
        "data": dict(package.data),
        "sender": _sender(package),
        "roles": dump_roles(package),
        "documents": [_document(document, index, package) for index, document in enumerate(package.documents)],
        "messages": [_message(message, package.sender) for message in package.messages],
    }


def dump_summary(package: Package) -> Json:
    """Return the `Package` of OneSpan's schema without roles, documents and messages."""
    return {name: value for name, value in dump_package(package).items() if name not in PARTS}


def dump_id(package: Package) -> Json:
    """Return the `Package` of OneSpan's schema with its id only, as for `fields=id`."""
    return {"id": package.id}


def dump_roles(package: Package) -> list[Json]:
    """Return the `Role`s of a package."""
    return [_role(role, package) for role in package.roles]


def signing_status(package: Package, *, signed: bool) -> str:
    """Return the value of `signingStatus` for signatures that are all made (`signed`) or not."""
    if package.trashed:
        return "DELETED"
    if package.status != "SENT":
        return package.status
    return "SIGNING_COMPLETED" if signed else "SIGNING_PENDING"


def dump_error(code: int, key: str, message: str) -> Json:
    """Return a `DefaultError` of OneSpan's schema."""
    return {"code": code, "messageKey": f"error.{key}", "message": message}


def _user(person: Person, since: datetime) -> Json:
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


def _sender(package: Package) -> Json:
    about = {"type": "REGULAR", "status": "ACTIVE", "memberships": [], "hasDelegates": False}
    return {**_user(package.sender, package.created), **about}


def _role(role: Role, package: Package) -> Json:
    return {
        "id": role.id,
        "name": role.id,
        "type": "SENDER" if role.is_sender else "SIGNER",
        "index": role.index,
        "reassign": not role.is_sender,
        "locked": role.locked,
        "data": {},
        "attachmentRequirements": [_attachment(attachment) for attachment in role.attachments],
        "signers": [_signer(role, role.person, package.created)] if role.person else [],
    }


def _attachment(attachment: Attachment) -> Json:
    return {
        "id": attachment.id,
        "name": attachment.name,
        "description": attachment.description,
        "required": attachment.required,
        "status": attachment.status,
        **({"comment": attachment.comment} if attachment.comment else {}),
    }


def _signer(role: Role, person: Person, since: datetime) -> Json:
    return {
        **_user(person, since),
        **({"phone": person.phone} if person.phone else {}),
        "signerType": _signer_type(role),
        "auth": {"scheme": role.scheme, "challenges": []},
        "delivery": {"email": person.email is not None, "download": False, "provider": False},
        "knowledgeBasedAuthentication": {"knowledgeBasedAuthenticationStatus": role.kba},
        **({"group": _group(role.group, person, since)} if role.group else {}),
    }


def _signer_type(role: Role) -> str:
    if role.group:
        return "AD_HOC_GROUP_SIGNER" if role.group.is_ad_hoc else "GROUP_SIGNER"
    return "ACCOUNT_SENDER" if role.is_sender else "EXTERNAL_SIGNER"


def _group(group: Group, person: Person, since: datetime) -> Json:
    member_type = "AD_HOC_GROUP_MEMBER" if group.is_ad_hoc else "REGULAR"
    return {
        **({} if group.is_ad_hoc else {"id": group.id}),
        "name": group.name,
        "email": person.email,
        "emailMembers": True,
        "reciprocalDelegation": False,
        "created": timestamp(since),
        "updated": timestamp(since),
        "members": [_member(member, member_type) for member in group.members],
    }


def _member(member: Person, member_type: str) -> Json:
    return {
        "memberType": member_type,
        "userId": member.id,
        "firstName": member.first_name,
        "lastName": member.last_name,
        "email": member.email,
        "pending": False,
    }


def _document(document: Document, index: int, package: Package) -> Json:
    return {
        "id": document.id,
        "name": document.name,
        "description": "",
        "index": index,
        "size": document.pages * 24_576,
        "extract": False,
        "extractionTypes": [],
        "tagged": False,
        "externalSigned": False,
        "data": {},
        "fields": [],
        "pages": [{"id": f"{document.id}-{number}", "index": number, "version": 0} for number in range(document.pages)],
        "approvals": [_approval(approval, package.roles[approval.role]) for approval in document.approvals],
    }


def _approval(approval: Approval, role: Role) -> Json:
    return {
        "id": approval.id,
        "name": "",
        "role": role.id,
        "optional": approval.optional,
        **({"disabled": True} if approval.disabled else {}),
        "fields": [_field(field, approval.id, number) for number, field in enumerate(approval.fields)],
        "data": {},
        **_times(accepted=approval.accepted, signed=approval.signed),
    }


def _field(field: Field, approval: str, number: int) -> Json:
    return {
        "id": field.id or f"{approval}-{number}",
        "name": "",
        "type": field.type,
        "subtype": field.subtype,
        "page": field.page,
        "left": field.left,
        "top": field.top,
        "width": field.width,
        "height": field.height,
        "extract": False,
    }


def _message(message: Message, to: Person) -> Json:
    return {
        "status": "NEW",
        "from": _user(message.by, message.at),
        "to": [_user(to, message.at)],
        "created": timestamp(message.at),
        "content": message.content,
        "documents": [],
    }


def _times(**moments: datetime | None) -> Json:
    return {name: timestamp(moment) for name, moment in moments.items() if moment}


# The function that writes an item of the package list, by the value of the quirk `list_items`.
ITEM_DUMPS: Mapping[str, Callable[[Package], Json]] = MappingProxyType({"whole": dump_package, "summary": dump_summary})
