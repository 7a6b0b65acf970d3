"""Failed logins, for rate limiting, and ended sessions. The only writer of both tables."""

from datetime import datetime, timedelta

from sqlalchemy import delete, insert, select, text
from sqlalchemy.engine import Connection

from app.store.bulk import upsert_all
from app.store.models import EndedSession, Login

WINDOW = timedelta(minutes=15)
ADDRESS_LIMIT, TOTAL_LIMIT = 10, 100  # failures allowed in that time, from one address and from all addresses
LOCK_KEY = 0x6C6F6769  # of PostgreSQL's advisory lock that makes attempts count one after the other

_TAKE_LOCK = text("SELECT pg_advisory_xact_lock(:key)")
_COUNT = insert(Login).returning(Login.id)


def retry_after(connection: Connection, address: str, *, now: datetime) -> timedelta | None:
    """How long this address must wait before its next attempt; None if it may try now.

    Refused attempts are not counted. So a single address can lock out only itself, and only for a while.
    """
    recent = select(Login.tried_at).where(Login.tried_at > now - WINDOW).order_by(Login.tried_at.desc()).limit(1)
    oldest = [
        connection.scalar(recent.where(Login.address == address).offset(ADDRESS_LIMIT - 1)),
        connection.scalar(recent.offset(TOTAL_LIMIT - 1)),
    ]
    return max((tried_at + WINDOW - now for tried_at in oldest if tried_at), default=None)


def attempt(connection: Connection, address: str, *, now: datetime) -> int | timedelta:
    """Count an attempt as failed before its result is known. Returns its id, or how long it must `retry_after`.

    So concurrent attempts, in any number of processes, are limited like attempts in sequence.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_TAKE_LOCK, {"key": LOCK_KEY})
    connection.execute(delete(Login).where(Login.tried_at <= now - WINDOW))
    delay = retry_after(connection, address, now=now)
    return delay or connection.execute(_COUNT, {"address": address, "tried_at": now}).scalar_one()


def succeed(connection: Connection, attempt_id: int) -> None:
    """Uncount an attempt that succeeded.

    Earlier failures stay counted, so that a user with the view-only password cannot guess the other one for ever.
    """
    connection.execute(delete(Login).where(Login.id == attempt_id))


def end(connection: Connection, session_id: str, *, until: datetime, now: datetime) -> None:
    """End a session that would have expired at `until`. Ending it twice changes nothing."""
    connection.execute(delete(EndedSession).where(EndedSession.until <= now))
    upsert_all(connection, EndedSession, [{"id": session_id, "until": until}])


def has_ended(connection: Connection, session_id: str) -> bool:
    """Whether a session was ended."""
    return connection.scalar(select(EndedSession.id).where(EndedSession.id == session_id)) is not None
