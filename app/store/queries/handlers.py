"""Handlers and their runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, bindparam, literal, select
from sqlalchemy.engine import Connection

from app.store.models import Dispatch, Event
from app.store.queries.bounded import COUNTED, counted, counts, values_of
from app.store.queries.paging import Page, following, read_cursor, write_cursor

HANDLERS = 500  # handlers that have ever run, at most


@dataclass(frozen=True, slots=True)
class HandlerDetail:
    """A handler, and how its runs stand.

    `events` are the names it listens to, `*` for all; null where app/handlers.py has no such function any more, so
    that its runs wait for ever. Of each state are counted at most `counted_to` runs. `last_done_at`: when the run for
    the newest event ended that it is done with.
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
    """What a handler owes an event, and what event that is. The members of a dispatch, and the event's."""

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
    """Which runs are wanted; everything given must fit. `name` is the event's."""

    handler: str | None = None
    state: str | None = None
    name: str | None = None
    package: str | None = None


def handler_counts(connection: Connection, listening: Mapping[str, Sequence[str]]) -> list[HandlerDetail]:
    """Every handler that listens or has ever run, by name. `listening`: the events each one listens to."""
    return handler_page(connection, listening, limit=HANDLERS, cursor=None).items


def handler_page(
    connection: Connection, listening: Mapping[str, Sequence[str]], *, limit: int, cursor: str | None
) -> Page[HandlerDetail]:
    """A page of them. Raises `BadCursor`."""
    after = read_cursor(cursor, str)[0] or "" if cursor is not None else ""
    known = sorted({*listening, *values_of(connection, Dispatch.handler, limit=HANDLERS)})
    names = [name for name in known if name > after]
    shown = names[:limit]
    items = [_counted(connection, name, listening.get(name)) for name in shown]
    return Page(items, write_cursor(shown[-1]) if len(names) > limit else None)


def _counted(connection: Connection, name: str, events: Sequence[str] | None) -> HandlerDetail:
    due, running, parked = counted(connection, _COUNTS, handler=name)
    last = connection.scalar(_LAST_DONE.where(Dispatch.handler == name))
    return HandlerDetail(name, None if events is None else list(events), due, running, parked, COUNTED, last)


def dispatch_detail(connection: Connection, dispatch_id: int) -> RunDispatch | None:
    """One run, or None."""
    row = connection.execute(_RUNS.where(Dispatch.id == dispatch_id)).one_or_none()
    return RunDispatch(**row._asdict()) if row else None


def dispatch_page(
    connection: Connection, wanted: DispatchFilter, *, limit: int, cursor: str | None
) -> Page[RunDispatch]:
    """A page of runs, those for the newest events first. Raises `BadCursor`."""
    after = read_cursor(cursor, int, int) if cursor is not None else None
    found = select(*_NEWEST).where(*_conditions(wanted))
    if wanted.name is not None or wanted.package is not None:
        found = found.join(Event)
    page = connection.execute(following(found, _NEWEST, after=after, limit=limit + 1)).all()
    runs = _RUNS.where(Dispatch.id.in_([row.id for row in page[:limit]])).order_by(*(key.desc() for key in _NEWEST))
    items = [RunDispatch(**row._asdict()) for row in connection.execute(runs)]
    return Page(items, write_cursor(*page[limit - 1]) if len(page) > limit else None)


def _conditions(wanted: DispatchFilter) -> list[ColumnElement[bool]]:
    asked = (
        (Dispatch.handler, wanted.handler),
        (Dispatch.state, wanted.state),
        (Event.name, wanted.name),
        (Event.package_id, wanted.package),
    )
    return [column == value for column, value in asked if value is not None]


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
_COUNTS = counts(*(_OF_HANDLER.where(Dispatch.state == state) for state in ("due", "running", "parked")))
_LAST_DONE = select(Dispatch.finished_at).where(Dispatch.state == "done").order_by(Dispatch.event_id.desc()).limit(1)
