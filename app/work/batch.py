"""Apply a batch of journal rows: store events, merge claims, enqueue dispatches and fetches."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from sqlalchemy.engine import Connection

from app.onespan import merge
from app.onespan.callbacks import Callback
from app.onespan.confirmation import FoundEvent, KnownFingerprints, confirmed_event
from app.onespan.fetch_rules import DELIVERY_TIME, LAG_DELAYS, fetch_reason, is_behind, next_lag_fetch
from app.onespan.merge import State
from app.onespan.projection import derive
from app.onespan.snapshot import PackageSnapshot
from app.onespan.values import Package
from app.registry import Handlers
from app.store import dispatches, events, fetches, journal, list_state, missed, onespan_clock, packages, versions
from app.store.events import NewEvent
from app.store.fetches import LagFetch
from app.store.list_state import ListTimes
from app.store.packages import Cause, NewChange
from app.store.receiving_since import receiving_since
from app.store.states import Emit
from app.types import iso
from app.work.parsing import ParsedEntry, parse
from app.work.snapshot_events import DatedSnapshot, may_emit, unreported_deletion, unreported_events
from app.work.upgrade import load_current

BEGINNING = datetime.min.replace(tzinfo=UTC)
REFUSED_FOR = timedelta(hours=1)  # a package that OneSpan refused is not fetched again for this long
FETCH_DELAY = timedelta(seconds=2)  # callbacks often come together; one fetch then serves all of them


@dataclass
class BatchPackages:
    """The packages of a batch: their values before the batch, and after the rows applied so far."""

    states: dict[str, State]
    before: dict[str, Package] = field(default_factory=dict)
    now: dict[str, Package] = field(default_factory=dict)
    changes: list[NewChange] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.before = {package_id: derive(package_id, state) for package_id, state in self.states.items()}
        self.now = dict(self.before)

    def merge(self, entry: ParsedEntry) -> bool:
        """Merge the claims of a journal row and collect the changes. Returns whether the package changed."""
        package_id = entry.package_id
        old_state = self.states.get(package_id, {})
        state = merge.merge_claims(old_state, entry.claims)
        if state is old_state:
            return False
        old, new = self.now.get(package_id), derive(package_id, state)
        self.states[package_id], self.now[package_id] = state, new
        changes = list(packages.changes_between(old, new, happened_at=entry.happened_at, cause=entry.cause))
        self.changes += changes
        return bool(changes)

    def changed(self) -> dict[str, tuple[State, Package]]:
        """Return the packages to write, by id."""
        return {
            package_id: (self.states[package_id], package)
            for package_id, package in self.now.items()
            if package is not self.before.get(package_id)
        }


class Batch:
    """A batch of journal rows, applied in their order while the caller holds the write lock."""

    def __init__(self, connection: Connection, rows: Sequence[Any], *, handlers: Handlers, now: datetime) -> None:
        self._connection = connection
        self._handlers = handlers
        self._now = now
        self._offset = onespan_clock.known_offset(connection)
        self._entries = [replace(parse(row), clock_offset=self._clock_offset) for row in rows]
        package_ids = {entry.package_id for entry in self._entries}
        callbacks = [(entry.callback, entry.received_at) for entry in self._entries if entry.callback]
        self._ids = events.find_known(connection, callbacks)
        self._facts = KnownFingerprints(self._ids)
        self._stored = load_current(connection, package_ids, now=now)
        self._packages = BatchPackages({package_id: stored.claims for package_id, stored in self._stored.items()})
        self._unconfirmed = events.unconfirmed(connection, package_ids)
        self._list_times = list_state.times(connection, package_ids)
        self._stored_snapshots: dict[str, list[DatedSnapshot]] = {}
        self._new_snapshots: dict[str, list[DatedSnapshot]] = {}
        self._fingerprints: dict[int, str] = {}
        self._new: list[NewEvent] = []
        self._repeats: list[str] = []
        self._confirmed: dict[int, events.Confirmation] = {}
        self._dispatches: list[tuple[int, str, str]] = []
        self._fetches: dict[str, str] = {}
        self._lagging: dict[str, ParsedEntry] = {}

    def digest(self, *, can_fetch: bool) -> None:
        """Apply all rows and write the result. With `can_fetch`, callbacks can enqueue fetches."""
        for entry in self._entries:
            if entry.callback:
                self._apply_callback(entry, entry.callback)
            else:
                self._apply_snapshot(entry)
        self._add_new()
        self._write(can_fetch=can_fetch)

    def _apply_callback(self, entry: ParsedEntry, callback: Callback) -> None:
        fingerprint, is_repeat = self._facts.identify(callback, received_at=entry.received_at)
        self._fingerprints[entry.id] = fingerprint
        if is_repeat:
            self._repeats.append(fingerprint)
            return
        before = self._packages.now.get(entry.package_id)
        state = self._packages.states.get(entry.package_id)
        of_package = (event for event in self._unconfirmed if event.package_id == entry.package_id)
        if found := confirmed_event(callback, of_package, state=state, happened_at=entry.happened_at):
            self._unconfirmed.remove(found)
            dated = entry.happened_at if callback.happened_at else None
            self._confirmed[found.id] = events.Confirmation(fingerprint, dated)
            self._ids[fingerprint] = found.id
        else:
            self._new.append(NewEvent(fingerprint, callback, entry.happened_at, entry.received_at))
        changed = self._packages.merge(entry)
        after = self._packages.now[entry.package_id]
        late = changed and self._is_late(entry)
        reason = None if found else fetch_reason(callback, before=before, after=after, late=late)
        is_new = before is None or (before.deleted and not after.deleted)
        if reason and (is_new or not self._is_refused(entry.package_id)):
            self._fetches.setdefault(entry.package_id, reason)

    def _is_late(self, entry: ParsedEntry) -> bool:
        """Return whether OneSpan should have shown before what this callback reports, or the callback took too long."""
        if entry.happened_at < self._onespan_now - DELIVERY_TIME:
            return True
        listed = self._list_times.get(entry.package_id, ListTimes()).seen_at or BEGINNING
        read_at = merge.newest_claim_at(self._packages.states[entry.package_id], "snapshot")
        return entry.happened_at <= listed or iso(entry.happened_at) <= read_at

    def _is_refused(self, package_id: str) -> bool:
        """Return whether OneSpan has just refused to show a package."""
        refused_at = self._list_times.get(package_id, ListTimes()).refused_at
        return refused_at is not None and refused_at >= self._onespan_now - REFUSED_FOR

    def _apply_snapshot(self, entry: ParsedEntry) -> None:
        self._add_new()  # so that events of the callbacks before this snapshot count as reported
        self._confirm()
        if entry.snapshot is None or may_emit(entry.snapshot, entry.emit, began_at=self._began_at):
            self._new += self._unreported(entry)
            self._add_new()
        if entry.snapshot and entry.snapshot.has_parts:
            self._new_snapshots.setdefault(entry.package_id, []).append(_dated(entry, entry.snapshot))
        self._packages.merge(entry)
        self._lagging.pop(entry.package_id, None)
        if entry.snapshot and entry.answered_at:
            state = self._packages.states[entry.package_id]
            if is_behind(entry.snapshot, state, settled_at=entry.settled_at, answered_at=entry.answered_at):
                self._lagging[entry.package_id] = entry

    def _unreported(self, entry: ParsedEntry) -> list[NewEvent]:
        before = self._last_snapshot(entry.package_id) if entry.emit != Emit.ALL else None
        known = events.of_package(self._connection, entry.package_id, after=before.known_since if before else None)
        if entry.snapshot is None:
            empty = _dated(entry, PackageSnapshot(entry.package_id))
            return unreported_deletion(empty, before=before, known=known)
        began_at = self._began_at if entry.emit != Emit.ALL else None
        return unreported_events(_dated(entry, entry.snapshot), before=before, known=known, began_at=began_at)

    def _last_snapshot(self, package_id: str) -> DatedSnapshot | None:
        """Return the newest complete snapshot by OneSpan's clock, from the journal and from this batch."""
        if package_id not in self._stored_snapshots:
            stored = self._last_stored_snapshot(package_id)
            self._stored_snapshots[package_id] = [stored] if stored else []
        known = [*self._stored_snapshots[package_id], *self._new_snapshots.get(package_id, ())]
        return max(known, key=lambda snapshot: (snapshot.read_at, snapshot.journal_id), default=None)

    def _last_stored_snapshot(self, package_id: str) -> DatedSnapshot | None:
        row = journal.last_snapshot(self._connection, package_id)
        while row:
            entry = parse(row)
            if entry.snapshot and entry.snapshot.has_parts:
                return _dated(entry, entry.snapshot)
            row = journal.last_snapshot(self._connection, package_id, before=row.id)
        return None

    @cached_property
    def _began_at(self) -> datetime:
        """The time when this service began to receive callbacks; the current time if no callback has arrived."""
        return receiving_since(self._connection) or self._onespan_now

    @property
    def _clock_offset(self) -> float | None:
        return self._offset.total_seconds() if self._offset is not None else None

    @property
    def _onespan_now(self) -> datetime:
        """The current time of OneSpan's clock."""
        return self._now + (self._offset or timedelta(0))

    def _add_new(self) -> None:
        for event_id, event in zip(events.add(self._connection, self._new), self._new, strict=True):
            self._ids[event.fingerprint] = event_id
            package_id, name = event.callback.package_id, event.callback.name
            self._dispatches += [(event_id, package_id, handler) for handler in self._handlers.handlers_for(name)]
            if event.found:
                after, until = event.found
                self._unconfirmed.append(
                    FoundEvent.of(event_id, event.callback, at=event.happened_at, after=after, until=until)
                )
        self._new = []

    def _confirm(self) -> None:
        events.confirm(self._connection, self._confirmed)
        missed.mark_reported(self._connection, self._confirmed, now=self._now)
        self._confirmed = {}

    def _verified(self) -> dict[str, Cause]:
        """Return the packages that OneSpan shows or that are known to be deleted, each with the cause."""
        after = self._packages.now
        return {
            entry.package_id: entry.cause
            for entry in self._entries
            if entry.snapshot or (entry.package_id in after and after[entry.package_id].deleted)
        }

    def _write(self, *, can_fetch: bool) -> None:
        connection, now, repeats = self._connection, self._now, Counter(self._repeats)
        events.count_repeats(connection, {self._ids[fingerprint]: times for fingerprint, times in repeats.items()})
        self._confirm()
        version = versions.version_to_write(connection, now=now)
        entries = {package_id: stored.entry for package_id, stored in self._stored.items()}
        changed, before = self._packages.changed(), self._packages.before
        packages.write_packages(connection, changed, before, entries=entries, version=version)
        packages.record_changes(connection, self._packages.changes, now=now)
        packages.end_unverified(connection, self._verified(), now=now)
        dispatches.enqueue(connection, self._dispatches, now=now)
        if can_fetch:
            fetches.enqueue(connection, self._fetches, now=now, delay=FETCH_DELAY)
            fetches.enqueue_again(connection, [_lag_fetch(entry, now=now) for entry in self._lagging.values()], now=now)
        event_ids = {entry.id: self._ids.get(self._fingerprints.get(entry.id, "")) for entry in self._entries}
        received = [entry.received_at for entry in self._entries if entry.callback]
        journal.settle(connection, event_ids, callbacks=received, clock_offset=self._clock_offset, now=now)


def _lag_fetch(entry: ParsedEntry, *, now: datetime) -> LagFetch:
    """Return the next fetch of a package whose snapshot showed less than a callback."""
    assert entry.answered_at
    number, since = next_lag_fetch(entry.lag_fetches, entry.lagged_at, answered_at=entry.answered_at)
    emit = Emit.NONE if entry.emit == Emit.NONE else Emit.NEW
    return LagFetch(entry.package_id, number, since, now + LAG_DELAYS[number - 1], emit)


def _dated(entry: ParsedEntry, package: PackageSnapshot) -> DatedSnapshot:
    assert entry.read_at
    assert entry.answered_at
    return DatedSnapshot(
        entry.id, entry.received_at, entry.read_at, entry.settled_at, entry.answered_at, package, entry.emit
    )
