"""The journal: what came in, as it came in. The only writer of its table."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from queue import Empty, SimpleQueue
from typing import Any

from sqlalchemy import Integer, Row, and_, bindparam, exists, func, insert, or_, select, update
from sqlalchemy.engine import Connection

from app.store.counters import add_callbacks
from app.store.db import Database, blames_a_row
from app.store.models import Event, Journal
from app.store.states import JournalKind, JournalState, literal

CHUNK = 500  # journal rows held in memory at once while all are walked
PATIENCE = 5.0  # seconds a callback waits for the database before it goes to the spool
IDLE = 5.0  # seconds after which a thread that has nothing to write ends
GATHER = 0.001  # seconds between two commits: the more callbacks share one, the less each costs


@dataclass(frozen=True, slots=True)
class Entry:
    """One journal row that is still to be written. Times are aware and UTC; `key` is a label, never a key."""

    kind: str
    received_at: datetime
    body: bytes
    key: str | None = None
    package_id: str | None = None
    error: str | None = None
    read_at: datetime | None = None
    answered_at: datetime | None = None
    tells: str | None = None
    spool_id: str | None = None


class _Ticket:
    """An entry on its way in: then its id, or why it could not be written."""

    __slots__ = ("done", "entry", "error", "given_up", "id")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.id: int | None = None
        self.error: Exception | None = None
        self.given_up = False
        self.done = threading.Lock()  # held until it is written
        self.done.acquire()


class Writer:
    """Writes entries for many threads at once, sharing one commit among all that wait for it.

    A commit waits for the disk, so a thread of our own writes what has gathered meanwhile. Nobody waits for it without
    end: where the database hangs, an entry that was given up may still be written later, and is then a repeat.
    """

    def __init__(self, database: Database, *, patience: float = PATIENCE) -> None:
        self._database = database
        self._patience = patience
        self._waiting: SimpleQueue[_Ticket] = SimpleQueue()
        self._beginning = threading.Lock()
        self._thread: threading.Thread | None = None
        self._writing_since: float | None = None

    def keep(self, entry: Entry) -> int:
        """Write one entry and return its id; when this returns the entry is durable.

        Raises what the database raises when it is not, and `TimeoutError` when it says nothing for too long.
        """
        since = self._writing_since
        if since is not None and time.monotonic() - since > self._patience:
            raise TimeoutError("the database hangs")
        ticket = _Ticket(entry)
        self._waiting.put(ticket)
        self._begin()
        if not ticket.done.acquire(timeout=self._patience):
            ticket.given_up = True
            raise TimeoutError("the database says nothing")
        if ticket.error is not None:
            raise ticket.error
        assert ticket.id is not None
        return ticket.id

    def _begin(self) -> None:
        with self._beginning:
            if self._thread is None or not self._thread.is_alive():  # no thread lives through a fork
                self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
                self._thread.start()

    def _write(self) -> None:
        while True:
            try:
                gathered = [self._waiting.get(timeout=IDLE)]
            except Empty:
                with self._beginning:
                    if self._waiting.empty():
                        self._thread = None
                        return
                continue
            while not self._waiting.empty():
                gathered.append(self._waiting.get())
            self._write_all([ticket for ticket in gathered if not ticket.given_up])
            time.sleep(GATHER)

    def _write_all(self, gathered: Sequence[_Ticket]) -> None:
        self._writing_since = time.monotonic()
        try:
            with self._database.write() as connection:
                ids = add(connection, [ticket.entry for ticket in gathered])
        except Exception as error:  # noqa: BLE001  (whatever it is, each waiting thread must hear of it)
            if len(gathered) > 1 and blames_a_row(error):
                for one in gathered:  # none shall suffer for another
                    self._write_all([one])
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
    """Insert entries and return their ids, in their order."""
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
            "tells": entry.tells,
            "body": entry.body,
            "spool_id": entry.spool_id,
            "state": JournalState.UNREADABLE if entry.error else JournalState.PENDING,
            "error": entry.error,
            "digested_at": entry.received_at if entry.error else None,
        }
        for entry in entries
    ]
    return list(connection.execute(_ADD, rows).scalars())


def holds(connection: Connection, spooled: Entry) -> bool:
    """Whether a spooled entry is in the journal already: it was drained before, or written late after all."""
    late = and_(
        Journal.package_id == spooled.package_id,
        Journal.received_at == spooled.received_at,
        Journal.body == spooled.body,
    )
    return bool(connection.scalar(select(exists().where(or_(Journal.spool_id == spooled.spool_id, late)))))


def is_pending(connection: Connection) -> bool:
    """Whether any entry waits to be digested."""
    return bool(connection.scalar(_ANY_PENDING))


def pending(connection: Connection, *, limit: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """The oldest entries that wait to be digested, in order of arrival."""
    return connection.execute(_PENDING, {"limit": limit}).all()


def of_packages(connection: Connection, package_ids: Iterable[str]) -> Iterator[Row[*tuple[Any, ...]]]:
    """All entries about these packages that were digested, in order of arrival, each with the event it told.

    `first_received_at` is when the event's first telling came in.
    """
    wanted = (
        select(*_READ, Journal.event_id, Event.first_received_at, Event.source)
        .outerjoin(Event, Event.id == Journal.event_id)
        .where(Journal.package_id.in_(package_ids), Journal.state == JournalState.DIGESTED)
        .order_by(Journal.id)
    )
    yield from connection.execute(wanted.execution_options(yield_per=CHUNK))


def last_reading(connection: Connection, package_id: str, *, before: int | None = None) -> Row[*tuple[Any, ...]] | None:
    """The newest digested snapshot of a package, by OneSpan's clock; of those with smaller ids than `before`."""
    found = select(*_READ, Journal.key).where(
        Journal.package_id == package_id,
        Journal.kind == JournalKind.SNAPSHOT,
        Journal.state == JournalState.DIGESTED,
    )
    if before is not None:
        found = found.where(Journal.id < before)
    return connection.execute(found.order_by(Journal.read_at.desc(), Journal.id.desc()).limit(1)).first()


def told_of(connection: Connection, package_ids: Iterable[str]) -> set[str]:
    """Which of these packages any callback spoke of."""
    found = (
        select(Journal.package_id)
        .where(Journal.package_id.in_(package_ids), Journal.kind == JournalKind.CALLBACK)
        .distinct()
    )
    return {one for one in connection.execute(found).scalars() if one is not None}


def is_reading_pending(connection: Connection) -> bool:
    """Whether anything that was read waits to be digested."""
    waits = exists().where(_IS_PENDING, Journal.kind != JournalKind.CALLBACK)
    return bool(connection.scalar(select(waits)))


def packages_after(connection: Connection, package_id: str, *, limit: int) -> list[str]:
    """The next package ids the journal speaks of, in their own order."""
    found = (
        select(Journal.package_id)
        .where(Journal.package_id > package_id, Journal.error.is_(None))
        .distinct()
        .order_by(Journal.package_id)
        .limit(limit)
    )
    return [one for one in connection.execute(found).scalars() if one is not None]


def count_packages(connection: Connection) -> int:
    """How many packages the journal speaks of."""
    return connection.scalar(select(func.count(Journal.package_id.distinct())).where(Journal.error.is_(None))) or 0


def settle(
    connection: Connection, told: Mapping[int, int | None], *, callbacks: Iterable[datetime], now: datetime
) -> None:
    """Note that these entries were digested, into which event each went, and when the `callbacks` of them came."""
    add_callbacks(connection, callbacks)
    if told:
        rows = [{"entry": entry, "now": now, "event": event} for entry, event in told.items()]
        connection.execute(_SETTLE, rows)


def count_set_aside(connection: Connection) -> int:
    """How many entries could not be digested."""
    return connection.scalar(select(func.count()).where(Journal.state == JournalState.FAILED)) or 0


def take_back(connection: Connection) -> int:
    """Let entries that could not be digested wait for it again. Returns how many."""
    failed = update(Journal).where(Journal.state == JournalState.FAILED)
    return connection.execute(failed.values(state=JournalState.PENDING, digested_at=None, error=None)).rowcount


def give_up(connection: Connection, entry: int, *, reason: str, now: datetime) -> None:
    """Note that an entry can cause nothing, and why."""
    failed = update(Journal).where(Journal.id == entry)
    connection.execute(failed.values(state=JournalState.FAILED, digested_at=now, error=reason))


_IS_PENDING = Journal.state == literal(JournalState.PENDING)
_READ = tuple(
    Journal.__table__.c[name]
    for name in ("id", "kind", "received_at", "read_at", "answered_at", "package_id", "tells", "body")
)
# Put together once; to do so at every callback costs more than to run them.
_ADD = insert(Journal).returning(Journal.id, sort_by_parameter_order=True)
_ANY_PENDING = select(exists().where(_IS_PENDING))
_PENDING = select(*_READ).where(_IS_PENDING).order_by(Journal.id).limit(bindparam("limit", type_=Integer))
_SETTLE = (
    update(Journal)
    .where(Journal.id == bindparam("entry"))
    .values(state=JournalState.DIGESTED.value, digested_at=bindparam("now"), event_id=bindparam("event"))
)
