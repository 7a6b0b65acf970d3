"""How many callbacks came, minute by minute and hour by hour."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.engine import Connection

from app.store.models import Journal

MINUTES, HOURS = 60, 48
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


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
    found = select(Journal.received_at).where(
        Journal.kind == "callback",
        Journal.received_at >= hour - (HOURS - 1) * HOUR,
        Journal.digested_at.is_not(None),
        Journal.unreadable.is_(None),
    )
    came = Counter(at.replace(second=0, microsecond=0) for at in connection.execute(found).scalars())
    by_hour: Counter[datetime] = Counter()
    for at, number in came.items():
        by_hour[at.replace(minute=0)] += number
    return Flow(
        [Tick(at, came[at]) for at in (minute - ago * MINUTE for ago in reversed(range(MINUTES)))],
        [Tick(at, by_hour[at]) for at in (hour - ago * HOUR for ago in reversed(range(HOURS)))],
    )
