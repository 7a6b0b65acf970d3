"""The feed of changes: where it ends now."""

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from app.store.models import Change


def last_change(connection: Connection) -> int:
    """The id of the newest change; 0 where there is none. None that commits later has a smaller one."""
    return connection.scalar(select(func.max(Change.id))) or 0
