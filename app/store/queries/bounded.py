"""Queries whose cost does not grow with a table: counts up to a limit, and the distinct values of a column."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Integer, Label, Select, bindparam, func, select
from sqlalchemy.engine import Connection
from sqlalchemy.orm import InstrumentedAttribute

COUNT_LIMIT = 500  # rows at which counting stops


def count_statement(*queries: Select[*tuple[Any, ...]]) -> Select[*tuple[int, ...]]:
    """Build the statement with which `count_rows` counts the rows of each query."""
    limited = (query.limit(bindparam("limit", type_=Integer)).subquery() for query in queries)
    return select(*(select(func.count()).select_from(rows).scalar_subquery() for rows in limited))


def count_rows(connection: Connection, statement: Select[*tuple[int, ...]], **parameters: object) -> Sequence[int]:
    """Return the number of rows of each query in a `count_statement`, counted up to `COUNT_LIMIT`."""
    return connection.execute(statement, {"limit": COUNT_LIMIT, **parameters}).one()


def distinct_values(connection: Connection, column: InstrumentedAttribute[str], *, limit: int) -> list[str]:
    """Return the first distinct values of a column, ascending, with one index lookup per value.

    An index must begin with the column.
    """
    known = select(_first(column)).cte("known", recursive=True)
    known = known.union_all(
        select(_first(column, above=known.c.value)).select_from(known).where(known.c.value.is_not(None))
    )
    found = select(known.c.value).where(known.c.value.is_not(None)).limit(limit)
    return list(connection.execute(found).scalars())


def _first(column: InstrumentedAttribute[str], *, above: Any = None) -> Label[Any]:
    found = select(column).order_by(column).limit(1)
    return (found if above is None else found.where(column > above)).scalar_subquery().label("value")
