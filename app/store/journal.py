"""The journal: what came in, as it came in. The only writer of its table."""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, Row, bindparam, exists, func, insert, select, update
from sqlalchemy.engine import Connection

from app.store.db import Database
from app.store.models import Journal

CHUNK = 500  # journal rows held in memory at once while all are walked


@dataclass(frozen=True, slots=True)
class Entry:
    """One journal row that is still to be written. Times are aware and UTC; `key` is a label, never a key."""

    kind: str
    received_at: datetime
    body: bytes
    key: str | None = None
    package_id: str | None = None
    unreadable: str | None = None
    read_at: datetime | None = None
    spool_id: str | None = None


class _Ticket:
    """An entry on its way in: then its id, or why it could not be written."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.id: int | None = None
        self.error: Exception | None = None


class Writer:
    """Writes entries for many threads at once, sharing one commit among all that wait for it.

    A commit waits for the disk. The first thread to get the pen writes everybody's entry; the others find
    theirs written when their turn comes.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[_Ticket] = deque()
        self._pen = threading.Lock()

    def keep(self, entry: Entry) -> int:
        """Write one entry and return its id; when this returns the entry is durable.

        Raises what the database raises when it is not.
        """
        ticket = _Ticket(entry)
        self._waiting.append(ticket)
        with self._pen:
            if ticket.id is None and ticket.error is None:
                self._write_all_waiting()
        if ticket.error is not None:
            raise ticket.error
        assert ticket.id is not None
        return ticket.id

    def _write_all_waiting(self) -> None:
        tickets = [self._waiting.popleft() for _ in range(len(self._waiting))]
        try:
            with self._database.write() as connection:
                ids = add(connection, [ticket.entry for ticket in tickets])
        except Exception as error:  # noqa: BLE001  (whatever it is, each waiting thread must hear of it)
            for ticket in tickets:
                ticket.error = error
        else:
            for ticket, new_id in zip(tickets, ids, strict=True):
                ticket.id = new_id


def add(connection: Connection, entries: Sequence[Entry]) -> list[int]:
    """Insert entries and return their ids, in their order."""
    rows = [
        {
            "kind": entry.kind,
            "received_at": entry.received_at,
            "read_at": entry.read_at,
            "key": entry.key,
            "package_id": entry.package_id,
            "body": entry.body,
            "spool_id": entry.spool_id,
            "unreadable": entry.unreadable,
            # What cannot be read has nothing left to cause.
            "digested_at": entry.received_at if entry.unreadable else None,
        }
        for entry in entries
    ]
    return list(connection.execute(_ADD, rows).scalars())


def holds(connection: Connection, spool_id: str) -> bool:
    """Whether the entry that was spooled under this id is in the journal already."""
    return bool(connection.scalar(select(exists().where(Journal.spool_id == spool_id))))


def is_pending(connection: Connection) -> bool:
    """Whether any entry waits to be digested."""
    return bool(connection.scalar(_IS_PENDING))


def pending(connection: Connection, *, limit: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """The oldest entries that wait to be digested, in order of arrival."""
    return connection.execute(_PENDING, {"limit": limit}).all()


def of_packages(connection: Connection, package_ids: Iterable[str]) -> Iterator[Row[*tuple[Any, ...]]]:
    """All entries about these packages that were digested, in order of arrival."""
    wanted = (
        select(*_READ)
        .where(Journal.package_id.in_(package_ids), Journal.unreadable.is_(None), Journal.digested_at.is_not(None))
        .order_by(Journal.id)
    )
    yield from connection.execute(wanted.execution_options(yield_per=CHUNK))


def packages_after(connection: Connection, package_id: str, *, limit: int) -> list[str]:
    """The next package ids the journal speaks of, in their own order."""
    found = (
        select(Journal.package_id)
        .where(Journal.package_id > package_id, Journal.unreadable.is_(None))
        .distinct()
        .order_by(Journal.package_id)
        .limit(limit)
    )
    return [one for one in connection.execute(found).scalars() if one is not None]


def count_packages(connection: Connection) -> int:
    """How many packages the journal speaks of."""
    return connection.scalar(select(func.count(Journal.package_id.distinct())).where(Journal.unreadable.is_(None))) or 0


def settle(connection: Connection, told: Mapping[int, int | None], *, now: datetime) -> None:
    """Note that these entries were digested, and into which event each went."""
    if told:
        rows = [{"entry": entry, "now": now, "event": event} for entry, event in told.items()]
        connection.execute(_SETTLE, rows)


def give_up(connection: Connection, entry: int, *, reason: str, now: datetime) -> None:
    """Note that an entry can cause nothing, and why."""
    connection.execute(update(Journal).where(Journal.id == entry).values(digested_at=now, unreadable=reason))


_READ = (Journal.id, Journal.kind, Journal.received_at, Journal.read_at, Journal.package_id, Journal.body)
# Put together once; to do so at every callback costs more than to run them.
_ADD = insert(Journal).returning(Journal.id, sort_by_parameter_order=True)
_IS_PENDING = select(exists().where(Journal.digested_at.is_(None)))
_PENDING = (
    select(*_READ).where(Journal.digested_at.is_(None)).order_by(Journal.id).limit(bindparam("limit", type_=Integer))
)
_SETTLE = (
    update(Journal)
    .where(Journal.id == bindparam("entry"))
    .values(digested_at=bindparam("now"), event_id=bindparam("event"))
)
