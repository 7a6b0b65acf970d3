"""On PostgreSQL the grams of a text stand beside it: so what has them is there, and need not be looked up.

The version before this one goes on meanwhile, and after: it writes to the table `grams`, which stays for it, and from
there a trigger takes what it writes. A later migration drops both. Each step can be done a second time.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

CHUNK = 10_000  # texts that are locked at once
PREPARE = (
    "ALTER TABLE searches ADD COLUMN IF NOT EXISTS grams INTEGER[] NOT NULL DEFAULT '{}'",
    """CREATE OR REPLACE FUNCTION keep_grams() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN UPDATE searches SET grams = NEW.grams WHERE id = NEW.id; RETURN NULL; END $$""",
    "CREATE OR REPLACE TRIGGER keep_grams AFTER INSERT ON grams FOR EACH ROW EXECUTE FUNCTION keep_grams()",
)
# What the other version has written meanwhile is newer.
COPY = sa.text(
    """UPDATE searches SET grams = grams.grams FROM grams
    WHERE grams.id = searches.id AND searches.grams = '{}' AND searches.id > :after AND searches.id <= :to"""
)
FINISH = (
    "DROP INDEX CONCURRENTLY IF EXISTS ix_searches_grams",
    # What is to be sorted in yet is read at every search, so that is kept short.
    """CREATE INDEX CONCURRENTLY ix_searches_grams ON searches USING gin (grams)
    WITH (gin_pending_list_limit = 512)""",
)
UNDO = (
    "DROP TRIGGER keep_grams ON grams",
    "DROP FUNCTION keep_grams",
    "TRUNCATE grams",
    "INSERT INTO grams (id, grams) SELECT id, grams FROM searches",
    "ALTER TABLE searches DROP COLUMN grams",
)


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return
    with op.get_context().autocommit_block():
        for statement in PREPARE:
            op.execute(statement)
        last = connection.scalar(sa.text("SELECT max(id) FROM searches")) or 0
        for after in range(0, last, CHUNK):
            connection.execute(COPY, {"after": after, "to": after + CHUNK})
        for statement in FINISH:
            op.execute(statement)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for statement in UNDO:
            op.execute(statement)
