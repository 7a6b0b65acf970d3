"""Facts that reading found and no callback told in time. The only writer of their table."""

from collections import Counter
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, exists, func, insert, or_, select, update
from sqlalchemy.engine import Connection

from app.onespan.findings import DATED
from app.store import outages, receiving
from app.store.counters import MissedKind, add_missed, day_of
from app.store.db import take_pen
from app.store.models import Event, Missed

NEVER_TOLD, NO_TRACE = "never reported", "no trace"
LATEST = timedelta(days=7)  # how long after it came in a reading may still be digested, and find something
NEAR = timedelta(minutes=1)  # a callback comes within so much of its fact


def note(connection: Connection, *, now: datetime, grace: timedelta, limit: int) -> int:
    """Write down what was found `grace` ago or before, and still is not confirmed. Returns how many; call it again.

    What happened before we listened was nobody's to tell. Takes the pen, which whoever confirms a fact holds as well;
    so any number of processes may: each is noted once, and none that was told meanwhile.
    """
    take_pen(connection)
    began = receiving.began_at(connection)
    if began is None:
        return 0
    last = connection.scalar(select(func.max(Missed.found_at, type_=Missed.found_at.type)))
    found = (
        select(*_FACT)
        .where(
            Event.source == "reconcile",
            Event.confirmation.is_(None),
            Event.first_received_at <= now - grace,
            Event.happened_at > began,
            ~exists().where(Missed.event_id == Event.id),
            *((Event.first_received_at >= last - LATEST,) if last else ()),
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


def told(connection: Connection, event_ids: Collection[int], *, now: datetime) -> None:
    """Callbacks told these after all."""
    if event_ids:
        found = update(Missed).where(Missed.event_id.in_(event_ids), Missed.told_at.is_(None)).values(told_at=now)
        rows = connection.execute(found.returning(Missed.happened_at, Missed.name, Missed.cause)).all()
        add_missed(connection, {kind: -number for kind, number in Counter(_kind(*row) for row in rows).items()})


def _kind(happened_at: datetime, name: str, cause: str) -> MissedKind:
    return MissedKind(day_of(happened_at), name, cause)


def _cause(connection: Connection, fact: Row[Any], *, began: datetime) -> str:
    """Why it likely was not told: what went on when it happened, or all the time in which it may have."""
    start = end = fact.happened_at
    if fact.name not in DATED:
        start, end = max(fact.found_after or began, began), fact.found_until
    kinds = outages.touching(connection, start - NEAR, end + NEAR)
    for kind in (outages.DOWN, outages.REFUSED):
        if kind in kinds:
            return kind
    of_the_name = Event.name == fact.name
    ever_told = exists().where(of_the_name, or_(Event.source == "callback", Event.confirmation.is_not(None)))
    return NO_TRACE if connection.scalar(select(ever_told)) else NEVER_TOLD


_FACT = (
    *(Event.__table__.c[name] for name in ("id", "package_id", "name", "happened_at", "found_after", "found_until")),
    Event.first_received_at.label("found_at"),
)
