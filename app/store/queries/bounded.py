"""Counts that end at a number, and the values of a column by an index: neither takes longer as a table grows."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Integer, Label, Select, bindparam, func, select
from sqlalchemy.engine import Connection
from sqlalchemy.orm import InstrumentedAttribute

COUNTED = 500  # where counting ends


def counts(*found: Select[*tuple[Any, ...]]) -> Select[*tuple[int, ...]]:
    """What `counted` executes to count the rows of each of these."""
    rows = (rows.limit(bindparam("cap", type_=Integer)).subquery() for rows in found)
    return select(*(select(func.count()).select_from(some).scalar_subquery() for some in rows))


def counted(connection: Connection, statement: Select[*tuple[int, ...]], **parameters: object) -> Sequence[int]:
    """How many rows there are of each of `counts`, up to `COUNTED`."""
    return connection.execute(statement, {"cap": COUNTED, **parameters}).one()


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
