"""What asking OneSpan needs: runs, sightings, a budget of requests; who was there when; what was missed."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

Moment = sa.DateTime(timezone=True)
Id = sa.String(256).with_variant(sa.String(256, collation="C"), "postgresql")
Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
RUNNING = sa.text("state = 'running'")
FOUND = sa.text("source = 'reconcile'")


def upgrade() -> None:
    op.add_column("journal", sa.Column("tells", sa.String(length=10), nullable=True))
    op.create_index("ix_events_found", "events", ["first_received_at"], postgresql_where=FOUND, sqlite_where=FOUND)
    op.create_index("ix_events_happened_at_name", "events", ["happened_at", "name"])
    op.add_column("reads", sa.Column("rank", sa.Integer(), server_default="0", nullable=False))
    op.add_column("reads", sa.Column("tells", sa.String(length=10), nullable=True))
    op.add_column("reads", sa.Column("error", sa.String(length=40), nullable=True))
    op.drop_index("ix_reads_due_at", table_name="reads")
    op.create_index("ix_reads_rank_due_at", "reads", ["rank", "due_at"], unique=False)
    op.create_table(
        "sightings",
        sa.Column("package_id", Id, nullable=False),
        sa.Column("walk", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("seen_at", Moment, nullable=True),
        sa.Column("key", sa.String(length=40), nullable=True),
        sa.Column("refused_at", Moment, nullable=True),
        sa.PrimaryKeyConstraint("package_id", name=op.f("pk_sightings")),
    )
    op.create_table(
        "reconciles",
        sa.Column("id", Serial, nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("reason", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("fires", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("since", Moment, nullable=True),
        sa.Column("until", Moment, nullable=True),
        sa.Column("began_at", Moment, nullable=False),
        sa.Column("finished_at", Moment, nullable=True),
        sa.Column("due_at", Moment, nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("process", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("progress", sa.JSON(), nullable=False),
        *(
            sa.Column(name, sa.Integer(), server_default="0", nullable=False)
            for name in ("requests", "shown", "changed", "asked", "unreadable")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reconciles")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_reconciles_running", "reconciles", ["state"], unique=True, postgresql_where=RUNNING, sqlite_where=RUNNING
    )
    op.create_table(
        "requests",
        sa.Column("minute", Moment, nullable=False),
        sa.Column("made", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("minute", name=op.f("pk_requests")),
    )
    op.create_table(
        "processes",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("takes_callbacks", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("started_at", Moment, nullable=False),
        sa.Column("seen_at", Moment, nullable=False),
        sa.Column("stopped_at", Moment, nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_processes")),
    )
    op.create_index(op.f("ix_processes_seen_at"), "processes", ["seen_at"], unique=False)
    op.create_table(
        "outages",
        sa.Column("id", Serial, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("began_at", Moment, nullable=False),
        sa.Column("ended_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outages")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_outages_ended_at"), "outages", ["ended_at"], unique=False)
    op.create_table(
        "missed",
        sa.Column("event_id", Serial, autoincrement=False, nullable=False),
        sa.Column("package_id", Id, nullable=False),
        sa.Column("name", Id, nullable=False),
        sa.Column("happened_at", Moment, nullable=False),
        sa.Column("found_at", Moment, nullable=False),
        sa.Column("noted_at", Moment, nullable=False),
        sa.Column("cause", sa.String(length=20), nullable=False),
        sa.Column("told_at", Moment, nullable=True),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_missed_event_id")),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_missed")),
    )
    op.create_index(op.f("ix_missed_happened_at"), "missed", ["happened_at"], unique=False)


def downgrade() -> None:
    for table in ("missed", "outages", "processes", "requests", "reconciles", "sightings"):
        op.drop_table(table)
    op.drop_index("ix_reads_rank_due_at", table_name="reads")
    op.create_index("ix_reads_due_at", "reads", ["due_at"], unique=False)
    op.drop_column("reads", "error")
    op.drop_column("reads", "tells")
    op.drop_column("reads", "rank")
    op.drop_index("ix_events_happened_at_name", table_name="events")
    op.drop_index("ix_events_found", table_name="events")
    op.drop_column("journal", "tells")
