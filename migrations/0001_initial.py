"""The journal, the events, the picture with its history, and the ledger."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: Sequence[str] | None = ("default",)
depends_on: Sequence[str] | None = None

Moment = sa.DateTime(timezone=True)
Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Id = sa.String(256).with_variant(sa.String(256, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "changes",
        sa.Column("id", Serial, nullable=False),
        sa.Column("package_id", Id, nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("attribute", sa.String(length=80), nullable=False),
        sa.Column("old", sa.JSON(), nullable=True),
        sa.Column("new", sa.JSON(), nullable=True),
        sa.Column("happened_at", Moment, nullable=False),
        sa.Column("recorded_at", Moment, nullable=False),
        sa.Column("cause_kind", sa.String(length=20), nullable=False),
        sa.Column("cause_id", Id, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_changes")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_changes_package_id_id", "changes", ["package_id", "id"], unique=False)
    op.create_table(
        "events",
        sa.Column("id", Serial, autoincrement=False, nullable=False),
        sa.Column(
            "fingerprint",
            sa.String(length=100, collation="C").with_variant(sa.String(length=100), "sqlite"),
            nullable=False,
        ),
        sa.Column("name", Id, nullable=False),
        sa.Column("package_id", Id, nullable=False),
        sa.Column("session_user", Id, nullable=True),
        sa.Column("signer_id", Id, nullable=True),
        sa.Column("document_id", Id, nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("extra", sa.JSON(), nullable=False),
        sa.Column("happened_at", Moment, nullable=False),
        sa.Column("first_received_at", Moment, nullable=False),
        sa.Column("source", sa.String(length=10), nullable=False),
        sa.Column("repeats", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_events_fingerprint")),
    )
    op.create_index("ix_events_name_id", "events", ["name", "id"], unique=False)
    op.create_index("ix_events_package_id_id", "events", ["package_id", "id"], unique=False)
    op.create_table(
        "packages",
        sa.Column("id", Id, nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("type", sa.String(length=40), nullable=True),
        sa.Column("status", sa.String(length=80), nullable=True),
        sa.Column("status_at", Moment, nullable=True),
        sa.Column("trashed", sa.Boolean(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("sender_id", Id, nullable=True),
        sa.Column("sender_name", sa.Text(), nullable=True),
        sa.Column("sender_email", sa.Text(), nullable=True),
        sa.Column("created_at", Moment, nullable=True),
        sa.Column("updated_at", Moment, nullable=True),
        sa.Column("due_at", Moment, nullable=True),
        sa.Column("completed_at", Moment, nullable=True),
        sa.Column("signers_total", sa.Integer(), nullable=False),
        sa.Column("signers_completed", sa.Integer(), nullable=False),
        sa.Column("next_signers", sa.JSON(), nullable=False),
        sa.Column("last_event_at", Moment, nullable=True),
        sa.Column("read_at", Moment, nullable=True),
        sa.Column("state", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_packages")),
    )
    op.create_index("ix_packages_status_updated_at", "packages", ["status", "updated_at"], unique=False)
    op.create_index(op.f("ix_packages_updated_at"), "packages", ["updated_at"], unique=False)
    op.create_table(
        "attention",
        sa.Column("package_id", Id, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("since", Moment, nullable=True),
        sa.Column("who", Id, nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["package_id"], ["packages.id"], name=op.f("fk_attention_package_id")),
        sa.PrimaryKeyConstraint("package_id", "position", name=op.f("pk_attention")),
    )
    op.create_index("ix_attention_reason_package_id", "attention", ["reason", "package_id"], unique=False)
    op.create_table(
        "dispatches",
        sa.Column("id", Serial, nullable=False),
        sa.Column("event_id", Serial, nullable=False),
        sa.Column("package_id", Id, nullable=False),
        sa.Column("handler", Id, nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", Moment, nullable=False),
        sa.Column("finished_at", Moment, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_dispatches_event_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dispatches")),
        sa.UniqueConstraint("event_id", "handler", name=op.f("uq_dispatches_event_id_handler")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_dispatches_due",
        "dispatches",
        ["handler", "due_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('due', 'running')"),
        sqlite_where=sa.text("state IN ('due', 'running')"),
    )
    op.create_index(
        "ix_dispatches_parked",
        "dispatches",
        ["package_id"],
        unique=False,
        postgresql_where=sa.text("state = 'parked'"),
        sqlite_where=sa.text("state = 'parked'"),
    )
    op.create_index("ix_dispatches_state_event_id", "dispatches", ["state", "event_id"], unique=False)
    op.create_table(
        "documents",
        sa.Column("package_id", Id, nullable=False),
        sa.Column("id", Id, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("signed_by", sa.JSON(), nullable=False),
        sa.Column("signed_at", Moment, nullable=True),
        sa.ForeignKeyConstraint(["package_id"], ["packages.id"], name=op.f("fk_documents_package_id")),
        sa.PrimaryKeyConstraint("package_id", "id", name=op.f("pk_documents")),
    )
    op.create_table(
        "journal",
        sa.Column("id", Serial, nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("received_at", Moment, nullable=False),
        sa.Column("read_at", Moment, nullable=True),
        sa.Column("key", sa.String(length=40), nullable=True),
        sa.Column("package_id", Id, nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("spool_id", sa.String(length=40), nullable=True),
        sa.Column("unreadable", sa.Text(), nullable=True),
        sa.Column("digested_at", Moment, nullable=True),
        sa.Column("event_id", Serial, nullable=True),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_journal_event_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_journal")),
        sa.UniqueConstraint("spool_id", name=op.f("uq_journal_spool_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_journal_event_id"), "journal", ["event_id"], unique=False)
    op.create_index("ix_journal_package_id_id", "journal", ["package_id", "id"], unique=False)
    op.create_index(
        "ix_journal_pending",
        "journal",
        ["id"],
        unique=False,
        postgresql_where=sa.text("digested_at IS NULL"),
        sqlite_where=sa.text("digested_at IS NULL"),
    )
    op.create_table(
        "signers",
        sa.Column("package_id", Id, nullable=False),
        sa.Column("id", Id, nullable=False),
        sa.Column("role_id", Id, nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("order", sa.Integer(), nullable=True),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("status_at", Moment, nullable=True),
        sa.Column("locked", sa.Boolean(), nullable=False),
        sa.Column("email_bounce", sa.Text(), nullable=True),
        sa.Column("kba_failures", sa.Integer(), nullable=False),
        sa.Column("attachments", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["package_id"], ["packages.id"], name=op.f("fk_signers_package_id")),
        sa.PrimaryKeyConstraint("package_id", "id", name=op.f("pk_signers")),
    )


def downgrade() -> None:
    op.drop_table("signers")
    op.drop_index(
        "ix_journal_pending",
        table_name="journal",
        postgresql_where=sa.text("digested_at IS NULL"),
        sqlite_where=sa.text("digested_at IS NULL"),
    )
    op.drop_index("ix_journal_package_id_id", table_name="journal")
    op.drop_index(op.f("ix_journal_event_id"), table_name="journal")
    op.drop_table("journal")
    op.drop_table("documents")
    op.drop_index("ix_dispatches_state_event_id", table_name="dispatches")
    op.drop_index(
        "ix_dispatches_parked",
        table_name="dispatches",
        postgresql_where=sa.text("state = 'parked'"),
        sqlite_where=sa.text("state = 'parked'"),
    )
    op.drop_index(
        "ix_dispatches_due",
        table_name="dispatches",
        postgresql_where=sa.text("state IN ('due', 'running')"),
        sqlite_where=sa.text("state IN ('due', 'running')"),
    )
    op.drop_table("dispatches")
    op.drop_index("ix_attention_reason_package_id", table_name="attention")
    op.drop_table("attention")
    op.drop_index(op.f("ix_packages_updated_at"), table_name="packages")
    op.drop_index("ix_packages_status_updated_at", table_name="packages")
    op.drop_table("packages")
    op.drop_index("ix_events_package_id_id", table_name="events")
    op.drop_index("ix_events_name_id", table_name="events")
    op.drop_table("events")
    op.drop_index("ix_changes_package_id_id", table_name="changes")
    op.drop_table("changes")
