"""Read unreadable callbacks again, which an earlier version could not read."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy.engine import Connection

from app.errors import BodyTooLarge
from app.onespan.compression import decompressed
from app.store import journal, packages
from app.store.db import Database, take_write_lock
from app.store.intake import journal_entries
from app.store.journal import RereadCallback
from app.store.packages import Cause, NewChange

log = structlog.get_logger()

CHUNK = 100  # journal rows in one transaction


def reread(
    database: Database, *, by: str, now: datetime, write: bool = True, only: int | None = None
) -> Iterator[RereadCallback]:
    """Read unreadable callbacks again and yield the result of each; with `write`, digest those that can now be read.

    Such a callback becomes pending, so the digest processes it with its time of arrival. `only` is the journal id of a
    single callback. The history of each package in the status store records the person `by`.
    """
    last = 0
    while True:
        with database.write() if write else database.read() as connection:
            if write:
                take_write_lock(connection)
            found = [_reread_row(row) for row in journal.unreadable(connection, after=last, limit=CHUNK, only=only)]
            if write:
                journal.apply_reread(connection, found)
                _record(connection, found, by=by, now=now)
        if not found:
            return
        yield from found
        last = found[-1].id


def _reread_row(row: Any) -> RereadCallback:
    """Read a row again; an earlier version stored a compressed body, and one of several callbacks, as it was."""
    try:
        body = decompressed(row.body, "deflate")
    except BodyTooLarge as problem:
        return RereadCallback(row.id, None, problem.detail, row.body)
    entries = journal_entries(body, received_at=row.received_at, key=row.key)
    first = next((entry for entry in entries if not entry.error), None)
    if first is None:
        return RereadCallback(row.id, None, entries[0].error, row.body)
    others = tuple(entry for entry in entries if entry is not first)
    return RereadCallback(row.id, first.package_id, None, first.body, others)


def _record(connection: Connection, callbacks: list[RereadCallback], *, by: str, now: datetime) -> None:
    readable = [(callback.id, callback.package_id) for callback in callbacks if callback.package_id]
    known = packages.load_claims(connection, {package_id for _, package_id in readable})
    changes = [
        NewChange(package_id, "package", "reread", None, journal_id, now, Cause("person", by))
        for journal_id, package_id in readable
        if package_id in known
    ]
    packages.record_changes(connection, changes, now=now)
    for journal_id, package_id in readable:
        log.info("callback.read_again", journal_id=journal_id, package_id=package_id, by=by)
