"""Events and what became of them: changes, dispatches, and how the road flows now."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, bindparam, func, select
from sqlalchemy.engine import Connection

from app.onespan import values
from app.store.models import DUE, FOUND, PARKED, RUNNING, Change, Dispatch, Event, Journal
from app.store.packages import Cause
from app.store.queries.bounded import counted, counts
from app.store.queries.details import ChangeDetail, DispatchDetail, EventDetail, EventFilter, Pulse, Telling
from app.store.queries.paging import Page, following
from app.store.queries.reconciles import last_done, missed_by_cause, silence
from app.store.states import JournalState, literal

AnyRow = Row[*tuple[Any, ...]]
AnySelect = Select[*tuple[Any, ...]]

TELLINGS_SHOWN = 20  # callbacks listed with an event; one told a thousand times has its count in `repeats`
MISSED_SHOWN = timedelta(days=30)
DWELLS = 500  # dispatches that the dwell is taken from: those that ended last
OPEN_OR_PARKED = {"due": DUE, "running": RUNNING, "parked": PARKED}
UNTROUBLED = 2  # the fence of a run that was taken once and settled once; others say nothing of the road


def history(connection: Connection, package_id: str, *, limit: int, after: int) -> list[ChangeDetail]:
    """The changes of one package after the one with this id, oldest first."""
    of_package = select(*_CHANGE).where(Change.package_id == package_id)
    return _changes(connection, of_package, after=[after], limit=limit, descending=False)


def recent_history(connection: Connection, package_id: str, *, limit: int) -> list[ChangeDetail]:
    """The newest changes of one package, newest first."""
    of_package = select(*_CHANGE).where(Change.package_id == package_id)
    return _changes(connection, of_package, after=None, limit=limit, descending=True)


def changes(connection: Connection, *, after: int, limit: int) -> list[ChangeDetail]:
    """All changes after the one with this id, in the order in which they were made; none is ever skipped."""
    return _changes(connection, select(*_CHANGE), after=[after], limit=limit, descending=False)


def _changes(
    connection: Connection, found: AnySelect, *, after: Sequence[int] | None, limit: int, descending: bool
) -> list[ChangeDetail]:
    page = following(found, [Change.__table__.c.id], after=after, limit=limit, descending=descending)
    return [_change(row) for row in connection.execute(page)]


def event(connection: Connection, event_id: int) -> EventDetail | None:
    """One event, or None."""
    rows = connection.execute(select(*_EVENT).where(Event.id == event_id)).all()
    return next(iter(_events(connection, rows)), None)


def event_page(connection: Connection, wanted: EventFilter, *, limit: int, before: int | None) -> Page[EventDetail]:
    """A page of events older than the one with this id, newest first."""
    found, event_id = select(_ID).where(*_conditions(wanted)), _ID
    if wanted.state is not None:  # by an index the runs of a state are in the order of their events
        event_id = Dispatch.__table__.c.event_id
        found = select(event_id).distinct().where(Dispatch.state == wanted.state)
        if conditions := _conditions(wanted):
            found = found.join(Event).where(*conditions)
    page = following(found, [event_id], after=None if before is None else [before], limit=limit + 1)
    ids = list(connection.execute(page).scalars())
    rows = connection.execute(select(*_EVENT).where(_ID.in_(ids[:limit])).order_by(_ID.desc())).all()
    return Page(_events(connection, rows), str(ids[limit - 1]) if len(ids) > limit else None)


def _conditions(wanted: EventFilter) -> list[ColumnElement[bool]]:
    asked = ((Event.package_id, wanted.package), (Event.name, wanted.name))
    conditions: list[ColumnElement[bool]] = [column == value for column, value in asked if value is not None]
    if wanted.source is not None:
        conditions.append(Event.source == (FOUND if wanted.source == "reconcile" else wanted.source))
    return conditions


def facts(connection: Connection, ids: Collection[int]) -> dict[int, values.Event]:
    """Events as handlers see them, by id; `key` is the fact's fingerprint."""
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
    """One dispatch, or None."""
    row = connection.execute(select(*_DISPATCH).where(Dispatch.id == dispatch_id)).one_or_none()
    return _dispatch(row) if row else None


def pulse(connection: Connection, *, now: datetime) -> Pulse:
    """How the road flows now, at a price that does not grow with what was ever kept."""
    oldest = connection.scalar(_WAITING.limit(1))
    undigested, *states = counted(connection, _BACKLOG)
    dwells = connection.execute(_DWELLS)
    return Pulse(
        undigested=undigested,
        oldest_undigested=(now - oldest).total_seconds() if oldest else 0,
        dispatches=dict(zip(OPEN_OR_PARKED, states, strict=True)),
        missed=missed_by_cause(connection, since=now - MISSED_SHOWN),
        silence=silence(connection),
        reconciled=(now - last).total_seconds() if (last := last_done(connection)) else None,
        dwell=sorted((finished - received).total_seconds() for finished, received in dwells),
    )


def _change(row: AnyRow) -> ChangeDetail:
    told = row._asdict()
    kind, cause_id = told["cause_kind"], told["cause_id"]
    return ChangeDetail(
        **{name: told[name] for name in told if name not in ("cause_kind", "cause_id")},
        cause=Cause(kind, int(cause_id) if kind in ("callback", "snapshot", "dispatch") else cause_id),
    )


def _events(connection: Connection, rows: Sequence[AnyRow]) -> list[EventDetail]:
    ids = [row.id for row in rows]
    if not ids:
        return []
    told: dict[int, list[Telling]] = {}
    for row in connection.execute(_tellings(ids)):
        body = row.body.decode("utf-8", "replace")
        told.setdefault(row.event_id, []).append(Telling(row.id, row.received_at, row.key, body))
    owed: dict[int, list[DispatchDetail]] = {}
    for row in connection.execute(
        select(*_DISPATCH, Dispatch.event_id).where(Dispatch.event_id.in_(ids)).order_by(Dispatch.id)
    ):
        owed.setdefault(row.event_id, []).append(_dispatch(row))
    return [
        EventDetail(**row._asdict(), callbacks=told.get(row.id, []), dispatches=owed.get(row.id, [])) for row in rows
    ]


def _tellings(ids: Iterable[int]) -> AnySelect:
    place = func.row_number().over(partition_by=Journal.event_id, order_by=Journal.id).label("place")
    numbered = select(*_TELLING, place).where(Journal.event_id.in_(ids)).subquery()
    return select(numbered).where(numbered.c.place <= TELLINGS_SHOWN).order_by(numbered.c.id)


def _dispatch(row: AnyRow) -> DispatchDetail:
    return DispatchDetail(row.id, row.handler, row.state, row.attempts, row.due_at, row.finished_at, row.error)


_ID = Event.__table__.c.id
_CHANGE = tuple(Change.__table__.c)
_INNER = ("fingerprint", "confirmation")  # how tellings are told apart
_EVENT = tuple(column for column in Event.__table__.c if column.name not in _INNER)
_DISPATCH = tuple(
    Dispatch.__table__.c[name] for name in ("id", "handler", "state", "attempts", "due_at", "finished_at", "error")
)
_TELLING = (Journal.id, Journal.event_id, Journal.received_at, Journal.key, Journal.body)
# Put together once, for they run at every turn of the dispatcher, or whenever somebody looks how the service is.
_FACTS = select(*_EVENT, Event.fingerprint).where(Event.id.in_(bindparam("ids", expanding=True)))
_WAITING = select(Journal.received_at).where(Journal.state == literal(JournalState.PENDING)).order_by(Journal.id)
_BACKLOG = counts(_WAITING, *(select(Dispatch.id).where(Dispatch.state == state) for state in OPEN_OR_PARKED.values()))
_LATELY = (
    select(Dispatch.event_id, Dispatch.finished_at, Dispatch.fence)
    .where(Dispatch.finished_at.is_not(None))
    .order_by(Dispatch.finished_at.desc())
    .limit(DWELLS)
    .subquery()
)
_DWELLS = (
    select(_LATELY.c.finished_at, Event.first_received_at)
    .join_from(_LATELY, Event, _LATELY.c.event_id == _ID)
    .where(_LATELY.c.fence == UNTROUBLED)
)
