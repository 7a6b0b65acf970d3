"""The limit of failed logins, per address and in total. The only writer of its table."""

from datetime import datetime, timedelta

from sqlalchemy import delete, insert, select, text
from sqlalchemy.engine import Connection

from app.store.models import LoginAttempt

MAX_FAILURES_PER_ADDRESS = 10  # in `LOGIN_WINDOW`
MAX_FAILURES_IN_TOTAL = 100  # from all addresses
LOGIN_WINDOW = timedelta(minutes=15)
LOCK_KEY = 0x6C6F6769  # of PostgreSQL's advisory lock that makes attempts count one after the other

_TAKE_LOCK = text("SELECT pg_advisory_xact_lock(:key)")
_COUNT = insert(LoginAttempt).returning(LoginAttempt.id)


def retry_after(connection: Connection, address: str, *, now: datetime) -> timedelta | None:
    """How long this address must wait before its next attempt; None if it may try now.

    Refused attempts are not counted. So a single address can lock out only itself, and only for a while.
    """
    recent = (
        select(LoginAttempt.tried_at)
        .where(LoginAttempt.tried_at > now - LOGIN_WINDOW)
        .order_by(LoginAttempt.tried_at.desc())
        .limit(1)
    )
    oldest = [
        connection.scalar(recent.where(LoginAttempt.address == address).offset(MAX_FAILURES_PER_ADDRESS - 1)),
        connection.scalar(recent.offset(MAX_FAILURES_IN_TOTAL - 1)),
    ]
    return max((tried_at + LOGIN_WINDOW - now for tried_at in oldest if tried_at), default=None)


def record_attempt(connection: Connection, address: str, *, now: datetime) -> int | timedelta:
    """Count an attempt as failed before its result is known. Returns its id, or how long it must `retry_after`.

    So concurrent attempts, in any number of processes, are limited like attempts in sequence.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_TAKE_LOCK, {"key": LOCK_KEY})
    connection.execute(delete(LoginAttempt).where(LoginAttempt.tried_at <= now - LOGIN_WINDOW))
    delay = retry_after(connection, address, now=now)
    return delay or connection.execute(_COUNT, {"address": address, "tried_at": now}).scalar_one()


def succeed(connection: Connection, attempt_id: int) -> None:
    """Uncount an attempt that succeeded.

    Earlier failures stay counted, so that a user with the view-only password cannot guess the other one for ever.
    """
    connection.execute(delete(LoginAttempt).where(LoginAttempt.id == attempt_id))
