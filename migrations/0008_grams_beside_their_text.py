"""On PostgreSQL the grams of a text stand beside it: so what has them is there, and need not be looked up."""

from collections.abc import Sequence

from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

# What is to be sorted in yet is read at every search, so that is kept short.
INDEX = "CREATE INDEX ix_{table}_grams ON {table} USING gin (grams) WITH (gin_pending_list_limit = 512)"


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute("ALTER TABLE searches ADD COLUMN grams INTEGER[]")
    op.execute("UPDATE searches SET grams = grams.grams FROM grams WHERE grams.id = searches.id")
    op.execute("ALTER TABLE searches ALTER COLUMN grams SET NOT NULL")
    op.execute("DROP TABLE grams")
    op.execute(INDEX.format(table="searches"))


def downgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute("CREATE TABLE grams (id BIGINT PRIMARY KEY, grams INTEGER[] NOT NULL)")
    op.execute("INSERT INTO grams (id, grams) SELECT id, grams FROM searches")
    op.execute("ALTER TABLE searches DROP COLUMN grams")
    op.execute(INDEX.format(table="grams"))
