"""Keyset pagination: a cursor is the position where a page ended, and the next page begins right after it.

So every page costs the same, and every page but the last is full. No row is skipped or shown twice while rows are added
and removed.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import BigInteger, ColumnElement, Integer, Row, Select, literal, select, tuple_, union
from sqlalchemy.engine import Connection
from sqlalchemy.types import TypeEngine

from app.errors import ReceiverError
from app.types import clean

T = TypeVar("T")
AnySelect = Select[*tuple[Any, ...]]
AnyRow = Row[*tuple[Any, ...]]
Column = ColumnElement[Any]
# Queries, their sort keys, and the values of these keys after which the part begins.
Part = tuple[Sequence[AnySelect], Sequence[Column], Sequence[object] | None]

LARGEST_ID = 2**63 - 1
HIGHEST_TEXT = "\U0010ffff"  # a text that sorts after every id


class BadCursor(ReceiverError):
    """The cursor does not come from this list."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Items of a list, with the cursors of the next and the previous page. At an end of the list, the cursor is None.

    Only the list of packages can be read backwards.
    """

    items: list[T]
    next: str | None
    previous: str | None = None


def following(
    found: AnySelect, keys: Sequence[Column], *, after: Sequence[object] | None, limit: int, descending: bool = True
) -> AnySelect:
    """Build the query for the next `limit` rows in the order of `keys`, which must together be unique and not null."""
    if after is not None:
        values = [literal(value, _wide(key.type)) for key, value in zip(keys, after, strict=True)]
        row, last = (tuple_(*keys), tuple_(*values)) if len(keys) > 1 else (keys[0], values[0])
        found = found.where(row < last if descending else row > last)
    return found.order_by(*(key.desc() if descending else key.asc() for key in keys)).limit(limit)


def _wide(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return the type for a cursor's value: that of the column, or a wider type for integers that may not fit it."""
    return BigInteger() if isinstance(kind, Integer) else kind


def write_cursor(*parts: object) -> str:
    """Encode values as a cursor. Times are written as ISO 8601."""
    text = json.dumps(parts, default=datetime.isoformat, ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str, *kinds: type) -> tuple[Any, ...]:
    """Decode a cursor into values of the types `kinds`: `int`, `bool`, `str` or `datetime`.

    Strings and times may be None. Raises `BadCursor`.
    """
    try:
        padded = cursor.encode() + b"=" * (-len(cursor) % 4)
        parts = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        return tuple(_value(part, kind) for part, kind in zip(parts, kinds, strict=True))
    except (OverflowError, RecursionError, TypeError, ValueError, binascii.Error):
        raise BadCursor from None


def _value(part: object, kind: type) -> object:
    if kind in (int, bool):
        if type(part) is not kind or not -LARGEST_ID <= part <= LARGEST_ID:
            raise BadCursor
        return part
    if part is None:
        return None
    if not isinstance(part, str) or clean(part) != part:
        raise BadCursor
    return _time(part) if kind is datetime else part


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise BadCursor
    return moment.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Position:
    """The position of a row in a sorted list: its sort value, its id, and the direction in which to continue."""

    value: Any
    id: str
    backwards: bool = False


@dataclass(frozen=True, slots=True)
class SortOrder:
    """A sort order by a column and the id. Rows without a value in the column come last.

    Cursors contain the `name` of their sort order.
    """

    name: str
    column: Column
    id: Column
    descending: bool
    nullable: bool

    def read(self, cursor: str | None) -> Position | None:
        """Decode a cursor. Raises `BadCursor` if the cursor belongs to another sort order."""
        if cursor is None:
            return None
        kind = datetime if self.nullable else str
        name, value, row_id, backwards = read_cursor(cursor, str, kind, str, bool)
        if name != self.name or row_id is None or (value is None and not self.nullable):
            raise BadCursor
        return Position(value, row_id, backwards)

    def write(self, position: Position | None, *, backwards: bool = False) -> str | None:
        """Encode the cursor that continues from a position. Returns None if the position is None."""
        return write_cursor(self.name, position.value, position.id, backwards) if position else None

    def page(
        self,
        connection: Connection,
        with_value: Sequence[AnySelect],
        without_value: Sequence[AnySelect],
        *,
        start: Position | None,
        limit: int,
    ) -> tuple[list[Position], str | None, str | None]:
        """Return up to `limit` positions after `start`, with the cursors of the next and the previous page.

        Each query selects the sort column as `value`, and the id; several queries may select the same row. The queries
        `with_value` read the rows that have a value, and the queries `without_value` read the rows that have none.
        """
        backwards = start is not None and start.backwards
        parts = self._parts(with_value, without_value, start=start)
        rows = self._rows(connection, parts, start=start, limit=limit + 1)
        more, shown = len(rows) > limit, rows[:limit][:: -1 if backwards else 1]
        first, last = (shown[0], shown[-1]) if shown else (self._beyond(start),) * 2
        has_next, has_previous = (True, more) if backwards else (more, start is not None)
        return (
            shown,
            self.write(last if has_next else None),
            self.write(first if has_previous else None, backwards=True),
        )

    def _rows(
        self, connection: Connection, parts: Iterable[Part], *, start: Position | None, limit: int
    ) -> list[Position]:
        rows: list[Position] = []
        descending = self.descending != (start is not None and start.backwards)
        for queries, keys, after in parts:
            left = limit - len(rows)
            pages = [following(query, keys, after=after, limit=left, descending=descending) for query in queries]
            rows += [Position(*row) for row in connection.execute(_merged(pages, limit=left, descending=descending))]
            if len(rows) == limit:
                break
        return rows

    def _parts(
        self, with_value: Sequence[AnySelect], without_value: Sequence[AnySelect], *, start: Position | None
    ) -> Iterator[Part]:
        """Return the rest of a list in parts that an index sorts: rows with a sort value, then rows without one."""
        keys = tuple(dict.fromkeys((self.column, self.id)))
        parts: list[tuple[Sequence[AnySelect], Sequence[Column]]] = [(with_value, keys)]
        if self.nullable:
            dated = [query.where(self.column.is_not(None)) for query in with_value]
            undated = [query.where(self.column.is_(None)) for query in without_value]
            parts = [(dated, keys), (undated, (self.id,))]
        if start is None:
            yield from ((queries, columns, None) for queries, columns in parts)
            return
        first = len(parts) - 1 if start.value is None else 0
        (queries, columns), *others = parts[first::-1] if start.backwards else parts[first:]
        yield queries, columns, (start.value, start.id)[-len(columns) :]
        yield from ((queries, columns, None) for queries, columns in others)

    def _beyond(self, start: Position | None) -> Position | None:
        """Return the position right after the cursor's row, from which an empty page links back to earlier rows."""
        if start is None:
            return None
        return replace(start, id=HIGHEST_TEXT if self.descending == start.backwards else "")


def _merged(parts: Sequence[AnySelect], *, limit: int, descending: bool) -> Select[Any, str]:
    """Build the query for the first rows of several queries that have the same order, without duplicates."""
    if len(parts) == 1:
        return parts[0]
    rows = union(*(part.subquery().select() for part in parts)).subquery()
    keys = (rows.c.value, rows.c.id)
    return select(*keys).order_by(*(key.desc() if descending else key.asc() for key in keys)).limit(limit)
