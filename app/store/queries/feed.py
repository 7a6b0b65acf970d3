"""Where things end now: the feed of changes, and all that the picture is made of."""

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from app.store.models import Change, Event, Journal


def last_change(connection: Connection) -> int:
    """The id of the newest change; 0 where there is none. None that commits later has a smaller one."""
    return connection.scalar(select(func.max(Change.id))) or 0


def picture_mark(connection: Connection) -> tuple[int, ...]:
    """Another one whenever the picture, or what is told of its packages, may be another. It costs four looks."""
    pending = select(func.min(Journal.id)).where(Journal.digested_at.is_(None))
    ends = (select(func.max(one)) for one in (Change.id, Event.id, Journal.id))
    return tuple(connection.scalar(one) or 0 for one in (*ends, pending))
