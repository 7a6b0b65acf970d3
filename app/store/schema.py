"""Whether the database has the tables this version needs, and what makes its searches slow."""

from functools import cache
from pathlib import Path

from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from app.store.db import Database

UNRELEASED = {f"{number:04}" for number in range(1, 9)}  # revisions from before the first release
FROM_BEFORE = (
    "This database was made before the first release and cannot be upgraded. Set DATABASE_URL to a new database, run"
    " `flask db upgrade` there, and `flask reconcile --backfill` to read every package from OneSpan again."
)
NO_TRIGRAM_INDEX = (
    "Every search reads all packages, for the database has no trigram index. Have a superuser run"
    " CREATE EXTENSION pg_trgm; and then, as the owner of the tables, CREATE INDEX CONCURRENTLY ix_searches_text"
    " ON searches USING gin (text gin_trgm_ops) WITH (gin_pending_list_limit = 512);"
)
NO_UTF8 = (
    "Its LC_CTYPE is {}, so searches for letters beyond ASCII read all packages. Create a database with a UTF-8"
    " LC_CTYPE, such as C.UTF-8, and restore a dump into it."
)


def is_behind(database: Database, migrations: Path) -> bool:
    """Whether migrations are missing. One that a newer version has migrated further serves us too."""
    known, newest = _migrations(migrations)
    applied = revisions(database)
    return not applied or bool(applied & UNRELEASED) or (applied <= known and applied != newest)


def is_unreleased(database: Database) -> bool:
    """Whether a version from before the first release made it, whose tables no migration knows."""
    return bool(revisions(database) & UNRELEASED)


def revisions(database: Database) -> set[str]:
    """The migration that the database is at; empty where none was run."""
    with database.read() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return set()
        return set(connection.execute(text("SELECT version_num FROM alembic_version")).scalars())


def slow_search(database: Database) -> str | None:
    """What makes searches slower than they could be on PostgreSQL, and what to do; None on SQLite."""
    if database.engine.dialect.name != "postgresql":
        return None
    with database.read() as connection:
        if connection.scalar(text("SELECT to_regclass('ix_searches_text')")) is None:
            return NO_TRIGRAM_INDEX
        ctype = connection.scalar(text("SELECT datctype FROM pg_database WHERE datname = current_database()"))
    return None if "utf" in str(ctype).lower() else NO_UTF8.format(ctype)


@cache
def _migrations(folder: Path) -> tuple[frozenset[str], frozenset[str]]:
    """All that this version has, and the newest of them; loaded once, for readiness is asked all the time."""
    scripts = ScriptDirectory(str(folder), version_locations=[str(folder)])
    return frozenset(script.revision for script in scripts.walk_revisions()), frozenset(scripts.get_heads())
