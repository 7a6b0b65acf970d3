"""Checks of the schema and server: missing migrations, whether they can run, slow searches, synchronous standbys."""

from functools import cache
from pathlib import Path
from typing import Any

from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from app.store.db import Database

UNRELEASED = {
    *(f"{number:04}" for number in range(1, 9)),
    "initial",
    "first",
}  # migrations from before the first release
FROM_BEFORE = (
    "This database was made before the first release and cannot be upgraded. Set DATABASE_URL to a new database, run"
    " `flask db upgrade` there, and `flask reconcile --backfill` to read every package from OneSpan again."
)
WRONG_ENCODING = (
    "This database's encoding is {}, which cannot store every name. Create one in UTF-8 and set DATABASE_URL to it:"
    " createdb --owner=user --template=template0 --encoding=UTF8 --locale=C.UTF-8 name"
)
WRONG_CTYPE = (
    "Searches for letters beyond ASCII read all packages: the database's LC_CTYPE is {}. Create one with"
    " createdb --owner=user --template=template0 --encoding=UTF8 --locale=C.UTF-8 name, and restore a dump into it."
)
NO_TRIGRAM_INDEX = (
    "Every search reads all packages: there is no trigram index. Run these one by one in this database, as a role that"
    " may create extensions: CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA {0}; DROP INDEX IF EXISTS ix_searches_text;"
    " CREATE INDEX CONCURRENTLY ix_searches_text ON searches USING gin (text {0}.gin_trgm_ops)"
    " WITH (gin_pending_list_limit = 512);"
)


def is_behind(database: Database, migrations: Path) -> bool:
    """Whether a database lacks migrations. A database that a newer version of this service has migrated lacks none."""
    known, newest = load_migrations(migrations)
    applied = revisions(database)
    return not applied or bool(applied & UNRELEASED) or (applied <= known and applied != newest)


def upgrade_obstacle(database: Database) -> str | None:
    """Return why migrations cannot upgrade this database, and what to do instead; None if they can."""
    if revisions(database) & UNRELEASED:
        return FROM_BEFORE
    encoding = _query(database, "SELECT current_setting('server_encoding')")
    return WRONG_ENCODING.format(encoding) if encoding not in (None, "UTF8") else None


def revisions(database: Database) -> set[str]:
    """Return the revision that the database is at, as a set; empty if no migration was run."""
    with database.read() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return set()
        return set(connection.execute(text("SELECT version_num FROM alembic_version")).scalars())


def slow_search(database: Database) -> str | None:
    """Return what makes searches slow on PostgreSQL, and what to do about it; None if nothing does, and for SQLite."""
    ctype = _query(database, "SELECT datctype FROM pg_database WHERE datname = current_database()")
    if ctype is not None and "utf" not in ctype.lower():
        return WRONG_CTYPE.format(ctype)
    return NO_TRIGRAM_INDEX.format(_query(database, SCHEMA)) if _query(database, LACKS_INDEX) else None


def synchronous_standbys(database: Database) -> str | None:
    """Return PostgreSQL's names of synchronous standbys, empty if it has none; None for SQLite."""
    names: str | None = _query(database, "SELECT current_setting('synchronous_standby_names')")
    return names


def _query(database: Database, sql: str) -> Any:
    """Return the single value of a query on PostgreSQL; on SQLite return None."""
    if database.engine.dialect.name != "postgresql":
        return None
    with database.read() as connection:
        return connection.scalar(text(sql))


# This query finds the schema in which `pg_trgm` is installed or would be created.
SCHEMA = """SELECT quote_ident(coalesce(
    (SELECT nspname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'pg_trgm'),
    current_schema()::text))"""
# The query checks `indisvalid`, because an index whose creation was interrupted exists, but is not valid.
LACKS_INDEX = """SELECT to_regclass('searches') IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM pg_index WHERE indexrelid = to_regclass('ix_searches_text') AND indisvalid)"""


@cache
def load_migrations(folder: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Return all migrations and the newest of them, loaded once: the files may change while the service runs."""
    scripts = ScriptDirectory(str(folder), version_locations=[str(folder)])
    return frozenset(script.revision for script in scripts.walk_revisions()), frozenset(scripts.get_heads())
