"""Where things end now: the feed of changes, and all that the picture is made of."""

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from app.store.models import PARKED, Change, Dispatch, Event, Journal
from app.store.states import JournalState, literal


def last_change(connection: Connection) -> int:
    """The id of the newest change; 0 where there is none. None that commits later has a smaller one."""
    return connection.scalar(select(func.max(Change.id))) or 0


def picture_mark(connection: Connection) -> tuple[object, ...]:
    """Another one whenever the picture, or what is told of its packages, may be another."""
    return tuple(connection.execute(_MARK).one())


_PENDING = select(func.min(Journal.id)).where(Journal.state == literal(JournalState.PENDING))
_PARKED = select(func.max(Dispatch.finished_at)).where(Dispatch.state == PARKED)  # a second one changes nothing else
_ENDS = (select(func.max(one)) for one in (Change.id, Event.id, Journal.id))
_MARK = select(*(one.scalar_subquery() for one in (*_ENDS, _PENDING, _PARKED)))
