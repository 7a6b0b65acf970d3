"""What pages of callbacks, of handlers' runs and of reasons to act are read by."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

# Name, table, columns, and of which rows.
INDEXES = (
    ("ix_journal_callbacks", "journal", ["id"], "kind = 'callback'"),
    ("ix_journal_callbacks_key", "journal", ["key", "id"], "kind = 'callback'"),
    ("ix_journal_callbacks_unreadable", "journal", ["id"], "kind = 'callback' AND unreadable IS NOT NULL"),
    ("ix_journal_readings", "journal", ["id"], "kind <> 'callback'"),
    ("ix_reads_error", "reads", ["error"], "error IS NOT NULL"),
    ("ix_attention_reason_since", "attention", ["reason", "since", "package_id", "position"], None),
    ("ix_dispatches_parked_since", "dispatches", ["finished_at", "package_id"], "state = 'parked'"),
    ("ix_dispatches_handler_state_event_id", "dispatches", ["handler", "state", "event_id"], None),
)


def upgrade() -> None:
    for name, table, columns, of in INDEXES:
        where = sa.text(of) if of else None
        op.create_index(name, table, columns, postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    for name, table, *_ in reversed(INDEXES):
        op.drop_index(name, table_name=table)
