"""Periodic turns: the heartbeat of a process, and housekeeping (missed events, old counters)."""

import os
import secrets
import socket
from datetime import datetime, timedelta
from functools import cached_property

import structlog

from app.store import counters, missed, outages
from app.store.db import Database
from app.types import Clock

log = structlog.get_logger()

MISSED_PER_TURN = 500  # missed events recorded in one transaction
ANALYZE_INTERVAL = timedelta(minutes=10)


class Heartbeat:
    """The heartbeat of this process, which other processes can see."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._started_at: datetime | None = None
        self._is_receiver = False

    @property
    def is_known(self) -> bool:
        """Whether this process has sent a heartbeat, so that others know its name."""
        return self._started_at is not None

    @cached_property
    def name(self) -> str:
        """The unique name of this process. It never changes, so gunicorn must not read it before the fork."""
        return f"{socket.gethostname()[:60]}:{os.getpid()}:{secrets.token_hex(4)}"

    def mark_as_receiver(self) -> None:
        """Mark this process as one that receives callbacks."""
        self._is_receiver = True

    def beat(self) -> None:
        """Record a sign of life of this process."""
        now = self._clock()
        self._started_at = self._started_at or now
        with self._database.write() as connection:
            outages.beat(connection, self.name, takes_callbacks=self._is_receiver, started_at=self._started_at, now=now)

    def record_stop(self) -> None:
        """Record that this process ends, so that others take over its work at once."""
        with self._database.write() as connection:
            outages.record_stop(connection, self.name, now=self._clock())


class Housekeeping:
    """Housekeeping: records events without a callback for longer than `grace`, and deletes old callback counters.

    On SQLite, housekeeping also refreshes the planner's statistics.
    """

    def __init__(self, database: Database, *, clock: Clock, grace: timedelta) -> None:
        self._database = database
        self._clock = clock
        self._grace = grace
        self._analyzed_at: datetime | None = None

    def turn(self) -> bool:
        """Record some missed events and delete old counters. Returns whether more missed events may be left."""
        now = self._clock()
        if self._analyzed_at is None or now - self._analyzed_at >= ANALYZE_INTERVAL:
            self._database.analyze()
            self._analyzed_at = now
        with self._database.write() as connection:
            recorded = missed.record(connection, now=now, grace=self._grace, limit=MISSED_PER_TURN)
            counters.delete_old_minutes(connection, now=now)
        if recorded:
            log.warning("callbacks.missed", facts=recorded)
        return recorded == MISSED_PER_TURN
