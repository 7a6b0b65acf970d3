"""Whether OneSpan accepts this service's credentials. Only this module writes the table `onespan_access`."""

from datetime import datetime, timedelta

from sqlalchemy import bindparam, delete, select, text, update
from sqlalchemy.engine import Connection

from app.store.models import OneSpanAccess

LONGEST_WAIT = timedelta(hours=6)  # a check that is due later was dated by a wrong clock
RECENT = timedelta(seconds=15)  # an equal result is not recorded again for this long


def record(connection: Connection, key: str, *, error: str | None, now: datetime, due_at: datetime) -> None:
    """Record that OneSpan accepted the credentials named `key`, or refused them with `error`."""
    row = {"key": key, "error": error, "now": now, "due_at": due_at, "refused_since": now if error else None}
    connection.execute(_RECORD, row)


def is_recorded(connection: Connection, key: str, *, error: str | None, now: datetime) -> bool:
    """Whether the same result was recorded recently."""
    recent = OneSpanAccess.checked_at.between(now - RECENT, now)
    same = OneSpanAccess.error == error if error else OneSpanAccess.error.is_(None)
    return connection.scalar(select(OneSpanAccess.id).where(OneSpanAccess.key == key, recent, same)) is not None


def postpone(connection: Connection, key: str, *, due_at: datetime) -> None:
    """Postpone the next check after a request that shows nothing about the credentials."""
    connection.execute(update(OneSpanAccess).where(OneSpanAccess.key == key).values(due_at=due_at))


def take(connection: Connection, key: str, *, now: datetime, due_at: datetime, again: bool) -> bool:
    """Take the check if it is due, for one of all processes; with `again` in any case.

    What was known of other credentials is deleted.
    """
    connection.execute(delete(OneSpanAccess).where(OneSpanAccess.key != key))
    row = {"key": key, "now": now, "due_at": due_at, "latest": now if again else now + LONGEST_WAIT}
    return connection.execute(_TAKE, row).first() is not None


def is_due(connection: Connection, key: str, *, now: datetime) -> bool:
    """Whether the check is due."""
    waits = OneSpanAccess.due_at.between(now, now + LONGEST_WAIT)
    return connection.scalar(select(OneSpanAccess.id).where(OneSpanAccess.key == key, waits)) is None


def is_known(connection: Connection) -> bool:
    """Whether anything is known of any credentials."""
    return connection.scalar(select(OneSpanAccess.id)) is not None


def forget(connection: Connection) -> None:
    """Delete what is known, because OneSpan is not configured any more."""
    connection.execute(delete(OneSpanAccess))


_TIMES = (bindparam(name, type_=OneSpanAccess.due_at.type) for name in ("now", "due_at", "refused_since", "latest"))
_NOW, _DUE_AT, _REFUSED_SINCE, _LATEST = _TIMES
_RECORD = text(
    """INSERT INTO onespan_access (id, key, checked_at, due_at, refused_since, error)
    VALUES (1, :key, :now, :due_at, :refused_since, :error)
    ON CONFLICT (id) DO UPDATE SET key = excluded.key, checked_at = excluded.checked_at, due_at = excluded.due_at,
    error = excluded.error, refused_since = CASE
        WHEN excluded.error IS NULL OR onespan_access.key <> excluded.key THEN excluded.refused_since
        ELSE coalesce(onespan_access.refused_since, excluded.refused_since) END"""
).bindparams(_NOW, _DUE_AT, _REFUSED_SINCE)
_TAKE = text(
    """INSERT INTO onespan_access (id, key, due_at) VALUES (1, :key, :due_at)
    ON CONFLICT (id) DO UPDATE SET due_at = excluded.due_at
    WHERE onespan_access.due_at <= :now OR onespan_access.due_at > :latest
    RETURNING id"""
).bindparams(_NOW, _DUE_AT, _LATEST)
