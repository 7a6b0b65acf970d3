"""Whether the database has the tables this version needs."""

from pathlib import Path

from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from app.store.db import Database


def is_behind(database: Database, migrations: Path) -> bool:
    """Whether migrations are missing. One that a newer version has migrated further serves us too."""
    scripts = ScriptDirectory(str(migrations), version_locations=[str(migrations)])
    known = {script.revision for script in scripts.walk_revisions()}
    with database.read() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return True
        applied = set(connection.execute(text("SELECT version_num FROM alembic_version")).scalars())
    return applied <= known and applied != set(scripts.get_heads())
