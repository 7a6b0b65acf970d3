"""Whether the database has the tables this version needs."""

from functools import cache
from pathlib import Path

from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from app.store.db import Database


def is_behind(database: Database, migrations: Path) -> bool:
    """Whether migrations are missing. One that a newer version has migrated further serves us too."""
    known, newest = _migrations(migrations)
    with database.read() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return True
        applied = set(connection.execute(text("SELECT version_num FROM alembic_version")).scalars())
    return applied <= known and applied != newest


@cache
def _migrations(folder: Path) -> tuple[frozenset[str], frozenset[str]]:
    """All that this version has, and the newest of them; loaded once, for readiness is asked all the time."""
    scripts = ScriptDirectory(str(folder), version_locations=[str(folder)])
    return frozenset(script.revision for script in scripts.walk_revisions()), frozenset(scripts.get_heads())
