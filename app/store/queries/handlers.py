"""Handlers and their runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, bindparam, literal, select, tuple_, union_all
from sqlalchemy.engine import Connection

from app.store.models import Dispatch, Event
from app.store.queries.newest import COUNTED, counted, counts
from app.store.queries.places import read_place, values_of, write_parts
from app.store.queries.shown import Page

LOOK = 500  # runs that are looked at for one page
HANDLERS = 500  # handlers that have ever run, at most
STATES = ("due", "running", "done", "parked", "discarded")
ENDED_WELL = (None, "done")  # so many runs are in one of these states that the event's name chooses better


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
    after = read_place(cursor, str)[0] or "" if cursor is not None else ""
    known = sorted({*listening, *values_of(connection, Dispatch.handler, limit=HANDLERS)})
    names = [name for name in known if name > after]
    shown = names[:limit]
    items = [_counted(connection, name, listening.get(name)) for name in shown]
    return Page(items, write_parts(shown[-1]) if len(names) > limit else None)


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
    """A page of runs, those for the newest events first. Raises `BadCursor`.

    Where what is wanted is rare among what has to be looked through, a page has fewer runs than asked for, or none,
    and there are more pages all the same: so no page costs more than another.
    """
    chosen, look = _chosen(wanted), LOOK if _is_judged(wanted) else limit + 1
    if cursor is not None:
        before = read_place(cursor, int, int)
        chosen = [
            one.where(tuple_(Dispatch.event_id, Dispatch.id) < before, Dispatch.event_id <= before[0]) for one in chosen
        ]
    looked = _newest(chosen, limit=look).subquery()
    found = _RUNS.join(looked, looked.c.id == Dispatch.id).where(*_fits(wanted)).order_by(*_NEWEST).limit(limit + 1)
    rows = connection.execute(found).all()
    end: Row[*tuple[Any, ...]] | None = None
    if len(rows) > limit:
        end = rows[limit - 1]
    elif _is_judged(wanted):
        end = connection.execute(_newest(chosen, limit=LOOK).limit(1).offset(LOOK - 1)).one_or_none()
    return Page(
        [RunDispatch(**row._asdict()) for row in rows[:limit]], write_parts(end.event_id, end.id) if end else None
    )


def _chosen(wanted: DispatchFilter) -> list[Select[int, int]]:
    """What to look through, so that an index gives it newest first: together these have all that is wanted."""
    places = select(Dispatch.event_id, Dispatch.id)
    if wanted.package is not None:
        return [places.join(Event).where(Event.package_id == wanted.package)]
    if wanted.handler is not None:
        states = STATES if wanted.state is None else (wanted.state,)
        return [places.where(Dispatch.handler == wanted.handler, Dispatch.state == state) for state in states]
    if wanted.name is not None and wanted.state in ENDED_WELL:
        return [places.join(Event).where(Event.name == wanted.name)]
    return [places if wanted.state is None else places.where(Dispatch.state == wanted.state)]


def _is_judged(wanted: DispatchFilter) -> bool:
    """Whether some of what is looked through may not be wanted."""
    return wanted.name is not None or wanted.package is not None


def _newest(chosen: Sequence[Select[int, int]], *, limit: int) -> Select[int, int]:
    parts = [one.order_by(*_NEWEST).limit(limit).subquery().select() for one in chosen]
    of_all = union_all(*parts).subquery()
    return select(of_all.c.event_id, of_all.c.id).order_by(of_all.c.event_id.desc(), of_all.c.id.desc()).limit(limit)


def _fits(wanted: DispatchFilter) -> list[ColumnElement[bool]]:
    asked = (
        (Dispatch.handler, wanted.handler),
        (Dispatch.state, wanted.state),
        (Event.name, wanted.name),
        (Event.package_id, wanted.package),
    )
    return [column == value for column, value in asked if value is not None]


_NEWEST = (Dispatch.event_id.desc(), Dispatch.id.desc())
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
