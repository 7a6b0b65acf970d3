"""Queries for packages in the status store."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, Select, select
from sqlalchemy.engine import Connection

from app.errors import QueryTimeout
from app.onespan import values
from app.onespan.values import AttentionReason
from app.onespan.values import Package as PackageValue
from app.store.bulk import any_of
from app.store.db import Database
from app.store.models import PARKED, Attention, Dispatch, Document, Package, Signer
from app.store.queries.filters import HasWords, PackageFilter, alternatives
from app.store.queries.paging import Page, SortOrder
from app.store.search import has_words, has_words_itself

AnyRow = Row[*tuple[Any, ...]]
AnySelect = Select[*tuple[Any, ...]]

TIME_LIMIT = timedelta(seconds=5)  # limit for one statement; a search of a million packages takes at most one second
# The sort keys of package lists, and the column of each key.
SORTS = {
    "updated_at": "updated_at",
    "created_at": "created_at",
    "due_at": "due_at",
    "status_at": "status_at",
    "name": "sort_name",
    "id": "id",
}
ERROR_SHOWN = 300  # characters of a handler's error that an attention reason shows


@dataclass(frozen=True, slots=True)
class PackagePage(Page[PackageValue]):
    """A page of packages. If `timed_out` is true, the query took too long and was cancelled, so the page is empty."""

    timed_out: bool = False


def packages(connection: Connection, ids: Collection[str]) -> dict[str, PackageValue]:
    """Return the packages with the given ids, by id; unknown ids are left out."""
    rows = connection.execute(_PACKAGES, {"ids": list(ids)}).all()
    return {package.id: package for package in _packages(connection, rows)}


def names(connection: Connection, ids: Collection[str]) -> dict[str, str | None]:
    """Return the names of the packages with the given ids, by id."""
    rows = connection.execute(select(Package.id, Package.name).where(Package.id.in_(ids))) if ids else ()
    return {row.id: row.name for row in rows}


def package_page(
    database: Database, wanted: PackageFilter, *, sort: str, limit: int, cursor: str | None
) -> PackagePage:
    """Return a page of packages. `sort` is a key of `SORTS`, with a minus sign for descending order.

    A query that takes longer than `TIME_LIMIT` is cancelled; the page is then empty and its `timed_out` is true.
    Raises `BadCursor`.
    """
    try:
        with database.read(timeout=TIME_LIMIT) as connection:
            return package_page_in_transaction(connection, wanted, sort=sort, limit=limit, cursor=cursor)
    except QueryTimeout:
        return PackagePage([], None, timed_out=True)


def package_page_in_transaction(
    connection: Connection, wanted: PackageFilter, *, sort: str, limit: int, cursor: str | None
) -> PackagePage:
    """Return a page of packages, read in the transaction of the caller. Raises `BadCursor` and `QueryTimeout`."""
    columns, name = Package.__table__.c, sort.removeprefix("-")
    column = columns[SORTS[name]]
    order = SortOrder(sort, column, columns.id, descending=sort.startswith("-"), nullable=bool(column.nullable))

    def queries(has_words: HasWords) -> list[Select[Any, str]]:
        rows = select(column.label("value"), columns.id)
        return [rows.where(*conditions) for conditions in alternatives(wanted, has_words=has_words)]

    with_value, without_value = queries(has_words), queries(has_words_itself)
    shown, next_, previous = order.page(connection, with_value, without_value, start=order.read(cursor), limit=limit)
    by_id = packages(connection, [position.id for position in shown])
    return PackagePage([by_id[position.id] for position in shown], next_, previous)


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
            unverified=_unverified(row),
            signers=tuple(sorted(map(_signer, signers.get(row.id, ())), key=_signing_order)),
            documents=tuple(map(_document, documents.get(row.id, ()))),
            attention=(*map(_reason, attention.get(row.id, ())), *map(_parked, parked.get(row.id, ()))),
        )
        for row in rows
    ]


def _grouped(connection: Connection, found: AnySelect, ids: list[str]) -> dict[str, list[AnyRow]]:
    groups: dict[str, list[AnyRow]] = {}
    for row in connection.execute(found, {"ids": ids}).all():
        groups.setdefault(row.package_id, []).append(row)
    return groups


def _signing_order(seat: values.Signer) -> tuple[bool, int, str]:
    return seat.order is None, seat.order or 0, seat.id


def _unverified(row: AnyRow) -> values.Unverified | None:
    return values.Unverified(row.unverified_since, row.unverified_reason or "") if row.unverified_since else None


def _signer(row: AnyRow) -> values.Signer:
    group = values.Group(row.group["name"], tuple(row.group["members"])) if row.group else None
    plain = {name: getattr(row, name) for name in _PLAIN_SIGNER}
    return values.Signer(**plain, attachments=tuple(row.attachments), group=group)


def _document(row: AnyRow) -> values.Document:
    signatures = tuple(map(_signature, row.signatures or ()))
    return values.Document(row.id, row.name, tuple(row.signed_by), row.signed_at, signatures)


def _signature(stored: Mapping[str, Any]) -> values.Signature:
    at = stored["at"]
    return values.Signature(**{**stored, "at": datetime.fromisoformat(at) if at else None})


def _reason(row: AnyRow) -> values.Attention:
    return values.Attention(row.reason, row.since, row.who, row.detail)


def _parked(row: AnyRow) -> values.Attention:
    return values.Attention(
        AttentionReason.PARKED_HANDLER.value,
        row.finished_at,
        row.handler,
        (row.error or "").partition("\n")[0][:ERROR_SHOWN] or None,
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
    "description",
    "data",
)
_PLAIN_SIGNER = tuple(field.name for field in fields(values.Signer) if field.name not in ("attachments", "group"))
_PACKAGE = tuple(
    column for column in Package.__table__.c if column.name not in ("claims", "sort_name", "projection_version")
)  # only the digest uses the claims, and only lists use the sort name
_SIGNER = (Signer.package_id, *(Signer.__table__.c[field.name] for field in fields(values.Signer)))
_DOCUMENT = tuple(Document.__table__.c)
_ATTENTION = tuple(Attention.__table__.c)
_PARKED = (Dispatch.package_id, Dispatch.handler, Dispatch.finished_at, Dispatch.error)

# These queries are built once, because they run at every turn of the dispatcher.
_PACKAGES = select(*_PACKAGE).where(any_of(Package.id, "ids"))
_PARTS: tuple[AnySelect, ...] = (
    select(*_SIGNER).where(any_of(Signer.package_id, "ids")),
    select(*_DOCUMENT).where(any_of(Document.package_id, "ids")).order_by(Document.position),
    select(*_ATTENTION).where(any_of(Attention.package_id, "ids")).order_by(Attention.position),
    select(*_PARKED).where(any_of(Dispatch.package_id, "ids"), Dispatch.state == PARKED).order_by(Dispatch.id),
)
