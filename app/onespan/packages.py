"""Parse packages from OneSpan's REST API (`GET /api/packages/{id}`, OpenAPI document 11.51).

The parser does no I/O. Unknown members, unknown values and nulls are accepted. Only a body without an id is an error.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from app.errors import UnreadablePackage
from app.onespan.values import Sender
from app.types import clean


@dataclass(frozen=True, slots=True)
class Seat:
    """A role and its person. In a role without a person, `signer_id` is the role's id, and `occupied` is false.

    `completed` says that every required approval is signed or accepted; None if the role has no approval, or if the
    approvals are not known. `attachments` are the names of the fulfilled requirements. `attachments` and `locked` are
    None if they are not known.
    """

    signer_id: str
    role_id: str
    order: int | None
    name: str | None
    email: str | None
    locked: bool | None
    completed: bool | None
    attachments: tuple[str, ...] | None
    occupied: bool = True


@dataclass(frozen=True, slots=True)
class DocumentSnapshot:
    """A document of a snapshot. `signed` maps the id of each signing role to the time it finished (None: not yet).

    `signed` itself is None if the signing roles are not known.
    """

    id: str
    name: str | None
    signed: Mapping[str, str | None] | None


@dataclass(frozen=True, slots=True)
class EndedBy:
    """The signer who declined or opted out, and the reason, from the newest message of the package."""

    signer_id: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class PackageSnapshot:
    """One answer of OneSpan about one package. A value that the answer does not contain is None.

    `has_parts` says that the answer has roles and documents, which an item of a list may lack. `incomplete` says that
    some roles, signers or documents cannot be parsed, `documents_incomplete` that some documents or approvals cannot.
    """

    id: str
    name: str | None
    type: str | None
    status: str | None
    trashed: bool | None
    sender: Sender
    created: str | None
    updated: str | None
    due: str | None
    completed: str | None
    autocomplete: bool | None
    seats: tuple[Seat, ...]
    documents: tuple[DocumentSnapshot, ...]
    ended_by: EndedBy | None = None
    has_parts: bool = True
    incomplete: bool = False
    documents_incomplete: bool = False

    @classmethod
    def empty(cls, package_id: str) -> "PackageSnapshot":
        """Return a snapshot without any values."""
        return parse_package({"id": package_id})

    @property
    def all_signed(self) -> bool | None:
        """Whether there are signing roles and all of them have signed; None if that is not known."""
        roles = {seat.role_id for seat in self.seats}
        if self.documents_incomplete or any({*(document.signed or ())} - roles for document in self.documents):
            return None
        completed = [seat.completed for seat in self.seats if seat.completed is not None]
        return bool(completed) and all(completed)

    @property
    def ready(self) -> bool | None:
        """Whether all signers have signed and the sender must complete the package by hand; None if not known."""
        is_sent = None if self.status is None else self.status == "SENT"
        by_hand = None if self.autocomplete is None else not self.autocomplete
        conditions = (is_sent, self.all_signed, by_hand)
        return False if False in conditions else None if None in conditions else True


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
    approvals = [_approvals(document) for document in documents]
    lists = (json.get("roles"), json.get("documents"), *(role.get("signers") for role in roles))
    has_documents = isinstance(json.get("documents"), list)
    documents_incomplete = None in approvals or (has_documents and not _are_identified(json["documents"]))
    all_approvals = [approval for of_document in approvals for approval in of_document or ()]
    seats = tuple(
        seat for role in roles for seat in _seats(role, all_approvals, documents_incomplete=documents_incomplete)
    )
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
        seats=seats,
        documents=tuple(_document(document) for document in documents if _id(document)),
        ended_by=_ended_by(json) if json.get("status") in ("DECLINED", "OPTED_OUT") else None,
        has_parts=isinstance(json.get("roles"), list) and has_documents,
        incomplete=documents_incomplete or not all(map(_are_identified, lists)),
        documents_incomplete=documents_incomplete,
    )


def _are_identified(parts: object) -> bool:
    return isinstance(parts, list) and all(isinstance(part, Mapping) and _id(part) for part in parts)


def _seats(
    role: Mapping[str, object], all_approvals: Iterable[Mapping[str, object]], *, documents_incomplete: bool
) -> Iterator[Seat]:
    role_id = _id(role)
    approvals = [approval for approval in all_approvals if approval.get("role") == role_id]
    # Every package has a role for the sender; without approvals, that role is not a signer's.
    if not role_id or (role.get("type") == "SENDER" and not approvals):
        return
    index, is_signer = role.get("index"), bool(approvals) or _text(role.get("type")) is not None
    for person in list(_objects(role.get("signers"))) or [{}]:
        yield Seat(
            signer_id=_id(person) or role_id,
            role_id=role_id,
            order=index if isinstance(index, int) and not isinstance(index, bool) and abs(index) < 2**31 else None,
            name=_full_name(person),
            email=_text(person.get("email")),
            locked=_flag(role.get("locked")) if is_signer else None,
            completed=_all_signed(approvals) if approvals and not documents_incomplete else None,
            attachments=_attachments(role.get("attachmentRequirements")) if is_signer else None,
            occupied=bool(_id(person)),
        )


def _attachments(requirements: object) -> tuple[str, ...] | None:
    """Return the names of the fulfilled attachment requirements; None if some requirements cannot be parsed."""
    if not isinstance(requirements, list):
        return None
    parsed = [(_text(item.get("name")), _text(item.get("status"))) for item in _objects(requirements)]
    if len(parsed) < len(requirements) or any(None in pair for pair in parsed):
        return None
    return tuple(name for name, status in parsed if status == "COMPLETE" and name)


def _document(document: Mapping[str, object]) -> DocumentSnapshot:
    by_role: dict[str, list[Mapping[str, object]]] = {}
    approvals = _approvals(document)
    for approval in approvals or ():
        by_role.setdefault(_text(approval.get("role")) or "", []).append(approval)
    signed = {
        role_id: max(_signed_at(approval) or "" for approval in required) if _all_signed(required) else None
        for role_id, required in by_role.items()
    }
    name = _text(document.get("name"))
    return DocumentSnapshot(id=_id(document) or "", name=name, signed=signed if approvals is not None else None)


def _approvals(document: Mapping[str, object]) -> Sequence[Mapping[str, object]] | None:
    """Return the approvals of a document, each with its role; None if some approvals cannot be parsed."""
    items = document.get("approvals")
    if not isinstance(items, list):
        return None
    approvals = [item for item in _objects(items) if _text(item.get("role"))]
    return approvals if len(approvals) == len(items) else None


def _all_signed(approvals: Iterable[Mapping[str, object]]) -> bool:
    """Whether every required approval is signed; if all approvals are optional, whether one is signed."""
    items = list(approvals)
    required = [approval for approval in items if approval.get("optional") is not True]
    if required:
        return all(_signed_at(approval) for approval in required)
    return any(_signed_at(approval) for approval in items)


def _signed_at(approval: Mapping[str, object]) -> str | None:
    return _instant(approval.get("signed")) or _instant(approval.get("accepted"))


def _ended_by(package: Mapping[str, object]) -> EndedBy | None:
    """Return who ended the package, from the newest message. OneSpan does not document the order of messages."""
    messages = _objects(package.get("messages"))
    newest = max(messages, key=lambda message: _instant(message.get("created")) or "", default=None)
    author = newest.get("from") if newest else None
    signer_id = _id(author) if isinstance(author, Mapping) else None
    return EndedBy(signer_id, _text(newest.get("content"))) if newest and signer_id else None


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
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC).isoformat(timespec="microseconds")
    except (ValueError, OverflowError):
        return None
