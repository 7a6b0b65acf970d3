"""Pages of lists, by keyset: a cursor says where a page ended, and the next begins right after it.

So a page costs the same however deep it lies, nothing is skipped or shown twice while rows come and go, and a page is
full unless it is the last.
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
Part = tuple[Sequence[AnySelect], Sequence[Column], Sequence[object] | None]  # rows, what sorts them, and after what

LARGEST_ID = 2**63 - 1
HIGHEST_TEXT = "\U0010ffff"  # comes after every id


class BadCursor(ReceiverError):
    """The cursor is not one this list gave."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some items of a list, and the cursors that lead to the next ones and to those before; None at either end.

    Only the packages' list can be read backwards.
    """

    items: list[T]
    next: str | None
    previous: str | None = None


def following(
    found: AnySelect, keys: Sequence[Column], *, after: Sequence[object] | None, limit: int, descending: bool = True
) -> AnySelect:
    """The next `limit` rows in the order of these columns, which together are unique and never null."""
    if after is not None:
        values = [literal(value, _wide(key.type)) for key, value in zip(keys, after, strict=True)]
        row, last = (tuple_(*keys), tuple_(*values)) if len(keys) > 1 else (keys[0], values[0])
        found = found.where(row < last if descending else row > last)
    return found.order_by(*(key.desc() if descending else key.asc() for key in keys)).limit(limit)


def _wide(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type of a column, or a wider one for numbers: a cursor may have one that the column could not."""
    return BigInteger() if isinstance(kind, Integer) else kind


def write_cursor(*parts: object) -> str:
    """These values as one word; times as ISO 8601."""
    text = json.dumps(parts, default=datetime.isoformat, ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str, *kinds: type) -> tuple[Any, ...]:
    """The values of a cursor, of these kinds: `int`, `bool`, `str` or `datetime`; the last two may be None.

    Raises `BadCursor`.
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
class Place:
    """Where a row is in a sorted list: what the list is sorted by, and the row's id; and which way to read on."""

    value: Any
    id: str
    backwards: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """What a list is sorted by: its `name` in cursors, a column and the id. Rows that lack the value come last."""

    name: str
    column: Column
    id: Column
    descending: bool
    nullable: bool

    def read(self, cursor: str | None) -> Place | None:
        """The place that a cursor stands for. Raises `BadCursor` where it is of another order."""
        if cursor is None:
            return None
        kind = datetime if self.nullable else str
        name, value, row_id, backwards = read_cursor(cursor, str, kind, str, bool)
        if name != self.name or row_id is None or (value is None and not self.nullable):
            raise BadCursor
        return Place(value, row_id, backwards)

    def write(self, place: Place | None, *, backwards: bool = False) -> str | None:
        """A cursor that leads on from this place."""
        return write_cursor(self.name, place.value, place.id, backwards) if place else None

    def page(
        self,
        connection: Connection,
        known: Sequence[AnySelect],
        unknown: Sequence[AnySelect],
        *,
        asked: Place | None,
        limit: int,
    ) -> tuple[list[Place], str | None, str | None]:
        """Up to `limit` places from the one that is `asked` for on; the cursors to the next ones, and to those before.

        Each of `known` and `unknown` selects the order's column as `value`, and the id; a row may be in more than one
        of them. Rows that have the value are taken from the former, those that lack it from the latter.
        """
        backwards = asked is not None and asked.backwards
        rows = self._rows(connection, self._parts(known, unknown, asked=asked), asked=asked, limit=limit + 1)
        more, shown = len(rows) > limit, rows[:limit][:: -1 if backwards else 1]
        first, last = (shown[0], shown[-1]) if shown else (self._beyond(asked),) * 2
        has_next, has_previous = (True, more) if backwards else (more, asked is not None)
        return (
            shown,
            self.write(last if has_next else None),
            self.write(first if has_previous else None, backwards=True),
        )

    def _rows(self, connection: Connection, parts: Iterable[Part], *, asked: Place | None, limit: int) -> list[Place]:
        rows: list[Place] = []
        descending = self.descending != (asked is not None and asked.backwards)
        for found, keys, after in parts:
            left = limit - len(rows)
            pages = [following(some, keys, after=after, limit=left, descending=descending) for some in found]
            rows += [Place(*row) for row in connection.execute(_merged(pages, limit=left, descending=descending))]
            if len(rows) == limit:
                break
        return rows

    def _parts(
        self, known: Sequence[AnySelect], unknown: Sequence[AnySelect], *, asked: Place | None
    ) -> Iterator[Part]:
        """What is left of the list, in parts that an index sorts: rows that have the value, and those that lack it."""
        keys = tuple(dict.fromkeys((self.column, self.id)))
        parts: list[tuple[Sequence[AnySelect], Sequence[Column]]] = [(known, keys)]
        if self.nullable:
            with_value = [found.where(self.column.is_not(None)) for found in known]
            without = [found.where(self.column.is_(None)) for found in unknown]
            parts = [(with_value, keys), (without, (self.id,))]
        if asked is None:
            yield from ((found, columns, None) for found, columns in parts)
            return
        here = len(parts) - 1 if asked.value is None else 0
        (found, columns), *others = parts[here::-1] if asked.backwards else parts[here:]
        yield found, columns, (asked.value, asked.id)[-len(columns) :]
        yield from ((found, columns, None) for found, columns in others)

    def _beyond(self, asked: Place | None) -> Place | None:
        """A place before which the row that a cursor was made of is, where nothing follows it any more."""
        if asked is None:
            return None
        return replace(asked, id=HIGHEST_TEXT if self.descending == asked.backwards else "")


def _merged(parts: Sequence[AnySelect], *, limit: int, descending: bool) -> Select[Any, str]:
    """The first rows of several lists that have the same order, each row once."""
    if len(parts) == 1:
        return parts[0]
    rows = union(*(part.subquery().select() for part in parts)).subquery()
    keys = (rows.c.value, rows.c.id)
    return select(*keys).order_by(*(key.desc() if descending else key.asc() for key in keys)).limit(limit)
