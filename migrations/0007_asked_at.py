"""Which reads a reconcile waits for, whoever else wants them meanwhile."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("reads", sa.Column("asked_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE reads SET asked_at = wanted_at WHERE rank = 1")


def downgrade() -> None:
    op.drop_column("reads", "asked_at")
