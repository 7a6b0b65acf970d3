"""Bulk insert and upsert: many rows with one statement."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Dialect, TextClause, bindparam, text
from sqlalchemy.engine import Connection
from sqlalchemy.orm import DeclarativeBase

Row = Mapping[str, Any]


def insert_all(connection: Connection, table: type[DeclarativeBase], rows: Sequence[Row]) -> None:
    """Insert rows in the given order. All rows must have the same columns."""
    _write(connection, table, rows, replace=False)


def upsert_all(connection: Connection, table: type[DeclarativeBase], rows: Sequence[Row]) -> None:
    """Insert each row, or overwrite the row with the same primary key. All rows must have the same columns."""
    _write(connection, table, rows, replace=True)


def _write(connection: Connection, table: type[DeclarativeBase], rows: Sequence[Row], *, replace: bool) -> None:
    """Write rows with one statement.

    PostgreSQL gets all rows as one JSON text, because one parameter per value is far slower.
    """
    if not rows:
        return
    statement = _statement(connection.dialect, table, tuple(rows[0]), replace=replace)
    if connection.dialect.name == "postgresql":
        connection.execute(statement, {"rows": json.dumps(rows, default=_iso_time, separators=(",", ":"))})
    else:
        connection.execute(statement, list(rows))


@cache
def _statement(
    dialect: Dialect, table: type[DeclarativeBase], columns: tuple[str, ...], *, replace: bool
) -> TextClause:
    quote = dialect.identifier_preparer.quote
    name, names = quote(table.__tablename__), ", ".join(map(quote, columns))
    suffix = _on_conflict(dialect, table, columns) if replace else ""
    if dialect.name == "postgresql":
        source = f"SELECT {names} FROM json_populate_recordset(NULL::{name}, :rows)"  # noqa: S608  (our own names)
        return text(f"INSERT INTO {name} ({names}) {source} {suffix}")
    parameters = ", ".join(f":{column}" for column in columns)
    insert = text(f"INSERT INTO {name} ({names}) VALUES ({parameters}) {suffix}")  # noqa: S608  (our own names)
    return insert.bindparams(*(bindparam(column, type_=table.__table__.columns[column].type) for column in columns))


def _on_conflict(dialect: Dialect, table: type[DeclarativeBase], columns: Iterable[str]) -> str:
    quote = dialect.identifier_preparer.quote
    keys = [column.name for column in table.__table__.primary_key]
    sets = ", ".join(f"{quote(column)} = excluded.{quote(column)}" for column in columns if column not in keys)
    return f"ON CONFLICT ({', '.join(map(quote, keys))}) DO UPDATE SET {sets}"


def _iso_time(value: object) -> str:
    assert isinstance(value, datetime), value
    return value.isoformat()
