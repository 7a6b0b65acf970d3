"""The first migration, which creates all tables."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import DBAPIError

revision: str = "initial_schema"
down_revision: str | None = None
branch_labels: Sequence[str] | None = ("default",)
depends_on: Sequence[str] | None = None

Moment = sa.DateTime(timezone=True)
Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Id = sa.String(256).with_variant(sa.String(256, collation="C"), "postgresql")
Label = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Fingerprint = sa.String(length=100, collation="C").with_variant(sa.String(length=100), "sqlite")
# Every search reads the pending list of the trigram index, so this list is kept short.
TRIGRAM_INDEX = """CREATE INDEX ix_searches_text ON searches USING gin (text {}.gin_trgm_ops)
    WITH (gin_pending_list_limit = 512)"""
EXTENSION_SCHEMA = """SELECT quote_ident(nspname) FROM pg_extension
    JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'pg_trgm'"""


def _where(condition: str) -> dict[str, Any]:
    return {"postgresql_where": sa.text(condition), "sqlite_where": sa.text(condition)}


def _flag(name: str) -> dict[str, Any]:
    return {"postgresql_where": sa.text(f"{name} IS true"), "sqlite_where": sa.text(f"{name} IS 1")}


def upgrade() -> None:  # noqa: PLR0915  (a list of tables)
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
    op.create_index("ix_changes_package_id_id", "changes", ["package_id", "id"])
    op.create_table(
        "ended_sessions",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("until", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ended_sessions")),
    )
    op.create_table(
        "events",
        sa.Column("id", Serial, autoincrement=False, nullable=False),
        sa.Column("fingerprint", Fingerprint, nullable=False),
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
        sa.Column("found_after", Moment, nullable=True),
        sa.Column("found_until", Moment, nullable=True),
        sa.Column("confirmation", Fingerprint, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_events_fingerprint")),
    )
    op.create_index("ix_events_confirmation", "events", ["confirmation"], unique=True)
    op.create_index("ix_events_found", "events", ["first_received_at"], **_where("source = 'reconcile'"))
    op.create_index("ix_events_found_id", "events", ["id"], **_where("source = 'reconcile'"))
    op.create_index("ix_events_found_name_id", "events", ["name", "id"], **_where("source = 'reconcile'"))
    op.create_index("ix_events_happened_at_name", "events", ["happened_at", "name"])
    op.create_index("ix_events_name_id", "events", ["name", "id"])
    op.create_index("ix_events_package_id_id", "events", ["package_id", "id"])
    op.create_table(
        "logins",
        sa.Column("id", Serial, nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("tried_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_logins")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_logins_address_tried_at", "logins", ["address", "tried_at"])
    op.create_index(op.f("ix_logins_tried_at"), "logins", ["tried_at"])
    op.create_table(
        "outages",
        sa.Column("id", Serial, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("began_at", Moment, nullable=False),
        sa.Column("ended_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outages")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_outages_ended_at"), "outages", ["ended_at"])
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
        sa.Column("sort_name", Label, nullable=False),
        sa.Column("claims", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_packages")),
    )
    op.create_index("ix_packages_created_at_id", "packages", ["created_at", "id"])
    op.create_index("ix_packages_deleted", "packages", ["updated_at", "id"], **_flag("deleted"))
    op.create_index("ix_packages_due_at_id", "packages", ["due_at", "id"])
    op.create_index("ix_packages_sort_name_id", "packages", ["sort_name", "id"])
    op.create_index("ix_packages_status_at_id", "packages", ["status_at", "id"])
    op.create_index("ix_packages_status_created_at_id", "packages", ["status", "created_at", "id"])
    op.create_index("ix_packages_status_due_at_id", "packages", ["status", "due_at", "id"])
    op.create_index("ix_packages_status_sort_name_id", "packages", ["status", "sort_name", "id"])
    op.create_index("ix_packages_status_status_at_id", "packages", ["status", "status_at", "id"])
    op.create_index("ix_packages_status_updated_at_id", "packages", ["status", "updated_at", "id"])
    op.create_index("ix_packages_trashed", "packages", ["updated_at", "id"], **_flag("trashed"))
    op.create_index("ix_packages_type_updated_at_id", "packages", ["type", "updated_at", "id"])
    op.create_index("ix_packages_updated_at_id_created_at", "packages", ["updated_at", "id", "created_at"])
    op.create_table(
        "processes",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("takes_callbacks", sa.Boolean(), nullable=False),
        sa.Column("started_at", Moment, nullable=False),
        sa.Column("seen_at", Moment, nullable=False),
        sa.Column("stopped_at", Moment, nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_processes")),
    )
    op.create_index(op.f("ix_processes_seen_at"), "processes", ["seen_at"])
    op.create_table(
        "fetches",
        sa.Column("package_id", Id, nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("wanted_at", Moment, nullable=False),
        sa.Column("asked_at", Moment, nullable=True),
        sa.Column("due_at", Moment, nullable=False),
        sa.Column("rank", sa.Integer(), server_default="0", nullable=False),
        sa.Column("emit", sa.String(length=10), nullable=False),
        sa.Column("error", sa.String(length=40), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("package_id", name=op.f("pk_fetches")),
    )
    op.create_index("ix_fetches_error", "fetches", ["error"], **_where("error IS NOT NULL"))
    op.create_index("ix_fetches_rank_due_at", "fetches", ["rank", "due_at"])
    op.create_table(
        "reconciles",
        sa.Column("id", Serial, nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("reason", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("fires", sa.Boolean(), nullable=False),
        sa.Column("since", Moment, nullable=True),
        sa.Column("until", Moment, nullable=True),
        sa.Column("began_at", Moment, nullable=False),
        sa.Column("finished_at", Moment, nullable=True),
        sa.Column("due_at", Moment, nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("process", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("by", sa.Text(), nullable=True),
        sa.Column("progress", sa.JSON(), nullable=False),
        sa.Column("requests", sa.Integer(), server_default="0", nullable=False),
        sa.Column("shown", sa.Integer(), server_default="0", nullable=False),
        sa.Column("changed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("asked", sa.Integer(), server_default="0", nullable=False),
        sa.Column("unreadable", sa.Integer(), server_default="0", nullable=False),
        sa.Column("found", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reconciles")),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_reconciles_running", "reconciles", ["state"], unique=True, **_where("state = 'running'"))
    op.create_table(
        "requests",
        sa.Column("minute", Moment, nullable=False),
        sa.Column("made", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("minute", name=op.f("pk_requests")),
    )
    op.create_table(
        "searches",
        sa.Column("package_id", Id, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("package_id", name=op.f("pk_searches")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "list_state",
        sa.Column("package_id", Id, nullable=False),
        sa.Column("run_id", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("folder", sa.Integer(), server_default="0", nullable=False),
        sa.Column("pass_number", sa.Integer(), server_default="0", nullable=False),
        sa.Column("seen_at", Moment, nullable=True),
        sa.Column("key", sa.String(length=40), nullable=True),
        sa.Column("refused_at", Moment, nullable=True),
        sa.PrimaryKeyConstraint("package_id", name=op.f("pk_list_state")),
    )
    op.create_table(
        "package_counts",
        sa.Column("trashed", sa.Boolean(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("type", sa.String(length=40), nullable=False),
        sa.Column("status", sa.String(length=80), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("trashed", "deleted", "type", "status", name=op.f("pk_package_counts")),
    )
    op.create_table(
        "callback_counts",
        sa.Column("minute", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("minute", name=op.f("pk_callback_counts")),
    )
    op.create_table(
        "event_counts",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("name", Id, nullable=False),
        sa.Column("source", sa.String(length=10), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "name", "source", name=op.f("pk_event_counts")),
    )
    op.create_table(
        "missed_counts",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("name", Id, nullable=False),
        sa.Column("cause", sa.String(length=20), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "name", "cause", name=op.f("pk_missed_counts")),
    )
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
    op.create_index("ix_attention_reason_package_id", "attention", ["reason", "package_id"])
    op.create_index("ix_attention_reason_since", "attention", ["reason", "since", "package_id", "position"])
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
    op.create_index("ix_dispatches_due", "dispatches", ["handler", "due_at"], **_where("state IN ('due', 'running')"))
    op.create_index(op.f("ix_dispatches_finished_at"), "dispatches", ["finished_at"])
    op.create_index("ix_dispatches_handler_event_id_id", "dispatches", ["handler", "event_id", "id"])
    op.create_index("ix_dispatches_handler_state_event_id", "dispatches", ["handler", "state", "event_id"])
    op.create_index("ix_dispatches_parked", "dispatches", ["package_id"], **_where("state = 'parked'"))
    op.create_index(
        "ix_dispatches_parked_since", "dispatches", ["finished_at", "package_id"], **_where("state = 'parked'")
    )
    op.create_index("ix_dispatches_state_event_id_id", "dispatches", ["state", "event_id", "id"])
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
        sa.Column("answered_at", Moment, nullable=True),
        sa.Column("key", sa.String(length=40), nullable=True),
        sa.Column("package_id", Id, nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("emit", sa.String(length=10), nullable=False),
        sa.Column("spool_id", sa.String(length=40), nullable=True),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("digested_at", Moment, nullable=True),
        sa.Column("event_id", Serial, nullable=True),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_journal_event_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_journal")),
        sa.UniqueConstraint("spool_id", name=op.f("uq_journal_spool_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_journal_callbacks", "journal", ["id"], **_where("kind = 'callback'"))
    op.create_index("ix_journal_callbacks_key", "journal", ["key", "id"], **_where("kind = 'callback'"))
    op.create_index(
        "ix_journal_callbacks_error", "journal", ["id"], **_where("kind = 'callback' AND error IS NOT NULL")
    )
    op.create_index(op.f("ix_journal_event_id"), "journal", ["event_id"])
    op.create_index("ix_journal_package_id_id", "journal", ["package_id", "id"])
    op.create_index("ix_journal_pending", "journal", ["id"], **_where("state = 'pending'"))
    op.create_index("ix_journal_snapshots", "journal", ["id"], **_where("kind <> 'callback'"))
    op.create_table(
        "missed",
        sa.Column("event_id", Serial, autoincrement=False, nullable=False),
        sa.Column("package_id", Id, nullable=False),
        sa.Column("name", Id, nullable=False),
        sa.Column("happened_at", Moment, nullable=False),
        sa.Column("found_at", Moment, nullable=False),
        sa.Column("noted_at", Moment, nullable=False),
        sa.Column("cause", sa.String(length=20), nullable=False),
        sa.Column("reported_at", Moment, nullable=True),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_missed_event_id")),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_missed")),
    )
    op.create_index("ix_missed_cause_event_id", "missed", ["cause", "event_id"])
    op.create_index(op.f("ix_missed_happened_at"), "missed", ["happened_at"])
    op.create_index("ix_missed_name_event_id", "missed", ["name", "event_id"])
    op.create_index("ix_missed_package_id_event_id", "missed", ["package_id", "event_id"])
    op.create_index("ix_missed_reported", "missed", ["event_id"], **_where("reported_at IS NOT NULL"))
    op.create_index("ix_missed_unreported", "missed", ["event_id"], **_where("reported_at IS NULL"))
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
        sa.Column("address", Label, nullable=True),
        sa.ForeignKeyConstraint(["package_id"], ["packages.id"], name=op.f("fk_signers_package_id")),
        sa.PrimaryKeyConstraint("package_id", "id", name=op.f("pk_signers")),
    )
    op.create_index("ix_signers_address_package_id", "signers", ["address", "package_id"])
    op.create_index("ix_signers_id_package_id", "signers", ["id", "package_id"])
    if op.get_bind().dialect.name == "postgresql":
        _index_texts()


def _index_texts() -> None:
    """Create a trigram index if `pg_trgm` is installed or may be created.

    Searches also work without the index; `doctor` reports a missing index.
    """
    connection = op.get_bind()
    with suppress(DBAPIError), connection.begin_nested():
        connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS pg_trgm"))
        schema = connection.scalar(sa.text(EXTENSION_SCHEMA))
        connection.execute(sa.text(TRIGRAM_INDEX.format(schema)))
    # PostgreSQL needs a statistics target of 1000 to estimate how rare a word is.
    connection.execute(sa.text("ALTER TABLE searches ALTER text SET STATISTICS 1000"))


def downgrade() -> None:
    for table in (
        "signers",
        "missed",
        "journal",
        "documents",
        "dispatches",
        "attention",
        "package_counts",
        "missed_counts",
        "list_state",
        "event_counts",
        "callback_counts",
        "searches",
        "requests",
        "reconciles",
        "fetches",
        "processes",
        "packages",
        "outages",
        "logins",
        "events",
        "ended_sessions",
        "changes",
    ):
        op.drop_table(table)
