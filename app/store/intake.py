"""Make callbacks durable: in the journal, or in the spool while the database is down."""

import threading
from collections import deque
from datetime import datetime

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.errors import EntryRejected, StorageUnavailable, UnreadableCallback
from app.onespan.callback_members import callback_bodies
from app.onespan.callbacks import package_of, usual_package
from app.store import journal, outages
from app.store.db import Database, is_row_error
from app.store.journal import Entry, Writer
from app.store.spool import Spool
from app.store.states import JournalKind, OutageKind

log = structlog.get_logger()

OUTAGE_CALLBACKS = 10_000  # arrival times of callbacks kept per outage, which give its begin and end


class Intake:
    """Stores journal entries durably and moves spooled entries into the journal. Threads may share an instance."""

    def __init__(self, database: Database, spool: Spool) -> None:
        self._database = database
        self._spool = spool
        self._journal = Writer(database)
        self._outage_lock = threading.Lock()
        self._refused: deque[datetime] = deque(maxlen=OUTAGE_CALLBACKS)
        self._drained: deque[datetime] = deque(maxlen=OUTAGE_CALLBACKS)

    def keep(self, entry: Entry) -> int | None:
        """Store a journal entry durably. Returns its journal id, or None if the entry went to the spool.

        Raises `StorageUnavailable` if neither the database nor the spool can store the entry.
        """
        try:
            return self._journal.keep(entry)
        except Exception as problem:  # noqa: BLE001  (the spool may still store it)
            log.error("journal.unavailable", error=type(problem).__name__)
        try:
            spool_id = self._spool.keep(entry)
        except OSError as problem:
            log.error("spool.unavailable", error=type(problem).__name__)
            self._refused.append(entry.received_at)
            raise StorageUnavailable from None
        log.warning("callback.spooled", spool_id=spool_id)
        return None

    def drain(self) -> int:
        """Move spooled entries into the journal once the database is back, and record the outage.

        Returns the number of moved entries.
        """
        drained = self._spool.drain(self._journal_once)
        if drained:
            log.info("spool.drained", callbacks=drained)
        self._record_outage(OutageKind.SPOOLED, self._drained)
        self._record_outage(OutageKind.REFUSED, self._refused)
        return drained

    def _record_outage(self, kind: str, received: deque[datetime]) -> None:
        with self._outage_lock:
            if not received:
                return
            try:
                with self._database.write() as connection:
                    outages.record(connection, kind, began_at=min(received), ended_at=max(received))
            except SQLAlchemyError:
                return  # the database is still down; the next drain tries again
            received.clear()

    def _journal_once(self, entry: Entry) -> None:
        try:
            with self._database.write() as connection:
                if not journal.contains(connection, entry):
                    journal.add(connection, [entry])
            self._drained.append(entry.received_at)
        except Exception as error:
            if not is_row_error(error):
                raise
            with self._database.read() as connection:
                if not journal.contains(connection, entry):  # another process may just have drained the file
                    raise EntryRejected(type(error).__name__) from None


def journal_entries(body: bytes, *, received_at: datetime, key: str | None) -> list[Entry]:
    """Return the journal entries of a request: one, or one for each item of an array of several callbacks.

    An entry in which no package can be recognised has the reason as its `error`.
    """
    if package_id := usual_package(body):
        return [Entry(JournalKind.CALLBACK, received_at, body, key=key, package_id=package_id)]
    entries = [journal_entry(part, received_at=received_at, key=key) for part in callback_bodies(body)]
    return [journal_entry(body, received_at=received_at, key=key)] if all(entry.error for entry in entries) else entries


def journal_entry(body: bytes, *, received_at: datetime, key: str | None) -> Entry:
    """Return the journal entry of a callback, with the reason as its `error` if no package can be recognised."""
    try:
        package_id = package_of(body)
    except UnreadableCallback as problem:
        return Entry(JournalKind.CALLBACK, received_at, body, key=key, error=problem.detail)
    return Entry(JournalKind.CALLBACK, received_at, body, key=key, package_id=package_id)
