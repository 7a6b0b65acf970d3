"""Every read that is shown: by the JSON API, by the pages, to the handlers."""

import base64
import binascii
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Row,
    Select,
    asc,
    bindparam,
    desc,
    exists,
    func,
    literal,
    or_,
    select,
    tuple_,
)
from sqlalchemy.engine import Connection

from app.errors import ReceiverError
from app.onespan import values
from app.onespan.values import Package as PackageValue
from app.store.models import (
    DUE,
    PARKED,
    RUNNING,
    Attention,
    Change,
    Dispatch,
    Document,
    Event,
    Journal,
    Package,
    Signer,
)
from app.store.picture import Cause

T = TypeVar("T")
AnyRow = Row[*tuple[Any, ...]]
AnySelect = Select[*tuple[Any, ...]]

TELLINGS_SHOWN = 20  # callbacks listed with an event; one told a thousand times has its count in `repeats`
DWELLS = 500  # ended dispatches that the dwell is taken from
ERROR_SHOWN = 300  # characters of a handler's error that stand in an attention


class BadCursor(ReceiverError):
    """The cursor is not one this list gave."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some items of a list, and the cursor that leads to the next ones; None at the end."""

    items: list[T]
    next: str | None


@dataclass(frozen=True, slots=True)
class Telling:
    """One callback that told a fact. `key` is the label of the key it came with; `body` is what it said."""

    id: int
    received_at: datetime
    key: str | None
    body: str


@dataclass(frozen=True, slots=True)
class DispatchDetail:
    """What a handler owes an event. `due_at` is when it runs next, or while it runs when its lease ends.

    `state`: due, running, done, parked or discarded.
    """

    id: int
    handler: str
    state: str
    attempts: int
    due_at: datetime
    finished_at: datetime | None
    error: str | None


@dataclass(frozen=True, slots=True)
class EventDetail:
    """A fact, with the callbacks that told it and what its handlers made of it.

    `repeats` counts the tellings after the first; of very many, only the first ones are in `callbacks`.
    """

    id: int
    name: str
    package_id: str
    signer_id: str | None
    document_id: str | None
    message: str | None
    happened_at: datetime
    first_received_at: datetime
    source: str
    repeats: int
    session_user: str | None
    extra: dict[str, Any]
    callbacks: list[Telling]
    dispatches: list[DispatchDetail]


@dataclass(frozen=True, slots=True)
class ChangeDetail:
    """One change and its cause. `subject` is `package`, `signer:<id>`, `document:<id>` or `handler:<name>`."""

    id: int
    package_id: str
    subject: str
    attribute: str
    old: Any
    new: Any
    happened_at: datetime
    recorded_at: datetime
    cause: Cause


@dataclass(frozen=True, slots=True)
class Pulse:
    """How the road flows now. Times are seconds.

    `undigested` callbacks wait, the oldest for `oldest_undigested`; `dispatches` counts the open and parked ones
    by state; `dwell` is, for the newest dispatches that ended, how long from the callback's arrival to their end.
    """

    undigested: int
    oldest_undigested: float
    dispatches: dict[str, int]
    dwell: list[float]


@dataclass(frozen=True, slots=True)
class PackageFilter:
    """Which packages are wanted; everything given must fit."""

    status: Sequence[str] = ()
    trashed: bool | None = None
    deleted: bool | None = None
    type: str | None = None
    q: str | None = None
    signer: str | None = None
    attention: str | None = None
    updated_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are wanted; everything given must fit. `state` is that of any of their dispatches."""

    package: str | None = None
    name: str | None = None
    source: str | None = None
    state: str | None = None


LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)
# What packages can be sorted by; what is not known yet counts as the smallest.
SORTS: Mapping[str, ColumnElement[Any]] = {
    "updated_at": func.coalesce(Package.updated_at, literal(LONG_AGO, Package.updated_at.type)),
    "created_at": func.coalesce(Package.created_at, literal(LONG_AGO, Package.created_at.type)),
    "due_at": func.coalesce(Package.due_at, literal(LONG_AGO, Package.due_at.type)),
    "status_at": func.coalesce(Package.status_at, literal(LONG_AGO, Package.status_at.type)),
    "name": func.coalesce(Package.name, literal("")),
    "id": Package.__table__.c.id,
}
ANY, NONE = "any", "none"


def packages(connection: Connection, ids: Collection[str]) -> dict[str, PackageValue]:
    """These packages as they stand now, by id; ids that are not there are left out."""
    rows = connection.execute(_PACKAGES, {"ids": list(ids)}).all()
    return {one.id: one for one in _packages(connection, rows)}


def package_page(
    connection: Connection, wanted: PackageFilter, *, sort: str, limit: int, cursor: str | None
) -> Page[PackageValue]:
    """A page of packages. `sort` is a key of `SORTS`, with a minus for descending. Raises `BadCursor`."""
    key, falling = SORTS[sort.removeprefix("-")], sort.startswith("-")
    found = select(*_PACKAGE, key.label("sorted_by")).where(*_package_conditions(wanted))
    if cursor is not None:
        value, package_id = _read_cursor(cursor, sort)
        place = (literal(value, key.type), literal(package_id))
        here = tuple_(key, Package.id)
        found = found.where(here < place if falling else here > place)
    order = desc if falling else asc
    rows = connection.execute(found.order_by(order(key), order(Package.id)).limit(limit + 1)).all()
    items = _packages(connection, rows[:limit])
    last = rows[limit - 1] if len(rows) > limit else None
    return Page(items, _write_cursor(sort, last.sorted_by, last.id) if last else None)


def history(connection: Connection, package_id: str, *, limit: int, after: int) -> list[ChangeDetail]:
    """The changes of one package after the one with this id, oldest first."""
    found = select(*_CHANGE).where(Change.package_id == package_id, Change.id > after).order_by(Change.id).limit(limit)
    return [_change(row) for row in connection.execute(found)]


def changes(connection: Connection, *, after: int, limit: int) -> list[ChangeDetail]:
    """All changes after the one with this id, in the order in which they were made; none is ever skipped."""
    found = select(*_CHANGE).where(Change.id > after).order_by(Change.id).limit(limit)
    return [_change(row) for row in connection.execute(found)]


def event(connection: Connection, event_id: int) -> EventDetail | None:
    """One event, or None."""
    rows = connection.execute(select(*_EVENT).where(Event.id == event_id)).all()
    return next(iter(_events(connection, rows)), None)


def event_page(connection: Connection, wanted: EventFilter, *, limit: int, before: int | None) -> list[EventDetail]:
    """Events older than the one with this id, newest first."""
    conditions: list[ColumnElement[bool]] = [
        column == value
        for column, value in (
            (Event.package_id, wanted.package),
            (Event.name, wanted.name),
            (Event.source, wanted.source),
        )
        if value is not None
    ]
    if before is not None:
        conditions.append(Event.id < before)
    if wanted.state is not None:
        conditions.append(exists().where(Dispatch.event_id == Event.id, Dispatch.state == wanted.state))
    rows = connection.execute(select(*_EVENT).where(*conditions).order_by(Event.id.desc()).limit(limit)).all()
    return _events(connection, rows)


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
    waiting = connection.execute(
        select(func.count(), func.min(Journal.received_at)).where(Journal.digested_at.is_(None))
    ).one()
    count, oldest = waiting
    states = {
        state.name: connection.scalar(select(func.count()).select_from(Dispatch).where(Dispatch.state == state)) or 0
        for state in (DUE, RUNNING, PARKED)
    }
    newest = select(Dispatch.finished_at, Event.first_received_at).join(Event).order_by(Dispatch.id.desc())
    ended = connection.execute(newest.where(Dispatch.finished_at.is_not(None)).limit(DWELLS))
    return Pulse(
        undigested=count,
        oldest_undigested=(now - oldest).total_seconds() if oldest else 0,
        dispatches={state.strip("'"): number for state, number in states.items()},
        dwell=sorted((finished - received).total_seconds() for finished, received in ended if finished),
    )


def _package_conditions(wanted: PackageFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [
        column == value
        for column, value in (
            (Package.trashed, wanted.trashed),
            (Package.deleted, wanted.deleted),
            (Package.type, wanted.type),
        )
        if value is not None
    ]
    if wanted.status:
        conditions.append(Package.status.in_(wanted.status))
    if wanted.updated_since is not None:
        conditions.append(Package.updated_at >= wanted.updated_since)
    if wanted.q:
        conditions.append(_mentions(wanted.q))
    if wanted.signer:
        signed = or_(Signer.id == wanted.signer, func.lower(Signer.email) == wanted.signer.lower())
        conditions.append(exists().where(Signer.package_id == Package.id, signed))
    if wanted.attention:
        conditions.append(_needs(wanted.attention))
    return conditions


def _mentions(text: str) -> ColumnElement[bool]:
    """Whether the package's name or id, its sender or one of its signers has this text in it, whatever the case."""
    signers = exists().where(Signer.package_id == Package.id, _any_has(text, Signer.name, Signer.email, Signer.id))
    own = _any_has(text, Package.name, Package.id, Package.sender_name, Package.sender_email, Package.sender_id)
    return or_(own, signers)


def _any_has(text: str, *columns: Any) -> ColumnElement[bool]:
    return or_(*(func.lower(column).contains(text.lower(), autoescape=True) for column in columns))


def _needs(reason: str) -> ColumnElement[bool]:
    parked = exists().where(Dispatch.package_id == Package.id, Dispatch.state == PARKED)
    told = exists().where(Attention.package_id == Package.id)
    if reason in (ANY, NONE):
        return or_(told, parked) if reason == ANY else ~or_(told, parked)
    return parked if reason == "PARKED_HANDLER" else told.where(Attention.reason == reason)


def _packages(connection: Connection, rows: Sequence[AnyRow]) -> list[PackageValue]:
    ids = [row.id for row in rows]
    if not ids:
        return []
    signers, documents, attention, parked = (_grouped(connection, parts, ids) for parts in _PARTS)
    return [
        PackageValue(
            **{name: getattr(row, name) for name in _PLAIN},
            sender=values.Sender(row.sender_id, row.sender_name, row.sender_email),
            next_signers=tuple(row.next_signers),
            signers=tuple(sorted(map(_signer, signers.get(row.id, ())), key=_signing_order)),
            documents=tuple(map(_document, documents.get(row.id, ()))),
            attention=(*map(_reason, attention.get(row.id, ())), *map(_parked, parked.get(row.id, ()))),
        )
        for row in rows
    ]


def _grouped(connection: Connection, found: AnySelect, ids: list[str]) -> dict[str, list[AnyRow]]:
    groups: dict[str, list[AnyRow]] = {}
    for row in connection.execute(found, {"ids": ids}):
        groups.setdefault(row.package_id, []).append(row)
    return groups


def _signing_order(one: values.Signer) -> tuple[bool, int, str]:
    return one.order is None, one.order or 0, one.id


def _signer(row: AnyRow) -> values.Signer:
    told = row._asdict()
    return values.Signer(
        **{name: told[name] for name in told if name not in ("package_id", "attachments")},
        attachments=tuple(row.attachments),
    )


def _document(row: AnyRow) -> values.Document:
    return values.Document(row.id, row.name, tuple(row.signed_by), row.signed_at)


def _reason(row: AnyRow) -> values.Attention:
    return values.Attention(row.reason, row.since, row.who, row.detail)


def _parked(row: AnyRow) -> values.Attention:
    return values.Attention("PARKED_HANDLER", row.finished_at, row.handler, (row.error or "")[:ERROR_SHOWN] or None)


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


def _write_cursor(sort: str, value: object, last_id: str) -> str:
    told = value.isoformat() if isinstance(value, datetime) else value
    return base64.urlsafe_b64encode(json.dumps([sort, told, last_id]).encode()).decode().rstrip("=")


def _read_cursor(cursor: str, sort: str) -> tuple[object, str]:
    try:
        padded = cursor.encode() + b"=" * (-len(cursor) % 4)
        made_for, value, last_id = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if made_for != sort or not isinstance(value, str) or not isinstance(last_id, str) or "\0" in value + last_id:
            raise BadCursor
        return (datetime.fromisoformat(value) if sort.endswith("_at") else value), last_id
    except (ValueError, TypeError, binascii.Error):
        raise BadCursor from None


_PLAIN = (
    "id",
    "name",
    "type",
    "status",
    "status_at",
    "trashed",
    "deleted",
    "created_at",
    "updated_at",
    "due_at",
    "completed_at",
    "signers_total",
    "signers_completed",
    "last_event_at",
    "read_at",
)
_PACKAGE = tuple(
    column for column in Package.__table__.c if column.name != "state"
)  # what was claimed is the digest's business
_SIGNER = tuple(Signer.__table__.c)
_DOCUMENT = tuple(Document.__table__.c)
_ATTENTION = tuple(Attention.__table__.c)
_PARKED = (Dispatch.package_id, Dispatch.handler, Dispatch.finished_at, Dispatch.error)
_CHANGE = tuple(Change.__table__.c)
_EVENT = tuple(column for column in Event.__table__.c if column.name != "fingerprint")
_DISPATCH = tuple(
    Dispatch.__table__.c[name] for name in ("id", "handler", "state", "attempts", "due_at", "finished_at", "error")
)
_TELLING = (Journal.id, Journal.event_id, Journal.received_at, Journal.key, Journal.body)

# Put together once, for they run at every turn of the dispatcher.
_IDS: BindParameter[str] = bindparam("ids", expanding=True)
_FACTS = select(*_EVENT, Event.fingerprint).where(Event.id.in_(_IDS))
_PACKAGES = select(*_PACKAGE).where(Package.id.in_(_IDS))
_PARTS: tuple[AnySelect, ...] = (
    select(*_SIGNER).where(Signer.package_id.in_(_IDS)),
    select(*_DOCUMENT).where(Document.package_id.in_(_IDS)).order_by(Document.position),
    select(*_ATTENTION).where(Attention.package_id.in_(_IDS)).order_by(Attention.position),
    select(*_PARKED).where(Dispatch.package_id.in_(_IDS), Dispatch.state == PARKED).order_by(Dispatch.id),
)
