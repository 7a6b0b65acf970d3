"""Many rows with one statement: bulk insert, upsert, and the search for a list of values."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Dialect,
    Text,
    TypeDecorator,
    bindparam,
    text,
)
from sqlalchemy.engine import Connection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

Row = Mapping[str, Any]
Table = type[DeclarativeBase]


def any_of(column: ColumnElement[Any] | InstrumentedAttribute[Any], parameter: str) -> ColumnElement[bool]:
    """Whether a column has one of the values of a list, which is the parameter of this name.

    Unlike `in_`, the text of the statement does not depend on the number of values. So a database prepares it once.
    """
    return _AnyOf(column, bindparam(parameter, type_=_List(column.type)))


class _List(TypeDecorator[Sequence[Any]]):
    """A list as one parameter: an array on PostgreSQL, JSON on SQLite."""

    impl = Text
    cache_ok = True

    def __init__(self, item: TypeEngine[Any]) -> None:
        super().__init__()
        self.item = item

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(ARRAY(self.item) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Sequence[Any] | None, dialect: Dialect) -> Any:
        return list(value or ()) if dialect.name == "postgresql" else json.dumps(list(value or ()))


class _AnyOf(FunctionElement[Any]):
    """The condition; without a type, because SQLAlchemy writes `= 1` behind a boolean, which then uses no index."""

    inherit_cache = True


@compiles(_AnyOf)
def _in_json(element: _AnyOf, compiler: SQLCompiler, **options: Any) -> str:
    column, parameter = (compiler.process(part, **options) for part in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({parameter}))"  # noqa: S608  (compiled)


@compiles(_AnyOf, "postgresql")
def _in_array(element: _AnyOf, compiler: SQLCompiler, **options: Any) -> str:
    column, parameter = (compiler.process(part, **options) for part in element.clauses)
    return f"{column} = ANY ({parameter})"


def insert_all(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows in the given order. All rows must have the same columns."""
    _write(connection, table, rows, _insert)


def upsert_all(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert each row, or overwrite the row with the same primary key. All rows must have the same columns."""
    _write(connection, table, rows, _upsert)


def update_all(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Overwrite columns of the rows with the same primary keys. All rows must have the same columns."""
    _write(connection, table, rows, _update)


def _write(
    connection: Connection, table: Table, rows: Sequence[Row], build: Callable[[Dialect, Table, tuple[str, ...]], str]
) -> None:
    """Write rows with one statement.

    PostgreSQL gets all rows as one JSON text, because one parameter per value is far slower. SQLite's driver gets the
    rows at once, because SQLAlchemy prepares them for longer than SQLite writes them.
    """
    if not rows:
        return
    columns, dialect = tuple(rows[0]), connection.dialect
    statement = build(dialect, table, columns)
    if dialect.name == "postgresql":
        connection.execute(text(statement), {"rows": json.dumps(rows, default=_iso_time, separators=(",", ":"))})
        return
    converters = _converters(dialect, table, columns)
    prepared = [
        {column: convert(row[column]) if convert else row[column] for column, convert in converters} for row in rows
    ]
    connection.exec_driver_sql(statement, prepared)


@cache
def _converters(
    dialect: Dialect, table: Table, columns: tuple[str, ...]
) -> list[tuple[str, Callable[[Any], Any] | None]]:
    """Return the columns, each with the function that converts its values for the driver, if one is necessary."""
    types = {column: table.__table__.columns[column].type.dialect_impl(dialect) for column in columns}
    return [(column, of_column.bind_processor(dialect)) for column, of_column in types.items()]


@cache
def _insert(dialect: Dialect, table: Table, columns: tuple[str, ...]) -> str:
    name, *names = _quoted(dialect, table.__tablename__, *columns)
    if dialect.name == "postgresql":
        source = f"SELECT {', '.join(names)} FROM {_records(name)}"  # noqa: S608  (our own names)
    else:
        source = f"VALUES ({', '.join(f':{column}' for column in columns)})"
    return f"INSERT INTO {name} ({', '.join(names)}) {source}"


@cache
def _upsert(dialect: Dialect, table: Table, columns: tuple[str, ...]) -> str:
    keys, others = _split(dialect, table, columns)
    sets = ", ".join(f"{column} = excluded.{column}" for column in others)
    return f"{_insert(dialect, table, columns)} ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {sets}"


@cache
def _update(dialect: Dialect, table: Table, columns: tuple[str, ...]) -> str:
    (name,) = _quoted(dialect, table.__tablename__)
    parts = _split(dialect, table, columns)
    if dialect.name == "postgresql":
        keys, others = ([f"{column} = new.{column}" for column in part] for part in parts)
        where = " AND ".join(f"{name}.{key}" for key in keys)
        return f"UPDATE {name} SET {', '.join(others)} FROM {_records(name)} AS new WHERE {where}"  # noqa: S608
    keys, others = ([f"{column} = :{column.strip(chr(34))}" for column in part] for part in parts)
    return f"UPDATE {name} SET {', '.join(others)} WHERE {' AND '.join(keys)}"  # noqa: S608


def _records(name: str) -> str:
    return f"json_populate_recordset(NULL::{name}, :rows)"


def _quoted(dialect: Dialect, *names: str) -> list[str]:
    return [dialect.identifier_preparer.quote(name) for name in names]


def _split(dialect: Dialect, table: Table, columns: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the quoted names of the primary key and of the other columns."""
    keys = [column.name for column in table.__table__.primary_key]
    return _quoted(dialect, *keys), _quoted(dialect, *(column for column in columns if column not in keys))


def _iso_time(value: object) -> str:
    assert isinstance(value, datetime), value
    return value.isoformat()
