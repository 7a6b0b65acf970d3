"""Rows that version 1 of the projection wrote, to test upgrades.

`fixtures/version_1.json.gz` contains the tables of a service at the migration `initial_schema`, without its processes.
Its 13 packages were simulated: one callback in eight was lost and found by reconcile, and some came twice or undated.
"""

import gzip
import json
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Boolean, Date, LargeBinary, insert, text, update
from sqlalchemy.engine import Connection

from app.store.db import UTCDateTime
from app.store.models import Base, Package

FIXTURE = Path(__file__).parent / "fixtures" / "version_1.json.gz"
MADE_AT = datetime(2026, 11, 30, 10, 8, 10, tzinfo=UTC)  # just after the newest row
SCHEMA = "initial_schema"  # the migration at which the rows were written
READERS: Mapping[type, Callable[[Any], object]] = {
    UTCDateTime: lambda value: datetime.fromisoformat(value).replace(tzinfo=UTC),
    Date: date.fromisoformat,
    JSON: lambda value: json.loads(value) if isinstance(value, str) else value,  # SQLite stores `0` as a number
    LargeBinary: str.encode,
    Boolean: bool,
}


def fill(connection: Connection) -> None:
    """Insert all rows of the fixture into empty tables."""
    content = json.loads(gzip.decompress(FIXTURE.read_bytes()))
    for table in Base.metadata.sorted_tables:
        if table.name not in content:
            continue
        columns = [table.c[name] for name in content[table.name]["columns"]]
        rows = [
            {column.name: _value(column.type, value) for column, value in zip(columns, row, strict=True)}
            for row in content[table.name]["rows"]
        ]
        connection.execute(insert(table), rows)
        if connection.dialect.name == "postgresql" and table.autoincrement_column is not None:
            last = max(row["id"] for row in rows)
            connection.execute(text(f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), {last})"))


def make_old(connection: Connection, package_ids: Collection[str] = ()) -> None:
    """Set all packages, or those given, to what version 1 might have derived: other claims and another status."""
    old = update(Package).values(projection_version=1, status="OLD", claims={"package": {}})
    connection.execute(old.where(Package.id.in_(package_ids)) if package_ids else old)
    connection.execute(text("DELETE FROM package_counts"))
    kinds = "SELECT trashed, deleted, coalesce(type, ''), coalesce(status, ''), count(*) FROM packages"
    connection.execute(
        text(f"INSERT INTO package_counts (trashed, deleted, type, status, number) {kinds} GROUP BY 1, 2, 3, 4")
    )


def _value(column_type: object, value: Any) -> object:
    readers = (reader for kind, reader in READERS.items() if isinstance(column_type, kind))
    reader = next(readers, None)
    return value if value is None or reader is None else reader(value)
