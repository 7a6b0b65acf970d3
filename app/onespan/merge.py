"""Claims and their merge, whose result does not depend on the order and the repetition of claims.

The functions are pure. A claim says that an attribute of a subject had a value at a time of OneSpan's clock. A state
holds the newest claim of each attribute per origin: *event* (from callbacks) and *snapshot* (from the REST API).
Merging keeps the larger of two claims by (time, rank of the value). That order is total, so the merge is commutative,
associative and idempotent.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from app.onespan.callbacks import Callback
from app.onespan.event_catalogue import STATUSES, event_type
from app.onespan.packages import PackageSnapshot
from app.types import iso

ClaimOrigin = Literal["event", "snapshot"]
TimedValue = tuple[str, object]  # the time of a claim (ISO 8601) and its value
Registers = Mapping[ClaimOrigin, TimedValue]
State = Mapping[str, Mapping[str, Registers]]  # subject → attribute → newest claim of each origin

PACKAGE = "package"
EPOCH = "0001-01-01T00:00:00.000000+00:00"
NO_CLAIM: TimedValue = (EPOCH, None)
# How far a callback's date may be after its arrival. A later date is replaced by the time of arrival.
MAX_CLOCK_AHEAD = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Claim:
    """A value of one attribute of one subject, from one origin. `at` is ISO 8601, UTC, with microseconds."""

    subject: str
    attribute: str
    value: object
    at: str
    origin: ClaimOrigin


def signer(signer_id: str) -> str:
    """Return the subject of claims about a signer, or about a role without a signer."""
    return f"signer:{signer_id}"


def document(document_id: str) -> str:
    """Return the subject of claims about a document."""
    return f"document:{document_id}"


def merge_claims(state: State, claims: Iterable[Claim]) -> State:
    """Return the state with these claims merged in; the given state is not changed.

    Returns the same object if no claim is new.
    """
    changed: dict[str, dict[str, Registers]] = {}
    for claim in claims:
        attributes = changed.get(claim.subject) or state.get(claim.subject, {})
        registers, claimed = attributes.get(claim.attribute, {}), (claim.at, claim.value)
        if claim.origin not in registers or _newer(claimed, registers[claim.origin]):
            if claim.subject not in changed:
                changed[claim.subject] = {**attributes}
            changed[claim.subject][claim.attribute] = {**registers, claim.origin: claimed}
    return {**state, **changed} if changed else state


def union(states: Iterable[Mapping[str, Registers]]) -> Mapping[str, Registers]:
    """Merge the claims of several subjects that are the same signer or document."""
    merged: State = {}
    for attributes in states:
        merged = merge_claims(
            merged,
            (
                Claim("", attribute, value, at, origin)
                for attribute, registers in attributes.items()
                for origin, (at, value) in registers.items()
            ),
        )
    return merged.get("", {})


def current_value(registers: Registers) -> TimedValue:
    """Return the newer of the values from event and snapshot. On a tie the snapshot wins: it includes the event."""
    event, snapshot = registers.get("event"), registers.get("snapshot")
    if event and (not snapshot or event[0] > snapshot[0]):
        return event
    return snapshot or NO_CLAIM


def valid_since(registers: Registers) -> str:
    """Return since when the current value holds: the event's time if an event claims the value, else the snapshot's."""
    at, value = current_value(registers)
    event = registers.get("event")
    return event[0] if event and event[1] == value else at


def agrees(state: State, claims: Iterable[Claim]) -> bool:
    """Whether a snapshot with these claims changes nothing: the last snapshot had the same values, still current."""
    for claim in claims:
        registers = state.get(claim.subject, {}).get(claim.attribute, {})
        snapshot = registers.get("snapshot")
        if snapshot is None or snapshot[1] != claim.value or current_value(registers)[1] != claim.value:
            return False
    return True


def newest_claim_at(state: State, origin: ClaimOrigin) -> str:
    """Return OneSpan's time of the newest event or snapshot of the package."""
    attribute = "event" if origin == "event" else "deleted"
    return state.get(PACKAGE, {}).get(attribute, {}).get(origin, NO_CLAIM)[0]


def last_snapshot_value(state: State, subject: str, attribute: str) -> Any:
    """Return the attribute's value in the last snapshot that included it; None if no snapshot did."""
    return state.get(subject, {}).get(attribute, {}).get("snapshot", NO_CLAIM)[1]


def required_signers(state: State, document_id: str) -> set[str]:
    """Return the ids of the signers who must sign a document, according to snapshots."""
    attributes = state.get(document(document_id), {}).items()
    signed = [name for name, registers in attributes if name.startswith("signed ") and "snapshot" in registers]
    return {name.removeprefix("signed ") for name in signed}


def snapshot_updated_at(state: State) -> str:
    """Return the `updated` time in the newest snapshot; `EPOCH` if there is none."""
    at = state.get(PACKAGE, {}).get("updated", {}).get("snapshot", NO_CLAIM)[1]
    return at if isinstance(at, str) else EPOCH


def _newer(first: TimedValue, second: TimedValue) -> bool:
    """Whether the value `first` wins. The order is total: the winner does not depend on the order of arrival."""
    return first[0] > second[0] or (first[0] == second[0] and _rank(first[1]) > _rank(second[1]))


def _rank(value: object) -> tuple[bool, int, str]:
    return value is not None, (STATUSES.index(value) if value in STATUSES else -1), json.dumps(value, sort_keys=True)


def callback_claims(callback: Callback, *, received_at: datetime) -> list[Claim]:
    """Return the claims of a callback.

    A callback without a date, or dated more than `MAX_CLOCK_AHEAD` after its arrival, counts as dated at its arrival.
    Otherwise a callback dated 2099 would outrank every later snapshot.
    """
    at = iso(claim_time(callback, received_at=received_at))
    kind = event_type(callback.name)
    package: dict[str, object] = {"event": True, **kind.package}
    if kind.starts:
        package |= {"created": at, **({"sender_id": callback.session_user} if callback.session_user else {})}
    if callback.name == "PACKAGE_COMPLETE":
        package["completed"] = at
    claims = [Claim(PACKAGE, attribute, value, at, "event") for attribute, value in package.items()]
    return claims + [
        Claim(subject, attribute, value, at, "event")
        for subject, attributes in _claims_about_parts(callback, at).items()
        for attribute, value in attributes.items()
    ]


def claim_time(callback: Callback, *, received_at: datetime) -> datetime:
    """Return the time of a callback's claims, on OneSpan's clock."""
    if callback.happened_at is None or callback.happened_at > received_at + MAX_CLOCK_AHEAD:
        return received_at
    return callback.happened_at


def _claims_about_parts(callback: Callback, at: str) -> dict[str, dict[str, object]]:
    """Return an event's claims about signers and documents.

    Without a `sessionUser`, the claims about the signer become claims about the package.
    """
    kind = event_type(callback.name)
    subject = signer(callback.session_user) if callback.session_user else PACKAGE
    of_signer: dict[str, object] = dict(kind.signer)
    if kind.by_signer and callback.session_user:
        of_signer["seen"] = True
    claimed: dict[str, dict[str, object]] = {subject: of_signer} if of_signer else {}
    match callback.name:
        case "PACKAGE_DECLINE" | "PACKAGE_OPT_OUT":
            of_signer["reason"] = callback.message
        case "KBA_FAILURE":
            of_signer[f"kba_failure {at}"] = True
        case "EMAIL_BOUNCE":
            claimed[subject] = {"email_bounce": callback.message or "UNKNOWN"}
        case "PACKAGE_ATTACHMENT" if callback.message:
            of_signer[f"attachment {callback.message}"] = True
        case "ROLE_REASSIGN" if new := callback.extra.get("newRoleId"):
            claimed[signer(str(new))] = {"seen": True, "reassigned": False}
        case "DOCUMENT_SIGNED" if callback.document_id:
            claimed[document(callback.document_id)] = {"seen": True, f"signed {callback.session_user or ''}": at}
    return claimed


def snapshot_claims(snapshot: PackageSnapshot, *, at: datetime) -> list[Claim]:
    """Return the claims of a snapshot, one for each attribute that the snapshot includes.

    The claims are dated `at`, a time of OneSpan's clock that is not after the moment of the snapshot.
    """
    subjects: dict[str, dict[str, object]] = {
        PACKAGE: {
            "name": snapshot.name,
            "type": snapshot.type,
            "status": snapshot.status,
            "trashed": snapshot.trashed,
            "deleted": False,
            "sender_id": snapshot.sender.id,
            "sender_name": snapshot.sender.name,
            "sender_email": snapshot.sender.email,
            "created": snapshot.created,
            "updated": snapshot.updated,
            "due": snapshot.due,
            "completed": snapshot.completed,
            "ready": snapshot.ready,
            "seats": [[seat.signer_id, seat.role_id] for seat in snapshot.seats],
            "documents": [item.id for item in snapshot.documents],
            # A claim about an unknown signer ends when it holds for no known signer.
            **({} if any(seat.locked is not False for seat in snapshot.seats) else {"locked": False}),
            **({"kba": False, "email_bounce": None} if snapshot.all_signed else {}),
        }
    }
    subjects[PACKAGE] = {
        name: value
        for name, value in subjects[PACKAGE].items()
        if _is_claimed(name, value, has_parts=snapshot.has_parts)
    }
    for seat in snapshot.seats if snapshot.has_parts else ():
        subjects[signer(seat.signer_id)] = {
            "role_id": seat.role_id,
            **({"person": True} if seat.occupied else {}),  # an empty seat is identified by its role's id
            "order": seat.order,
            "name": seat.name,
            "email": seat.email,
            **({"asked": snapshot.status != "DRAFT"} if snapshot.status else {}),
            **({} if seat.locked is None else {"locked": seat.locked}),
            **({} if seat.completed is None else {"done": seat.completed}),
            **({"kba": False, "email_bounce": None} if seat.completed else {}),
            **_ended_by(seat.signer_id, snapshot),
            **{f"attachment {name}": True for name in seat.attachments or ()},
        }
    for item in snapshot.documents if snapshot.has_parts else ():
        marks = item.signed or {}
        signed = {f"signed {seat.signer_id}": marks[seat.role_id] for seat in snapshot.seats if seat.role_id in marks}
        subjects[document(item.id)] = {"name": item.name, **signed}
    when = iso(at)
    return [
        Claim(subject, attribute, value, when, "snapshot")
        for subject, attributes in subjects.items()
        for attribute, value in attributes.items()
    ]


def _ended_by(signer_id: str, snapshot: PackageSnapshot) -> dict[str, object]:
    """Return the claims that say whether this signer declined or opted out; both false unless the status says so."""
    ended = {"DECLINED": "declined", "OPTED_OUT": "opted_out"}.get(snapshot.status or "")
    if ended is None:
        return {"declined": False, "opted_out": False}
    if snapshot.ended_by is None:
        return {}
    if snapshot.ended_by.signer_id != signer_id:
        return {ended: False}
    return {ended: True, "reason": snapshot.ended_by.reason}


def _is_claimed(attribute: str, value: object, *, has_parts: bool) -> bool:
    """Whether a snapshot claims this value.

    In a snapshot with all parts, a missing due date or completion time claims None; other missing values claim nothing.
    """
    if has_parts:
        return value is not None or attribute in ("due", "completed", "email_bounce")
    return attribute == "deleted" or (bool(value) and attribute not in ("seats", "documents"))
