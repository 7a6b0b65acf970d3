"""Missed events, which reconcile found and no callback reported in time. Only this module writes their table."""

from collections import Counter
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, exists, func, insert, or_, select, update
from sqlalchemy.engine import Connection

from app.onespan.event_catalogue import event_type
from app.store import onespan_clock, outages
from app.store.counters import MissedKind, add_missed, day_of
from app.store.db import take_write_lock
from app.store.models import Event, Missed
from app.store.receiving_since import receiving_since
from app.store.states import EventSource, MissedCause, OutageKind

DIGEST_DELAY = timedelta(days=7)  # longest time from a snapshot's arrival until its digest finds an event
CALLBACK_DELAY = timedelta(minutes=1)  # longest time from an event until its callback arrives


def record(connection: Connection, *, now: datetime, grace: timedelta, limit: int) -> int:
    """Record events as missed that were found at least `grace` ago and still have no callback.

    Returns the number of recorded events; call again until it is 0. Events from before this service received callbacks
    are not missed. The function takes the write lock, under which events are also confirmed. So even with many
    processes, each event is recorded once, and never after its callback arrived.
    """
    take_write_lock(connection)
    began = receiving_since(connection)
    if began is None:
        return 0
    last = connection.scalar(select(func.max(Missed.found_at, type_=Missed.found_at.type)))
    found = (
        select(*_EVENT)
        .where(
            Event.source == EventSource.RECONCILE,
            Event.confirmation.is_(None),
            Event.first_received_at <= now - grace,
            Event.happened_at > began,
            ~exists().where(Missed.event_id == Event.id),
            *((Event.first_received_at >= last - DIGEST_DELAY,) if last else ()),
        )
        .order_by(Event.first_received_at)
        .limit(limit)
    )
    rows = [
        {
            "event_id": row.id,
            "package_id": row.package_id,
            "name": row.name,
            "happened_at": row.happened_at,
            "found_at": row.found_at,
            "noted_at": now,
            "cause": _cause(connection, row, began=began),
        }
        for row in connection.execute(found)
    ]
    if rows:
        connection.execute(insert(Missed), rows)
    add_missed(connection, Counter(_kind(row["happened_at"], row["name"], row["cause"]) for row in rows))
    return len(rows)


def mark_reported(connection: Connection, event_ids: Collection[int], *, now: datetime) -> None:
    """Record that callbacks reported the given missed events after all."""
    if event_ids:
        late = (
            update(Missed).where(Missed.event_id.in_(event_ids), Missed.reported_at.is_(None)).values(reported_at=now)
        )
        rows = connection.execute(late.returning(Missed.happened_at, Missed.name, Missed.cause)).all()
        add_missed(connection, {kind: -number for kind, number in Counter(_kind(*row) for row in rows).items()})


def _kind(happened_at: datetime, name: str, cause: str) -> MissedKind:
    return MissedKind(day_of(happened_at), name, cause)


def _cause(connection: Connection, event: Row[Any], *, began: datetime) -> str:
    """Return the likely cause of a missing callback, such as an outage at a time when the event may have happened."""
    start = end = event.happened_at
    if not event_type(event.name).dated_in_snapshots:
        start, end = max(event.found_after or began, began), event.found_until
    ahead = onespan_clock.offset(connection)  # outages are dated by this service's clock
    kinds = outages.overlapping(connection, start - ahead - CALLBACK_DELAY, end - ahead + CALLBACK_DELAY)
    for kind in (OutageKind.DOWN, OutageKind.REFUSED):
        if kind in kinds:
            return kind
    has_name = Event.name == event.name
    was_reported = exists().where(has_name, or_(Event.source == EventSource.CALLBACK, Event.confirmation.is_not(None)))
    return MissedCause.NO_TRACE if connection.scalar(select(was_reported)) else MissedCause.NEVER_REPORTED


_EVENT = (
    *(Event.__table__.c[name] for name in ("id", "package_id", "name", "happened_at", "found_after", "found_until")),
    Event.first_received_at.label("found_at"),
)
