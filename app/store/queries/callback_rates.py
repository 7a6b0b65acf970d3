"""How many callbacks arrived, by minute and by hour."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Integer, bindparam, func, select
from sqlalchemy.engine import Connection

from app.store import counters
from app.store.models import Tally

MINUTES, HOURS = 60, 48
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
MINUTE_LETTERS, HOUR_LETTERS = len("2026-01-31T12:00"), len("2026-01-31T12")  # prefixes of a counter key


@dataclass(frozen=True, slots=True)
class Tick:
    """How many callbacks arrived in the minute or hour that begins at `at`."""

    at: datetime
    callbacks: int


@dataclass(frozen=True, slots=True)
class Flow:
    """The callbacks of the last 60 minutes and of the last 48 hours, oldest first, the current ones last."""

    minutes: list[Tick]
    hours: list[Tick]


def flow(connection: Connection, *, now: datetime) -> Flow:
    """How many callbacks arrived recently. They are counted once they are digested."""
    minute = now.astimezone(UTC).replace(second=0, microsecond=0)
    hour = minute.replace(minute=0)
    by_minute = _counts(connection, since=minute - (MINUTES - 1) * MINUTE, until=minute, letters=MINUTE_LETTERS)
    by_hour = _counts(connection, since=hour - (HOURS - 1) * HOUR, until=minute, letters=HOUR_LETTERS)
    return Flow(
        [Tick(at, by_minute.get(counters.minute(at)[:MINUTE_LETTERS], 0)) for at in _times(minute, MINUTES, MINUTE)],
        [Tick(at, by_hour.get(counters.minute(at)[:HOUR_LETTERS], 0)) for at in _times(hour, HOURS, HOUR)],
    )


def _times(last: datetime, number: int, step: timedelta) -> Iterator[datetime]:
    return (last - steps * step for steps in reversed(range(number)))


def _counts(connection: Connection, *, since: datetime, until: datetime, letters: int) -> dict[str, int]:
    """How many callbacks arrived, by the first letters of their minute."""
    parameters = {"since": counters.minute(since), "until": counters.minute(until), "letters": letters}
    return {at: int(number) for at, number in connection.execute(_COUNTS, parameters)}


_TIME = func.substr(Tally.key, 1, bindparam("letters", type_=Integer))
_COUNTS = (
    select(_TIME, func.sum(Tally.number))
    .where(Tally.kind == counters.CALLBACKS, Tally.key >= bindparam("since"), Tally.key <= bindparam("until"))
    .group_by(_TIME)
)
