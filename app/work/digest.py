"""The turn that digests: journal rows become events, the picture is brought up to them, handlers are owed their runs.

All of it is one transaction per batch: a row is either digested with everything it causes, or not at all.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from app.logs import what_and_where
from app.onespan import claims
from app.onespan.callbacks import Callback, read_callback
from app.onespan.claims import Claim, State
from app.onespan.packages import PackageReading, read_package
from app.onespan.picture import derive
from app.onespan.values import Package
from app.store import events, journal, ledger, picture
from app.store.db import Database, blames_a_row, take_pen
from app.store.events import Facts, NewEvent
from app.store.journal import SET_ASIDE
from app.store.picture import Cause, NewChange
from app.work.attempt import Clock
from app.work.dispatch import Handlers

log = structlog.get_logger()

BATCH = 500  # journal rows in one transaction


@dataclass(frozen=True, slots=True)
class Told:
    """A journal row, read: a callback or a reading of a package."""

    id: int
    received_at: datetime
    package_id: str
    callback: Callback | None = None
    reading: PackageReading | None = None
    read_at: datetime | None = None

    @property
    def claims(self) -> list[Claim]:
        """What it claims."""
        if self.callback:
            return claims.told_by(self.callback, received_at=self.received_at)
        assert self.reading
        assert self.read_at
        return claims.shown_by(self.reading, at=self.read_at)

    @property
    def happened_at(self) -> datetime:
        """OneSpan's time of what it claims."""
        if self.callback:
            return claims.dated(self.callback, received_at=self.received_at)
        assert self.read_at
        return self.read_at

    @property
    def cause(self) -> Cause:
        """How the history names it."""
        return Cause("callback" if self.callback else "snapshot", self.id)


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

    def take(self, told: Told) -> None:
        """Merge what was told and note what it changed."""
        package_id = told.package_id
        old_state = self.states.get(package_id, {})
        state = claims.merge(old_state, told.claims)
        if state is old_state:
            return
        old, new = self.now.get(package_id), derive(package_id, state)
        self.states[package_id], self.now[package_id] = state, new
        self.changes += picture.differences(old, new, happened_at=told.happened_at, cause=told.cause)

    def changed(self) -> dict[str, tuple[State, Package]]:
        """What is to be written."""
        return {one: (self.states[one], new) for one, new in self.now.items() if new is not self.before.get(one)}


class Digest:
    """Digests what waits in the journal. Any number of processes may; one at a time does."""

    def __init__(
        self, database: Database, handlers: Handlers, *, clock: Clock, wake: Callable[[], None] = lambda: None
    ) -> None:
        self._database = database
        self._handlers = handlers
        self._clock = clock
        self._wake = wake

    def turn(self, *, limit: int = BATCH) -> bool:
        """Digest one batch, and wake the dispatcher. Returns whether there was work.

        A row that cannot be digested is set aside with its reason, so that it blocks nothing behind it.
        """
        with self._database.read() as connection:
            if not journal.is_pending(connection):
                return False
        try:
            took = self._batch(limit)
        except Exception as error:
            if not blames_a_row(error):
                raise
            if limit > 1:
                return self.turn(limit=limit // 2)
            took = self._one()
        if took:
            self._wake()
        return bool(took)

    def _batch(self, limit: int) -> int:
        now = self._clock()
        with self._database.write() as connection:
            take_pen(connection)
            rows = journal.pending(connection, limit=limit)
            digest(connection, rows, handlers=self._handlers, now=now)
        if rows:
            log.info("journal.digested", rows=len(rows))
        return len(rows)

    def _one(self) -> int:
        """Digest the next row alone, or set it aside: exactly the one that was tried."""
        now = self._clock()
        with self._database.write() as connection:
            take_pen(connection)
            rows = journal.pending(connection, limit=1)
            for row in rows:
                try:
                    with connection.begin_nested():
                        digest(connection, rows, handlers=self._handlers, now=now)
                except Exception as error:
                    if not blames_a_row(error):
                        raise
                    journal.give_up(connection, row.id, reason=f"{SET_ASIDE}: {_name(error)}", now=now)
                    log.error("journal.set_aside", journal_id=row.id, **what_and_where(error))
        return len(rows)


def digest(connection: Connection, rows: Sequence[Any], *, handlers: Handlers, now: datetime) -> None:
    """Let journal rows cause all that they should. The caller holds the pen."""
    told = [read(row) for row in rows]
    callbacks = [(one.callback, one.received_at) for one in told if one.callback]
    ids = events.known(connection, callbacks)
    facts = Facts(ids)
    canvas = Canvas(picture.states(connection, {one.package_id for one in told}))
    fingerprints: dict[int, str] = {}
    new: list[NewEvent] = []
    repeats: list[str] = []
    for one in told:
        if one.callback is not None:
            fingerprint, repeat = facts.recognise(one.callback, received_at=one.received_at)
            fingerprints[one.id] = fingerprint
            if repeat:
                repeats.append(fingerprint)
                continue
            happened_at = one.callback.happened_at or one.received_at
            new.append(NewEvent(fingerprint, one.callback, happened_at, one.received_at))
        canvas.take(one)
    ids |= zip((event.fingerprint for event in new), events.add(connection, new), strict=True)
    events.count_repeats(connection, {ids[one]: times for one, times in Counter(repeats).items()})
    picture.paint(connection, canvas.changed(), canvas.before)
    picture.record(connection, canvas.changes, now=now)
    ledger.oblige(
        connection,
        (
            (ids[event.fingerprint], event.callback.package_id, handler)
            for event in new
            for handler in handlers.wanting(event.callback.name)
        ),
        now=now,
    )
    journal.settle(connection, {one.id: ids.get(fingerprints.get(one.id, "")) for one in told}, now=now)


def read(row: Any) -> Told:
    """Read a journal row again, from its raw bytes."""
    if row.kind == "callback":
        callback = read_callback(row.body)
        return Told(row.id, row.received_at, callback.package_id, callback=callback)
    reading = read_package(json.loads(row.body))
    return Told(row.id, row.received_at, reading.id, reading=reading, read_at=row.read_at)


def _name(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return type(cause).__name__
