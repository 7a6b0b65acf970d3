"""The journal: callbacks and snapshots as received. Only this module writes the journal's table."""

import secrets
import threading
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from queue import Empty, SimpleQueue
from typing import Any

from sqlalchemy import Integer, Row, and_, bindparam, delete, exists, func, insert, or_, select, update
from sqlalchemy.engine import Connection

from app.store.bulk import update_all
from app.store.counters import add_callbacks
from app.store.db import Database, is_row_error
from app.store.models import KIND_CALLBACK, Event, Journal
from app.store.states import Emit, JournalKind, JournalState, literal

CHUNK = 500  # journal rows that are read into memory at a time
DATABASE_TIMEOUT_SECONDS = 5.0  # seconds that a callback waits for the database before it goes to the spool
IDLE_SECONDS = 5.0  # seconds without anything to write after which the writer thread ends
PROBE_BODY = b"?" * 1024  # larger than most callbacks
COMMIT_PAUSE_SECONDS = 0.001  # seconds between two commits; callbacks that share a commit cost less


@dataclass(frozen=True, slots=True)
class Entry:
    """A journal row to be written. Times are aware and in UTC; `key` is the name of a key, never the key itself."""

    kind: str
    received_at: datetime
    body: bytes
    key: str | None = None
    package_id: str | None = None
    error: str | None = None
    read_at: datetime | None = None
    answered_at: datetime | None = None
    emit: str = Emit.NEW
    spool_id: str | None = None
    lag_fetches: int = 0
    lagged_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RereadCallback:
    """An unreadable callback that was read again. It names a `package_id`, or has the `error` why it still does not.

    `body` is the body that was read: decompressed, if an earlier version stored it compressed. If that body has several
    callbacks, `body` is the first that names a package, and `others` are entries for the others.
    """

    id: int
    package_id: str | None
    error: str | None
    body: bytes
    others: tuple[Entry, ...] = ()


class _Ticket:
    """A journal entry that waits to be written. After the write, `id` or `error` is set."""

    __slots__ = ("done", "entry", "error", "given_up", "id")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.id: int | None = None
        self.error: Exception | None = None
        self.given_up = False
        self.done = threading.Lock()  # the lock is held until the entry is written or has failed
        self.done.acquire()


class Writer:
    """Writes journal entries for many threads; entries that wait at the same time share one commit.

    While a commit waits for the disk, further entries gather for the next commit. Callers wait for a limited time. If
    the database hangs, an entry may be written after its caller gave up; the entry is then a repeat.
    """

    def __init__(self, database: Database, *, patience: float = DATABASE_TIMEOUT_SECONDS) -> None:
        self._database = database
        self._patience = patience
        self._waiting: SimpleQueue[_Ticket] = SimpleQueue()
        self._beginning = threading.Lock()
        self._thread: threading.Thread | None = None
        self._writing_since: float | None = None

    def keep(self, entry: Entry) -> int:
        """Write one journal entry durably and return its id.

        Raises the database's error, or `TimeoutError` if the database does not answer in time.
        """
        since = self._writing_since
        if since is not None and time.monotonic() - since > self._patience:
            raise TimeoutError("the database hangs")
        ticket = _Ticket(entry)
        self._waiting.put(ticket)
        self._begin()
        if not ticket.done.acquire(timeout=self._patience):
            ticket.given_up = True
            raise TimeoutError("the database does not answer")
        if ticket.error is not None:
            raise ticket.error
        assert ticket.id is not None
        return ticket.id

    def _begin(self) -> None:
        with self._beginning:
            if self._thread is None or not self._thread.is_alive():  # threads do not survive a fork
                self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
                self._thread.start()

    def _write(self) -> None:
        while True:
            try:
                gathered = [self._waiting.get(timeout=IDLE_SECONDS)]
            except Empty:
                with self._beginning:
                    if self._waiting.empty():
                        self._thread = None
                        return
                continue
            while not self._waiting.empty():
                gathered.append(self._waiting.get())
            self._write_all([ticket for ticket in gathered if not ticket.given_up])
            time.sleep(COMMIT_PAUSE_SECONDS)

    def _write_all(self, gathered: Sequence[_Ticket]) -> None:
        self._writing_since = time.monotonic()
        try:
            with self._database.write() as connection:
                ids = add(connection, [ticket.entry for ticket in gathered])
        except Exception as error:  # noqa: BLE001  (every waiting thread gets the error)
            if len(gathered) > 1 and is_row_error(error):
                for ticket in gathered:  # writes each entry separately, so that only the bad row fails
                    self._write_all([ticket])
                return
            for ticket in gathered:
                ticket.error = error
                ticket.done.release()
        else:
            for ticket, new_id in zip(gathered, ids, strict=True):
                ticket.id = new_id
                ticket.done.release()
        finally:
            self._writing_since = None


def add(connection: Connection, entries: Sequence[Entry]) -> list[int]:
    """Insert journal entries and return their ids in the same order."""
    if not entries:
        return []
    rows = [
        {
            "kind": entry.kind,
            "received_at": entry.received_at,
            "read_at": entry.read_at,
            "answered_at": entry.answered_at,
            "key": entry.key,
            "package_id": entry.package_id,
            "emit": entry.emit,
            "body": entry.body,
            "spool_id": entry.spool_id,
            "lag_fetches": entry.lag_fetches,
            "lagged_at": entry.lagged_at,
            "state": JournalState.UNREADABLE if entry.error else JournalState.PENDING,
            "error": entry.error,
            "digested_at": entry.received_at if entry.error else None,
        }
        for entry in entries
    ]
    return list(connection.execute(_ADD, rows).scalars())


def write_and_remove(connection: Connection, *, now: datetime) -> None:
    """Insert an entry as of a callback and delete it again, to see whether the database takes callbacks.

    Its id is negative, so that it takes no id of a callback. Commit the transaction: SQLite writes only then.
    """
    probe = {"id": -secrets.randbelow(2**62) - 1, "kind": KIND_CALLBACK, "received_at": now, "body": PROBE_BODY}
    connection.execute(insert(Journal).values(state=JournalState.UNREADABLE, emit=Emit.NONE, **probe))
    connection.execute(delete(Journal).where(Journal.id == probe["id"]))


def contains(connection: Connection, spooled: Entry) -> bool:
    """Whether the journal already has a spooled entry, which was drained before or which the database wrote late."""
    late = and_(
        Journal.package_id == spooled.package_id,
        Journal.received_at == spooled.received_at,
        Journal.body == spooled.body,
    )
    return bool(connection.scalar(select(exists().where(or_(Journal.spool_id == spooled.spool_id, late)))))


def pending(connection: Connection, *, limit: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return the oldest pending journal entries, in order of arrival."""
    return connection.execute(_PENDING, {"limit": limit}).all()


def of_packages(connection: Connection, package_ids: Iterable[str]) -> Generator[Row[*tuple[Any, ...]]]:
    """Yield all digested journal entries about the given packages, in order of arrival, each with its event.

    `first_received_at` is when the event was first reported.
    """
    wanted = (
        select(*_READ, Journal.event_id, Event.first_received_at, Event.source)
        .outerjoin(Event, Event.id == Journal.event_id)
        .where(Journal.package_id.in_(package_ids), Journal.state == JournalState.DIGESTED)
        .order_by(Journal.id)
    )
    with connection.execute(wanted.execution_options(yield_per=CHUNK)) as rows:
        yield from rows


def last_snapshot(
    connection: Connection, package_id: str, *, before: int | None = None
) -> Row[*tuple[Any, ...]] | None:
    """Return the newest digested snapshot of a package by OneSpan's clock, among rows with ids below `before`."""
    found = select(*_READ, Journal.key).where(
        Journal.package_id == package_id,
        Journal.kind == JournalKind.SNAPSHOT,
        Journal.state == JournalState.DIGESTED,
    )
    if before is not None:
        found = found.where(Journal.id < before)
    return connection.execute(found.order_by(Journal.read_at.desc(), Journal.id.desc()).limit(1)).first()


def packages_with_callbacks(connection: Connection, package_ids: Iterable[str]) -> set[str]:
    """Return those of the given packages about which the journal has callbacks."""
    found = (
        select(Journal.package_id)
        .where(Journal.package_id.in_(package_ids), Journal.kind == JournalKind.CALLBACK)
        .distinct()
    )
    return {package_id for package_id in connection.execute(found).scalars() if package_id is not None}


def is_snapshot_pending(connection: Connection) -> bool:
    """Whether any snapshot in the journal waits to be digested."""
    waits = exists().where(_IS_PENDING, Journal.kind != JournalKind.CALLBACK)
    return bool(connection.scalar(select(waits)))


def packages_after(connection: Connection, package_id: str, *, limit: int) -> list[str]:
    """Return the next package ids in the journal after the given id, in ascending order."""
    found = (
        select(Journal.package_id)
        .where(Journal.package_id > package_id, Journal.error.is_(None))
        .distinct()
        .order_by(Journal.package_id)
        .limit(limit)
    )
    return [package_id for package_id in connection.execute(found).scalars() if package_id is not None]


def count_packages(connection: Connection) -> int:
    """Return the number of different packages in the journal."""
    return connection.scalar(select(func.count(Journal.package_id.distinct())).where(Journal.error.is_(None))) or 0


def settle(
    connection: Connection,
    digested: Mapping[int, int | None],
    *,
    callbacks: Iterable[datetime],
    clock_offset: float | None,
    now: datetime,
) -> None:
    """Mark journal entries as digested, each with its event.

    `callbacks` are the arrival times of the callbacks. `clock_offset` is the offset of OneSpan's clock that was used.
    """
    add_callbacks(connection, callbacks)
    settled = {"state": JournalState.DIGESTED, "digested_at": now, "clock_offset": clock_offset}
    update_all(connection, Journal, [{"id": entry, "event_id": event, **settled} for entry, event in digested.items()])


def count_failed(connection: Connection) -> int:
    """Return the number of journal entries that the digest could not process."""
    return connection.scalar(select(func.count()).where(Journal.state == JournalState.FAILED)) or 0


def retry_failed(connection: Connection) -> int:
    """Make failed journal entries pending again and return their number."""
    failed = update(Journal).where(Journal.state == JournalState.FAILED)
    return connection.execute(failed.values(state=JournalState.PENDING, digested_at=None, error=None)).rowcount


def unreadable(
    connection: Connection, *, after: int, limit: int, only: int | None = None
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return the next unreadable callbacks after a journal id, in order of arrival; with `only`, just that row."""
    found = select(Journal.id, Journal.body, Journal.received_at, Journal.key).where(
        Journal.kind == KIND_CALLBACK, Journal.error.is_not(None), Journal.state == JournalState.UNREADABLE
    )
    if only is not None:
        found = found.where(Journal.id == only)
    return connection.execute(found.where(Journal.id > after).order_by(Journal.id).limit(limit)).all()


def apply_reread(connection: Connection, callbacks: Iterable[RereadCallback]) -> None:
    """Make callbacks that can now be read pending, with the package that they name; store why others cannot be read.

    Further callbacks in the same body become entries of their own.
    """
    for callback in callbacks:
        row = update(Journal).where(Journal.id == callback.id, Journal.state == JournalState.UNREADABLE)
        if callback.package_id is None:
            connection.execute(row.values(error=callback.error))
        else:
            pending = {"state": JournalState.PENDING, "package_id": callback.package_id, "digested_at": None}
            connection.execute(row.values(error=None, body=callback.body, **pending))
            add(connection, callback.others)


def mark_failed(connection: Connection, entry: int, *, reason: str, now: datetime) -> None:
    """Mark a journal entry as failed and store the reason."""
    failed = update(Journal).where(Journal.id == entry)
    connection.execute(failed.values(state=JournalState.FAILED, digested_at=now, error=reason))


_IS_PENDING = Journal.state == literal(JournalState.PENDING)
_READ = tuple(
    Journal.__table__.c[name]
    for name in (
        *("id", "kind", "received_at", "read_at", "answered_at", "package_id", "emit", "body"),
        *("clock_offset", "lag_fetches", "lagged_at"),
    )
)
# These statements are built once, because building them for every callback costs more than running them.
_ADD = insert(Journal).returning(Journal.id, sort_by_parameter_order=True)
_PENDING = select(*_READ).where(_IS_PENDING).order_by(Journal.id).limit(bindparam("limit", type_=Integer))
