"""The offset of OneSpan's clock from this service's clock, in one row. Only this module writes its table.

The newest measurement counts. The client confirms a measurement that differs much before the client reports it.
"""

from datetime import datetime, timedelta

from sqlalchemy import bindparam, select, text
from sqlalchemy.engine import Connection

from app.onespan.clock import OffsetRange
from app.store.models import OneSpanClock

PRECISION = timedelta(seconds=2)  # how far the stored offset may be from the true offset
MIN_CHANGE = timedelta(seconds=1)  # smaller changes are not stored
MAX_AGE = timedelta(hours=1)  # an older measurement is stored again even if nothing changed


def known_offset(connection: Connection) -> timedelta | None:
    """Return how far OneSpan's clock is ahead; None if no answer of OneSpan was measured yet."""
    seconds = seconds_ahead(connection)
    return None if seconds is None else timedelta(seconds=seconds)


def seconds_ahead(connection: Connection) -> float | None:
    """Return the known offset in seconds."""
    return connection.scalar(_OFFSET)


def offset(connection: Connection) -> timedelta:
    """Return how far OneSpan's clock is ahead of this service's clock; zero if it is not known."""
    return known_offset(connection) or timedelta(0)


def onespan_time(connection: Connection, now: datetime) -> datetime:
    """Return what OneSpan's clock shows when this service's clock shows `now`."""
    return now + offset(connection)


def record(connection: Connection, measured: OffsetRange | None, *, now: datetime) -> None:
    """Store what an answer of OneSpan measured, if it changed or if the last measurement is old.

    Call it last in a transaction: all processes write this row, and so lock the other tables in the same order.
    """
    if measured is None:
        return
    row = connection.execute(_ROW).one_or_none()
    new = measured.nearest(timedelta(seconds=row.offset_seconds) if row else timedelta(0))
    is_same = row and abs(new.total_seconds() - row.offset_seconds) < MIN_CHANGE.total_seconds()
    if not (row and is_same and abs(now - row.measured_at) < MAX_AGE):
        connection.execute(_RECORD, {"seconds": round(new.total_seconds(), 3), "now": now})


_OFFSET = select(OneSpanClock.offset_seconds)
_ROW = select(OneSpanClock.offset_seconds, OneSpanClock.measured_at)
_RECORD = text(
    """INSERT INTO onespan_clock (id, offset_seconds, measured_at) VALUES (1, :seconds, :now)
    ON CONFLICT (id) DO UPDATE SET offset_seconds = excluded.offset_seconds, measured_at = excluded.measured_at"""
).bindparams(bindparam("now", type_=OneSpanClock.measured_at.type))
