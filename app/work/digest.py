"""The turn that digests: journal rows become events, the picture is brought up to them, handlers are owed their runs.

All of it is one transaction per batch: a row is either digested with everything it causes, or not at all.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from app.logs import what_and_where
from app.store import journal
from app.store.db import Database, blames_a_row, take_pen
from app.work.attempt import Clock
from app.work.batch import Batch
from app.work.dispatch import Handlers

log = structlog.get_logger()

BATCH = 500  # journal rows in one transaction


class Digest:
    """Digests what waits in the journal. Any number of processes may; one at a time does.

    `asks`: there is a OneSpan to be asked for packages that surprise us.
    """

    def __init__(
        self,
        database: Database,
        handlers: Handlers,
        *,
        clock: Clock,
        wake: Callable[[], None] = lambda: None,
        asks: bool = False,
    ) -> None:
        self._asks = asks
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
            self._digest(connection, rows, now=now)
        if rows:
            log.info("journal.digested", rows=len(rows))
        return len(rows)

    def _digest(self, connection: Connection, rows: Sequence[Any], *, now: datetime) -> None:
        if rows:
            Batch(connection, rows, handlers=self._handlers, now=now).digest(asks=self._asks)

    def _one(self) -> int:
        """Digest the next row alone, or set it aside: exactly the one that was tried."""
        now = self._clock()
        with self._database.write() as connection:
            take_pen(connection)
            rows = journal.pending(connection, limit=1)
            for row in rows:
                try:
                    with connection.begin_nested():
                        self._digest(connection, rows, now=now)
                except Exception as error:
                    if not blames_a_row(error):
                        raise
                    journal.give_up(connection, row.id, reason=f"it could not be digested: {_name(error)}", now=now)
                    log.error("journal.set_aside", journal_id=row.id, **what_and_where(error))
        return len(rows)


def _name(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return type(cause).__name__
