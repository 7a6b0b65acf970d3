"""How many callbacks arrived, by minute and by hour."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Integer, bindparam, func, select, text
from sqlalchemy.engine import Connection

from app.store.counters import minute_of
from app.store.models import CallbackCount

MINUTES, HOURS = 60, 48
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
MINUTES_OF_HOUR = 60


@dataclass(frozen=True, slots=True)
class Tick:
    """How many callbacks arrived in the minute or hour that begins at `at`."""

    at: datetime
    callbacks: int


@dataclass(frozen=True, slots=True)
class CallbackRates:
    """The numbers of callbacks in each of the last 60 minutes and 48 hours. The current minute and hour come last."""

    minutes: list[Tick]
    hours: list[Tick]


def callback_rates(connection: Connection, *, now: datetime) -> CallbackRates:
    """Return how many callbacks arrived recently. A callback is counted once it is digested."""
    minute = now.astimezone(UTC).replace(second=0, microsecond=0)
    hour = minute.replace(minute=0)
    by_minute = _counts(connection, since=minute - (MINUTES - 1) * MINUTE, until=minute, width=1)
    by_hour = _counts(connection, since=hour - (HOURS - 1) * HOUR, until=minute, width=MINUTES_OF_HOUR)
    return CallbackRates(
        [Tick(at, by_minute.get(minute_of(at), 0)) for at in _times(minute, MINUTES, MINUTE)],
        [Tick(at, by_hour.get(minute_of(at) // MINUTES_OF_HOUR, 0)) for at in _times(hour, HOURS, HOUR)],
    )


def _times(last: datetime, number: int, step: timedelta) -> Iterator[datetime]:
    return (last - steps * step for steps in reversed(range(number)))


def _counts(connection: Connection, *, since: datetime, until: datetime, width: int) -> dict[int, int]:
    """Return how many callbacks arrived in each interval of `width` minutes. Intervals are numbered from 1970."""
    parameters = {"since": minute_of(since), "until": minute_of(until), "width": width}
    return {interval: int(number) for interval, number in connection.execute(_COUNTS, parameters)}


_INTERVAL = CallbackCount.minute // bindparam("width", type_=Integer)
_COUNTS = (
    select(_INTERVAL, func.sum(CallbackCount.number))
    .where(CallbackCount.minute >= bindparam("since"), CallbackCount.minute <= bindparam("until"))
    .group_by(text("1"))
)
