"""Callbacks that were sent to a wrong path. Only this module writes the table `misdirected_callbacks`."""

from datetime import datetime

from sqlalchemy import bindparam, func, select, text
from sqlalchemy.engine import Connection

from app.store.models import MisdirectedCallback

MAX_PATHS = 20  # further paths are counted together, as `OTHER`
MAX_PATH_LENGTH = 200  # characters; the rest of a path is cut off
OTHER = "other"


def record(connection: Connection, path: str, *, now: datetime) -> None:
    """Count a callback that was sent to this path."""
    path = path[:MAX_PATH_LENGTH]
    is_known = select(MisdirectedCallback.path).where(MisdirectedCallback.path == path)
    if connection.scalar(is_known) is None and _number_of_paths(connection) >= MAX_PATHS:
        path = OTHER
    connection.execute(_RECORD, {"path": path, "now": now})


def _number_of_paths(connection: Connection) -> int:
    return connection.scalar(select(func.count()).select_from(MisdirectedCallback)) or 0


_RECORD = text(
    """INSERT INTO misdirected_callbacks (path, number, last_at) VALUES (:path, 1, :now)
    ON CONFLICT (path) DO UPDATE SET number = misdirected_callbacks.number + 1, last_at = excluded.last_at"""
).bindparams(bindparam("now", type_=MisdirectedCallback.last_at.type))
