"""Queries for handlers and their runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, bindparam, literal, select
from sqlalchemy.engine import Connection

from app.store.models import Dispatch, Event
from app.store.queries.bounded import COUNT_LIMIT, count_rows, count_statement, distinct_values
from app.store.queries.paging import Page, following, read_cursor, write_cursor
from app.store.states import DispatchState

HANDLERS = 500  # most handlers that are looked up in the table of runs


@dataclass(frozen=True, slots=True)
class HandlerDetail:
    """A handler, and the numbers of its runs by state.

    `events` are the names of the events that the handler gets, `*` for all. If app/handlers.py no longer has the
    function, `events` is null, and the handler's runs wait for ever. The counts stop at `counted_to`. Of the done
    runs, the run for the newest event ended at `last_done_at`.
    """

    name: str
    events: list[str] | None
    due: int
    running: int
    parked: int
    counted_to: int
    last_done_at: datetime | None


@dataclass(frozen=True, slots=True)
class RunDispatch:
    """A run of a handler, with data of the run's event."""

    id: int
    handler: str
    state: str
    attempts: int
    due_at: datetime
    finished_at: datetime | None
    error: str | None
    event_id: int
    event_name: str
    package_id: str
    happened_at: datetime


@dataclass(frozen=True, slots=True)
class DispatchFilter:
    """A filter for runs of handlers. Every given condition must hold. `name` is the name of the event."""

    handler: str | None = None
    state: str | None = None
    name: str | None = None
    package: str | None = None


def handler_counts(connection: Connection, subscriptions: Mapping[str, Sequence[str]]) -> list[HandlerDetail]:
    """Return all handlers that have runs or are registered, sorted by name.

    `subscriptions` maps the registered handlers to the names of their events.
    """
    return handler_page(connection, subscriptions, limit=HANDLERS, cursor=None).items


def handler_page(
    connection: Connection, subscriptions: Mapping[str, Sequence[str]], *, limit: int, cursor: str | None
) -> Page[HandlerDetail]:
    """Return a page of handlers that are registered or have runs, sorted by name. Raises `BadCursor`."""
    after = read_cursor(cursor, str)[0] or "" if cursor is not None else ""
    known = sorted({*subscriptions, *distinct_values(connection, Dispatch.handler, limit=HANDLERS)})
    names = [name for name in known if name > after]
    shown = names[:limit]
    items = [_handler(connection, name, subscriptions.get(name)) for name in shown]
    return Page(items, write_cursor(shown[-1]) if len(names) > limit else None)


def _handler(connection: Connection, name: str, events: Sequence[str] | None) -> HandlerDetail:
    due, running, parked = count_rows(connection, _COUNTS, handler=name)
    last = connection.scalar(_LAST_DONE.where(Dispatch.handler == name))
    return HandlerDetail(name, None if events is None else list(events), due, running, parked, COUNT_LIMIT, last)


def dispatch_detail(connection: Connection, dispatch_id: int) -> RunDispatch | None:
    """Return the run of a handler with the given id, or None if no run has this id."""
    row = connection.execute(_RUNS.where(Dispatch.id == dispatch_id)).one_or_none()
    return RunDispatch(**row._asdict()) if row else None


def dispatch_page(
    connection: Connection, wanted: DispatchFilter, *, limit: int, cursor: str | None
) -> Page[RunDispatch]:
    """Return a page of runs of handlers, with the runs for the newest events first. Raises `BadCursor`."""
    after = read_cursor(cursor, int, int) if cursor is not None else None
    found = select(*_NEWEST).where(*_conditions(wanted))
    if wanted.name is not None or wanted.package is not None:
        found = found.join(Event)
    page = connection.execute(following(found, _NEWEST, after=after, limit=limit + 1)).all()
    runs = _RUNS.where(Dispatch.id.in_([row.id for row in page[:limit]])).order_by(*(key.desc() for key in _NEWEST))
    items = [RunDispatch(**row._asdict()) for row in connection.execute(runs)]
    return Page(items, write_cursor(*page[limit - 1]) if len(page) > limit else None)


def _conditions(wanted: DispatchFilter) -> list[ColumnElement[bool]]:
    given = (
        (Dispatch.handler, wanted.handler),
        (Dispatch.state, wanted.state),
        (Event.name, wanted.name),
        (Event.package_id, wanted.package),
    )
    return [column == value for column, value in given if value is not None]


_NEWEST = (Dispatch.__table__.c.event_id, Dispatch.__table__.c.id)
_RUNS = select(
    Dispatch.id,
    Dispatch.handler,
    Dispatch.state,
    Dispatch.attempts,
    Dispatch.due_at,
    Dispatch.finished_at,
    Dispatch.error,
    Dispatch.event_id,
    Event.name.label("event_name"),
    Event.package_id,
    Event.happened_at,
).join(Event)
_OF_HANDLER = select(literal(1)).select_from(Dispatch).where(Dispatch.handler == bindparam("handler"))
_COUNTS = count_statement(
    *(
        _OF_HANDLER.where(Dispatch.state == state)
        for state in (DispatchState.DUE, DispatchState.RUNNING, DispatchState.PARKED)
    )
)
_LAST_DONE = (
    select(Dispatch.finished_at).where(Dispatch.state == DispatchState.DONE).order_by(Dispatch.event_id.desc()).limit(1)
)
