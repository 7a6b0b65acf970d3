"""Raw journal rows: callbacks and snapshots."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, exists, func, select, union_all
from sqlalchemy.engine import Connection
from sqlalchemy.orm import aliased

from app.errors import UnreadableCallback
from app.onespan.callbacks import Callback, parse_callback
from app.onespan.event_catalogue import CATALOGUE
from app.store.models import KIND_CALLBACK, Event, Journal
from app.store.queries.bounded import distinct_values
from app.store.queries.paging import Page, following, read_cursor, write_cursor
from app.store.states import JournalKind, JournalState, literal

WAITING, DIGESTED, UNREADABLE, UNKNOWN = "waiting", "digested", "unreadable", "unknown"
NAMES = 200  # most event names that are looked up in the event catalogue


@dataclass(frozen=True, slots=True)
class CallbackDetail:
    """A journal row: a `callback`, a `snapshot` (package read from the REST API) or an `absence` (404 for a package).

    `key` is the label of the callback key, or the name of the REST credentials. `event_id` and `event_name` are the
    event that the row reported. `repeat` is true if an earlier callback reported the same event. `digested_at` is null
    until the row is digested. `unreadable` is why the row is ignored. `body` is the raw content; `understood` is the
    parsed callback, if the body can be parsed.
    """

    id: int
    kind: str
    received_at: datetime
    key: str | None
    package_id: str | None
    event_id: int | None
    event_name: str | None
    repeat: bool
    digested_at: datetime | None
    unreadable: str | None
    body: str
    understood: Callback | None


@dataclass(frozen=True, slots=True)
class CallbackFilter:
    """A filter for callbacks. Every given condition must hold.

    `state` is `waiting` (to be digested), `digested`, `unreadable`, or `unknown` (the first callback of an event whose
    name is not in the event catalogue). `key` is the label of a callback key.
    """

    package: str | None = None
    state: str | None = None
    key: str | None = None


def callback(connection: Connection, journal_id: int) -> CallbackDetail | None:
    """Return the journal row with the given id, of any kind, or None if no row has this id."""
    row = connection.execute(_ROWS.where(Journal.id == journal_id)).one_or_none()
    return _detail(row) if row else None


def callback_page(
    connection: Connection, wanted: CallbackFilter, *, limit: int, cursor: str | None
) -> Page[CallbackDetail]:
    """Return a page of callbacks, newest first. Raises `BadCursor`."""
    after = read_cursor(cursor, int) if cursor is not None else None
    if wanted.state == UNKNOWN:
        return _unknown_page(connection, wanted, limit=limit, after=after)
    found = _ROWS.where(Journal.kind == KIND_CALLBACK, *_conditions(wanted))
    rows = connection.execute(following(found, [Journal.__table__.c.id], after=after, limit=limit + 1)).all()
    return Page(list(map(_detail, rows[:limit])), write_cursor(rows[limit - 1].id) if len(rows) > limit else None)


def _conditions(wanted: CallbackFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.package is not None:
        conditions.append(Journal.package_id == wanted.package)
    if wanted.key is not None:
        # Few rows wait or are unreadable. `coalesce` makes the database read such rows by their own index, not by key.
        is_rare = wanted.state in (WAITING, UNREADABLE)
        conditions.append((func.coalesce(Journal.key, "") if is_rare else Journal.key) == wanted.key)
    states: dict[str | None, list[ColumnElement[bool]]] = {
        WAITING: [Journal.state == literal(JournalState.PENDING)],
        DIGESTED: [Journal.state == JournalState.DIGESTED],
        UNREADABLE: [Journal.error.is_not(None)],
    }
    return conditions + states.get(wanted.state, [])


def _unknown_page(
    connection: Connection, wanted: CallbackFilter, *, limit: int, after: Sequence[int] | None
) -> Page[CallbackDetail]:
    """Return a page of the first callbacks of events with unknown names, newest first. Cursors are event ids.

    The query takes the newest events of each unknown name, then the newest of all these events. So it costs one index
    lookup per name, for any number of events.
    """
    names = [name for name in distinct_values(connection, Event.name, limit=NAMES) if name not in CATALOGUE]
    if not names:
        return Page([], None)
    newest = [_newest(name, wanted, after=after, limit=limit + 1).subquery().select() for name in names]
    found = union_all(*newest).subquery()
    page = select(found.c.journal_id).order_by(found.c.event_id.desc()).limit(limit + 1)
    ids = list(connection.execute(page).scalars())
    found_rows = _ROWS.where(Journal.id.in_(ids)).order_by(Journal.event_id.desc())
    rows = connection.execute(found_rows).all()
    return Page(list(map(_detail, rows[:limit])), write_cursor(rows[limit - 1].event_id) if len(rows) > limit else None)


def _newest(name: str, wanted: CallbackFilter, *, after: Sequence[int] | None, limit: int) -> Select[int, int]:
    found = select(Event.id.label("event_id"), Journal.id.label("journal_id")).join(
        Journal, Journal.event_id == Event.id
    )
    found = found.where(Event.name == name, ~_is_repeat())
    if wanted.package is not None:
        found = found.where(Event.package_id == wanted.package)
    if wanted.key is not None:
        found = found.where(Journal.key == wanted.key)
    return following(found, [Event.__table__.c.id], after=after, limit=limit)


def _is_repeat() -> ColumnElement[bool]:
    earlier = aliased(Journal)
    return exists().where(earlier.event_id == Journal.event_id, earlier.id < Journal.id).correlate(Journal)


def _detail(row: Row[*tuple[Any, ...]]) -> CallbackDetail:
    understood = _understood(row.body) if row.kind == JournalKind.CALLBACK else None
    return CallbackDetail(**{**row._asdict(), "body": row.body.decode("utf-8", "replace"), "understood": understood})


def _understood(body: bytes) -> Callback | None:
    try:
        return parse_callback(body)
    except UnreadableCallback:
        return None


_ROWS = select(
    Journal.id,
    Journal.kind,
    Journal.received_at,
    Journal.key,
    Journal.package_id,
    Journal.event_id,
    Event.name.label("event_name"),
    _is_repeat().label("repeat"),
    Journal.digested_at,
    Journal.error.label("unreadable"),
    Journal.body,
).outerjoin(Event, Event.id == Journal.event_id)
