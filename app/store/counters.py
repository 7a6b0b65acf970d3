"""Counters: how many there are of something, kept beside what they count. The only writer of their tables.

Whatever changes what is counted calls this in the same transaction, under the write lock: so a counter is exact.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import TextClause, bindparam, delete, select, text
from sqlalchemy.engine import Connection

from app.store.models import CallbackCount, EventCount, MissedCount, PackageCount
from app.store.states import EventSource

MINUTES_KEPT = timedelta(days=3)  # how long callbacks are counted by minute: two days are shown
MINUTES_DELETED = 5_000  # at once
MINUTE_SECONDS = 60

CounterTable = type[PackageCount] | type[CallbackCount] | type[EventCount] | type[MissedCount]


class PackageKind(NamedTuple):
    """What a package is counted by."""

    trashed: bool
    deleted: bool
    type: str | None
    status: str | None


class EventKind(NamedTuple):
    """What an event is counted by: the day on which it happened (UTC), and its name."""

    day: date
    name: str


class MissedKind(NamedTuple):
    """What a missed event is counted by."""

    day: date
    name: str
    cause: str


def day_of(moment: datetime) -> date:
    """The day (UTC) of a moment."""
    return moment.astimezone(UTC).date()


def minute_of(moment: datetime) -> int:
    """The minute of a moment, counted from 1970."""
    return int(moment.timestamp()) // MINUTE_SECONDS


def add_packages(connection: Connection, numbers: Mapping[PackageKind, int]) -> None:
    """Add to the numbers of packages; negative numbers take away."""
    _add(connection, PackageCount, [(*_filled(kind), number) for kind, number in numbers.items()])


def add_callbacks(connection: Connection, received: Iterable[datetime]) -> None:
    """Count callbacks by the minutes in which they were received."""
    _add(connection, CallbackCount, list(Counter(map(minute_of, received)).items()))


def add_events(connection: Connection, source: EventSource, numbers: Mapping[EventKind, int]) -> None:
    """Add to the numbers of events of this source; negative numbers take away."""
    _add(connection, EventCount, [(*kind, source.value, number) for kind, number in numbers.items()])


def add_missed(connection: Connection, numbers: Mapping[MissedKind, int]) -> None:
    """Add to the numbers of missed events; negative numbers take away."""
    _add(connection, MissedCount, [(*kind, number) for kind, number in numbers.items()])


def count_packages(connection: Connection) -> Counter[PackageKind]:
    """How many packages there are of each kind."""
    return Counter(
        {
            PackageKind(row.trashed, row.deleted, row.type or None, row.status or None): row.number
            for row in connection.execute(_PACKAGES)
        }
    )


def replace_packages(connection: Connection, numbers: Mapping[PackageKind, int]) -> None:
    """Replace all numbers of packages."""
    connection.execute(delete(PackageCount))
    add_packages(connection, numbers)


def delete_old_minutes(connection: Connection, *, now: datetime) -> None:
    """Delete some of the minutes that are not shown any more."""
    old = select(CallbackCount.minute).where(CallbackCount.minute < minute_of(now - MINUTES_KEPT))
    connection.execute(delete(CallbackCount).where(CallbackCount.minute.in_(old.limit(MINUTES_DELETED))))


def _filled(kind: PackageKind) -> PackageKind:
    """A kind as it is stored: a primary key has no nulls."""
    return kind._replace(type=kind.type or "", status=kind.status or "")


def _add(connection: Connection, table: CounterTable, rows: Sequence[tuple[Any, ...]]) -> None:
    names = [column.name for column in table.__table__.columns]
    changed = [dict(zip(names, row, strict=True)) for row in sorted(rows) if row[-1]]
    if changed:
        connection.execute(_upsert(table), changed)


@cache
def _upsert(table: CounterTable) -> TextClause:
    """Add a number to the one that is there."""
    name, columns = table.__tablename__, table.__table__.columns
    keys = ", ".join(column.name for column in table.__table__.primary_key)
    values = ", ".join(f":{column.name}" for column in columns)
    statement = text(
        f"INSERT INTO {name} ({', '.join(columns.keys())}) VALUES ({values})"  # noqa: S608  (names of the models)
        f" ON CONFLICT ({keys}) DO UPDATE SET number = {name}.number + excluded.number"
    )
    return statement.bindparams(*(bindparam(column.name, type_=column.type) for column in columns))


_PACKAGES = select(PackageCount.__table__).where(PackageCount.number != 0)
