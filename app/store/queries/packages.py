"""Packages, as they are believed to be."""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from operator import ge, le
from typing import Any

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

from app.onespan import values
from app.onespan.values import Package as PackageValue
from app.store.models import PARKED, Attention, Dispatch, Document, Package, Signer
from app.store.queries.cursors import Place, cursors, read_cursor
from app.store.queries.shown import PackageFilter, Page

AnyRow = Row[*tuple[Any, ...]]
AnySelect = Select[*tuple[Any, ...]]

ERROR_SHOWN = 300  # characters of a handler's error that stand in an attention
NAME_SORTED = 100  # characters of a name that its place in the order depends on; a cursor must fit a URL
LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)
# What packages can be sorted by; what is not known yet counts as the smallest.
SORTS: Mapping[str, ColumnElement[Any]] = {
    "updated_at": func.coalesce(Package.updated_at, literal(LONG_AGO, Package.updated_at.type)),
    "created_at": func.coalesce(Package.created_at, literal(LONG_AGO, Package.created_at.type)),
    "due_at": func.coalesce(Package.due_at, literal(LONG_AGO, Package.due_at.type)),
    "status_at": func.coalesce(Package.status_at, literal(LONG_AGO, Package.status_at.type)),
    "name": func.coalesce(func.substr(Package.name, 1, NAME_SORTED), literal("")),
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
    place = read_cursor(cursor, sort) if cursor is not None else None
    key, backwards = SORTS[sort.removeprefix("-")], place is not None and place.backwards
    falling = sort.startswith("-") != backwards
    found = select(*_PACKAGE, key.label("sorted_by")).where(*_package_conditions(wanted))
    if place is not None:
        here, there = tuple_(key, Package.id), tuple_(literal(place.value, key.type), literal(place.id))
        found = found.where(here < there if falling else here > there)
    order = desc if falling else asc
    rows = connection.execute(found.order_by(order(key), order(Package.id)).limit(limit + 1)).all()
    shown = rows[:limit][::-1] if backwards else rows[:limit]
    places = [Place(row.sorted_by, row.id) for row in shown]
    return Page(_packages(connection, shown), *cursors(sort, places, asked=place, more=len(rows) > limit))


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
    conditions += [
        compare(column, moment)
        for column, compare, moment in (
            (Package.updated_at, ge, wanted.updated_since),
            (Package.updated_at, le, wanted.updated_until),
            (Package.created_at, ge, wanted.created_since),
            (Package.created_at, le, wanted.created_until),
        )
        if moment is not None
    ]
    if wanted.q:
        conditions.append(_mentions(wanted.q))
    if wanted.signer is not None:
        signed = or_(Signer.id == wanted.signer, func.lower(Signer.email) == func.lower(literal(wanted.signer)))
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
    # The database lowers both: another's idea of lower case may differ, for a Greek sigma or a Turkish i.
    part = func.lower(literal("%" + re.sub(r"([%_/])", r"/\1", text) + "%"))
    return or_(*(func.lower(column).like(part, escape="/") for column in columns))


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
    return values.Attention(
        "PARKED_HANDLER", row.finished_at, row.handler, (row.error or "").partition("\n")[0][:ERROR_SHOWN] or None
    )


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
    column for column in Package.__table__.c if column.name not in ("state", "shelf", "title")
)  # what was claimed is the digest's business, and where it is found that of lists
_SIGNER = tuple(column for column in Signer.__table__.c if column.name != "address")
_DOCUMENT = tuple(Document.__table__.c)
_ATTENTION = tuple(Attention.__table__.c)
_PARKED = (Dispatch.package_id, Dispatch.handler, Dispatch.finished_at, Dispatch.error)

# Put together once, for they run at every turn of the dispatcher.
_IDS: BindParameter[str] = bindparam("ids", expanding=True)
_PACKAGES = select(*_PACKAGE).where(Package.id.in_(_IDS))
_PARTS: tuple[AnySelect, ...] = (
    select(*_SIGNER).where(Signer.package_id.in_(_IDS)),
    select(*_DOCUMENT).where(Document.package_id.in_(_IDS)).order_by(Document.position),
    select(*_ATTENTION).where(Attention.package_id.in_(_IDS)).order_by(Attention.position),
    select(*_PARKED).where(Dispatch.package_id.in_(_IDS), Dispatch.state == PARKED).order_by(Dispatch.id),
)
