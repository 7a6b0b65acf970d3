"""What a batch of journal rows causes: events, changes of the picture, runs that are owed, packages to be read."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from sqlalchemy.engine import Connection

from app.onespan import claims
from app.onespan.callbacks import Callback
from app.onespan.claims import State
from app.onespan.fetch_rules import surprise
from app.onespan.packages import PackageReading
from app.onespan.projection import People, derive
from app.onespan.values import Package
from app.registry import Handlers
from app.store import dispatches, events, fetches, journal, list_state, missed, packages, receiving
from app.store.events import Facts, NewEvent, Unconfirmed
from app.store.packages import NewChange
from app.types import iso
from app.work.parsing import Told, read
from app.work.snapshot_events import ALL, Reading, found_by, gone, may_tell

LONG_AGO = datetime.min.replace(tzinfo=UTC)
DENIED = timedelta(hours=1)  # for so long nobody asks again for a package that was denied us
READ_SOON = timedelta(seconds=2)  # a surprise seldom comes alone; so long the others have to come


@dataclass
class Canvas:
    """The packages a batch touches: what was believed at its start, and what is now."""

    states: dict[str, State]
    before: dict[str, Package] = field(default_factory=dict)
    now: dict[str, Package] = field(default_factory=dict)
    changes: list[NewChange] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.before = {one: derive(one, state) for one, state in self.states.items()}
        self.now = dict(self.before)

    def take(self, told: Told) -> bool:
        """Merge what was told and note what it changed. Returns whether anything did."""
        package_id = told.package_id
        old_state = self.states.get(package_id, {})
        state = claims.merge(old_state, told.claims)
        if state is old_state:
            return False
        old, new = self.now.get(package_id), derive(package_id, state)
        self.states[package_id], self.now[package_id] = state, new
        changes = list(packages.differences(old, new, happened_at=told.happened_at, cause=told.cause))
        self.changes += changes
        return bool(changes)

    def changed(self) -> dict[str, tuple[State, Package]]:
        """What is to be written."""
        return {one: (self.states[one], new) for one, new in self.now.items() if new is not self.before.get(one)}


class Batch:
    """Lets journal rows cause all that they should, in their order. The caller holds the pen."""

    def __init__(self, connection: Connection, rows: Sequence[Any], *, handlers: Handlers, now: datetime) -> None:
        self._connection = connection
        self._handlers = handlers
        self._now = now
        self._told = [read(row) for row in rows]
        package_ids = {one.package_id for one in self._told}
        callbacks = [(one.callback, one.received_at) for one in self._told if one.callback]
        self._ids = events.known(connection, callbacks)
        self._facts = Facts(self._ids)
        self._canvas = Canvas(packages.states(connection, package_ids))
        self._unconfirmed = events.unconfirmed(connection, package_ids)
        self._seen_at = list_state.seen_at(connection, package_ids)
        self._denied = list_state.refused_since(connection, package_ids, since=now - DENIED)
        self._before: dict[str, list[Reading]] = {}
        self._seen: dict[str, list[Reading]] = {}
        self._fingerprints: dict[int, str] = {}
        self._new: list[NewEvent] = []
        self._repeats: list[str] = []
        self._confirmed: dict[int, str] = {}
        self._owed: list[tuple[int, str, str]] = []
        self._wanted: dict[str, str] = {}

    def digest(self, *, asks: bool) -> None:
        """All of it; with `asks` packages that surprise us are to be read."""
        for one in self._told:
            if one.callback:
                self._hear(one, one.callback)
            else:
                self._look(one)
        self._add_new()
        self._write(asks=asks)

    def _hear(self, one: Told, callback: Callback) -> None:
        fingerprint, repeat = self._facts.recognise(callback, received_at=one.received_at)
        self._fingerprints[one.id] = fingerprint
        if repeat:
            self._repeats.append(fingerprint)
            return
        before = self._canvas.now.get(one.package_id)
        if found := self._found_before(one, callback):
            self._unconfirmed.remove(found)
            self._confirmed[found.id] = fingerprint
            self._ids[fingerprint] = found.id
        else:
            self._new.append(NewEvent(fingerprint, callback, one.happened_at, one.received_at))
        changed = self._canvas.take(one)
        after = self._canvas.now[one.package_id]
        late = changed and self._is_late(one)
        reason = None if found else surprise(callback, before=before, after=after, late=late)
        if reason and one.package_id not in self._denied:
            self._wanted.setdefault(one.package_id, reason)

    def _is_late(self, one: Told) -> bool:
        """Whether a list, or a reading, that came before it may have shown what happened since."""
        shown = claims.shown_until(self._canvas.states[one.package_id])
        return one.happened_at <= self._seen_at.get(one.package_id, LONG_AGO) or iso(one.happened_at) <= shown

    def _found_before(self, one: Told, callback: Callback) -> Unconfirmed | None:
        """The fact that a reading found and this callback now tells."""
        to = callback.extra.get("newRoleId")
        who = {callback.session_user, to}
        if state := self._canvas.states.get(one.package_id):
            people = People.of(state)
            for told_id in filter(None, (callback.session_user, to)):
                person = people.person(str(told_id))
                sat = (one for one, role_id in people.roles.items() if role_id == told_id)
                who |= {person, people.roles.get(person), *sat}
            by_sender = callback.session_user == people.about.value("sender_id")
            if callback.name == "ROLE_REASSIGN" and by_sender and to is None:
                callback = replace(callback, session_user=None)  # senders hand over the seats of others
        at = one.happened_at
        return next((found for found in self._unconfirmed if found.is_told_by(callback, who=who, happened_at=at)), None)

    def _look(self, one: Told) -> None:
        self._add_new()  # what was told up to here counts as told
        if one.reading is None or may_tell(one.reading, one.tells, began_at=self._began_at):
            self._new += self._found(one)
            self._add_new()
        if one.reading and one.reading.whole:
            self._seen.setdefault(one.package_id, []).append(_reading(one, one.reading))
        self._canvas.take(one)

    def _found(self, one: Told) -> list[NewEvent]:
        before = self._last_reading(one.package_id) if one.tells != ALL else None
        told = events.of_package(self._connection, one.package_id, after=before.read_at if before else None)
        if one.reading is None:
            return gone(_reading(one, PackageReading.blank(one.package_id)), before=before, told=told)
        began_at = self._began_at if one.tells != ALL else None
        return found_by(_reading(one, one.reading), before=before, told=told, began_at=began_at)

    def _last_reading(self, package_id: str) -> Reading | None:
        """The newest whole one by OneSpan's clock, of those in the journal and those seen in this batch."""
        if package_id not in self._before:
            last = self._kept_reading(package_id)
            self._before[package_id] = [last] if last else []
        known = [*self._before[package_id], *self._seen.get(package_id, ())]
        return max(known, key=lambda one: (one.read_at, one.journal_id), default=None)

    def _kept_reading(self, package_id: str) -> Reading | None:
        row = journal.last_reading(self._connection, package_id)
        while row:
            last = read(row)
            if last.reading and last.reading.whole:
                return _reading(last, last.reading)
            row = journal.last_reading(self._connection, package_id, before=row.id)
        return None

    @cached_property
    def _began_at(self) -> datetime:
        """Since when we listen; where we do not yet, from now on."""
        return receiving.began_at(self._connection) or self._now

    def _add_new(self) -> None:
        for event_id, event in zip(events.add(self._connection, self._new), self._new, strict=True):
            self._ids[event.fingerprint] = event_id
            package_id, name = event.callback.package_id, event.callback.name
            self._owed += [(event_id, package_id, handler) for handler in self._handlers.wanting(name)]
            if event.found:
                self._unconfirmed.append(Unconfirmed.of(event_id, event))
        self._new = []

    def _write(self, *, asks: bool) -> None:
        connection, now = self._connection, self._now
        events.count_repeats(connection, {self._ids[one]: times for one, times in Counter(self._repeats).items()})
        events.confirm(connection, self._confirmed)
        missed.told(connection, self._confirmed, now=now)
        packages.paint(connection, self._canvas.changed(), self._canvas.before)
        packages.record(connection, self._canvas.changes, now=now)
        dispatches.oblige(connection, self._owed, now=now)
        if asks:
            fetches.want(connection, self._wanted, now=now, patience=READ_SOON)
        told = {one.id: self._ids.get(self._fingerprints.get(one.id, "")) for one in self._told}
        journal.settle(connection, told, callbacks=[one.received_at for one in self._told if one.callback], now=now)


def _reading(told: Told, shown: PackageReading) -> Reading:
    assert told.read_at
    assert told.answered_at
    return Reading(told.id, told.received_at, told.read_at, told.answered_at, shown, told.tells)
