"""A package as OneSpan's REST API shows it (`GET /api/packages/{id}`, OpenAPI document 11.51), read leniently. No I/O.

Unknown members, unknown values and nulls never break a reading; only a body that is no package does.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from app.errors import UnreadablePackage
from app.onespan.values import Sender
from app.types import clean


@dataclass(frozen=True, slots=True)
class Seat:
    """A role and the person in it. A role nobody sits in yet has its own id for `signer_id`.

    `completed`: all that is asked of them is signed or accepted; None where nothing is asked (yet), or not shown.
    `attachments`: names of the requirements they have met. These and `locked` are None where they are not shown.
    """

    signer_id: str
    role_id: str
    order: int | None
    name: str | None
    email: str | None
    locked: bool | None
    completed: bool | None
    attachments: tuple[str, ...] | None
    taken: bool = True


@dataclass(frozen=True, slots=True)
class ShownDocument:
    """A document and, by role's id, when each had signed all that is asked of it there (None: not yet).

    `signed` is None where it is not shown who is asked.
    """

    id: str
    name: str | None
    signed: Mapping[str, str | None] | None


@dataclass(frozen=True, slots=True)
class EndedBy:
    """Who declined, or opted out, and why: the newest message of a package that stands so."""

    signer_id: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class PackageReading:
    """What one answer of OneSpan shows of one package; None is what it does not show.

    Not `whole`: the parts are left out, as in an item of a list. `vague`: not all that is shown of them can be read, or
    says who sits there and who is asked to sign; `half_shown`: so it is with the documents.
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
    documents: tuple[ShownDocument, ...]
    ended_by: EndedBy | None = None
    whole: bool = True
    vague: bool = False
    half_shown: bool = False

    @classmethod
    def blank(cls, package_id: str) -> "PackageReading":
        """A reading that shows nothing."""
        return read_package({"id": package_id})

    @property
    def all_signed(self) -> bool | None:
        """Everybody who is asked for anything has signed it all, and somebody is; None where that is not all shown."""
        people = {seat.role_id for seat in self.seats}
        if self.half_shown or any({*(document.signed or ())} - people for document in self.documents):
            return None
        asked = [seat.completed for seat in self.seats if seat.completed is not None]
        return bool(asked) and all(asked)

    @property
    def ready(self) -> bool | None:
        """All have signed, and the package was told not to complete by itself; None where that is not all shown."""
        is_sent = None if self.status is None else self.status == "SENT"
        by_hand = None if self.autocomplete is None else not self.autocomplete
        needed = (is_sent, self.all_signed, by_hand)
        return False if False in needed else None if None in needed else True


def read_package(shown: object) -> PackageReading:
    """Read the JSON of one package.

    Raises `UnreadablePackage` when it is no object or has no id.
    """
    if not isinstance(shown, Mapping):
        raise UnreadablePackage("it is not a JSON object")
    package_id = _id(shown)
    if not package_id:
        raise UnreadablePackage("it has no id")
    documents, roles = list(_objects(shown.get("documents"))), list(_objects(shown.get("roles")))
    asked = [_approvals(document) for document in documents]
    lists = (shown.get("roles"), shown.get("documents"), *(role.get("signers") for role in roles))
    half_shown = None in asked or (isinstance(shown.get("documents"), list) and not _are_shown(shown["documents"]))
    marks = [mark for approvals in asked for mark in approvals or ()]
    seats = tuple(seat for role in roles for seat in _seats(role, marks, half_shown=half_shown))
    return PackageReading(
        id=package_id,
        name=_text(shown.get("name")),
        type=_text(shown.get("type"), most=40),
        status=_text(shown.get("status"), most=80),
        trashed=_flag(shown.get("trashed")),
        sender=_sender(shown.get("sender")),
        created=_instant(shown.get("created")),
        updated=_instant(shown.get("updated")),
        due=_instant(shown.get("due")),
        completed=_instant(shown.get("completed")),
        autocomplete=_flag(shown.get("autocomplete")),
        seats=seats,
        documents=tuple(_document(document) for document in documents if _id(document)),
        ended_by=_ended_by(shown) if shown.get("status") in ("DECLINED", "OPTED_OUT") else None,
        whole=isinstance(shown.get("roles"), list) and isinstance(shown.get("documents"), list),
        vague=half_shown or not all(map(_are_shown, lists)),
        half_shown=half_shown,
    )


def _are_shown(parts: object) -> bool:
    return isinstance(parts, list) and all(isinstance(part, Mapping) and _id(part) for part in parts)


def _seats(role: Mapping[str, object], marks: Iterable[Mapping[str, object]], *, half_shown: bool) -> Iterator[Seat]:
    role_id = _id(role)
    approvals = [mark for mark in marks if mark.get("role") == role_id]
    # The sender has a role of their own in every package; without anything to sign it is no signer's.
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
            completed=_all_signed(approvals) if approvals and not half_shown else None,
            attachments=_attachments(role.get("attachmentRequirements")) if is_signer else None,
            taken=bool(_id(person)),
        )


def _attachments(asked: object) -> tuple[str, ...] | None:
    """The names of requirements that are met; None where not all are shown."""
    if not isinstance(asked, list):
        return None
    shown = [(_text(one.get("name")), _text(one.get("status"))) for one in _objects(asked)]
    if len(shown) < len(asked) or any(None in one for one in shown):
        return None
    return tuple(name for name, status in shown if status == "COMPLETE" and name)


def _document(document: Mapping[str, object]) -> ShownDocument:
    marks: dict[str, list[Mapping[str, object]]] = {}
    approvals = _approvals(document)
    for mark in approvals or ():
        marks.setdefault(_text(mark.get("role")) or "", []).append(mark)
    signed = {
        role_id: max(_signed_at(mark) or "" for mark in asked) if _all_signed(asked) else None
        for role_id, asked in marks.items()
    }
    name = _text(document.get("name"))
    return ShownDocument(id=_id(document) or "", name=name, signed=signed if approvals is not None else None)


def _approvals(document: Mapping[str, object]) -> Sequence[Mapping[str, object]] | None:
    """Where somebody is asked to sign; None where not all of it is shown."""
    shown = document.get("approvals")
    if not isinstance(shown, list):
        return None
    marks = [mark for mark in _objects(shown) if _text(mark.get("role"))]
    return marks if len(marks) == len(shown) else None


def _all_signed(approvals: Iterable[Mapping[str, object]]) -> bool:
    """Every approval that must be, is; where all are optional, at least one."""
    asked = list(approvals)
    must = [mark for mark in asked if mark.get("optional") is not True]
    if must:
        return all(_signed_at(mark) for mark in must)
    return any(_signed_at(mark) for mark in asked)


def _signed_at(approval: Mapping[str, object]) -> str | None:
    return _instant(approval.get("signed")) or _instant(approval.get("accepted"))


def _ended_by(shown: Mapping[str, object]) -> EndedBy | None:
    """OneSpan's page on reasons for declining reads them from the messages; in which order these stand, nobody says."""
    newest = max(_objects(shown.get("messages")), key=lambda one: _instant(one.get("created")) or "", default=None)
    by = newest.get("from") if newest else None
    signer_id = _id(by) if isinstance(by, Mapping) else None
    return EndedBy(signer_id, _text(newest.get("content"))) if newest and signer_id else None


def _sender(shown: object) -> Sender:
    if not isinstance(shown, Mapping):
        return Sender()
    return Sender(id=_id(shown), name=_full_name(shown), email=_text(shown.get("email")))


def _full_name(person: Mapping[str, object]) -> str | None:
    parts = (_text(person.get("firstName")), _text(person.get("lastName")))
    return " ".join(filter(None, parts)) or _text(person.get("name"))


def _objects(value: object) -> Iterator[Mapping[str, object]]:
    return (item for item in value if isinstance(item, Mapping)) if isinstance(value, list) else iter(())


def _id(thing: Mapping[str, object]) -> str | None:
    """What is longer than any id of OneSpan's is none."""
    return _text(thing.get("id"), most=256)


def _text(value: object, *, most: int | None = None) -> str | None:
    return clean(value) if isinstance(value, str) and 0 < len(value) <= (most or len(value)) else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _instant(value: object) -> str | None:
    """A time as OneSpan shows it, as UTC with microseconds: fixed in width, so texts compare as times do."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC).isoformat(timespec="microseconds")
    except (ValueError, OverflowError):
        return None
