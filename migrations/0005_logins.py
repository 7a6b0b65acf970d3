"""What the pages' login needs, and who asked for a reconcile."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

Moment = sa.DateTime(timezone=True)
Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("reconciles", sa.Column("by", sa.Text(), nullable=True))
    op.create_table(
        "logins",
        sa.Column("id", Serial, nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("tried_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_logins")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_logins_tried_at"), "logins", ["tried_at"], unique=False)
    op.create_index("ix_logins_address_tried_at", "logins", ["address", "tried_at"], unique=False)
    op.create_table(
        "ended_sessions",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("until", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ended_sessions")),
    )


def downgrade() -> None:
    op.drop_table("ended_sessions")
    op.drop_table("logins")
    op.drop_column("reconciles", "by")
