"""Places in a list, as cursors tell them; and the values of a column, found without reading all rows."""

import base64
import binascii
import json
from typing import Any

from sqlalchemy import Label, select
from sqlalchemy.engine import Connection
from sqlalchemy.orm import InstrumentedAttribute

from app.onespan.callbacks import clean
from app.store.queries.shown import BadCursor

LAST = 2**63 - 1  # of what an id's column holds


def read_place(cursor: str, *kinds: type) -> tuple[Any, ...]:
    """The values a cursor stands for, of these kinds; a text may be None. Raises `BadCursor`."""
    parts = read_parts(cursor)
    if len(parts) != len(kinds) or not all(map(_fits, parts, kinds)):
        raise BadCursor
    return tuple(parts)


def write_parts(*parts: object) -> str:
    """These values as one word."""
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_parts(cursor: str) -> list[Any]:
    """The values in such a word, whatever they are. Raises `BadCursor`."""
    try:
        padded = cursor.encode() + b"=" * (-len(cursor) % 4)
        parts = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (RecursionError, ValueError, binascii.Error):
        raise BadCursor from None
    if not isinstance(parts, list):
        raise BadCursor
    return parts


def _fits(part: object, kind: type) -> bool:
    if kind is int:
        return type(part) is int and -LAST <= part <= LAST
    return part is None or (isinstance(part, str) and clean(part) == part)


def values_of(connection: Connection, column: InstrumentedAttribute[str], *, limit: int) -> list[str]:
    """The first values of a column that an index begins with, rising; a look into the index for each."""
    known = select(_first(column)).cte("known", recursive=True)
    known = known.union_all(
        select(_first(column, above=known.c.value)).select_from(known).where(known.c.value.is_not(None))
    )
    found = select(known.c.value).where(known.c.value.is_not(None)).limit(limit)
    return list(connection.execute(found).scalars())


def _first(column: InstrumentedAttribute[str], *, above: Any = None) -> Label[Any]:
    found = select(column).order_by(column).limit(1)
    return (found if above is None else found.where(column > above)).scalar_subquery().label("value")
