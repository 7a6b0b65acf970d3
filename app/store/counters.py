"""Counters of packages, callbacks, events and missed events. Only this module writes the tables of counters.

Code that changes a counted row updates its counter in the same transaction, under the write lock, so counters are
exact.
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

MINUTES_KEPT = timedelta(days=3)  # how long the callback count of a minute is kept; pages show two days
MINUTES_DELETED = 5_000  # the most callback counts that are deleted at once
MINUTE_SECONDS = 60

CounterTable = type[PackageCount] | type[CallbackCount] | type[EventCount] | type[MissedCount]


class PackageKind(NamedTuple):
    """The flags, type and status by which packages are counted."""

    trashed: bool
    deleted: bool
    type: str | None
    status: str | None


class EventKind(NamedTuple):
    """The day (UTC) and the event name by which events are counted."""

    day: date
    name: str


class MissedKind(NamedTuple):
    """The day (UTC), event name and cause by which missed events are counted."""

    day: date
    name: str
    cause: str


def day_of(moment: datetime) -> date:
    """Return the day (UTC) of a moment."""
    return moment.astimezone(UTC).date()


def minute_of(moment: datetime) -> int:
    """Return the number of the minute that contains a moment, counted from 1970 (UTC)."""
    return int(moment.timestamp()) // MINUTE_SECONDS


def add_packages(connection: Connection, numbers: Mapping[PackageKind, int]) -> None:
    """Add numbers to the counters of packages. Negative numbers reduce a counter."""
    _add(connection, PackageCount, [(*_filled(kind), number) for kind, number in numbers.items()])


def add_callbacks(connection: Connection, received: Iterable[datetime]) -> None:
    """Count callbacks by the minutes in which they were received."""
    _add(connection, CallbackCount, list(Counter(map(minute_of, received)).items()))


def add_events(connection: Connection, source: EventSource, numbers: Mapping[EventKind, int]) -> None:
    """Add numbers to the counters of events with the given source. Negative numbers reduce a counter."""
    _add(connection, EventCount, [(*kind, source.value, number) for kind, number in numbers.items()])


def add_missed(connection: Connection, numbers: Mapping[MissedKind, int]) -> None:
    """Add numbers to the counters of missed events. Negative numbers reduce a counter."""
    _add(connection, MissedCount, [(*kind, number) for kind, number in numbers.items()])


def count_packages(connection: Connection) -> Counter[PackageKind]:
    """Return the number of packages of each kind, read from the counters."""
    return Counter(
        {
            PackageKind(row.trashed, row.deleted, row.type or None, row.status or None): row.number
            for row in connection.execute(_PACKAGES)
        }
    )


def replace_packages(connection: Connection, numbers: Mapping[PackageKind, int]) -> None:
    """Replace all counters of packages with the given numbers."""
    connection.execute(delete(PackageCount))
    add_packages(connection, numbers)


def delete_old_minutes(connection: Connection, *, now: datetime) -> None:
    """Delete up to `MINUTES_DELETED` callback counts of minutes that are older than `MINUTES_KEPT`."""
    old = select(CallbackCount.minute).where(CallbackCount.minute < minute_of(now - MINUTES_KEPT))
    connection.execute(delete(CallbackCount).where(CallbackCount.minute.in_(old.limit(MINUTES_DELETED))))


def _filled(kind: PackageKind) -> PackageKind:
    """Replace None in a package kind with an empty string, because a primary key cannot contain nulls."""
    return kind._replace(type=kind.type or "", status=kind.status or "")


def _add(connection: Connection, table: CounterTable, rows: Sequence[tuple[Any, ...]]) -> None:
    names = [column.name for column in table.__table__.columns]
    changed = [dict(zip(names, row, strict=True)) for row in sorted(rows) if row[-1]]
    if changed:
        connection.execute(_upsert(table), changed)


@cache
def _upsert(table: CounterTable) -> TextClause:
    """Build the statement that adds a number to a counter, or inserts the counter if it is missing."""
    name, columns = table.__tablename__, table.__table__.columns
    keys = ", ".join(column.name for column in table.__table__.primary_key)
    values = ", ".join(f":{column.name}" for column in columns)
    statement = text(
        f"INSERT INTO {name} ({', '.join(columns.keys())}) VALUES ({values})"  # noqa: S608  (names of the models)
        f" ON CONFLICT ({keys}) DO UPDATE SET number = {name}.number + excluded.number"
    )
    return statement.bindparams(*(bindparam(column.name, type_=column.type) for column in columns))


_PACKAGES = select(PackageCount.__table__).where(PackageCount.number != 0)
