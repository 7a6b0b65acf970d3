"""Whether OneSpan accepts the service's requests, and whether it calls the right address."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from app.store.models import MisdirectedCallback, OneSpanAccess

MISDIRECTED_SHOWN = timedelta(days=1)  # how long a callback to a wrong path is reported


@dataclass(frozen=True, slots=True)
class AccessDetail:
    """Whether OneSpan accepts the credentials: the last answer, and since when and why OneSpan refuses them."""

    checked_at: datetime | None
    refused_since: datetime | None
    error: str | None


def onespan_access(connection: Connection) -> AccessDetail | None:
    """Return whether OneSpan accepts the credentials; None before the first request."""
    columns = (OneSpanAccess.checked_at, OneSpanAccess.refused_since, OneSpanAccess.error)
    row = connection.execute(select(*columns)).first()
    return AccessDetail(*row) if row else None


def misdirected_path(connection: Connection, *, now: datetime) -> str | None:
    """Return the path of the newest callback to a wrong path, if it came recently."""
    newest = select(MisdirectedCallback.path).where(MisdirectedCallback.last_at > now - MISDIRECTED_SHOWN)
    return connection.scalar(newest.order_by(MisdirectedCallback.last_at.desc()).limit(1))


def misdirected_callbacks(connection: Connection) -> int:
    """Return the number of callbacks that were sent to wrong paths."""
    return int(connection.scalar(select(func.coalesce(func.sum(MisdirectedCallback.number), 0))) or 0)
