"""Derive the events of signers that only snapshots show, from the difference between two snapshots. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from app.onespan.claims import UPDATED_RESOLUTION
from app.onespan.interval import Finding, Interval, StoredEvent, before_click, new_finding
from app.onespan.lifecycle import COMPLETE_STATUSES, status_after
from app.onespan.seats import SIGNATURE_TOLERANCE
from app.onespan.snapshot import Seat
from app.types import iso

# How much later than its signature an undated callback counts, which counts from its arrival.
MAX_CALLBACK_DELAY = timedelta(minutes=5)


def signer_findings(interval: Interval) -> list[Finding]:
    """Return the events of signers that no callback reported."""
    found = [*_signature_events(interval)] if not interval.is_stale else []
    return _unexplained(interval, [*found, *_lock_events(interval)])


@dataclass(frozen=True, slots=True)
class _Role:
    """A role with its seat in both snapshots. All seats of a role have the same values.

    `who` are the ids of the role and of its current and former people; empty if not all of these ids are known.
    `signer_id` is the role's id if several people share the role.
    """

    before: Seat | None
    now: Seat
    who: tuple[str, ...]
    signer_id: str


def _roles(interval: Interval) -> Iterator[_Role]:
    """Yield the roles of the newer snapshot. In an incomplete one, a signer may have had another role before."""
    old_seats = interval.before.seats if interval.before else ()
    before = {seat.signer_id: seat for seat in old_seats} | {seat.role_id: seat for seat in old_seats}
    roles: dict[str, list[Seat]] = {}
    for seat in interval.now.seats:
        roles.setdefault(seat.role_id, []).append(seat)
    for role_id, seats in roles.items():
        who = (role_id, *(seat.signer_id for seat in (*seats, *old_seats) if seat.role_id == role_id))
        old_seat = next((before[user_id] for user_id in who if user_id in before), None)
        if not interval.is_incomplete or role_id in before:
            signer_id = role_id if len(seats) > 1 else seats[0].signer_id
            yield _Role(old_seat, seats[0], () if interval.is_incomplete else who, signer_id)


def _signature_events(interval: Interval) -> Iterator[Finding]:
    for role in _roles(interval):
        yield from _role_events(interval, role)
    yield from _reassignments(interval, interval.before.seats if interval.before else ())


def _role_events(interval: Interval, role: _Role) -> Iterator[Finding]:
    """Yield the missing signatures and uploads of the people in a role."""
    before, now, who = role.before, role.now, role.who
    signed = {item.id: at for item in interval.now.documents if (at := item.signed_at(now.role_id))}
    role_id = (before or now).role_id
    clicks = {
        item.id: at
        for item in (interval.before.documents if interval.before else ())
        if item.id in signed and (at := item.begun_at(role_id))
    }
    for document_id, at in signed.items():
        click = clicks.get(document_id) or (at if _was_shown_open(interval, document_id, at, role_id=role_id) else None)
        since = before_click(click) if click else None
        is_new = click or (at > interval.after.settled and _was_open(interval, document_id, role_id=role_id))
        if is_new and not interval.has_event("DOCUMENT_SIGNED", who=who, document_id=document_id, earlier_since=since):
            event = new_finding(interval, "DOCUMENT_SIGNED", at, signer_id=role.signer_id, document_id=document_id)
            yield _since(event, since)
    since = before_click(max(clicks.values())) if clicks else None
    is_new = bool(clicks) or _was_incomplete(interval, before, now)
    is_known_since = since or (_unsure_since(interval) if before and before.completed is False else None)
    if now.completed and is_new and not interval.has_event("SIGNER_COMPLETE", who=who, earlier_since=is_known_since):
        event = new_finding(interval, "SIGNER_COMPLETE", max(signed.values(), default=None), signer_id=role.signer_id)
        yield _since(replace(event, dated=event.dated and not now.has_disabled), since)
    uploaded = before.uploaded if before else _uploads_of_former(interval)
    for name in sorted({*(now.uploaded or ())} - {*uploaded}) if uploaded is not None else ():
        if not _is_upload_known(interval, name, who=who):
            yield new_finding(interval, "PACKAGE_ATTACHMENT", None, signer_id=role.signer_id, message=name)


def _uploads_of_former(interval: Interval) -> tuple[str, ...]:
    """Return the uploads of roles that are gone: a reassignment may give their attachments to a new role."""
    present = {user_id for seat in interval.now.seats for user_id in (seat.role_id, seat.signer_id)}
    old_seats = interval.before.seats if interval.before else ()
    gone = [seat for seat in old_seats if not present & {seat.role_id, seat.signer_id}]
    return tuple(name for seat in gone for name in seat.uploaded or ())


def _since(event: Finding, since: str | None) -> Finding:
    """Return an event that may have happened since this time, and so may its callback be dated."""
    return replace(event, after=min(event.after, since)) if since else event


def _was_incomplete(interval: Interval, before: Seat | None, now: Seat) -> bool:
    """Whether the role has signed all that it owes since the older snapshot, which perhaps cannot say that."""
    if interval.before is None:
        return True
    if interval.before.documents_incomplete:
        return False
    settled = interval.after.settled
    if before is None:
        return not now.completed_at or now.completed_at > settled
    return before.completed is False or (before.completed is None and (now.completed_at or "") > settled)


def _was_open(interval: Interval, document_id: str, *, role_id: str) -> bool:
    """Whether the older snapshot shows that this role had not signed the document."""
    before = interval.before
    old_document = next((item for item in before.documents if item.id == document_id), None) if before else None
    if old_document is None:
        return before is None or not before.documents_incomplete
    return old_document.signatures is not None and not old_document.signed_at(role_id)


def _was_shown_open(interval: Interval, document_id: str, at: str, *, role_id: str) -> bool:
    """Whether the older snapshot shows a document open that was signed so soon after that the dates cannot tell."""
    if interval.before is None or not _unsure_since(interval) < at <= interval.after.settled:
        return False
    return any(
        item.id == document_id and role_id in (item.signatures or ()) and not item.signed_at(role_id)
        for item in interval.before.documents
    )


def _unsure_since(interval: Interval) -> str:
    """Return since when an event, though earlier than the older snapshot, may not be in it."""
    return iso(datetime.fromisoformat(interval.after.settled) - UPDATED_RESOLUTION)


def _is_upload_known(interval: Interval, name: str, *, who: tuple[str, ...]) -> bool:
    """Whether a known event reports the upload `name`. Uploads of the same name by other roles do not count."""
    other_seats = [seat for seat in interval.now.seats if seat.role_id not in who]
    others = {user_id for seat in other_seats for user_id in (seat.signer_id, seat.role_id)}
    uploads = (event for event in interval.events if event.name == "PACKAGE_ATTACHMENT" and event.message == name)
    return any(not who or event.who in who or not interval.is_by(event, others) for event in uploads)


def _lock_events(interval: Interval) -> Iterator[Finding]:
    """Yield the locks of signers. A lock shows at once, however much the API lags with signatures."""
    for role in _roles(interval):
        was_free = role.before is None or role.before.locked is False
        is_known = interval.has_event("SIGNER_LOCKED", who=role.who, since=interval.after.seen)
        if role.now.locked and was_free and not is_known:
            yield new_finding(interval, "SIGNER_LOCKED", None, signer_id=role.signer_id)


def _unexplained(interval: Interval, found: Iterable[Finding]) -> list[Finding]:
    """Leave out what events report that may be about several signatures.

    Each of these events explains one finding of its seats, the nearest in time.
    """
    missing = list(found)
    for event, seats in interval.ambiguous():
        candidates = [
            finding
            for finding in missing
            if finding.signer_id in seats
            and finding.name == event.name
            and finding.message in (None, event.message)
            and event.document_id in (None, finding.document_id)
            and (not finding.dated or -SIGNATURE_TOLERANCE <= _delay(finding, event) <= MAX_CALLBACK_DELAY)
        ]
        if candidates:
            missing.remove(min(candidates, key=lambda finding: abs(_delay(finding, event))))
    return missing


def _delay(finding: Finding, event: StoredEvent) -> timedelta:
    """Return how much later an event is dated than a finding."""
    return datetime.fromisoformat(event.at) - datetime.fromisoformat(finding.at)


def _reassignments(interval: Interval, before: Iterable[Seat]) -> Iterator[Finding]:
    """Yield a reassignment for each seat with a new person, unless the sender could have edited the package."""
    holders = {seat.role_id: seat for seat in interval.now.seats}
    present = {seat.signer_id for seat in interval.now.seats}
    for seat in before if _was_sent_throughout(interval) and not interval.is_incomplete else ():
        holder = holders.get(seat.role_id)
        if not seat.occupied or seat.signer_id in present or holder is None or not holder.occupied:
            continue
        if not _is_reassignment_known(interval, seat, holder):
            event = new_finding(interval, "ROLE_REASSIGN", None, signer_id=seat.signer_id)
            yield replace(event, extra={"newRoleId": holder.role_id})


def _was_sent_throughout(interval: Interval) -> bool:
    """Whether the package was sent in the older snapshot, is sent or complete now, and had no other status since."""
    statuses = {status_after(event.name) for event in interval.events}
    was_sent = interval.before is not None and interval.before.status == "SENT"
    stayed_sent = was_sent and statuses <= {None, *COMPLETE_STATUSES}
    return stayed_sent and interval.now.status in {"SENT", *COMPLETE_STATUSES}


def _is_reassignment_known(interval: Interval, seat: Seat, holder: Seat) -> bool:
    """Whether a known event reports the reassignment: from the old person, to the new person, or by the sender."""
    return any(
        event.name == "ROLE_REASSIGN"
        and (
            event.who in (None, seat.signer_id, seat.role_id)
            or event.to in (holder.role_id, holder.signer_id)
            or (event.to is None and event.who == interval.now.sender.id)
        )
        for event in interval.events
    )
