"""Derive the events that only snapshots show, from the difference between two snapshots of a package.

The functions are pure. Events from callbacks explain a part of the difference; the rest becomes snapshot events.
Nothing is guessed: a status change is an event only along the lifecycle that OneSpan documents. Changes without a
documented event, such as un-archiving or the return of an expired package to draft, yield no event.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from app.onespan.event_catalogue import event_type, life_rank
from app.onespan.lifecycle import (
    COMPLETE_STATUSES,
    CREATION_EVENTS,
    NOT_CREATED,
    path_to_event,
    shortest_path,
    status_after,
)
from app.onespan.merge import EPOCH
from app.onespan.packages import PackageSnapshot, Seat
from app.types import iso


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event that is already stored. `at` is its time on OneSpan's clock; `who` is the id of a signer or a role.

    `to` is the id of the new role after a reassignment.
    """

    name: str
    at: str
    who: str | None = None
    document_id: str | None = None
    message: str | None = None
    to: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """An event that no callback reported. The event happened in (`after`, `until`], in OneSpan's time (ISO 8601).

    `at` is the event's time in the snapshot if `dated`, otherwise an estimate. If several people share a role,
    `signer_id` is the role's id, because a snapshot does not show which of the people acted.
    """

    name: str
    after: str
    until: str
    at: str
    signer_id: str | None = None
    document_id: str | None = None
    message: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict)
    dated: bool = False


@dataclass(frozen=True, slots=True)
class Interval:
    """Two snapshots of a package and the known events between them.

    `before` is the older snapshot, taken at `after`; `now` is the newer snapshot, taken between `seen` and `until`. So
    `now` includes everything until `seen`, and perhaps what happened between `seen` and `until`. `events` are the known
    events between `after` and `until`. `late` are known events that are dated later and that `now` may include, because
    such events cannot soon happen twice.
    """

    before: PackageSnapshot | None
    after: str
    now: PackageSnapshot
    seen: str
    until: str
    events: tuple[StoredEvent, ...]
    late: tuple[StoredEvent, ...] = ()

    @property
    def is_incomplete(self) -> bool:
        """Whether one of the two snapshots is incomplete."""
        return self.now.incomplete or (self.before is not None and self.before.incomplete)

    def has_event(self, name: str, *, who: Iterable[str] = (), document_id: str | None = None) -> bool:
        """Whether an event of this name is known: by one of the ids `who` and about `document_id`, if given."""
        ids = tuple(who)
        return any(
            event.name == name
            and (not ids or event.who is None or event.who in ids)
            and (document_id is None or event.document_id == document_id)
            for event in (*self.events, *self.late)
        )


def findings(
    before: PackageSnapshot | None,
    now: PackageSnapshot,
    *,
    after: str = EPOCH,
    seen: str | None = None,
    until: str,
    known: Iterable[StoredEvent],
) -> list[Finding]:
    """Return the events between the snapshots `before` (taken at `after`) and `now` that are missing in `known`.

    `known` are the known events of this package, in any order. OneSpan read the package between `seen` (default:
    `until`) and `until`, so `now` may lack known events of that time. The result is in the order in which the
    events must have happened.
    """
    later = sorted((event for event in known if after < event.at), key=lambda event: (event.at, life_rank(event.name)))
    between = tuple(event for event in later if event.at <= until)
    late = tuple(event for event in later if until < event.at <= _latest_date(event.name, until))
    interval = Interval(before, after, now, max(after, seen or until), until, between, late)
    late_names = {event.name for event in late}
    changes = (event for event in _status_events(interval) if event.name not in late_names)
    missing = [*changes, *_trash_events(interval), *_signer_events(interval), *_ready_event(interval)]
    return sorted(missing, key=_sort_key)


def _sort_key(event: Finding) -> tuple[str, int, str, str]:
    return event.at, life_rank(event.name), event.signer_id or "", event.document_id or ""


def _latest_date(name: str, until: str) -> str:
    """Return the latest date that a callback for the event `name` may have if the event happened by `until`."""
    return iso(datetime.fromisoformat(until) + event_type(name).max_date_lag)


def _status_events(interval: Interval) -> Iterator[Finding]:
    """Follow the package's status through the known events, and yield the missing events between them."""
    now, status, since = interval.now, _status_before(interval), interval.after
    creation = CREATION_EVENTS.get(now.type or "")
    possible = {status}  # the statuses that the snapshot may show
    for event in interval.events:
        new_status = status_after(event.name)
        if new_status is None:
            continue
        name = "PACKAGE_CREATE" if event.name in CREATION_EVENTS.values() else event.name
        path = path_to_event(status, name) if new_status != status else ()
        yield from _in_order(_status_event(name, creation, since, event.at, at=event.at, now=now) for name in path)
        passed = {new_status, *filter(None, map(status_after, path))}
        possible = {new_status} if event.at <= interval.seen else possible | passed
        status, since = new_status, event.at
    path = () if now.status in possible else shortest_path(status, now.status)
    if path and path[-1] == "PACKAGE_DEACTIVATE" and not _kept_due_date(interval):
        path = path[:-1]
    until, seen = interval.until, interval.seen
    yield from _in_order(_status_event(name, creation, since, until, at=seen, now=now) for name in path)


def _in_order(candidates: Iterable[Finding | None]) -> list[Finding]:
    """Drop the candidates that are None, and date no event later than the event that follows it."""
    events = [event for event in candidates if event]
    for index in range(len(events) - 2, -1, -1):
        if events[index].at > events[index + 1].at:
            events[index] = replace(events[index], at=events[index + 1].at)
    return events


def _kept_due_date(interval: Interval) -> bool:
    """Whether the due date is the same in both snapshots. If so, a sent package that is now a draft did not expire."""
    return interval.before is not None and interval.before.due == interval.now.due


def _status_event(
    name: str | None, creation: str | None, after: str, until: str, *, at: str, now: PackageSnapshot
) -> Finding | None:
    name = creation if name == "PACKAGE_CREATE" else name
    if name is None:
        return None
    dates = {"PACKAGE_CREATE": now.created, "TEMPLATE_CREATE": now.created, "PACKAGE_COMPLETE": now.completed}
    exact = dates.get(name)
    likely = exact or (_first_signature(now) if name == "PACKAGE_ACTIVATE" else None) or now.updated
    happened_at = _within(likely, after, until, otherwise=at)
    event = Finding(name, after, until, happened_at, dated=happened_at == exact)
    if name in ("PACKAGE_DECLINE", "PACKAGE_OPT_OUT") and now.ended_by:
        event = replace(event, signer_id=now.ended_by.signer_id, message=now.ended_by.reason)
    return event


def _status_before(interval: Interval) -> str | None:
    """Return the status in the older snapshot: None if it shows no status, `NOT_CREATED` if there is no snapshot."""
    return interval.before.status if interval.before else NOT_CREATED


def _trash_events(interval: Interval) -> Iterator[Finding]:
    in_trash = interval.before.trashed if interval.before else False
    possible, since = {in_trash, None}, interval.after
    for event in interval.events:
        if event.name in ("PACKAGE_TRASH", "PACKAGE_RESTORE"):
            in_trash, since = event.name == "PACKAGE_TRASH", event.at
            possible = {in_trash, None} if event.at <= interval.seen else {True, False, None}
    if in_trash is not None and interval.now.trashed not in possible:
        name = "PACKAGE_TRASH" if interval.now.trashed else "PACKAGE_RESTORE"
        likely = _within(interval.now.updated, since, interval.until, otherwise=interval.seen)
        yield Finding(name, since, interval.until, likely)


def _signer_events(interval: Interval) -> Iterator[Finding]:
    old_seats = interval.before.seats if interval.before else ()
    before = {seat.signer_id: seat for seat in old_seats} | {seat.role_id: seat for seat in old_seats}
    roles: dict[str, list[Seat]] = {}
    for seat in interval.now.seats:
        roles.setdefault(seat.role_id, []).append(seat)
    for role_id, seats in roles.items():
        who = (role_id, *(seat.signer_id for seat in (*seats, *old_seats) if seat.role_id == role_id))
        old_seat = next((before[user_id] for user_id in who if user_id in before), None)
        if interval.is_incomplete and role_id not in before:
            continue  # the signer may have had another role in the older snapshot
        who = () if interval.is_incomplete else who
        signer_id = role_id if len(seats) > 1 else seats[0].signer_id
        yield from _role_events(interval, old_seat, seats[0], who=who, signer_id=signer_id)
    yield from _reassignments(interval, old_seats)


def _role_events(
    interval: Interval, before: Seat | None, now: Seat, *, who: tuple[str, ...], signer_id: str
) -> Iterator[Finding]:
    """Yield the missing events of the people in a role.

    `who` are the ids of the role and of its current and former people; empty if not all of these ids are known.
    All seats of a role have the same values.
    """
    signed = {item.id: at for item in interval.now.documents if (at := (item.signed or {}).get(now.role_id))}
    for document_id, at in signed.items():
        is_new = at > interval.after and _was_open(interval, document_id, role_id=(before or now).role_id)
        if is_new and not interval.has_event("DOCUMENT_SIGNED", who=who, document_id=document_id):
            yield _event(interval, "DOCUMENT_SIGNED", at, signer_id=signer_id, document_id=document_id)
    was_open = not (interval.before and interval.before.documents_incomplete) and not (before and before.completed)
    if now.completed and was_open and not interval.has_event("SIGNER_COMPLETE", who=who):
        yield _event(interval, "SIGNER_COMPLETE", max(signed.values(), default=None), signer_id=signer_id)
    was_free = before is None or before.locked is False
    if now.locked and was_free and not interval.has_event("SIGNER_LOCKED", who=who):
        yield _event(interval, "SIGNER_LOCKED", None, signer_id=signer_id)
    uploaded = before.attachments if before else ()
    if uploaded is not None:
        for name in sorted({*(now.attachments or ())} - {*uploaded}):
            if not _is_upload_known(interval, name, who=who):
                yield _event(interval, "PACKAGE_ATTACHMENT", None, signer_id=signer_id, message=name)


def _is_upload_known(interval: Interval, name: str, *, who: tuple[str, ...]) -> bool:
    """Whether a known event reports the upload `name`. Uploads of the same name by other roles do not count."""
    other_seats = [seat for seat in interval.now.seats if seat.role_id not in who]
    others = {user_id for seat in other_seats for user_id in (seat.signer_id, seat.role_id)}
    uploads = (event for event in interval.events if event.name == "PACKAGE_ATTACHMENT" and event.message == name)
    return any(not who or event.who not in others for event in uploads)


def _reassignments(interval: Interval, before: Iterable[Seat]) -> Iterator[Finding]:
    """Yield a reassignment for each seat with a new person, unless the sender could have edited the package."""
    holders = {seat.role_id: seat for seat in interval.now.seats}
    present = {seat.signer_id for seat in interval.now.seats}
    for seat in before if _was_sent_throughout(interval) and not interval.is_incomplete else ():
        holder = holders.get(seat.role_id)
        if not seat.occupied or seat.signer_id in present or holder is None or not holder.occupied:
            continue
        if not _is_reassignment_known(interval, seat, holder):
            event = _event(interval, "ROLE_REASSIGN", None, signer_id=seat.signer_id)
            yield replace(event, extra={"newRoleId": holder.role_id})


def _was_sent_throughout(interval: Interval) -> bool:
    """Whether the package was sent in the older snapshot, is sent or complete now, and had no other status since."""
    statuses = {status_after(event.name) for event in interval.events}
    was_sent = _status_before(interval) == "SENT" and statuses <= {None, *COMPLETE_STATUSES}
    return was_sent and interval.now.status in {"SENT", *COMPLETE_STATUSES}


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


def _ready_event(interval: Interval) -> Iterator[Finding]:
    """Yield PACKAGE_READY_FOR_COMPLETE if all signers have signed and the package waits for its sender, or did so."""
    before, now = interval.before, interval.now
    was_open = before is None or (before.ready is False and before.status not in {None, *COMPLETE_STATUSES})
    by_hand = now.status in COMPLETE_STATUSES and now.autocomplete is False and now.all_signed
    if was_open and (now.ready or by_hand) and not interval.has_event("PACKAGE_READY_FOR_COMPLETE"):
        yield _event(interval, "PACKAGE_READY_FOR_COMPLETE", _last_signature(now))


def _event(
    interval: Interval,
    name: str,
    at: str | None,
    *,
    signer_id: str | None = None,
    document_id: str | None = None,
    message: str | None = None,
) -> Finding:
    likely = _within(at or interval.now.updated, interval.after, interval.until, otherwise=interval.seen)
    return Finding(name, interval.after, interval.until, likely, signer_id, document_id, message, dated=likely == at)


def _within(at: str | None, after: str, until: str, *, otherwise: str) -> str:
    """Return the first of the times `at` and `otherwise` that lies in (`after`, `until`], else `until`."""
    return next((time for time in (at, otherwise) if time and after < time <= until), until)


def _was_open(interval: Interval, document_id: str, *, role_id: str) -> bool:
    """Whether the older snapshot shows that this role had not signed the document."""
    before = interval.before
    old_document = next((item for item in before.documents if item.id == document_id), None) if before else None
    if old_document is None:
        return before is None or not before.documents_incomplete
    return old_document.signed is not None and not old_document.signed.get(role_id)


def _signatures(snapshot: PackageSnapshot) -> list[str]:
    return [at for document in snapshot.documents for at in (document.signed or {}).values() if at]


def _first_signature(snapshot: PackageSnapshot) -> str | None:
    return min(_signatures(snapshot), default=None)


def _last_signature(snapshot: PackageSnapshot) -> str | None:
    return max(_signatures(snapshot), default=None)
