"""The filter by which a replay selects past dispatches."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import eq, ge, lt

from sqlalchemy import ColumnElement, Select, and_, exists, func, select, true
from sqlalchemy.engine import Connection

from app.store.models import Dispatch, Event
from app.store.states import DispatchState


@dataclass(frozen=True, slots=True)
class ReplayFilter:
    """A filter for dispatches to replay. Every given condition must hold.

    `since` and `until` limit `happened_at`, in UTC. `among` limits the selection to ids that were counted before, so
    that dispatches that match later are left out.
    """

    event_name: str | None = None
    handler: str | None = None
    state: str | None = None
    package: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    among: Sequence[int] | None = None

    def event_conditions(self) -> ColumnElement[bool]:
        """Return the filter's SQL conditions on the events of dispatches."""
        conditions = [
            (self.event_name, Event.name, eq),
            (self.package, Event.package_id, eq),
            (self.since, Event.happened_at, ge),
            (self.until, Event.happened_at, lt),
        ]
        return and_(true(), *(compare(column, value) for value, column, compare in conditions if value is not None))


def matching(replay_filter: ReplayFilter) -> Select[int]:
    """Build the query for the ids of dispatches that match a replay filter and are not running."""
    found = (
        select(Dispatch.id).join(Event).where(replay_filter.event_conditions(), Dispatch.state != DispatchState.RUNNING)
    )
    if replay_filter.handler:
        found = found.where(Dispatch.handler == replay_filter.handler)
    if replay_filter.among is not None:
        found = found.where(Dispatch.id.in_(replay_filter.among))
    return found.where(Dispatch.state == replay_filter.state) if replay_filter.state else found


def count(connection: Connection, replay_filter: ReplayFilter, *, at_most: int | None = None) -> int:
    """Count the dispatches that match a replay filter, up to `at_most` if given."""
    return connection.scalar(select(func.count()).select_from(matching(replay_filter).limit(at_most).subquery())) or 0


def ids(connection: Connection, replay_filter: ReplayFilter, *, at_most: int) -> list[int]:
    """Return the ids of up to `at_most` dispatches that match a replay filter."""
    return list(connection.execute(matching(replay_filter).limit(at_most)).scalars())


def lock_next(connection: Connection, replay_filter: ReplayFilter, *, after: int, limit: int) -> list[int]:
    """Lock the next dispatches that match a replay filter and return their ids in ascending order."""
    return list(
        connection.execute(
            matching(replay_filter)
            .where(Dispatch.id > after)
            .order_by(Dispatch.id)
            .limit(limit)
            .with_for_update(of=Dispatch)
        ).scalars()
    )


def undispatched_events(
    connection: Connection, replay_filter: ReplayFilter, *, names: Sequence[str] | None, after: int, limit: int
) -> list[tuple[int, str]]:
    """Return ids and package ids of the next events that match a replay filter and have no dispatch for its handler.

    `names` are the event names of the handler, or None for all events.
    """
    found = _undispatched(replay_filter, names).where(Event.id > after).order_by(Event.id).limit(limit)
    return [(row.id, row.package_id) for row in connection.execute(found)]


def count_undispatched_events(
    connection: Connection, replay_filter: ReplayFilter, *, names: Sequence[str] | None
) -> int:
    """Count the events that match a replay filter and have no dispatch for its handler."""
    return connection.scalar(select(func.count()).select_from(_undispatched(replay_filter, names).subquery())) or 0


def _undispatched(replay_filter: ReplayFilter, names: Sequence[str] | None) -> Select[int, str]:
    has_dispatch = exists().where(Dispatch.event_id == Event.id, Dispatch.handler == replay_filter.handler)
    found = select(Event.id, Event.package_id).where(replay_filter.event_conditions(), ~has_dispatch)
    return found if names is None else found.where(Event.name.in_(names))
