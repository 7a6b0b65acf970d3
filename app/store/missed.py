"""Facts that reading found and no callback told in time. The only writer of their table."""

from collections import Counter
from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import exists, func, insert, or_, select, update
from sqlalchemy.engine import Connection

from app.store import outages, runs, tallies
from app.store.models import Event, Journal, Missed

NEVER_TOLD, NO_TRACE = "never told", "no trace"
LATEST = timedelta(days=7)  # how long after it came in a reading may still be digested, and find something
NEAR = timedelta(minutes=1)  # a callback comes within so much of its fact


def note(connection: Connection, *, now: datetime, grace: timedelta, limit: int) -> int:
    """Write down what was found `grace` ago or before, and still is not confirmed. Returns how many; call it again.

    What happened before the first callback came, or the account was imported, was nobody's to tell. The caller holds
    the pen, so that no callback tells of it meanwhile.
    """
    called = connection.scalar(
        select(Journal.received_at).where(Journal.kind == "callback").order_by(Journal.id).limit(1)
    )
    began = min(filter(None, (called, runs.first_import(connection))), default=None)
    if began is None:
        return 0
    last = connection.scalar(select(func.max(Missed.found_at, type_=Missed.found_at.type)))
    found = (
        select(Event.id, Event.package_id, Event.name, Event.happened_at, Event.first_received_at.label("found_at"))
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
            "cause": _cause(connection, row.name, row.happened_at),
        }
        for row in connection.execute(found)
    ]
    if rows:
        connection.execute(insert(Missed), rows)
    tallies.count(
        connection,
        tallies.MISSED,
        Counter(_key(one["happened_at"], one["name"], one["cause"]) for one in rows),
    )
    return len(rows)


def told(connection: Connection, event_ids: Collection[int], *, now: datetime) -> None:
    """Callbacks told these after all."""
    if event_ids:
        found = update(Missed).where(Missed.event_id.in_(event_ids), Missed.told_at.is_(None)).values(told_at=now)
        rows = connection.execute(found.returning(Missed.happened_at, Missed.name, Missed.cause)).all()
        tallies.count(
            connection,
            tallies.MISSED,
            {key: -number for key, number in Counter(_key(*row) for row in rows).items()},
        )


def _key(happened_at: datetime, name: str, cause: str) -> str:
    return tallies.key(tallies.day(happened_at), name, cause)


def _cause(connection: Connection, name: str, happened_at: datetime) -> str:
    """Why it likely was not told."""
    kinds = outages.touching(connection, happened_at - NEAR, happened_at + NEAR)
    for kind in (outages.DOWN, outages.REFUSED):
        if kind in kinds:
            return kind
    ever_told = exists().where(Event.name == name, or_(Event.source == "callback", Event.confirmation.is_not(None)))
    return NO_TRACE if connection.scalar(select(ever_told)) else NEVER_TOLD
