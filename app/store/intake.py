"""Where a callback is made durable: in the journal, or in the spool while the database is away."""

import threading
from collections import deque
from datetime import datetime

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.errors import EntryRefused, NothingTakesIt
from app.store import journal, outages
from app.store.db import Database, blames_a_row
from app.store.journal import Entry, Writer
from app.store.spool import Spool

log = structlog.get_logger()

REMEMBERED = 10_000  # callbacks of one outage that count for when it began and ended


class Intake:
    """Keeps entries, and brings those that were spooled into the journal. For any number of threads."""

    def __init__(self, database: Database, spool: Spool) -> None:
        self._database = database
        self._spool = spool
        self._journal = Writer(database)
        self._noting = threading.Lock()
        self._refused: deque[datetime] = deque(maxlen=REMEMBERED)
        self._drained: deque[datetime] = deque(maxlen=REMEMBERED)

    def keep(self, entry: Entry) -> int | None:
        """Make an entry durable. Returns its journal id, or None where it went to the spool.

        Raises `NothingTakesIt` when neither takes it.
        """
        try:
            return self._journal.keep(entry)
        except Exception as problem:  # noqa: BLE001  (whatever it is, the spool may still take it)
            log.error("journal.unavailable", error=type(problem).__name__)
        try:
            spool_id = self._spool.keep(entry)
        except OSError as problem:
            log.error("spool.unavailable", error=type(problem).__name__)
            self._refused.append(entry.received_at)
            raise NothingTakesIt from None
        log.warning("callback.spooled", spool_id=spool_id)
        return None

    def drain(self) -> int:
        """Journal what was spooled, once the database is back, and note the outage. Returns how many."""
        taken = self._spool.drain(self._journal_once) if self._spool.waiting() else 0
        if taken:
            log.info("spool.drained", callbacks=taken)
        self._note(outages.SPOOLED, self._drained)
        self._note(outages.REFUSED, self._refused)
        return taken

    def _note(self, kind: str, when: deque[datetime]) -> None:
        with self._noting:
            if not when:
                return
            try:
                with self._database.write() as connection:
                    outages.note(connection, kind, began_at=min(when), ended_at=max(when))
            except SQLAlchemyError:
                return  # it is still away, and this is looked at again soon
            when.clear()

    def _journal_once(self, entry: Entry) -> None:
        try:
            with self._database.write() as connection:
                if not journal.holds(connection, entry):
                    journal.add(connection, [entry])
            self._drained.append(entry.received_at)
        except Exception as error:
            if not blames_a_row(error):
                raise
            with self._database.read() as connection:
                if not journal.holds(connection, entry):  # else another process drained the same file just now
                    raise EntryRefused(type(error).__name__) from None
