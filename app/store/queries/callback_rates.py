"""How many callbacks came, minute by minute and hour by hour."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Integer, bindparam, func, select
from sqlalchemy.engine import Connection

from app.store import counters
from app.store.models import Tally

MINUTES, HOURS = 60, 48
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
MINUTE_LONG, HOUR_LONG = len("2026-01-31T12:00"), len("2026-01-31T12")


@dataclass(frozen=True, slots=True)
class Tick:
    """How many callbacks came in the minute, or hour, that began then."""

    at: datetime
    callbacks: int


@dataclass(frozen=True, slots=True)
class Flow:
    """The callbacks of the last 60 minutes and of the last 48 hours, oldest first, the current ones last."""

    minutes: list[Tick]
    hours: list[Tick]


def flow(connection: Connection, *, now: datetime) -> Flow:
    """How callbacks came in lately. They count once they are digested."""
    minute = now.astimezone(UTC).replace(second=0, microsecond=0)
    hour = minute.replace(minute=0)
    by_minute = _came(connection, since=minute - (MINUTES - 1) * MINUTE, until=minute, letters=MINUTE_LONG)
    by_hour = _came(connection, since=hour - (HOURS - 1) * HOUR, until=minute, letters=HOUR_LONG)
    return Flow(
        [Tick(at, by_minute.get(counters.minute(at)[:MINUTE_LONG], 0)) for at in _last(minute, MINUTES, MINUTE)],
        [Tick(at, by_hour.get(counters.minute(at)[:HOUR_LONG], 0)) for at in _last(hour, HOURS, HOUR)],
    )


def _last(now: datetime, many: int, each: timedelta) -> Iterator[datetime]:
    return (now - ago * each for ago in reversed(range(many)))


def _came(connection: Connection, *, since: datetime, until: datetime, letters: int) -> dict[str, int]:
    """How many came, by the first letters of the minute."""
    within = {"since": counters.minute(since), "until": counters.minute(until), "letters": letters}
    return {at: int(number) for at, number in connection.execute(_CAME, within)}


_AT = func.substr(Tally.key, 1, bindparam("letters", type_=Integer))
_CAME = (
    select(_AT, func.sum(Tally.number))
    .where(Tally.kind == counters.CALLBACKS, Tally.key >= bindparam("since"), Tally.key <= bindparam("until"))
    .group_by(_AT)
)
