"""Who tried to log in and failed, and which sessions were ended. The only writer of both tables."""

from datetime import datetime, timedelta

from sqlalchemy import delete, insert, select, text
from sqlalchemy.engine import Connection

from app.store.bulk import upsert_all
from app.store.models import EndedSession, Login

WINDOW = timedelta(minutes=15)
OF_ONE, OF_ALL = 10, 100  # failures in that time, of one address and of all together
TURN = 0x6C6F6769  # the advisory lock of whoever counts

_TAKE_TURN = text("SELECT pg_advisory_xact_lock(:turn)")
_COUNT = insert(Login).returning(Login.id)


def wait(connection: Connection, address: str, *, now: datetime) -> timedelta | None:
    """How long nobody may try from this address; None where somebody may now.

    What is refused is not counted. So one address alone locks out nobody but itself, and not for ever.
    """
    recent = select(Login.tried_at).where(Login.tried_at > now - WINDOW).order_by(Login.tried_at.desc()).limit(1)
    last = [
        connection.scalar(recent.where(Login.address == address).offset(OF_ONE - 1)),
        connection.scalar(recent.offset(OF_ALL - 1)),
    ]
    return max((one + WINDOW - now for one in last if one), default=None)


def attempt(connection: Connection, address: str, *, now: datetime) -> int | timedelta:
    """Count a try as failed before it is known how it ends. Returns its id, or how long it has to `wait`.

    So those who try at once, in any number of processes, get no more tries than one after the other.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_TAKE_TURN, {"turn": TURN})
    connection.execute(delete(Login).where(Login.tried_at <= now - WINDOW))
    held = wait(connection, address, now=now)
    return held or connection.execute(_COUNT, {"address": address, "tried_at": now}).scalar_one()


def succeed(connection: Connection, attempt_id: int) -> None:
    """This try was none that failed. Those before it stay: who may only look must not guess on without end."""
    connection.execute(delete(Login).where(Login.id == attempt_id))


def end(connection: Connection, session_id: str, *, until: datetime, now: datetime) -> None:
    """End a session that would have ended by itself then; a second time changes nothing."""
    connection.execute(delete(EndedSession).where(EndedSession.until <= now))
    upsert_all(connection, EndedSession, [{"id": session_id, "until": until}])


def has_ended(connection: Connection, session_id: str) -> bool:
    """Whether a session was ended."""
    return connection.scalar(select(EndedSession.id).where(EndedSession.id == session_id)) is not None
