"""Where a callback is made durable: in the journal, or in the spool while the database is away."""

import structlog

from app.errors import EntryRefused, NothingTakesIt
from app.store import journal
from app.store.db import Database, blames_a_row
from app.store.journal import Entry, Writer
from app.store.spool import Spool

log = structlog.get_logger()


class Intake:
    """Keeps entries, and brings those that were spooled into the journal. For any number of threads."""

    def __init__(self, database: Database, spool: Spool) -> None:
        self._database = database
        self._spool = spool
        self._journal = Writer(database)

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
            raise NothingTakesIt from None
        log.warning("callback.spooled", spool_id=spool_id)
        return None

    def drain(self) -> int:
        """Journal what was spooled, once the database is back. Returns how many."""
        taken = self._spool.drain(self._journal_once) if self._spool.waiting() else 0
        if taken:
            log.info("spool.drained", callbacks=taken)
        return taken

    def _journal_once(self, entry: Entry) -> None:
        try:
            with self._database.write() as connection:
                if not journal.holds(connection, entry):
                    journal.add(connection, [entry])
        except Exception as error:
            if not blames_a_row(error):
                raise
            with self._database.read() as connection:
                if not journal.holds(connection, entry):  # else another process drained the same file just now
                    raise EntryRefused(type(error).__name__) from None
