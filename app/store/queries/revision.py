"""The end of the change feed, and a revision of all data that pages show of packages."""

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from app.store.models import PARKED, Change, Dispatch, Event, Journal
from app.store.states import JournalState, literal


def last_change(connection: Connection) -> int:
    """The id of the newest change; 0 if there is none. Changes that commit later have greater ids."""
    return connection.scalar(select(func.max(Change.id))) or 0


def store_revision(connection: Connection) -> tuple[object, ...]:
    """A value that changes whenever packages, or what is shown with them, may have changed."""
    return tuple(connection.execute(_REVISION).one())


_PENDING = select(func.min(Journal.id)).where(Journal.state == literal(JournalState.PENDING))
# Parking a second run of the same handler and package records no change.
_PARKED = select(func.max(Dispatch.finished_at)).where(Dispatch.state == PARKED)
_LAST_IDS = (select(func.max(column)) for column in (Change.id, Event.id, Journal.id))
_REVISION = select(*(query.scalar_subquery() for query in (*_LAST_IDS, _PENDING, _PARKED)))
