"""When this service began to receive callbacks. Earlier events do not count as missed."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.engine import Connection

from app.store import reconciles
from app.store.models import Journal
from app.store.states import JournalKind


def receiving_since(connection: Connection) -> datetime | None:
    """Return when the first callback arrived or the first completed import began, whichever was earlier."""
    first = select(Journal.received_at).where(Journal.kind == JournalKind.CALLBACK).order_by(Journal.id).limit(1)
    return min(filter(None, (connection.scalar(first), reconciles.first_import(connection))), default=None)
