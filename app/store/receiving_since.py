"""When this service began to receive callbacks. Earlier events do not count as missed."""

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.engine import Connection

from app.store import onespan_clock, reconciles
from app.store.models import Journal
from app.store.states import JournalKind


def receiving_since(connection: Connection) -> datetime | None:
    """Return when the first callback arrived or the first completed import began, whichever was earlier.

    The time is of OneSpan's clock. If that clock differs from this service's, the time is rather too early than too
    late by the precision of the measured offset.
    """
    first = connection.execute(_FIRST).one_or_none()
    imported = reconciles.first_import(connection)
    began = [(first.received_at, first.clock_offset)] if first else []
    began += [(imported, None)] if imported else []
    known = onespan_clock.offset(connection)
    return min(
        (_on_onespan_clock(at, known if seconds is None else timedelta(seconds=seconds)) for at, seconds in began),
        default=None,
    )


def _on_onespan_clock(at: datetime, offset: timedelta) -> datetime:
    return at + offset - onespan_clock.PRECISION if offset else at


_FIRST = (
    select(Journal.received_at, Journal.clock_offset)
    .where(Journal.kind == JournalKind.CALLBACK)
    .order_by(Journal.id)
    .limit(1)
)
