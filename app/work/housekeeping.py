"""The turns that keep watch: that we are there, and that what is found by reading was told by somebody."""

import os
import secrets
import socket
from datetime import datetime, timedelta

import structlog

from app.store import counters, missed, outages
from app.store.db import Database
from app.work.attempt import Clock

log = structlog.get_logger()

NOTED = 500  # missed facts written down in one transaction
ANALYZE_EVERY = timedelta(minutes=10)


class Presence:
    """This process, as the others see it. Its name is the same for all its life, and no other process has it."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self.name = f"{socket.gethostname()[:60]}:{os.getpid()}:{secrets.token_hex(4)}"
        self._database = database
        self._clock = clock
        self._started_at: datetime | None = None
        self._takes_callbacks = False

    def open_door(self) -> None:
        """Say that this process takes callbacks."""
        self._takes_callbacks = True

    def beat(self) -> None:
        """Say that we are there."""
        now = self._clock()
        self._started_at = self._started_at or now
        with self._database.write() as connection:
            outages.beat(
                connection, self.name, takes_callbacks=self._takes_callbacks, started_at=self._started_at, now=now
            )

    def say_goodbye(self) -> None:
        """Say that we end, so that nobody waits for us."""
        with self._database.write() as connection:
            outages.say_goodbye(connection, self.name, now=self._clock())


class Watch:
    """Writes down what was missed, once the time of grace is over, and forgets minutes of callbacks.

    Now and then it has SQLite look at its tables.
    """

    def __init__(self, database: Database, *, clock: Clock, grace: timedelta) -> None:
        self._database = database
        self._clock = clock
        self._grace = grace
        self._analyzed_at: datetime | None = None

    def turn(self) -> bool:
        """Write down some. Returns whether there may be more."""
        now = self._clock()
        if self._analyzed_at is None or now - self._analyzed_at >= ANALYZE_EVERY:
            self._database.analyze()
            self._analyzed_at = now
        with self._database.write() as connection:
            noted = missed.note(connection, now=now, grace=self._grace, limit=NOTED)
            counters.delete_old_minutes(connection, now=now)
        if noted:
            log.warning("callbacks.missed", facts=noted)
        return noted == NOTED
