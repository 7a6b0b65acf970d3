"""The JSON of the REST API: every member that OpenAPI document 11.51 requires, and useful optional members.

No real answer of OneSpan is public, so the JSON follows the schema. Members without a value are omitted, except the
email address of people who have only a phone. Quirks change the form of dates, nulls and roles.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType

from app.simulator.callbacks import timestamp
from app.simulator.packages import Approval, Attachment, Document, Field, Group, Message, Package, Role
from app.simulator.people import Person
from app.simulator.quirks import DEFAULT_QUIRKS, Quirks

Json = dict[str, object]
DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
PARTS = frozenset({"roles", "documents", "messages"})


def dump_package(package: Package, *, quirks: Quirks = DEFAULT_QUIRKS) -> Json:
    """Return the `Package` of OneSpan's schema for a package."""
    return {name: _with_date_form(value, quirks) for name, value in _package(package, quirks).items()}


def _package(package: Package, quirks: Quirks) -> Json:
    documents = [dump_document(document, index, package, quirks) for index, document in enumerate(package.documents)]
    return {
        "id": package.id,
        "name": package.name,
        "type": package.type,
        "status": package.status,
        "trashed": package.trashed,
        "visibility": "ACCOUNT",
        "created": timestamp(package.created),
        "updated": timestamp(package.updated),
        **_times(quirks, due=package.due, completed=package.completed),
        "description": package.description,
        "emailMessage": "",
        "language": "en",
        "timezoneId": "GMT",
        "autocomplete": package.autocomplete,
        "notarized": False,
        "bulkSendable": False,
        "data": dict(package.data),
        "sender": dump_sender(package.sender, package.created),
        "roles": [_role(position, package, quirks) for position in range(len(package.roles))],
        "documents": documents if quirks.document_order == "index" else documents[::-1],
        "messages": [_message(message, package.sender) for message in package.messages],
        **package.members,
    }


def dump_summary(package: Package, *, quirks: Quirks = DEFAULT_QUIRKS) -> Json:
    """Return the `Package` of OneSpan's schema without roles, documents and messages."""
    return {name: value for name, value in dump_package(package, quirks=quirks).items() if name not in PARTS}


def dump_id(package: Package, *, quirks: Quirks = DEFAULT_QUIRKS) -> Json:
    """Return the `Package` of OneSpan's schema with its id only, as for `fields=id`."""
    del quirks
    return {"id": package.id}


def dump_sender(person: Person, since: datetime) -> Json:
    """Return the `Sender` of OneSpan's schema for a person who has been in the account since this time."""
    about = {"type": "REGULAR", "status": "ACTIVE", "memberships": [], "hasDelegates": False}
    return {**_user(person, since), **about, **person.members}


def dump_roles(package: Package, *, quirks: Quirks = DEFAULT_QUIRKS) -> list[Json]:
    """Return the `Role`s of a package."""
    return [_role(position, package, quirks) for position in range(len(package.roles))]


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


def _role(position: int, package: Package, quirks: Quirks) -> Json:
    role = package.roles[position]
    return {
        "id": role.id,
        "name": role.id,
        "type": "SENDER" if role.is_sender else quirks.reviewer_type if package.is_reviewer(position) else "SIGNER",
        "index": role.index,
        "reassign": not role.is_sender,
        "locked": role.locked,
        "data": {},
        "attachmentRequirements": [_attachment(attachment) for attachment in role.attachments],
        "signers": [_signer(role, role.person, package.created, quirks)] if role.person else [],
        **role.members,
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


def _signer(role: Role, person: Person, since: datetime, quirks: Quirks) -> Json:
    return {
        **_user(person, since),
        **({"phone": person.phone} if person.phone else {}),
        "signerType": _signer_type(role),
        "auth": {"scheme": role.scheme, "challenges": []},
        "delivery": {"email": person.email is not None, "download": False, "provider": False},
        "knowledgeBasedAuthentication": {"knowledgeBasedAuthenticationStatus": role.kba},
        **({"group": _group(role.group, person, since, quirks)} if role.group else {}),
        **person.members,
    }


def _signer_type(role: Role) -> str:
    if role.group:
        return "AD_HOC_GROUP_SIGNER" if role.group.is_ad_hoc else "GROUP_SIGNER"
    return "ACCOUNT_SENDER" if role.is_sender else "EXTERNAL_SIGNER"


def _group(group: Group, person: Person, since: datetime, quirks: Quirks) -> Json:
    are_shown = group.is_ad_hoc or quirks.group_members == "shown"
    member_type = "AD_HOC_GROUP_MEMBER" if group.is_ad_hoc else "REGULAR"
    return {
        **({} if group.is_ad_hoc else {"id": group.id}),
        "name": group.name,
        "email": person.email,
        "emailMembers": True,
        "reciprocalDelegation": False,
        "created": timestamp(since),
        "updated": timestamp(since),
        "members": [_member(member, member_type) for member in group.members if are_shown],
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


def dump_document(document: Document, index: int, package: Package, quirks: Quirks = DEFAULT_QUIRKS) -> Json:
    """Return the `Document` of OneSpan's schema."""
    return {
        "id": document.id,
        "name": document.name,
        "description": "",
        "index": index,
        "size": len(document.file) or document.pages * 24_576,
        "extract": False,
        "extractionTypes": [],
        "tagged": False,
        "externalSigned": False,
        "data": {},
        "fields": [],
        "pages": [{"id": f"{document.id}-{number}", "index": number, "version": 0} for number in range(document.pages)],
        "approvals": [dump_approval(approval, package.roles[approval.role], quirks) for approval in document.approvals],
        **document.members,
    }


def dump_approval(approval: Approval, role: Role, quirks: Quirks = DEFAULT_QUIRKS) -> Json:
    """Return the `Approval` of OneSpan's schema."""
    has_both = approval.is_acceptance and quirks.consent_dates == "both"
    return {
        "id": approval.id,
        "name": "",
        "role": role.id,
        "optional": approval.optional,
        **({"disabled": True} if approval.disabled else {}),
        "fields": [_field(field, approval.id, number) for number, field in enumerate(approval.fields)],
        "data": {},
        **_times(quirks, accepted=approval.accepted, signed=approval.accepted if has_both else approval.signed),
        **approval.members,
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


def _times(quirks: Quirks, **moments: datetime | None) -> Json:
    shown = {name: moment and timestamp(moment) for name, moment in moments.items()}
    return {name: text for name, text in shown.items() if text or quirks.rest_nulls == "null"}


def _with_date_form(value: object, quirks: Quirks) -> object:
    """Return JSON with all dates in the form that the quirk `rest_dates` sets."""
    if quirks.rest_dates == "milliseconds":
        return value
    if isinstance(value, dict):
        return {name: _with_date_form(member, quirks) for name, member in value.items()}
    if isinstance(value, list):
        return [_with_date_form(item, quirks) for item in value]
    if not isinstance(value, str) or not DATE.fullmatch(value):
        return value
    return value.lower() if quirks.rest_dates == "lower-case" else value.replace(".000Z", "Z")


# The function that writes an item of the package list, by the value of the quirk `list_items`.
ITEM_DUMPS: Mapping[str, Callable[..., Json]] = MappingProxyType({"whole": dump_package, "summary": dump_summary})
