"""Queries for events, changes and dispatches, and for the current state of event processing."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, select
from sqlalchemy.engine import Connection

from app.onespan import values
from app.store import onespan_clock, versions
from app.store.bulk import any_of
from app.store.models import DUE, PARKED, RUNNING, SOURCE_RECONCILE, Change, Dispatch, Event, Journal, Package
from app.store.packages import Cause
from app.store.queries.access import misdirected_callbacks, onespan_access
from app.store.queries.bounded import count_rows, count_statement
from app.store.queries.details import (
    ChangeDetail,
    DispatchDetail,
    EventCallback,
    EventDetail,
    EventFilter,
    PipelineState,
)
from app.store.queries.paging import Page, following
from app.store.queries.reconciles import last_finished_at, missed_by_cause, silence
from app.store.states import DispatchState, EventSource, JournalState, literal

AnyRow = Row[*tuple[Any, ...]]
AnySelect = Select[*tuple[Any, ...]]

CALLBACKS_SHOWN = 20  # callbacks shown with an event; `repeats` counts all repeats
MISSED_SHOWN = timedelta(days=30)
DWELL_DISPATCHES = 500  # newest finished dispatches, from which the dwell time is taken
OPEN_OR_PARKED = {DispatchState.DUE: DUE, DispatchState.RUNNING: RUNNING, DispatchState.PARKED: PARKED}
FENCE_OF_ONE_RUN = 2  # fence of a dispatch that was taken and settled once; retries and replays would distort the dwell


def history(connection: Connection, package_id: str, *, limit: int, after: int) -> list[ChangeDetail]:
    """Return the changes of a package after the change with the id `after`, oldest first."""
    of_package = select(*_CHANGE).where(Change.package_id == package_id)
    return _changes(connection, of_package, after=[after], limit=limit, descending=False)


def recent_history(connection: Connection, package_id: str, *, limit: int) -> list[ChangeDetail]:
    """Return the latest changes of a package, newest first."""
    of_package = select(*_CHANGE).where(Change.package_id == package_id)
    return _changes(connection, of_package, after=None, limit=limit, descending=True)


def changes(connection: Connection, *, after: int, limit: int) -> list[ChangeDetail]:
    """Return the changes of all packages after the change with the id `after`, in order. No change is ever skipped."""
    return _changes(connection, select(*_CHANGE), after=[after], limit=limit, descending=False)


def _changes(
    connection: Connection, found: AnySelect, *, after: Sequence[int] | None, limit: int, descending: bool
) -> list[ChangeDetail]:
    page = following(found, [Change.__table__.c.id], after=after, limit=limit, descending=descending)
    return [_change(row) for row in connection.execute(page)]


def event(connection: Connection, event_id: int) -> EventDetail | None:
    """Return the event with the given id, or None if no event has this id."""
    rows = connection.execute(select(*_EVENT).where(Event.id == event_id)).all()
    return next(iter(_events(connection, rows)), None)


def event_page(connection: Connection, wanted: EventFilter, *, limit: int, before: int | None) -> Page[EventDetail]:
    """Return a page of events older than the event with the id `before`, newest first."""
    found, event_id = select(_ID).where(*_conditions(wanted)), _ID
    if wanted.state is not None:  # an index has the dispatches of each state in the order of events
        event_id = Dispatch.__table__.c.event_id
        found = select(event_id).distinct().where(Dispatch.state == wanted.state)
        if conditions := _conditions(wanted):
            found = found.join(Event).where(*conditions)
    page = following(found, [event_id], after=None if before is None else [before], limit=limit + 1)
    ids = list(connection.execute(page).scalars())
    rows = connection.execute(select(*_EVENT).where(_ID.in_(ids[:limit])).order_by(_ID.desc())).all()
    return Page(_events(connection, rows), str(ids[limit - 1]) if len(ids) > limit else None)


def _conditions(wanted: EventFilter) -> list[ColumnElement[bool]]:
    given = ((Event.package_id, wanted.package), (Event.name, wanted.name))
    conditions: list[ColumnElement[bool]] = [column == value for column, value in given if value is not None]
    if wanted.source is not None:
        conditions.append(
            Event.source == (SOURCE_RECONCILE if wanted.source == EventSource.RECONCILE else wanted.source)
        )
    return conditions


def handler_events(connection: Connection, ids: Collection[int]) -> dict[int, values.Event]:
    """Return events in the form in which handlers get them, by event id. `key` is the fingerprint of the event."""
    return {
        row.id: values.Event(
            id=row.id,
            name=row.name,
            package_id=row.package_id,
            signer_id=row.signer_id,
            document_id=row.document_id,
            message=row.message,
            happened_at=row.happened_at,
            source=row.source,
            key=row.fingerprint,
            session_user=row.session_user,
            extra=row.extra,
        )
        for row in connection.execute(_FACTS, {"ids": list(ids)})
    }


def dispatch(connection: Connection, dispatch_id: int) -> DispatchDetail | None:
    """Return the dispatch with the given id, or None if no dispatch has this id."""
    row = connection.execute(select(*_DISPATCH).where(Dispatch.id == dispatch_id)).one_or_none()
    return _dispatch(row) if row else None


def count_unverified(connection: Connection) -> int:
    """Return the number of packages that OneSpan does not show to the configured credentials."""
    return connection.scalar(_UNVERIFIED) or 0


def pipeline_state(connection: Connection, *, now: datetime) -> PipelineState:
    """Return the current state of event processing.

    The cost of the query does not grow with the tables, except during an upgrade.
    """
    oldest = connection.scalar(_UNDIGESTED.limit(1))
    undigested, *states = count_rows(connection, _BACKLOG)
    dwells = connection.execute(_DWELLS)
    return PipelineState(
        undigested=undigested,
        oldest_undigested=(now - oldest).total_seconds() if oldest else 0,
        dispatches=dict(zip(OPEN_OR_PARKED, states, strict=True)),
        missed=missed_by_cause(connection, since=now - MISSED_SHOWN),
        silence=silence(connection),
        reconciled=(now - last).total_seconds() if (last := last_finished_at(connection)) else None,
        dwell=sorted((finished - received).total_seconds() for finished, received in dwells),
        outdated=versions.count_outdated(connection),
        is_refused=bool((access := onespan_access(connection)) and access.refused_since),
        misdirected=misdirected_callbacks(connection),
        unverified=count_unverified(connection),
        clock_offset=onespan_clock.seconds_ahead(connection),
    )


def _change(row: AnyRow) -> ChangeDetail:
    members = row._asdict()
    kind, cause_id = members.pop("cause_kind"), members.pop("cause_id")
    return ChangeDetail(
        **members,
        cause=Cause(kind, int(cause_id) if kind in ("callback", "snapshot", "dispatch") else cause_id),
    )


def _events(connection: Connection, rows: Sequence[AnyRow]) -> list[EventDetail]:
    ids = [row.id for row in rows]
    if not ids:
        return []
    callbacks: dict[int, list[EventCallback]] = {}
    for row in connection.execute(_first_callbacks(ids)):
        body = row.body.decode("utf-8", "replace")
        callbacks.setdefault(row.event_id, []).append(EventCallback(row.id, row.received_at, row.key, body))
    dispatches: dict[int, list[DispatchDetail]] = {}
    for row in connection.execute(
        select(*_DISPATCH, Dispatch.event_id).where(Dispatch.event_id.in_(ids)).order_by(Dispatch.id)
    ):
        dispatches.setdefault(row.event_id, []).append(_dispatch(row))
    return [
        EventDetail(**row._asdict(), callbacks=callbacks.get(row.id, []), dispatches=dispatches.get(row.id, []))
        for row in rows
    ]


def _first_callbacks(ids: Iterable[int]) -> AnySelect:
    number = func.row_number().over(partition_by=Journal.event_id, order_by=Journal.id).label("number")
    numbered = select(*_CALLBACK, number).where(Journal.event_id.in_(ids)).subquery()
    return select(numbered).where(numbered.c.number <= CALLBACKS_SHOWN).order_by(numbered.c.id)


def _dispatch(row: AnyRow) -> DispatchDetail:
    return DispatchDetail(row.id, row.handler, row.state, row.attempts, row.due_at, row.finished_at, row.error)


_ID = Event.__table__.c.id
_CHANGE = tuple(Change.__table__.c)
_INTERNAL = ("fingerprint", "confirmation")  # columns that only the search for repeats needs
_EVENT = tuple(column for column in Event.__table__.c if column.name not in _INTERNAL)
_DISPATCH = tuple(
    Dispatch.__table__.c[name] for name in ("id", "handler", "state", "attempts", "due_at", "finished_at", "error")
)
_CALLBACK = (Journal.id, Journal.event_id, Journal.received_at, Journal.key, Journal.body)
# These queries are built once, because they run at every turn of the dispatcher and in every health report.
_FACTS = select(*_EVENT, Event.fingerprint).where(any_of(Event.id, "ids"))
_UNDIGESTED = select(Journal.received_at).where(Journal.state == literal(JournalState.PENDING)).order_by(Journal.id)
_UNVERIFIED = select(func.count()).where(Package.unverified_since.is_not(None))  # a partial index finds them
_IN_STATES = (select(Dispatch.id).where(Dispatch.state == state) for state in OPEN_OR_PARKED.values())
_BACKLOG = count_statement(_UNDIGESTED, *_IN_STATES)
_FINISHED = (
    select(Dispatch.event_id, Dispatch.finished_at, Dispatch.fence)
    .where(Dispatch.finished_at.is_not(None))
    .order_by(Dispatch.finished_at.desc())
    .limit(DWELL_DISPATCHES)
    .subquery()
)
_DWELLS = (
    select(_FINISHED.c.finished_at, Event.first_received_at)
    .join_from(_FINISHED, Event, _FINISHED.c.event_id == _ID)
    .where(_FINISHED.c.fence == FENCE_OF_ONE_RUN)
)
