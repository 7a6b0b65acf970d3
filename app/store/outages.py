"""When callbacks may have been lost, and which processes there were. The only writer of both tables."""

from datetime import datetime, timedelta

from sqlalchemy import bindparam, delete, func, insert, select, text, update
from sqlalchemy.engine import Connection

from app.store.models import Outage, Process

DOWN, REFUSED, SPOOLED, UNREACHABLE = "down", "refused", "spooled", "unreachable"
LIVELY = timedelta(seconds=60)  # a process that was not seen for so long is gone
KEPT = timedelta(days=90)


def note(connection: Connection, kind: str, *, began_at: datetime, ended_at: datetime) -> None:
    """There was an outage."""
    connection.execute(insert(Outage).values(kind=kind, began_at=began_at, ended_at=ended_at))


def last_end(connection: Connection, *, now: datetime) -> datetime | None:
    """When the newest outage ended; what ends in the future was noted while a clock was ahead."""
    newest = select(func.max(Outage.ended_at, type_=Outage.ended_at.type)).where(Outage.ended_at <= now)
    return connection.scalar(newest)


def touching(connection: Connection, start: datetime, end: datetime) -> set[str]:
    """The kinds of outages there were between two moments."""
    found = select(Outage.kind).where(Outage.ended_at >= start, Outage.began_at <= end)
    return set(connection.execute(found).scalars())


def beat(connection: Connection, name: str, *, takes_callbacks: bool, started_at: datetime, now: datetime) -> None:
    """A process is there; a first sign of life after a time in which none took callbacks tells of an outage."""
    if takes_callbacks:
        last = connection.scalar(select(func.max(Process.seen_at, type_=Process.seen_at.type)).where(_DOORS))
        if last is not None and last < now - LIVELY:
            note(connection, DOWN, began_at=last, ended_at=now)
    row = {"name": name, "takes": takes_callbacks, "started": started_at, "now": now}
    connection.execute(_BEAT, row)
    connection.execute(delete(Process).where(Process.seen_at < now - KEPT))


def say_goodbye(connection: Connection, name: str, *, now: datetime) -> None:
    """A process ends."""
    connection.execute(update(Process).where(Process.name == name).values(seen_at=now, stopped_at=now))


_DOORS = Process.takes_callbacks.is_(True)
_BEAT = text(
    """INSERT INTO processes (name, takes_callbacks, started_at, seen_at) VALUES (:name, :takes, :started, :now)
    ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at"""
).bindparams(*(bindparam(one, type_=Process.seen_at.type) for one in ("started", "now")))
