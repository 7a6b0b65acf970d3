"""Claims, and the merge that makes arrival order and repetition not matter. Pure: no clock, no database, no Flask.

A claim says: of this subject, this attribute had this value at this time of OneSpan's clock. For each attribute
we hold the newest claim of either witness, the *events* (what callbacks told) and the *snapshots* (what reading
the REST API showed). Taking a claim keeps the larger of two by (time, weight of the value), which is a total
order; so merging is commutative, associative and idempotent.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from app.onespan.callbacks import Callback
from app.onespan.catalogue import STATUSES, event_type
from app.onespan.packages import PackageReading
from app.types import iso

Witness = Literal["event", "snapshot"]
Held = tuple[str, object]  # (ISO time, value)
Registers = Mapping[Witness, Held]
State = Mapping[str, Mapping[str, Registers]]  # subject → attribute → what each witness said last

PACKAGE = "package"
EPOCH = "0001-01-01T00:00:00.000000+00:00"
NEVER: Held = (EPOCH, None)  # what is held where nobody claimed anything
# A callback may be dated this much after its arrival before we stop believing its clock.
AHEAD = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Claim:
    """One attribute of one subject as one witness saw it. `at` is ISO 8601, UTC, with microseconds."""

    subject: str
    attribute: str
    value: object
    at: str
    witness: Witness


def signer(signer_id: str) -> str:
    """The subject under which a signer, or a seat, is spoken of."""
    return f"signer:{signer_id}"


def document(document_id: str) -> str:
    """The subject under which a document is spoken of."""
    return f"document:{document_id}"


def merge(state: State, claims: Iterable[Claim]) -> State:
    """The state that knows all of these claims too; the given one stays as it was.

    When they tell nothing new the very same object comes back.
    """
    changed: dict[str, dict[str, Registers]] = {}
    for claim in claims:
        attributes = changed.get(claim.subject) or state.get(claim.subject, {})
        held, told = attributes.get(claim.attribute, {}), (claim.at, claim.value)
        if claim.witness not in held or _newer(told, held[claim.witness]):
            if claim.subject not in changed:
                changed[claim.subject] = {**attributes}
            changed[claim.subject][claim.attribute] = {**held, claim.witness: told}
    return {**state, **changed} if changed else state


def union(states: Iterable[Mapping[str, Registers]]) -> Mapping[str, Registers]:
    """What several subjects know, when they turn out to be one."""
    merged: State = {}
    for attributes in states:
        merged = merge(
            merged,
            (
                Claim("", attribute, value, at, witness)
                for attribute, registers in attributes.items()
                for witness, (at, value) in registers.items()
            ),
        )
    return merged.get("", {})


def believed(registers: Registers) -> Held:
    """The newest word of both witnesses; on a tie a snapshot has seen what the event told."""
    told, shown = registers.get("event"), registers.get("snapshot")
    if told and (not shown or told[0] > shown[0]):
        return told
    return shown or NEVER


def since(registers: Registers) -> str:
    """From when the believed value holds, as far as we were told: the event's time where an event told it."""
    at, value = believed(registers)
    told = registers.get("event")
    return told[0] if told and told[1] == value else at


def agrees(state: State, claims: Iterable[Claim]) -> bool:
    """Whether a snapshot with these claims would tell nothing: the last one showed the same, and it is believed."""
    for claim in claims:
        registers = state.get(claim.subject, {}).get(claim.attribute, {})
        shown = registers.get("snapshot")
        if shown is None or shown[1] != claim.value or believed(registers)[1] != claim.value:
            return False
    return True


def newest(state: State, witness: Witness) -> str:
    """When, on OneSpan's clock, this witness last spoke of the package."""
    attribute = "event" if witness == "event" else "deleted"
    return state.get(PACKAGE, {}).get(attribute, {}).get(witness, NEVER)[0]


def shown_last(state: State, subject: str, attribute: str) -> Any:
    """What the last snapshot had that showed this attribute; None where none did."""
    return state.get(subject, {}).get(attribute, {}).get("snapshot", NEVER)[1]


def asked_to_sign(state: State, document_id: str) -> set[str]:
    """Whom snapshots have shown to be asked to sign a document."""
    shown = state.get(document(document_id), {}).items()
    return {name.removeprefix("signed ") for name, told in shown if name.startswith("signed ") and "snapshot" in told}


def shown_until(state: State) -> str:
    """The newest change that a snapshot had in it, as far as it says."""
    at = state.get(PACKAGE, {}).get("updated", {}).get("snapshot", NEVER)[1]
    return at if isinstance(at, str) else EPOCH


def _newer(one: Held, other: Held) -> bool:
    """A total order, so that of two claims of one instant the same one wins whichever comes first."""
    return one[0] > other[0] or (one[0] == other[0] and _rank(one[1]) > _rank(other[1]))


def _rank(value: object) -> tuple[bool, int, str]:
    return value is not None, (STATUSES.index(value) if value in STATUSES else -1), json.dumps(value, sort_keys=True)


def told_by(callback: Callback, *, received_at: datetime) -> list[Claim]:
    """What a callback claims.

    An undated one speaks of the time it came in. One dated more than `AHEAD` after its arrival does too, lest
    a callback dated 2099 outrank every later reading.
    """
    at = iso(dated(callback, received_at=received_at))
    kind = event_type(callback.name)
    package: dict[str, object] = {"event": True, **kind.package}
    if kind.starts:
        package |= {"created": at, **({"sender_id": callback.session_user} if callback.session_user else {})}
    if callback.name == "PACKAGE_COMPLETE":
        package["completed"] = at
    claims = [Claim(PACKAGE, attribute, value, at, "event") for attribute, value in package.items()]
    return claims + [
        Claim(subject, attribute, value, at, "event")
        for subject, attributes in _told_of_parts(callback, at).items()
        for attribute, value in attributes.items()
    ]


def dated(callback: Callback, *, received_at: datetime) -> datetime:
    """When on OneSpan's clock a callback's claims hold."""
    if callback.happened_at is None or callback.happened_at > received_at + AHEAD:
        return received_at
    return callback.happened_at


def _told_of_parts(callback: Callback, at: str) -> dict[str, dict[str, object]]:
    """What an event claims of signers and documents. Without a `sessionUser` it is said of the package."""
    kind = event_type(callback.name)
    who = signer(callback.session_user) if callback.session_user else PACKAGE
    of_signer: dict[str, object] = dict(kind.signer)
    if kind.by_signer and callback.session_user:
        of_signer["seen"] = True
    told: dict[str, dict[str, object]] = {who: of_signer} if of_signer else {}
    match callback.name:
        case "PACKAGE_DECLINE" | "PACKAGE_OPT_OUT":
            of_signer["reason"] = callback.message
        case "KBA_FAILURE":
            of_signer[f"kba_failure {at}"] = True
        case "EMAIL_BOUNCE":
            told[who] = {"email_bounce": callback.message or "UNKNOWN"}
        case "PACKAGE_ATTACHMENT" if callback.message:
            of_signer[f"attachment {callback.message}"] = True
        case "ROLE_REASSIGN" if new := callback.extra.get("newRoleId"):
            told[signer(str(new))] = {"seen": True, "reassigned": False}
        case "DOCUMENT_SIGNED" if callback.document_id:
            told[document(callback.document_id)] = {"seen": True, f"signed {callback.session_user or ''}": at}
    return told


def shown_by(reading: PackageReading, *, at: datetime) -> list[Claim]:
    """What a snapshot claims: every attribute it shows, dated `at` (a time of OneSpan's clock it surely had passed)."""
    subjects: dict[str, dict[str, object]] = {
        PACKAGE: {
            "name": reading.name,
            "type": reading.type,
            "status": reading.status,
            "trashed": reading.trashed,
            "deleted": False,
            "sender_id": reading.sender.id,
            "sender_name": reading.sender.name,
            "sender_email": reading.sender.email,
            "created": reading.created,
            "updated": reading.updated,
            "due": reading.due,
            "completed": reading.completed,
            "ready": reading.ready,
            "seats": [[seat.signer_id, seat.role_id] for seat in reading.seats],
            "documents": [shown.id for shown in reading.documents],
            # What was told of nobody in particular is over when it holds for nobody.
            **({} if any(seat.locked is not False for seat in reading.seats) else {"locked": False}),
            **({"kba": False, "email_bounce": None} if reading.all_signed else {}),
        }
    }
    subjects[PACKAGE] = {
        name: value for name, value in subjects[PACKAGE].items() if _says(name, value, whole=reading.whole)
    }
    for seat in reading.seats if reading.whole else ():
        subjects[signer(seat.signer_id)] = {
            "role_id": seat.role_id,
            **({"person": True} if seat.taken else {}),  # an empty seat goes by its role's id until it is taken
            "order": seat.order,
            "name": seat.name,
            "email": seat.email,
            **({"asked": reading.status != "DRAFT"} if reading.status else {}),
            **({} if seat.locked is None else {"locked": seat.locked}),
            **({} if seat.completed is None else {"done": seat.completed}),
            **({"kba": False, "email_bounce": None} if seat.completed else {}),
            **_ended_by(seat.signer_id, reading),
            **{f"attachment {name}": True for name in seat.attachments or ()},
        }
    for shown in reading.documents if reading.whole else ():
        marks = shown.signed or {}
        signed = {f"signed {seat.signer_id}": marks[seat.role_id] for seat in reading.seats if seat.role_id in marks}
        subjects[document(shown.id)] = {"name": shown.name, **signed}
    when = iso(at)
    return [
        Claim(subject, attribute, value, when, "snapshot")
        for subject, attributes in subjects.items()
        for attribute, value in attributes.items()
    ]


def _ended_by(signer_id: str, reading: PackageReading) -> dict[str, object]:
    """Whether it is they who declined or opted out; while a package stands otherwise, nobody has."""
    ended = {"DECLINED": "declined", "OPTED_OUT": "opted_out"}.get(reading.status or "")
    if ended is None:
        return {"declined": False, "opted_out": False}
    if reading.ended_by is None:
        return {}
    if reading.ended_by.signer_id != signer_id:
        return {ended: False}
    return {ended: True, "reason": reading.ended_by.reason}


def _says(attribute: str, value: object, *, whole: bool) -> bool:
    """Whether a reading claims this. Of a whole package no due date is none; what else is not there is not shown."""
    if whole:
        return value is not None or attribute in ("due", "completed", "email_bounce")
    return attribute == "deleted" or (bool(value) and attribute not in ("seats", "documents"))
