"""Compares OneSpan's state in the simulator with the status store, field by field and fact by fact."""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime

from app.onespan.values import Package
from app.simulator.packages import ARCHIVAL_STATUSES, Approval, Role
from app.simulator.packages import Package as SimulatedPackage
from app.simulator.people import Person

Fact = tuple[str, str | None]  # an event's name, and the document or attachment of the event
# Attention reasons that no snapshot can show.
NOT_IN_SNAPSHOTS = frozenset({"KBA_FAILURE", "EMAIL_BOUNCE", "OUT_OF_OFFICE", "PARKED_HANDLER"})
COMPLETE_STATUSES = frozenset({"COMPLETED", "ARCHIVED", *ARCHIVAL_STATUSES})

WAITING = ("PENDING", "LOCKED")  # the statuses of signers who still have to sign

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
    facts.update((name, None) for name in STEPS_TO.get(actual.status, ()))
    facts["PACKAGE_TRASH", None] += actual.trashed
    for place, role in enumerate(actual.roles):
        facts["SIGNER_LOCKED", None] += role.locked
        facts["SIGNER_COMPLETE", None] += _has_signed_all(actual, place) is True
        facts.update(
            ("DOCUMENT_SIGNED", document.id)
            for number, document in enumerate(actual.documents)
            if _has_signed(actual, place, number) and not _is_only_clicked(actual, place, number)
        )
        facts.update(("PACKAGE_ATTACHMENT", item.name) for item in role.attachments if item.uploaded)
    facts["PACKAGE_READY_FOR_COMPLETE", None] += is_ready(actual) is True
    return +facts


# The events that must have happened before a package can have each status.
STEPS_TO = {
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
    yield "description", actual.description or None, stored.description
    yield "data", dict(actual.data) or None, stored.data
    optional = {_seat(role) for place, role in enumerate(actual.roles) if _has_signed_all(actual, place) is None}
    unclear = {
        "ATTACHMENT_MISSING": optional,
        "SIGNER_LOCKED": optional,
    }
    unclear |= {"READY_FOR_COMPLETION": {""}} if is_ready(actual) is None else {}
    shown, was = list(_attention(actual)), list(_stored_attention(stored))
    if _is_end_unclear(actual):
        unclear["DECLINED"] = {who for _, who, _ in (*shown, *was)}
    clear = [sorted(item for item in found if item[1] not in unclear.get(item[0], ())) for found in (shown, was)]
    yield "attention", *clear


def _sender(stored: Package) -> tuple[str | None, str | None, str | None]:
    return stored.sender.id, stored.sender.name, stored.sender.email


def _of_signers(actual: SimulatedPackage, stored: Package) -> Iterator[Pair]:
    seats = {_seat(role): (place, role) for place, role in enumerate(actual.roles) if _is_listed(actual, place)}
    current = {signer.id: signer for signer in stored.signers if signer.status != "REASSIGNED"}
    yield "signers", sorted(seats), sorted(current)
    statuses = {
        signer_id: _status(actual, place, current[signer_id].status)
        for signer_id, (place, _) in seats.items()
        if signer_id in current
    }
    yield "signers in total", sum(status is not None for status in statuses.values()), stored.signers_total
    yield "signers completed", list(statuses.values()).count("COMPLETED"), stored.signers_completed
    for signer_id, (place, role) in seats.items():
        if signer := current.get(signer_id):
            person = role.person
            uploaded = [item.name for item in role.attachments if item.uploaded]
            yield f"{signer_id} name", role.group.name if role.group else person and person.name, signer.name
            yield f"{signer_id} email", _address(role), signer.email
            yield f"{signer_id} role", role.id, signer.role_id
            yield f"{signer_id} order", role.index, signer.order
            yield f"{signer_id} locked", role.locked, signer.locked
            yield f"{signer_id} status", statuses[signer_id], signer.status
            yield f"{signer_id} owes", statuses[signer_id] is not None, signer.owes
            yield f"{signer_id} attachments", sorted(uploaded), sorted({*uploaded} & {*signer.attachments})
            yield f"{signer_id} is a group", bool(role.group), bool(signer.group)
            yield f"{signer_id} begun", _begun_at(actual, place), signer.begun_at
    waiting = [(seats[signer_id][1].index, signer_id) for signer_id in statuses if statuses[signer_id] in WAITING]
    yield "next", _next(actual, waiting), sorted(stored.next_signers)


def _of_documents(actual: SimulatedPackage, stored: Package) -> Iterator[Pair]:
    yield "documents", [document.id for document in actual.documents], [document.id for document in stored.documents]
    seats = {_seat(role): place for place, role in enumerate(actual.roles) if _is_listed(actual, place)}
    for number, (document, stored_document) in enumerate(zip(actual.documents, stored.documents, strict=False)):
        signed = {signer_id for signer_id, place in seats.items() if _has_signed(actual, place, number)}
        asked = {signer_id for signer_id, place in seats.items() if _asked(actual, place, number)}
        yield f"document {number} name", document.name, stored_document.name
        yield f"document {number} signed by", sorted(signed), sorted({*seats} & set(stored_document.signed_by))
        yield f"document {number} asks", sorted(asked), sorted({*seats} & set(stored_document.asked))


def _seat(role: Role) -> str:
    """The id of the person in a role, or the role's id if the role is empty."""
    return role.person.id if role.person else role.id


def _address(role: Role) -> str | None:
    """The email address of a person. OneSpan makes up the address of an ad hoc group."""
    email = role.person.email if role.person else None
    return None if email and "@adhoc.groups." in email else email


def _asked(actual: SimulatedPackage, place: int, number: int | None = None) -> list[Approval]:
    """What a role is asked to sign. A signature that a condition disabled is not owed."""
    approvals = actual.approvals(place, document=number)
    return [approval for approval in approvals if approval.signed or not approval.disabled]


def _is_listed(actual: SimulatedPackage, place: int) -> bool:
    return not actual.roles[place].is_sender or bool(_asked(actual, place))


def _made_at(actual: SimulatedPackage, approval: Approval) -> datetime | None:
    """When a signature was made. In a complete package, OneSpan shows no difference between a click and a signature."""
    counts = approval.is_acceptance or actual.status in COMPLETE_STATUSES
    return approval.signed or (approval.accepted if counts else None)


def _has_signed(actual: SimulatedPackage, place: int, number: int) -> bool:
    """Whether a role has signed a document: all that is required there or, without such, anything."""
    asked = _asked(actual, place, number)
    required = [approval for approval in asked if not approval.optional]
    if required:
        return all(_made_at(actual, approval) for approval in required)
    return any(_made_at(actual, approval) for approval in asked)


def _is_only_clicked(actual: SimulatedPackage, place: int, number: int) -> bool:
    """Whether a document counts as signed only because its package is complete, although it was not confirmed."""
    return not any(approval.at for approval in _asked(actual, place, number))


def _has_signed_all(actual: SimulatedPackage, place: int) -> bool | None:
    """Whether a role has signed all that it must; None if only a callback can say that."""
    numbers = [number for number in range(len(actual.documents)) if _asked(actual, place, number)]
    must = [n for n in numbers if any(not approval.optional for approval in _asked(actual, place, n))]
    if must:
        return all(_has_signed(actual, place, number) for number in must)
    if actual.roles[place].finished or any(_has_signed(actual, place, number) for number in numbers):
        return None
    return False


def is_ready(actual: SimulatedPackage) -> bool | None:
    """Whether a package only waits for its sender to complete it; None if only a callback can say that."""
    if actual.status != "SENT" or actual.autocomplete:
        return False
    signed = [_has_signed_all(actual, place) for place in range(len(actual.roles)) if _asked(actual, place)]
    return False if False in signed or not signed else None if None in signed else True


def _status(actual: SimulatedPackage, place: int, stored: str | None) -> str | None:
    """The status of a signer. Where only a callback can say whether the signer is complete, both are right."""
    if actual.approvals() and not _asked(actual, place):
        return None
    signed = _has_signed_all(actual, place)
    if signed or actual.status in COMPLETE_STATUSES or is_ready(actual):
        return "COMPLETED"
    if (signed is None or is_ready(actual) is None) and stored == "COMPLETED":
        return stored
    if actual.status in ("DECLINED", "OPTED_OUT") and _seat(actual.roles[place]) in _ended_by(actual):
        return stored if _is_end_unclear(actual) and stored in WAITING else actual.status
    return "LOCKED" if actual.roles[place].locked else "PENDING"


def _ended_by(actual: SimulatedPackage) -> list[str]:
    """The seat of the person who declined or opted out, who may act for a group."""
    who = max(actual.messages, key=lambda message: message.at).by if actual.messages else None
    return [_seat(role) for place, role in enumerate(actual.roles) if who and who in _actors(actual, place)]


def _is_end_unclear(actual: SimulatedPackage) -> bool:
    """Whether a member of one of several groups ended the package: if members are hidden, nothing shows of which."""
    groups = [_seat(role) for place, role in enumerate(actual.roles) if role.group and _asked(actual, place)]
    return len(groups) > 1 and not {*groups}.isdisjoint(_ended_by(actual))


def _actors(actual: SimulatedPackage, place: int) -> tuple[Person | None, ...]:
    role = actual.roles[place]
    if role.group:
        own = [other.person for number, other in enumerate(actual.roles) if _asked(actual, number) and not other.group]
        return tuple(member for member in role.group.members if member not in own)
    return (role.person,) if _asked(actual, place) else ()


def _begun_at(actual: SimulatedPackage, place: int) -> datetime | None:
    """When a role clicked or made its first signature."""
    times = (approval.accepted or approval.signed for approval in _asked(actual, place))
    return min(filter(None, times), default=None)


def _next(actual: SimulatedPackage, waiting: Iterable[tuple[int, str]]) -> list[str]:
    open_to_all = actual.status == "SENT" and not actual.trashed and not actual.deleted
    first = min((index for index, _ in waiting), default=0)
    return sorted(seat for index, seat in waiting if index == first) if open_to_all else []


def _attention(actual: SimulatedPackage) -> Iterator[tuple[str, str, str]]:
    if actual.trashed or actual.deleted:
        return
    if actual.status == "DECLINED":
        last = max(actual.messages, key=lambda message: message.at)
        yield "DECLINED", next(iter(_ended_by(actual)), last.by.id), last.content
    if actual.status == "EXPIRED":
        yield "EXPIRED", "", ""
    if actual.status != "SENT":
        return
    if is_ready(actual):
        yield "READY_FOR_COMPLETION", "", ""
    for place, role in enumerate(actual.roles):
        if role.locked and not _has_signed_all(actual, place) and _is_listed(actual, place):
            yield "SIGNER_LOCKED", _seat(role), ""
        yield from _attachments(actual, place)


def _attachments(actual: SimulatedPackage, place: int) -> Iterator[tuple[str, str, str]]:
    """The rejected attachments of a signer, and the missing ones once the signer has signed."""
    role = actual.roles[place]
    for item in role.attachments if _is_listed(actual, place) else ():
        if item.required and item.status == "REJECTED":
            yield "ATTACHMENT_REJECTED", _seat(role), item.name
        elif item.required and not item.uploaded and _asked(actual, place) and _has_signed_all(actual, place):
            yield "ATTACHMENT_MISSING", _seat(role), item.name


def _stored_attention(stored: Package) -> Iterator[tuple[str, str, str]]:
    """The reasons that a snapshot can show."""
    for entry in stored.attention:
        if entry.reason not in NOT_IN_SNAPSHOTS:
            yield entry.reason, entry.who or "", entry.detail or ""
