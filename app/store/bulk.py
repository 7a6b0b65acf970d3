"""Many rows, written with one statement."""

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
    """Insert many rows, in their order. All have the same columns."""
    _put(connection, table, rows, replace=False)


def upsert_all(connection: Connection, table: type[DeclarativeBase], rows: Sequence[Row]) -> None:
    """Insert each row, or overwrite the one with its primary key. All have the same columns."""
    _put(connection, table, rows, replace=True)


def _put(connection: Connection, table: type[DeclarativeBase], rows: Sequence[Row], *, replace: bool) -> None:
    """Write many rows with one statement. PostgreSQL gets them as one JSON text: a parameter each costs it far more."""
    if not rows:
        return
    statement = _statement(connection.dialect, table, tuple(rows[0]), replace=replace)
    if connection.dialect.name == "postgresql":
        connection.execute(statement, {"rows": json.dumps(rows, default=_write_time, separators=(",", ":"))})
    else:
        connection.execute(statement, list(rows))


@cache
def _statement(
    dialect: Dialect, table: type[DeclarativeBase], columns: tuple[str, ...], *, replace: bool
) -> TextClause:
    quote = dialect.identifier_preparer.quote
    name, names = quote(table.__tablename__), ", ".join(map(quote, columns))
    ending = _on_conflict(dialect, table, columns) if replace else ""
    if dialect.name == "postgresql":
        source = f"SELECT {names} FROM json_populate_recordset(NULL::{name}, :rows)"  # noqa: S608  (names of ours)
        return text(f"INSERT INTO {name} ({names}) {source} {ending}")
    places = ", ".join(f":{one}" for one in columns)
    put = text(f"INSERT INTO {name} ({names}) VALUES ({places}) {ending}")  # noqa: S608  (names of ours)
    return put.bindparams(*(bindparam(one, type_=table.__table__.columns[one].type) for one in columns))


def _on_conflict(dialect: Dialect, table: type[DeclarativeBase], columns: Iterable[str]) -> str:
    quote = dialect.identifier_preparer.quote
    keys = [column.name for column in table.__table__.primary_key]
    sets = ", ".join(f"{quote(one)} = excluded.{quote(one)}" for one in columns if one not in keys)
    return f"ON CONFLICT ({', '.join(map(quote, keys))}) DO UPDATE SET {sets}"


def _write_time(value: object) -> str:
    assert isinstance(value, datetime), value
    return value.isoformat()
