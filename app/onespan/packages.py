"""Parse packages from OneSpan's REST API (`GET /api/packages/{id}`, OpenAPI document 11.51).

The parser does no I/O. Unknown members, unknown values and nulls are accepted. Only a body without an id is an error.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import chain

from app.errors import UnreadablePackage
from app.onespan.approvals import Approval, is_seat_complete, seat_signature
from app.onespan.lifecycle import COMPLETE_STATUSES
from app.onespan.snapshot import COMPLETE, MISSING, REJECTED, DocumentSnapshot, EndedBy, PackageSnapshot, Seat
from app.onespan.values import Group, Sender
from app.types import clean, clean_json

VIEWER = "VIEWER"  # the type of a role that never signs; a draft need not show yet what the other roles sign
AD_HOC_DOMAIN = "@adhoc.groups."  # in the addresses that OneSpan gives to ad hoc groups
# The members of a package that are read, with their types in OneSpan's API.
TYPES: Mapping[type, tuple[str, ...]] = {
    str: ("name", "type", "status", "description"),
    bool: ("trashed", "autocomplete"),
    list: ("roles", "documents"),
    Mapping: ("sender", "data"),
}
TIMES = ("created", "updated", "due", "completed")


def parse_package(json: object) -> PackageSnapshot:
    """Parse the JSON of one package.

    Raises `UnreadablePackage` if the JSON is not an object or has no id.
    """
    if not isinstance(json, Mapping):
        raise UnreadablePackage("it is not a JSON object")
    package_id = _id(json)
    if not package_id:
        raise UnreadablePackage("it has no id")
    documents, roles = list(_objects(json.get("documents"))), list(_objects(json.get("roles")))
    is_complete = _text(json.get("status")) in COMPLETE_STATUSES
    parsed = [_document(document, is_complete=is_complete) for document in sorted(documents, key=_position)]
    lists = (json.get("roles"), json.get("documents"), *(role.get("signers") for role in roles))
    has_documents = isinstance(json.get("documents"), list)
    documents_incomplete = any(document.signatures is None for document in parsed) or (
        has_documents and not _are_identified(json["documents"])
    )
    # A draft without any approval is not ready yet; it does not say that its signers owe nothing.
    are_known = has_documents and not documents_incomplete and any(document.get("approvals") for document in documents)
    seats = (_seats(role, parsed, are_known=are_known, is_complete=is_complete) for role in roles)
    return PackageSnapshot(
        id=package_id,
        name=_text(json.get("name")),
        type=_text(json.get("type"), max_length=40),
        status=_text(json.get("status"), max_length=80),
        trashed=_flag(json.get("trashed")),
        sender=_sender(json.get("sender")),
        created=_instant(json.get("created")),
        updated=_instant(json.get("updated")),
        due=_instant(json.get("due")),
        completed=_instant(json.get("completed")),
        autocomplete=_flag(json.get("autocomplete")),
        seats=tuple(chain.from_iterable(seats)),
        documents=tuple(document for document in parsed if document.id),
        description=_text(json.get("description")),
        data=_data(json.get("data")),
        ended_by=_ended_by(json) if json.get("status") in ("DECLINED", "OPTED_OUT") else None,
        has_parts=isinstance(json.get("roles"), list) and has_documents,
        incomplete=documents_incomplete or not all(map(_are_identified, lists)),
        documents_incomplete=documents_incomplete,
        has_odd_values=_has_odd_values(json),
    )


def _has_odd_values(json: Mapping[str, object]) -> bool:
    """Whether a member of the package has a value of another type than documented, so that it is not known."""
    values = ((json.get(name), kind) for kind, names in TYPES.items() for name in names)
    times = (json.get(name) for name in TIMES)
    return any(value is not None and not isinstance(value, kind) for value, kind in values) or any(
        time is not None and _instant(time) is None for time in times
    )


def _are_identified(parts: object) -> bool:
    return isinstance(parts, list) and all(isinstance(part, Mapping) and _id(part) for part in parts)


def _seats(
    role: Mapping[str, object], documents: Iterable[DocumentSnapshot], *, are_known: bool, is_complete: bool
) -> Iterator[Seat]:
    """Yield a seat for each person of a role. `are_known` says that all approvals of the documents are known."""
    role_id = _id(role)
    if not role_id:
        return
    signatures = [item.signatures[role_id] for item in documents if item.signatures and role_id in item.signatures]
    # Every package has a role for the sender; without approvals, that role is not a signer's.
    if role.get("type") == "SENDER" and not signatures:
        return
    index, is_signer = role.get("index"), bool(signatures) or _text(role.get("type")) is not None
    completed = is_seat_complete(signatures, is_complete=is_complete) if are_known else None
    ended = max((signature.signed_at or "" for signature in signatures), default=None) or None
    for person in list(_objects(role.get("signers"))) or [{}]:
        group = _group(person)
        yield Seat(
            signer_id=_id(person) or role_id,
            role_id=role_id,
            order=index if isinstance(index, int) and not isinstance(index, bool) and abs(index) < 2**31 else None,
            name=(group.name if group else None) or _full_name(person),
            email=_address(person),
            locked=_flag(role.get("locked")) if is_signer else None,
            completed=completed,
            attachments=_attachments(role.get("attachmentRequirements")) if is_signer else None,
            occupied=bool(_id(person)),
            owes=True if signatures else False if are_known or role.get("type") == VIEWER else None,
            completed_at=ended if completed else None,
            begun_at=min(filter(None, (signature.begun_at for signature in signatures)), default=None),
            group=group,
            has_disabled=any(role_id in item.disabled for item in documents),
        )


def _group(person: Mapping[str, object]) -> Group | None:
    """Return the group of a seat whose signer is a group (`signerType`, SDK 11.68); None for a person."""
    kind, group = _text(person.get("signerType")), person.get("group")
    if kind is not None and not kind.endswith("GROUP_SIGNER"):
        return None
    if kind is None and not (isinstance(group, Mapping) and group):
        return None
    members = _objects(group.get("members")) if isinstance(group, Mapping) else ()
    ids = (_text(member.get("userId"), max_length=256) for member in members)
    return Group(_text(group.get("name")) if isinstance(group, Mapping) else None, tuple(filter(None, ids)))


def _address(person: Mapping[str, object]) -> str | None:
    """Return the e-mail address of a person. The address that OneSpan makes up for an ad hoc group is no person's."""
    email = _text(person.get("email"))
    return None if email and AD_HOC_DOMAIN in email else email


def _attachments(requirements: object) -> dict[str, str | None] | None:
    """Return the state of each attachment requirement; None if some requirements cannot be parsed."""
    if not isinstance(requirements, list):
        return None
    parsed = [(_text(item.get("name")), _text(item.get("status"))) for item in _objects(requirements)]
    if len(parsed) < len(requirements) or any(None in pair for pair in parsed):
        return None
    return {_text(item.get("name")) or "": _attachment_state(item) for item in _objects(requirements)}


def _attachment_state(requirement: Mapping[str, object]) -> str | None:
    status, is_required = requirement.get("status"), requirement.get("required") is True
    if status == COMPLETE:
        return COMPLETE
    return {REJECTED: REJECTED, "INCOMPLETE": MISSING}.get(str(status)) if is_required else None


def _document(document: Mapping[str, object], *, is_complete: bool) -> DocumentSnapshot:
    approvals, by_role = _approvals(document), dict[str, list[Approval]]()
    for approval in approvals or ():
        by_role.setdefault(approval.role_id, []).append(approval)
    owed = {role_id: seat_signature(of_role, is_complete=is_complete) for role_id, of_role in by_role.items()}
    disabled = frozenset(
        role_id
        for item in _objects(document.get("approvals"))
        if _is_disabled(item) and (role_id := _text(item.get("role")))
    )
    signatures = None if approvals is None else owed
    return DocumentSnapshot(_id(document) or "", _text(document.get("name")), signatures, disabled)


def _position(document: Mapping[str, object]) -> tuple[bool, float]:
    """Return the place of a document. OneSpan's `index` gives the order, not the place in the list."""
    index = document.get("index")
    is_known = isinstance(index, int | float) and not isinstance(index, bool)
    return not is_known, float(index) if isinstance(index, int | float) and is_known else 0.0


def _approvals(document: Mapping[str, object]) -> list[Approval] | None:
    """Return what a document asks to be signed; None if some approvals cannot be parsed.

    An approval that a condition disabled is not owed (OneSpan's guide to conditional fields).
    """
    items = document.get("approvals")
    if not isinstance(items, list):
        return None
    approvals = [_approval(item) for item in _objects(items) if _text(item.get("role"))]
    if len(approvals) < len(items):
        return None
    return [approval for approval in approvals if approval]


def _approval(item: Mapping[str, object]) -> Approval | None:
    signed, fields = _instant(item.get("signed")), item.get("fields")
    if _is_disabled(item):
        return None
    return Approval(
        role_id=str(_text(item.get("role"))),
        signed=signed,
        accepted=_instant(item.get("accepted")),
        required=item.get("optional") is not True,
        needs_confirmation=not isinstance(fields, list) or any(_is_signature(field) for field in fields),
    )


def _is_disabled(approval: Mapping[str, object]) -> bool:
    return approval.get("disabled") is True and not _instant(approval.get("signed"))


def _is_signature(field: object) -> bool:
    return not isinstance(field, Mapping) or field.get("type") in (None, "SIGNATURE")


def _ended_by(package: Mapping[str, object]) -> EndedBy | None:
    """Return who ended the package, from the newest message. OneSpan does not document the order of messages."""
    messages = _objects(package.get("messages"))
    newest = max(messages, key=lambda message: _instant(message.get("created")) or "", default=None)
    author = newest.get("from") if newest else None
    signer_id = _id(author) if isinstance(author, Mapping) else None
    if newest is None or signer_id is None:
        return None
    return EndedBy(signer_id, _text(newest.get("content")), _instant(newest.get("created")))


def _data(attributes: object) -> Mapping[str, object] | None:
    """Return the attributes that the sender gave the package; None if there are none."""
    cleaned = clean_json(attributes)
    return cleaned if isinstance(cleaned, dict) and cleaned else None


def _sender(person: object) -> Sender:
    if not isinstance(person, Mapping):
        return Sender()
    return Sender(id=_id(person), name=_full_name(person), email=_text(person.get("email")))


def _full_name(person: Mapping[str, object]) -> str | None:
    parts = (_text(person.get("firstName")), _text(person.get("lastName")))
    return " ".join(filter(None, parts)) or _text(person.get("name"))


def _objects(value: object) -> Iterator[Mapping[str, object]]:
    return (item for item in value if isinstance(item, Mapping)) if isinstance(value, list) else iter(())


def _id(item: Mapping[str, object]) -> str | None:
    """Return the id of an object; None if it is missing, or longer than OneSpan's ids."""
    return _text(item.get("id"), max_length=256)


def _text(value: object, *, max_length: int | None = None) -> str | None:
    return clean(value) if isinstance(value, str) and 0 < len(value) <= (max_length or len(value)) else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _instant(value: object) -> str | None:
    """Parse a time of OneSpan into UTC text with microseconds. Its width is fixed, so texts compare like times."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.strip().upper())  # RFC 3339 allows a lower-case t and z
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC).isoformat(timespec="microseconds")
    except (ValueError, OverflowError):
        return None
