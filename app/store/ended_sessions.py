"""Login sessions that users ended. Only this module writes their table."""

from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.engine import Connection

from app.store.bulk import upsert_all
from app.store.models import EndedSession


def end(connection: Connection, session_id: str, *, until: datetime, now: datetime) -> None:
    """End a session that would have expired at `until`. Ending a session twice changes nothing."""
    connection.execute(delete(EndedSession).where(EndedSession.until <= now))
    upsert_all(connection, EndedSession, [{"id": session_id, "until": until}])


def has_ended(connection: Connection, session_id: str) -> bool:
    """Whether a user has ended the session with the given id."""
    return connection.scalar(select(EndedSession.id).where(EndedSession.id == session_id)) is not None
