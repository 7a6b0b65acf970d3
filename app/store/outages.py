"""Outages, during which callbacks may have been lost, and process heartbeats. Only this module writes their tables."""

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, bindparam, delete, exists, func, insert, or_, select, text, update
from sqlalchemy.engine import Connection
from sqlalchemy.orm import InstrumentedAttribute

from app.onespan.projection import PROJECTION_VERSION
from app.store.models import Outage, Process
from app.store.states import OutageKind

HEARTBEAT_TIMEOUT = timedelta(seconds=60)  # a process without a heartbeat for this long counts as gone
RETENTION = timedelta(days=90)  # how long a process stays listed after its last heartbeat


def record(connection: Connection, kind: str, *, began_at: datetime, ended_at: datetime) -> None:
    """Record the kind, begin and end of an outage."""
    connection.execute(insert(Outage).values(kind=kind, began_at=began_at, ended_at=ended_at))


def last_end(connection: Connection, *, now: datetime) -> datetime | None:
    """Return when the newest outage ended. Outages that end in the future, by a clock that was ahead, are ignored."""
    newest = select(func.max(Outage.ended_at, type_=Outage.ended_at.type)).where(Outage.ended_at <= now)
    return connection.scalar(newest)


def overlapping(connection: Connection, start: datetime, end: datetime) -> set[str]:
    """Return the kinds of outages that overlap the time between `start` and `end`."""
    found = select(Outage.kind).where(Outage.ended_at >= start, Outage.began_at <= end)
    return set(connection.execute(found).scalars())


def beat(connection: Connection, name: str, *, takes_callbacks: bool, started_at: datetime, now: datetime) -> None:
    """Record the heartbeat of a process.

    The first heartbeat after a time in which no process took callbacks records an outage.
    """
    if takes_callbacks:
        last = connection.scalar(select(func.max(Process.seen_at, type_=Process.seen_at.type)).where(_IS_RECEIVER))
        if last is not None and last < now - HEARTBEAT_TIMEOUT:
            record(connection, OutageKind.DOWN, began_at=last, ended_at=now)
    row = {"name": name, "takes": takes_callbacks, "started": started_at, "now": now, "version": PROJECTION_VERSION}
    connection.execute(_BEAT, row)
    connection.execute(delete(Process).where(Process.seen_at < now - RETENTION))


def has_lost(process: InstrumentedAttribute[str | None], *, own: str, now: datetime) -> ColumnElement[bool]:
    """Return whether the process named in this column does not need its lease any more.

    It has stopped, it has sent no heartbeat for a while, or it is this process (`own`), whose turn has failed.
    """
    is_gone = or_(Process.stopped_at.is_not(None), Process.seen_at < now - HEARTBEAT_TIMEOUT)
    return or_(process == own, exists().where(Process.name == process, is_gone))


def record_stop(connection: Connection, name: str, *, now: datetime) -> None:
    """Record that a process shut down normally."""
    connection.execute(update(Process).where(Process.name == name).values(seen_at=now, stopped_at=now))


_IS_RECEIVER = Process.takes_callbacks.is_(True)
_BEAT = text(
    """INSERT INTO processes (name, takes_callbacks, started_at, seen_at, projection_version)
    VALUES (:name, :takes, :started, :now, :version)
    ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at"""
).bindparams(*(bindparam(name, type_=Process.seen_at.type) for name in ("started", "now")))
