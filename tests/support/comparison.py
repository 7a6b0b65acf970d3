"""OneSpan's truth as the simulator has it, beside what the service believes: field by field, and fact by fact."""

from collections import Counter
from collections.abc import Iterable, Iterator

from app.onespan.values import Package
from app.simulator.packages import ARCHIVAL, Role
from app.simulator.packages import Package as Truth

Fact = tuple[str, str | None]  # an event's name, and which document or attachment it is about
SILENT = frozenset({"KBA_FAILURE", "EMAIL_BOUNCE", "PARKED_HANDLER"})  # reasons that no reading can show

Pair = tuple[str, object, object]  # what, as it is, as it is believed


def differences(truth: Truth, believed: Package | None) -> list[str]:
    """What of a package is not believed as it is.

    Nobody can know that a package is deleted which they never saw (law 10), nor of a layout, which no list shows.
    """
    if believed is None:
        return [] if truth.deleted or truth.type == "LAYOUT" else [f"{truth.id}: not known"]
    if truth.deleted:
        return [] if believed.deleted or believed.read_at is None else [f"{truth.id}: not known to be deleted"]
    pairs = [*_of_package(truth, believed), *_of_signers(truth, believed), *_of_documents(truth, believed)]
    return [f"{truth.id} {what}: {is_!r}, believed {was!r}" for what, is_, was in pairs if is_ != was]


def must_be_told(truth: Truth) -> Counter[Fact]:
    """The facts that can be seen in a package as it stands: so often, at least, each of them has happened."""
    facts: Counter[Fact] = Counter()
    if truth.deleted or truth.type == "LAYOUT":
        return facts
    facts["TEMPLATE_CREATE" if truth.type == "TEMPLATE" else "PACKAGE_CREATE", None] += 1
    facts.update((name, None) for name in _STEPS_TO.get(truth.status, ()))
    facts["PACKAGE_TRASH", None] += truth.trashed
    for place, role in enumerate(truth.roles):
        facts["SIGNER_LOCKED", None] += role.locked
        facts["SIGNER_COMPLETE", None] += truth.is_signed(place)
        facts.update(
            ("DOCUMENT_SIGNED", document.id)
            for number, document in enumerate(truth.documents)
            if truth.is_signed(place, document=number)
        )
        if role.attachment and role.attachment.uploaded:
            facts["PACKAGE_ATTACHMENT", role.attachment.name] += 1
    facts["PACKAGE_READY_FOR_COMPLETE", None] += truth.status == "SENT" and truth.is_signed() and not truth.autocomplete
    return +facts


# Which events must have happened where a package stands so, however it came there.
_STEPS_TO = {
    "SENT": ("PACKAGE_ACTIVATE",),
    "COMPLETED": ("PACKAGE_ACTIVATE", "PACKAGE_COMPLETE"),
    "ARCHIVED": ("PACKAGE_ACTIVATE", "PACKAGE_COMPLETE", "PACKAGE_ARCHIVE"),
    "DECLINED": ("PACKAGE_ACTIVATE", "PACKAGE_DECLINE"),
    "OPTED_OUT": ("PACKAGE_ACTIVATE", "PACKAGE_OPT_OUT"),
    "EXPIRED": ("PACKAGE_ACTIVATE", "PACKAGE_EXPIRE"),
    **dict.fromkeys(ARCHIVAL, ("PACKAGE_ACTIVATE", "PACKAGE_COMPLETE")),
}


def _of_package(truth: Truth, believed: Package) -> Iterator[Pair]:
    sender = truth.sender
    yield "status", truth.status, believed.status
    yield "name", truth.name, believed.name
    yield "type", truth.type, believed.type
    yield "trashed", truth.trashed, believed.trashed
    yield "deleted", truth.deleted, believed.deleted
    yield "sender", (sender.id, sender.name, sender.email), _sender(believed)
    yield "created", truth.created, believed.created_at
    yield "due", truth.due, believed.due_at
    yield "completed", truth.completed, believed.completed_at
    yield "attention", sorted(_attention(truth)), sorted(_believed_attention(believed))


def _sender(believed: Package) -> tuple[str | None, str | None, str | None]:
    return believed.sender.id, believed.sender.name, believed.sender.email


def _of_signers(truth: Truth, believed: Package) -> Iterator[Pair]:
    asked = {_seat(role): (place, role) for place, role in enumerate(truth.roles) if _is_asked(truth, place)}
    current = {one.id: one for one in believed.signers if one.status != "REASSIGNED"}
    yield "signers", sorted(asked), sorted(current)
    yield "signers in all", len(asked), believed.signers_total
    yield (
        "signers that are done",
        sum(truth.is_signed(place) for place, _ in asked.values()),
        believed.signers_completed,
    )
    for signer_id, (place, role) in asked.items():
        if one := current.get(signer_id):
            person = role.person
            yield f"{signer_id} name", person and person.name, one.name
            yield f"{signer_id} email", person and person.email, one.email
            yield f"{signer_id} role", role.id, one.role_id
            yield f"{signer_id} order", role.index, one.order
            yield f"{signer_id} locked", role.locked, one.locked
            yield f"{signer_id} status", _status(truth, place), one.status
            uploaded = [role.attachment.name] if role.attachment and role.attachment.uploaded else []
            yield f"{signer_id} attachments", uploaded, [name for name in one.attachments if name in uploaded]
    yield "next", _next(truth, asked.values()), sorted(believed.next_signers)


def _of_documents(truth: Truth, believed: Package) -> Iterator[Pair]:
    yield "documents", [one.id for one in truth.documents], [one.id for one in believed.documents]
    for number, (document, one) in enumerate(zip(truth.documents, believed.documents, strict=False)):
        signed = {
            _seat(role)
            for place, role in enumerate(truth.roles)
            if _is_asked(truth, place) and truth.is_signed(place, document=number)
        }
        current = {_seat(role) for place, role in enumerate(truth.roles) if _is_asked(truth, place)}
        yield f"document {number} name", document.name, one.name
        yield f"document {number} signed by", sorted(signed), sorted(current & set(one.signed_by))


def _seat(role: Role) -> str:
    """A seat in which nobody sits goes by its role's id."""
    return role.person.id if role.person else role.id


def _is_asked(truth: Truth, place: int) -> bool:
    return not truth.roles[place].is_sender or bool(truth.approvals(place))


def _status(truth: Truth, place: int) -> str:
    if truth.is_signed(place):
        return "COMPLETED"
    if truth.status in ("DECLINED", "OPTED_OUT") and _left(truth) == _seat(truth.roles[place]):
        return truth.status
    return "LOCKED" if truth.roles[place].locked else "PENDING"


def _left(truth: Truth) -> str | None:
    return max(truth.messages, key=lambda one: one.at).by.id if truth.messages else None


def _next(truth: Truth, asked: Iterable[tuple[int, Role]]) -> list[str]:
    open_to_all = truth.status == "SENT" and not truth.trashed and not truth.deleted
    waiting = [(role.index, _seat(role)) for place, role in asked if not truth.is_signed(place)]
    first = min((index for index, _ in waiting), default=0)
    return sorted(one for index, one in waiting if index == first) if open_to_all else []


def _attention(truth: Truth) -> Iterator[tuple[str, str, str]]:
    if truth.trashed or truth.deleted:
        return
    if truth.status == "DECLINED":
        last = max(truth.messages, key=lambda one: one.at)
        yield "DECLINED", last.by.id, last.content
    if truth.status == "EXPIRED":
        yield "EXPIRED", "", ""
    if truth.status != "SENT":
        return
    if truth.is_signed() and not truth.autocomplete:
        yield "READY_FOR_COMPLETION", "", ""
    for place, role in enumerate(truth.roles):
        if role.locked and not truth.is_signed(place) and _is_asked(truth, place):
            yield "SIGNER_LOCKED", _seat(role), ""


def _believed_attention(believed: Package) -> Iterator[tuple[str, str, str]]:
    for one in believed.attention:
        if one.reason not in SILENT:
            yield one.reason, one.who or "", one.detail or ""
