"""Compares OneSpan's state in the simulator with the status store, field by field and fact by fact."""

from collections import Counter
from collections.abc import Iterable, Iterator

from app.onespan.values import Package
from app.simulator.packages import ARCHIVAL_STATUSES, Role
from app.simulator.packages import Package as SimulatedPackage

Fact = tuple[str, str | None]  # an event's name, and the document or attachment of the event
# Attention reasons that no snapshot can show.
NOT_IN_SNAPSHOTS = frozenset({"KBA_FAILURE", "EMAIL_BOUNCE", "PARKED_HANDLER"})

Pair = tuple[str, object, object]  # a field's name, its value at OneSpan, and its value in the status store


def differences(actual: SimulatedPackage, stored: Package | None) -> list[str]:
    """List the fields of a stored package that differ from the package at OneSpan.

    A package that was deleted before the service read it stays unknown (law 10). A layout stays unknown too, because no
    list shows layouts.
    """
    if stored is None:
        return [] if actual.deleted or actual.type == "LAYOUT" else [f"{actual.id}: not known"]
    if actual.deleted:
        return [] if stored.deleted or stored.read_at is None else [f"{actual.id}: not known to be deleted"]
    pairs = [*_of_package(actual, stored), *_of_signers(actual, stored), *_of_documents(actual, stored)]
    return [f"{actual.id} {field}: {is_!r}, stored {was!r}" for field, is_, was in pairs if is_ != was]


def observable_facts(actual: SimulatedPackage) -> Counter[Fact]:
    """Count the facts that the present state of a package proves. Each fact happened at least that often."""
    facts: Counter[Fact] = Counter()
    if actual.deleted or actual.type == "LAYOUT":
        return facts
    facts["TEMPLATE_CREATE" if actual.type == "TEMPLATE" else "PACKAGE_CREATE", None] += 1
    facts.update((name, None) for name in _STEPS_TO.get(actual.status, ()))
    facts["PACKAGE_TRASH", None] += actual.trashed
    for place, role in enumerate(actual.roles):
        facts["SIGNER_LOCKED", None] += role.locked
        facts["SIGNER_COMPLETE", None] += actual.is_signed(place)
        facts.update(
            ("DOCUMENT_SIGNED", document.id)
            for number, document in enumerate(actual.documents)
            if actual.is_signed(place, document=number)
        )
        if role.attachment and role.attachment.uploaded:
            facts["PACKAGE_ATTACHMENT", role.attachment.name] += 1
    facts["PACKAGE_READY_FOR_COMPLETE", None] += (
        actual.status == "SENT" and actual.is_signed() and not actual.autocomplete
    )
    return +facts


# The events that must have happened before a package can have each status.
_STEPS_TO = {
    "SENT": ("PACKAGE_ACTIVATE",),
    "COMPLETED": ("PACKAGE_ACTIVATE", "PACKAGE_COMPLETE"),
    "ARCHIVED": ("PACKAGE_ACTIVATE", "PACKAGE_COMPLETE", "PACKAGE_ARCHIVE"),
    "DECLINED": ("PACKAGE_ACTIVATE", "PACKAGE_DECLINE"),
    "OPTED_OUT": ("PACKAGE_ACTIVATE", "PACKAGE_OPT_OUT"),
    "EXPIRED": ("PACKAGE_ACTIVATE", "PACKAGE_EXPIRE"),
    **dict.fromkeys(ARCHIVAL_STATUSES, ("PACKAGE_ACTIVATE", "PACKAGE_COMPLETE")),
}


def _of_package(actual: SimulatedPackage, stored: Package) -> Iterator[Pair]:
    sender = actual.sender
    yield "status", actual.status, stored.status
    yield "name", actual.name, stored.name
    yield "type", actual.type, stored.type
    yield "trashed", actual.trashed, stored.trashed
    yield "deleted", actual.deleted, stored.deleted
    yield "sender", (sender.id, sender.name, sender.email), _sender(stored)
    yield "created", actual.created, stored.created_at
    yield "due", actual.due, stored.due_at
    yield "completed", actual.completed, stored.completed_at
    yield "attention", sorted(_attention(actual)), sorted(_stored_attention(stored))


def _sender(stored: Package) -> tuple[str | None, str | None, str | None]:
    return stored.sender.id, stored.sender.name, stored.sender.email


def _of_signers(actual: SimulatedPackage, stored: Package) -> Iterator[Pair]:
    signing = {_seat(role): (place, role) for place, role in enumerate(actual.roles) if _must_sign(actual, place)}
    current = {signer.id: signer for signer in stored.signers if signer.status != "REASSIGNED"}
    yield "signers", sorted(signing), sorted(current)
    yield "signers in total", len(signing), stored.signers_total
    yield (
        "signers completed",
        sum(actual.is_signed(place) for place, _ in signing.values()),
        stored.signers_completed,
    )
    for signer_id, (place, role) in signing.items():
        if signer := current.get(signer_id):
            person = role.person
            yield f"{signer_id} name", person and person.name, signer.name
            yield f"{signer_id} email", person and person.email, signer.email
            yield f"{signer_id} role", role.id, signer.role_id
            yield f"{signer_id} order", role.index, signer.order
            yield f"{signer_id} locked", role.locked, signer.locked
            yield f"{signer_id} status", _status(actual, place), signer.status
            uploaded = [role.attachment.name] if role.attachment and role.attachment.uploaded else []
            yield f"{signer_id} attachments", uploaded, [name for name in signer.attachments if name in uploaded]
    yield "next", _next(actual, signing.values()), sorted(stored.next_signers)


def _of_documents(actual: SimulatedPackage, stored: Package) -> Iterator[Pair]:
    yield "documents", [document.id for document in actual.documents], [document.id for document in stored.documents]
    for number, (document, stored_document) in enumerate(zip(actual.documents, stored.documents, strict=False)):
        signed = {
            _seat(role)
            for place, role in enumerate(actual.roles)
            if _must_sign(actual, place) and actual.is_signed(place, document=number)
        }
        current = {_seat(role) for place, role in enumerate(actual.roles) if _must_sign(actual, place)}
        yield f"document {number} name", document.name, stored_document.name
        yield f"document {number} signed by", sorted(signed), sorted(current & set(stored_document.signed_by))


def _seat(role: Role) -> str:
    """The id of the person in a role, or the role's id if the role is empty."""
    return role.person.id if role.person else role.id


def _must_sign(actual: SimulatedPackage, place: int) -> bool:
    return not actual.roles[place].is_sender or bool(actual.approvals(place))


def _status(actual: SimulatedPackage, place: int) -> str:
    if actual.is_signed(place):
        return "COMPLETED"
    if actual.status in ("DECLINED", "OPTED_OUT") and _ended_by(actual) == _seat(actual.roles[place]):
        return actual.status
    return "LOCKED" if actual.roles[place].locked else "PENDING"


def _ended_by(actual: SimulatedPackage) -> str | None:
    return max(actual.messages, key=lambda message: message.at).by.id if actual.messages else None


def _next(actual: SimulatedPackage, signing: Iterable[tuple[int, Role]]) -> list[str]:
    open_to_all = actual.status == "SENT" and not actual.trashed and not actual.deleted
    waiting = [(role.index, _seat(role)) for place, role in signing if not actual.is_signed(place)]
    first = min((index for index, _ in waiting), default=0)
    return sorted(seat for index, seat in waiting if index == first) if open_to_all else []


def _attention(actual: SimulatedPackage) -> Iterator[tuple[str, str, str]]:
    if actual.trashed or actual.deleted:
        return
    if actual.status == "DECLINED":
        last = max(actual.messages, key=lambda message: message.at)
        yield "DECLINED", last.by.id, last.content
    if actual.status == "EXPIRED":
        yield "EXPIRED", "", ""
    if actual.status != "SENT":
        return
    if actual.is_signed() and not actual.autocomplete:
        yield "READY_FOR_COMPLETION", "", ""
    for place, role in enumerate(actual.roles):
        if role.locked and not actual.is_signed(place) and _must_sign(actual, place):
            yield "SIGNER_LOCKED", _seat(role), ""


def _stored_attention(stored: Package) -> Iterator[tuple[str, str, str]]:
    for entry in stored.attention:
        if entry.reason not in NOT_IN_SNAPSHOTS:
            yield entry.reason, entry.who or "", entry.detail or ""
