"""Packages that need attention: one item per reason, newest first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, Select, literal, null, select
from sqlalchemy.engine import Connection

from app.onespan.values import AttentionReason, Sender
from app.store.bulk import any_of
from app.store.models import PARKED, Attention, Dispatch, Package, Signer
from app.store.queries.bounded import count_rows, count_statement
from app.store.queries.paging import BadCursor, Page, following, read_cursor, write_cursor

AnyRow = Row[*tuple[Any, ...]]
AnySelect = Select[*tuple[Any, ...]]
Position = tuple[datetime | None, str, int]  # start of a reason, package id, place among the package's reasons

ERROR_SHOWN = 300  # characters of a handler's error that an item shows
UNDATED = datetime(1, 1, 1, tzinfo=UTC)
REASONS = tuple(reason.value for reason in AttentionReason)


@dataclass(frozen=True, slots=True)
class AttentionItem:
    """A package and one reason why it needs attention, open since `since`.

    `who` is the id of a signer and `who_name` the signer's name. If a run is parked, `who` is its handler and
    `dispatch_id` its id. `detail` is what OneSpan reported with the reason, or the first line of the handler's error.
    """

    package_id: str
    package_name: str | None
    status: str | None
    sender: Sender
    due_at: datetime | None
    reason: str
    since: datetime | None
    who: str | None
    who_name: str | None
    detail: str | None
    dispatch_id: int | None


def attention_counts(connection: Connection) -> dict[str, int]:
    """Return the number of open attention items for each reason, counted up to `COUNT_LIMIT`."""
    return dict(zip(REASONS, count_rows(connection, _COUNTS), strict=True))


def attention_page(
    connection: Connection, reason: str | None, *, limit: int, cursor: str | None
) -> Page[AttentionItem]:
    """Return a page of open issues with one reason (None: any), newest first. Raises `BadCursor`.

    A package may have several issues.
    """
    after = _read_position(cursor) if cursor is not None else None
    found: list[AnyRow] = []
    for name in REASONS if reason is None else (reason,):
        found += _newest(connection, name, after=after, limit=limit + 1)
    newest = sorted(found, key=lambda row: (row.since or UNDATED, row.package_id, row.place), reverse=True)
    last = newest[limit - 1] if len(newest) > limit else None
    return Page(
        _items(connection, newest[:limit]), write_cursor(last.since, last.package_id, last.place) if last else None
    )


def _newest(connection: Connection, reason: str, *, after: Position | None, limit: int) -> list[AnyRow]:
    """Return the newest attention items for a reason. Items without a time come last."""
    found, (since, *keys) = _open(reason)
    is_undated = after is not None and after[0] is None
    rows: list[AnyRow] = []
    if not is_undated:
        dated = following(found.where(since.is_not(None)), (since, *keys), after=after, limit=limit)
        rows = list(connection.execute(dated))
    if len(rows) < limit:
        undated = found.where(since.is_(None))
        last = after[1:] if after is not None and is_undated else None
        rows += connection.execute(following(undated, keys, after=last, limit=limit - len(rows)))
    return rows


def _open(reason: str) -> tuple[AnySelect, tuple[Any, Any, Any]]:
    """Build the query for the open attention items for a reason, and its sort keys, which together are unique."""
    if reason == AttentionReason.PARKED_HANDLER:
        return _PARKED, (Dispatch.finished_at, Dispatch.package_id, -Dispatch.id)
    return _STORED.where(Attention.reason == reason), (Attention.since, Attention.package_id, Attention.position)


def _items(connection: Connection, rows: Sequence[AnyRow]) -> list[AttentionItem]:
    packages = {row.id: row for row in connection.execute(_OF_PACKAGE, {"ids": [row.package_id for row in rows]})}
    with_signers = {row.package_id for row in rows if row.dispatch_id is None and row.who is not None}
    named = select(Signer.package_id, Signer.id, Signer.name).where(Signer.package_id.in_(with_signers))
    names = {(row.package_id, row.id): row.name for row in connection.execute(named)} if with_signers else {}
    return [
        _item(row, packages[row.package_id], names.get((row.package_id, row.who)))
        for row in rows
        if row.package_id in packages
    ]


def _item(row: AnyRow, package: AnyRow, name: str | None) -> AttentionItem:
    return AttentionItem(
        package_id=package.id,
        package_name=package.name,
        status=package.status,
        sender=Sender(package.sender_id, package.sender_name, package.sender_email),
        due_at=package.due_at,
        reason=row.reason,
        since=row.since,
        who=row.who,
        who_name=name,
        detail=row.detail if row.dispatch_id is None else _first_line(row.detail),
        dispatch_id=row.dispatch_id,
    )


def _first_line(error: str | None) -> str | None:
    return (error or "").partition("\n")[0][:ERROR_SHOWN] or None


def _read_position(cursor: str) -> Position:
    since, package_id, place = read_cursor(cursor, datetime, str, int)
    if package_id is None:
        raise BadCursor
    return since, package_id, place


_STORED: AnySelect = select(
    Attention.package_id,
    Attention.reason,
    Attention.since,
    Attention.who,
    Attention.detail,
    Attention.position.label("place"),
    null().label("dispatch_id"),
)
_PARKED: AnySelect = select(
    Dispatch.package_id,
    literal(AttentionReason.PARKED_HANDLER.value).label("reason"),
    Dispatch.finished_at.label("since"),
    Dispatch.handler.label("who"),
    Dispatch.error.label("detail"),
    (-Dispatch.id).label("place"),
    Dispatch.id.label("dispatch_id"),
).where(Dispatch.state == PARKED)
_OF_PACKAGE = select(
    Package.id,
    Package.name,
    Package.status,
    Package.due_at,
    Package.sender_id,
    Package.sender_name,
    Package.sender_email,
).where(any_of(Package.id, "ids"))
_COUNTS = count_statement(*(_open(reason)[0] for reason in REASONS))  # built once, because every page shows the counts
