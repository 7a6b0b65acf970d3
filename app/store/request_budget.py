"""How many requests all processes together make of OneSpan in a minute. The only writer of their table."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam, delete, select, text
from sqlalchemy.engine import Connection

from app.store.models import Request

KEPT = timedelta(days=1)
SHARE = 0.8  # of the budget for reconciles


@dataclass(frozen=True, slots=True)
class Budget:
    """So many requests a minute. What a reconcile asks leaves a share of them to the reads of single packages."""

    requests: int

    def has_room(self, connection: Connection, *, now: datetime) -> bool:
        """Whether a reconcile may ask once more in this minute."""
        made = connection.scalar(select(Request.made).where(Request.minute == _minute(now))) or 0
        return made < max(1, int(self.requests * SHARE))

    def spend(self, connection: Connection, *, now: datetime) -> None:
        """Count one more request. Whoever was surprised by a callback only counts."""
        connection.execute(_SPEND, {"minute": _minute(now)})
        connection.execute(delete(Request).where(Request.minute < _minute(now) - KEPT))


def next_minute(now: datetime) -> datetime:
    """When there is room again."""
    return _minute(now) + timedelta(minutes=1)


def _minute(now: datetime) -> datetime:
    return now.replace(second=0, microsecond=0)


_SPEND = text(
    """INSERT INTO requests (minute, made) VALUES (:minute, 1)
    ON CONFLICT (minute) DO UPDATE SET made = requests.made + 1"""
).bindparams(bindparam("minute", type_=Request.minute.type))
