"""The end of the change feed, and a revision of all data about packages that pages show."""

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from app.store.models import PARKED, Change, Dispatch, Event, Journal
from app.store.states import JournalState, literal


def last_change(connection: Connection) -> int:
    """Return the id of the newest change, or 0 if there is no change. Changes that commit later have greater ids."""
    return connection.scalar(select(func.max(Change.id))) or 0


def store_revision(connection: Connection) -> tuple[object, ...]:
    """Return a value that changes whenever packages, or data that pages show with packages, may have changed."""
    return tuple(connection.execute(_REVISION).one())


_PENDING = select(func.min(Journal.id)).where(Journal.state == literal(JournalState.PENDING))
# The revision includes the newest parking, because parking a second run of a handler and package records no change.
_PARKED = select(func.max(Dispatch.finished_at)).where(Dispatch.state == PARKED)
_LAST_IDS = (select(func.max(column)) for column in (Change.id, Event.id, Journal.id))
_REVISION = select(*(query.scalar_subquery() for query in (*_LAST_IDS, _PENDING, _PARKED)))
