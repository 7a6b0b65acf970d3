"""What came in, as it came in: callbacks, and what OneSpan showed when it was asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, exists, func, select, union_all
from sqlalchemy.engine import Connection
from sqlalchemy.orm import aliased

from app.errors import UnreadableCallback
from app.onespan.callbacks import Callback, read_callback
from app.onespan.catalogue import CATALOGUE
from app.store.models import CALLBACK, Event, Journal
from app.store.queries.bounded import values_of
from app.store.queries.paging import Page, following, read_cursor, write_cursor
from app.store.states import JournalState, literal

WAITING, DIGESTED, UNREADABLE, UNKNOWN = "waiting", "digested", "unreadable", "unknown"
NAMES = 200  # event names that are looked at for unknown ones


@dataclass(frozen=True, slots=True)
class CallbackDetail:
    """A journal row: a `callback`, a `snapshot` (what OneSpan showed when it was asked) or an `absence` (its 404).

    `key` is the label of the callback key, or the name of the credentials that read. `event_id` and `event_name` are
    the fact it told, `repeat` says that another callback had told that before. `digested_at` is null while it waits;
    `unreadable` is why it causes nothing. `body` is what came, `understood` what was read from it where it is a
    callback that can be read.
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
    """Which callbacks are wanted; everything given must fit.

    `state`: `waiting` to be digested, `digested`, `unreadable`, or `unknown`: the first to tell a fact of a name that
    the catalogue does not have. `key` is a label.
    """

    package: str | None = None
    state: str | None = None
    key: str | None = None


def callback(connection: Connection, journal_id: int) -> CallbackDetail | None:
    """One journal row of any kind, or None."""
    row = connection.execute(_ROWS.where(Journal.id == journal_id)).one_or_none()
    return _detail(row) if row else None


def callback_page(
    connection: Connection, wanted: CallbackFilter, *, limit: int, cursor: str | None
) -> Page[CallbackDetail]:
    """A page of callbacks, newest first. Raises `BadCursor`."""
    after = read_cursor(cursor, int) if cursor is not None else None
    if wanted.state == UNKNOWN:
        return _unknown_page(connection, wanted, limit=limit, after=after)
    found = _ROWS.where(Journal.kind == CALLBACK, *_conditions(wanted))
    rows = connection.execute(following(found, [Journal.__table__.c.id], after=after, limit=limit + 1)).all()
    return Page(list(map(_detail, rows[:limit])), write_cursor(rows[limit - 1].id) if len(rows) > limit else None)


def _conditions(wanted: CallbackFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.package is not None:
        conditions.append(Journal.package_id == wanted.package)
    if wanted.key is not None:
        # Few wait and few are unreadable, so those are gone through by an index of theirs, and never all with one key.
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
    """The newest facts of each unknown name, and of all of them the newest, each with the callback that told it first.

    So it costs a look into the index for each name there is, however many facts there are. The cursor is an event's id.
    """
    names = [name for name in values_of(connection, Event.name, limit=NAMES) if name not in CATALOGUE]
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
    found = found.where(Event.name == name, ~_told_before())
    if wanted.package is not None:
        found = found.where(Event.package_id == wanted.package)
    if wanted.key is not None:
        found = found.where(Journal.key == wanted.key)
    return following(found, [Event.__table__.c.id], after=after, limit=limit)


def _told_before() -> ColumnElement[bool]:
    earlier = aliased(Journal)
    return exists().where(earlier.event_id == Journal.event_id, earlier.id < Journal.id).correlate(Journal)


def _detail(row: Row[*tuple[Any, ...]]) -> CallbackDetail:
    told = row._asdict()
    understood = _understood(row.body) if row.kind == "callback" else None
    return CallbackDetail(**{**told, "body": row.body.decode("utf-8", "replace"), "understood": understood})


def _understood(body: bytes) -> Callback | None:
    try:
        return read_callback(body)
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
    _told_before().label("repeat"),
    Journal.digested_at,
    Journal.error.label("unreadable"),
    Journal.body,
).outerjoin(Event, Event.id == Journal.event_id)
