"""The limit of failed logins, per address or known device. Only this module writes the table of login attempts."""

from datetime import datetime, timedelta

from sqlalchemy import delete, insert, select, text
from sqlalchemy.engine import Connection

from app.store.models import LoginAttempt

MAX_FAILURES_PER_ADDRESS = 10  # failed logins from one address, or with one known device, within `LOGIN_WINDOW`
MAX_FAILURES_IN_TOTAL = 100  # failed logins from all addresses within `LOGIN_WINDOW`; then each address has fewer
MAX_FAILURES_UNDER_ATTACK = 3  # failed logins from one address while `MAX_FAILURES_IN_TOTAL` is reached
DEVICE = "device:"  # begins the "address" under which the attempts of a known device are counted
LOGIN_WINDOW = timedelta(minutes=15)
LOCK_KEY = 0x6C6F6769  # key of PostgreSQL's advisory lock under which login attempts are counted one by one

_TAKE_LOCK = text("SELECT pg_advisory_xact_lock(:key)")
_COUNT = insert(LoginAttempt).returning(LoginAttempt.id)


def retry_after(connection: Connection, address: str, *, now: datetime) -> timedelta | None:
    """Return how long an address or device must wait before its next login attempt, or None if it may try now.

    Refused attempts are not counted, so an address can lock out only itself, and only for a while. While all addresses
    together fail too often, each has fewer attempts, but none is refused because of others. Known devices are apart.
    """
    recent = (
        select(LoginAttempt.tried_at)
        .where(LoginAttempt.tried_at > now - LOGIN_WINDOW)
        .order_by(LoginAttempt.tried_at.desc())
        .limit(1)
    )
    limit = MAX_FAILURES_PER_ADDRESS
    if not address.startswith(DEVICE):
        of_addresses = recent.where(LoginAttempt.address.not_like(f"{DEVICE}%"))
        if connection.scalar(of_addresses.offset(MAX_FAILURES_IN_TOTAL - 1)):
            limit = MAX_FAILURES_UNDER_ATTACK
    oldest = connection.scalar(recent.where(LoginAttempt.address == address).offset(limit - 1))
    return oldest + LOGIN_WINDOW - now if oldest else None


def record_attempt(connection: Connection, address: str, *, now: datetime) -> int | timedelta:
    """Count a login attempt as failed before its result is known. Returns its id, or how long the address must wait.

    Thus concurrent attempts, in any number of processes, are limited like attempts in sequence.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_TAKE_LOCK, {"key": LOCK_KEY})
    connection.execute(delete(LoginAttempt).where(LoginAttempt.tried_at <= now - LOGIN_WINDOW))
    delay = retry_after(connection, address, now=now)
    return delay or connection.execute(_COUNT, {"address": address, "tried_at": now}).scalar_one()


def succeed(connection: Connection, attempt_id: int) -> None:
    """Remove a successful login attempt from the count of failures.

    Earlier failures stay counted, so that a user with the view-only password cannot go on guessing the other
    password.
    """
    connection.execute(delete(LoginAttempt).where(LoginAttempt.id == attempt_id))
