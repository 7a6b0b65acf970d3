"""The process that holds the lease of a fetch."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "fetching_process"
down_revision: str | None = "seats_and_clock"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("fetches", sa.Column("process", sa.Text(), nullable=True))
    op.create_index(
        "ix_fetches_process",
        "fetches",
        ["process"],
        postgresql_where=sa.text("process IS NOT NULL"),
        sqlite_where=sa.text("process IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_fetches_process", "fetches")
    op.drop_column("fetches", "process")
