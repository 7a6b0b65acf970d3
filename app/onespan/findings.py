"""Derive the events that only snapshots show, from the difference between two snapshots of a package.

The functions are pure. Events from callbacks explain a part of the difference; the rest becomes snapshot events.
Nothing is guessed: a status change is an event only along the lifecycle that OneSpan documents. Changes without a
documented event, such as un-archiving or the return of an expired package to draft, yield no event.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from app.onespan.claims import UPDATED_RESOLUTION
from app.onespan.event_catalogue import STATUSES, event_type, life_rank
from app.onespan.interval import Finding, Interval, SnapshotTimes, StoredEvent, new_finding, signatures, within
from app.onespan.lifecycle import (
    COMPLETE_STATUSES,
    CREATION_EVENTS,
    NOT_CREATED,
    path_to_event,
    shortest_path,
    status_after,
    statuses_along,
)
from app.onespan.merge import EPOCH
from app.onespan.seat_findings import signer_findings
from app.onespan.snapshot import PackageSnapshot
from app.types import iso

# What the sender does moves the package's `updated`. Of other missing events, the last may be later than `updated`.
MOVES_UPDATED = frozenset({"PACKAGE_ACTIVATE", "PACKAGE_DEACTIVATE"})
NEVER = SnapshotTimes.at(EPOCH)  # the times of a snapshot that does not exist


@dataclass(frozen=True, slots=True)
class _Since:
    """A known event that a missing event followed. It happened after `after`; `at` may be an estimate."""

    after: str
    at: str

    def then(self, event: StoredEvent) -> "_Since":
        """Return the same for the next known event."""
        return _Since(max(self.after, event.after or event.at), event.at)


def findings(
    before: PackageSnapshot | None,
    now: PackageSnapshot,
    *,
    after: SnapshotTimes = NEVER,
    at: SnapshotTimes,
    known: Iterable[StoredEvent],
) -> list[Finding]:
    """Return the events between the snapshots `before` (taken at `after`) and `now` (taken at `at`) missing in `known`.

    `known` are the known events of this package, in any order. OneSpan read the package between `at.seen` and
    `at.until`, so `now` may lack known events of that time. The result is in the order in which the events must have
    happened.
    """
    in_order = sorted(known, key=lambda event: (event.at, life_rank(event.name)))
    earlier = tuple(event for event in in_order if event.at <= after.settled)
    later = in_order[len(earlier) :]
    between = tuple(event for event in later if event.at <= at.until)
    late = tuple(event for event in later if at.until < event.at <= _latest_date(event.name, at.until))
    interval = Interval(before, after, now, replace(at, seen=max(after.seen, at.seen)), between, late, earlier)
    missing = [*_trash_events(interval), *signer_findings(interval)]
    if not interval.is_stale:
        late_names = {event.name for event in late}
        changes = (event for event in _status_events(interval) if event.name not in late_names)
        missing += [*changes, *_ready_event(interval)]
    return sorted(missing, key=_sort_key)


def _sort_key(event: Finding) -> tuple[str, int, str, str]:
    return event.at, life_rank(event.name), event.signer_id or "", event.document_id or ""


def _latest_date(name: str, until: str) -> str:
    """Return the latest date that a callback for the event `name` may have if the event happened by `until`."""
    return iso(datetime.fromisoformat(until) + event_type(name).max_date_lag)


def _status_events(interval: Interval) -> Iterator[Finding]:
    """Follow the package's status through the known events, and yield the missing events between them.

    OneSpan's API may lag, so the newer snapshot may be from before the events that are dated after `at.settled`.
    """
    now, at = interval.now, interval.at
    if _is_unchanged(interval):
        return  # known events of this time are false, or not visible yet
    steps = [event for event in interval.events if status_after(event.name)]
    settled = [event for event in steps if event.at <= at.settled]
    later = steps[len(settled) :]
    found, status, since = _between(interval, _credible(settled, now.status))
    yield from found
    if now.status not in (None, *_passed(status, later)):
        path = _kept(shortest_path(status, now.status), interval)
        until, likely = (later[0].at, max(since.at, at.settled)) if later else (at.until, at.seen)
        yield from _missing(path, interval, since, until, at=likely)
        return
    for event in later:
        path = _path(status, event)
        statuses = statuses_along(status, path)
        if now.status in statuses:
            yield from _missing(path[: statuses.index(now.status)], interval, since, event.at, at=event.at)
            return  # what the snapshot does not show came later
        yield from _missing(path, interval, since, event.at, at=event.at)
        status, since = status_after(event.name), since.then(event)


def _is_unchanged(interval: Interval) -> bool:
    """Whether OneSpan changed nothing between the two snapshots: each change of the status moves `updated`."""
    before, now = interval.before, interval.now
    if before is None or now.updated is None or before.updated != now.updated:
        return False
    return before.status == now.status or None in (before.status, now.status)


def _credible(events: Iterable[StoredEvent], shown: str | None) -> list[StoredEvent]:
    """Leave out the events after which OneSpan documents no path to what followed: a callback may be false."""
    credible, following = list[StoredEvent](), shown
    for event in reversed(list(events)):
        status = status_after(event.name)
        if following not in STATUSES or status == following or shortest_path(status, following):
            credible.insert(0, event)
            following = status
    return credible


def _between(interval: Interval, events: Iterable[StoredEvent]) -> tuple[list[Finding], str | None, _Since]:
    """Return the missing events between known events, the status after them, and the last of them."""
    settled = interval.after.settled
    found, status, since = list[Finding](), _status_before(interval), _Since(settled, settled)
    for event in events:
        path = _path(status, event)
        likely = (_status_event(name, since, event.at, at=event.at, now=interval.now) for name in path)
        found += _in_order(likely)
        status, since = status_after(event.name), since.then(event)
    return found, status, since


def _path(status: str | None, event: StoredEvent) -> tuple[str | None, ...]:
    """Return the events that must have happened between a status and a known event."""
    name = "PACKAGE_CREATE" if event.name in CREATION_EVENTS.values() else event.name
    return path_to_event(status, name) if status_after(event.name) != status else ()


def _passed(status: str | None, events: Iterable[StoredEvent]) -> Iterator[str | None]:
    """Yield the statuses that a package passes with these events, the present status included."""
    yield status
    for event in events:
        yield from statuses_along(status, _path(status, event))[1:]
        status = status_after(event.name)
        yield status


def _kept(path: tuple[str | None, ...], interval: Interval) -> tuple[str | None, ...]:
    """Leave out a return to draft with another due date: the package may have expired."""
    is_unclear = path and path[-1] == "PACKAGE_DEACTIVATE" and not _kept_due_date(interval)
    return path[:-1] if is_unclear else path


def _missing(path: Iterable[str | None], interval: Interval, since: _Since, until: str, *, at: str) -> list[Finding]:
    """Return the events of a path, which followed `since` until `until`. `at` is their time if nothing shows it."""
    events = _in_order(_status_event(name, since, until, at=at, now=interval.now) for name in path)
    changed = max(since.at, min(until, _changed_at(interval)))
    return [
        _not_after(event, changed) if event is not events[-1] or _moved_updated(event, changed) else event
        for event in events
    ]


def _moved_updated(event: Finding, updated: str) -> bool:
    return event.name in MOVES_UPDATED and event.after < updated


def _not_after(event: Finding, until: str) -> Finding:
    return replace(event, until=until, at=min(event.at, until))


def _changed_at(interval: Interval) -> str:
    """Return the latest time of a change that the newer snapshot shows. Some changes do not move `updated`."""
    updated, at = interval.now.updated, interval.at
    return max(at.settled, iso(datetime.fromisoformat(updated) + UPDATED_RESOLUTION)) if updated else at.until


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


def _status_event(name: str | None, since: _Since, until: str, *, at: str, now: PackageSnapshot) -> Finding | None:
    name = CREATION_EVENTS.get(now.type or "") if name == "PACKAGE_CREATE" else name
    if name is None:
        return None
    dates = {"PACKAGE_CREATE": now.created, "TEMPLATE_CREATE": now.created, "PACKAGE_COMPLETE": now.completed}
    exact = dates.get(name)
    first = _first_signature(now, after=since.at) if name == "PACKAGE_ACTIVATE" else None
    happened_at = within(exact or first or now.updated, since.at, until, otherwise=at)
    event = Finding(name, since.after, until, happened_at, dated=happened_at == exact)
    if name in ("PACKAGE_DECLINE", "PACKAGE_OPT_OUT") and now.ended_by:
        event = replace(event, signer_id=now.ended_by.person_id, message=now.ended_by.reason)
    return event


def _status_before(interval: Interval) -> str | None:
    """Return the status in the older snapshot: None if it shows no status, `NOT_CREATED` if there is no snapshot."""
    return interval.before.status if interval.before else NOT_CREATED


def _trash_events(interval: Interval) -> Iterator[Finding]:
    in_trash = interval.before.trashed if interval.before else False
    possible, since, at = {in_trash, None}, interval.after.seen, interval.at
    for event in interval.events:
        if event.name in ("PACKAGE_TRASH", "PACKAGE_RESTORE") and event.at > interval.after.seen:
            in_trash, since = event.name == "PACKAGE_TRASH", event.at
            possible = {in_trash, None} if event.at <= at.seen else {True, False, None}
    if in_trash is not None and interval.now.trashed not in possible:
        name = "PACKAGE_TRASH" if interval.now.trashed else "PACKAGE_RESTORE"
        yield Finding(name, since, at.until, within(interval.now.updated, since, at.until, otherwise=at.seen))


def _ready_event(interval: Interval) -> Iterator[Finding]:
    """Yield PACKAGE_READY_FOR_COMPLETE if all signers have signed and the package waits for its sender, or did so."""
    before, now = interval.before, interval.now
    was_waiting = before is not None and (before.ready is False or _was_only_clicked(before, interval))
    was_open = before is None or (was_waiting and before.status not in {None, *COMPLETE_STATUSES})
    by_hand = now.status in COMPLETE_STATUSES and now.autocomplete is False and now.all_signed
    if was_open and (now.ready or by_hand) and not interval.has_event("PACKAGE_READY_FOR_COMPLETE"):
        yield new_finding(interval, "PACKAGE_READY_FOR_COMPLETE", _last_signature(now))


def _was_only_clicked(before: PackageSnapshot, interval: Interval) -> bool:
    """Whether the older snapshot shows a click that was perhaps no signature, and the last signature is newer."""
    is_known = before.autocomplete is not None and not before.incomplete
    return is_known and bool(before.clicked_at) and (_last_signature(interval.now) or "") > interval.after.settled


def _first_signature(snapshot: PackageSnapshot, *, after: str) -> str | None:
    return min((at for at in signatures(snapshot) if at > after), default=None)


def _last_signature(snapshot: PackageSnapshot) -> str | None:
    return max(signatures(snapshot), default=None)
