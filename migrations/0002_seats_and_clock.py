"""What signers owe, documents' signatures, OneSpan's clock, and packages that cannot be verified."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "seats_and_clock"
down_revision: str | None = "initial_schema"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

Moment = sa.DateTime(timezone=True)
ADDED = {
    "packages": [
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("data", sa.JSON(), nullable=True),
        sa.Column("unverified_since", Moment, nullable=True),
        sa.Column("unverified_reason", sa.String(length=40), nullable=True),
        sa.Column("projection_version", sa.Integer(), server_default="1", nullable=False),
    ],
    "signers": [
        sa.Column("owes", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("begun_at", Moment, nullable=True),
        sa.Column("group", sa.JSON(), nullable=True),
    ],
    "processes": [sa.Column("projection_version", sa.Integer(), server_default="1", nullable=False)],
    "documents": [sa.Column("signatures", sa.JSON(), nullable=True)],
    "journal": [
        sa.Column("clock_offset", sa.Double(), nullable=True),
        sa.Column("lag_fetches", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lagged_at", Moment, nullable=True),
    ],
    "fetches": [
        sa.Column("lag_fetches", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lagged_at", Moment, nullable=True),
    ],
}


def upgrade() -> None:
    for table, columns in ADDED.items():
        with op.batch_alter_table(table) as batch:
            for column in columns:
                batch.add_column(column)
            if table == "signers":
                batch.alter_column("status", existing_type=sa.String(length=20), nullable=True)
    op.create_index("ix_packages_projection_version_id", "packages", ["projection_version", "id"])
    op.create_index(
        "ix_packages_unverified",
        "packages",
        ["updated_at", "id"],
        postgresql_where=sa.text("unverified_since IS NOT NULL"),
        sqlite_where=sa.text("unverified_since IS NOT NULL"),
    )
    op.create_table(
        "onespan_clock",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("offset_seconds", sa.Double(), nullable=False),
        sa.Column("measured_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_onespan_clock")),
    )
    _create_access_tables()


def _create_access_tables() -> None:
    """Create the tables of refused credentials, and of callbacks to wrong paths."""
    op.create_table(
        "onespan_access",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key", sa.String(length=40), nullable=False),
        sa.Column("checked_at", Moment, nullable=True),
        sa.Column("due_at", Moment, nullable=False),
        sa.Column("refused_since", Moment, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_onespan_access")),
    )
    op.create_table(
        "misdirected_callbacks",
        sa.Column("path", sa.String(length=200), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("last_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("path", name=op.f("pk_misdirected_callbacks")),
    )


def downgrade() -> None:
    op.drop_table("misdirected_callbacks")
    op.drop_table("onespan_access")
    op.drop_table("onespan_clock")
    op.drop_index("ix_packages_unverified", "packages")
    op.drop_index("ix_packages_projection_version_id", "packages")
    op.execute("UPDATE signers SET status = 'PENDING' WHERE status IS NULL")
    for table, columns in ADDED.items():
        for column in columns:
            op.drop_column(table, column.name)  # a batch would drop the table on SQLite, but signers refer to packages
    with op.batch_alter_table("signers") as batch:
        batch.alter_column("status", existing_type=sa.String(length=20), nullable=False)
