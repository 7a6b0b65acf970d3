"""The digest, which turns journal rows into events, updates the status store and enqueues dispatches.

Each batch is one transaction: a journal row is digested together with everything it causes, or not at all.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from app.logs import error_fields
from app.registry import Handlers
from app.store import journal
from app.store.db import Database, is_row_error, take_write_lock
from app.types import Clock
from app.work.batch import Batch

log = structlog.get_logger()

BATCH = 500  # journal rows in one transaction


class Digest:
    """The digest of pending journal rows. Any number of processes may run it; the write lock lets one work at a time.

    `can_fetch` says that OneSpan's API is configured, so callbacks can enqueue fetches.
    """

    def __init__(
        self,
        database: Database,
        handlers: Handlers,
        *,
        clock: Clock,
        wake: Callable[[], None] = lambda: None,
        can_fetch: bool = False,
    ) -> None:
        self._can_fetch = can_fetch
        self._database = database
        self._handlers = handlers
        self._clock = clock
        self._wake = wake

    def turn(self, *, limit: int = BATCH) -> int:
        """Digest one batch of journal rows and wake the dispatcher. Returns the number of rows.

        A row that cannot be digested is marked with the reason, so that later rows do not wait for it.
        """
        try:
            count = self._digest_batch(limit)
        except Exception as error:
            if not is_row_error(error):
                raise
            if limit > 1:
                return self.turn(limit=limit // 2)
            count = self._digest_next()
        if count:
            self._wake()
        return count

    def _digest_batch(self, limit: int) -> int:
        now = self._clock()
        with self._database.write() as connection:
            take_write_lock(connection)
            rows = journal.pending(connection, limit=limit)
            self._digest(connection, rows, now=now)
        if rows:
            log.info("journal.digested", rows=len(rows))
        return len(rows)

    def _digest(self, connection: Connection, rows: Sequence[Any], *, now: datetime) -> None:
        if rows:
            Batch(connection, rows, handlers=self._handlers, now=now).digest(can_fetch=self._can_fetch)

    def _digest_next(self) -> int:
        """Digest the next journal row alone; if that fails, mark only this row as failed."""
        now = self._clock()
        with self._database.write() as connection:
            take_write_lock(connection)
            rows = journal.pending(connection, limit=1)
            for row in rows:
                try:
                    with connection.begin_nested():
                        self._digest(connection, rows, now=now)
                except Exception as error:
                    if not is_row_error(error):
                        raise
                    journal.mark_failed(
                        connection, row.id, reason=f"it could not be digested: {_type_name(error)}", now=now
                    )
                    log.error("journal.set_aside", journal_id=row.id, **error_fields(error))
        return len(rows)


def _type_name(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return type(cause).__name__
