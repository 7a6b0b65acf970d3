"""What readings of the REST API find, and which packages are to be read."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

Moment = sa.DateTime(timezone=True)
Id = sa.String(256).with_variant(sa.String(256, collation="C"), "postgresql")
Fingerprint = sa.String(length=100, collation="C").with_variant(sa.String(length=100), "sqlite")


def upgrade() -> None:
    op.add_column("journal", sa.Column("answered_at", Moment, nullable=True))
    op.add_column("events", sa.Column("found_after", Moment, nullable=True))
    op.add_column("events", sa.Column("found_until", Moment, nullable=True))
    op.add_column("events", sa.Column("confirmation", Fingerprint, nullable=True))
    op.create_index("ix_events_confirmation", "events", ["confirmation"], unique=True)
    op.create_table(
        "reads",
        sa.Column("package_id", Id, nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("wanted_at", Moment, nullable=False),
        sa.Column("due_at", Moment, nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("package_id", name=op.f("pk_reads")),
    )
    op.create_index("ix_reads_due_at", "reads", ["due_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_reads_due_at", table_name="reads")
    op.drop_table("reads")
    op.drop_index("ix_events_confirmation", table_name="events")
    op.drop_column("events", "confirmation")
    op.drop_column("events", "found_until")
    op.drop_column("events", "found_after")
    op.drop_column("journal", "answered_at")
