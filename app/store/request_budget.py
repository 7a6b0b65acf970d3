"""The request budget: how many requests to OneSpan all processes make per minute. Only this module writes its table."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam, delete, select, text
from sqlalchemy.engine import Connection

from app.store.models import Request

RETENTION = timedelta(days=1)
RECONCILE_SHARE = 0.8  # share of the budget for reconcile; the rest is left to fetches after callbacks


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit of requests to OneSpan per minute. Reconcile leaves a share of it to fetches of single packages."""

    requests: int

    def has_capacity(self, connection: Connection, *, now: datetime) -> bool:
        """Whether reconcile may make another request to OneSpan in the current minute."""
        made = connection.scalar(select(Request.made).where(Request.minute == _minute(now))) or 0
        return made < max(1, int(self.requests * RECONCILE_SHARE))

    def spend(self, connection: Connection, *, now: datetime) -> None:
        """Count one request to OneSpan. The budget counts fetches after callbacks, but never delays them."""
        connection.execute(_SPEND, {"minute": _minute(now)})
        connection.execute(delete(Request).where(Request.minute < _minute(now) - RETENTION))


def next_minute(now: datetime) -> datetime:
    """Return the start of the next minute, when the request budget is free again."""
    return _minute(now) + timedelta(minutes=1)


def _minute(now: datetime) -> datetime:
    return now.replace(second=0, microsecond=0)


_SPEND = text(
    """INSERT INTO requests (minute, made) VALUES (:minute, 1)
    ON CONFLICT (minute) DO UPDATE SET made = requests.made + 1"""
).bindparams(bindparam("minute", type_=Request.minute.type))
