"""What `/readyz` looks at: what must be so, and what an operator should know."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from app.store.db import Database
from app.store.schema import is_behind
from app.store.spool import Spool
from app.web.health import Check

CLOCKS_AGREE = 10  # seconds


def must_be(database: Database, *, migrations: Path, has_keys: bool) -> list[Check]:
    """What makes us unready; the first is about the database."""

    def database_is_there() -> str | None:
        try:
            behind = is_behind(database, migrations)
        except SQLAlchemyError:
            return "The database does not answer: check DATABASE_URL and that it runs. Callbacks go to the spool."
        return "The database is not at this version: run `flask db upgrade`." if behind else None

    def somebody_may_call() -> str | None:
        return None if has_keys else "No callback is believed: set ONESPAN_CALLBACK_KEYS to the key that OneSpan has."

    return [database_is_there, somebody_may_call]


def to_know(database: Database, spool: Spool, *, clock: Callable[[], datetime], asked: str | None) -> list[Check]:
    """What is worth a note; `asked` is why nothing is asked of OneSpan, if nothing is."""

    def nothing_is_asked() -> str | None:
        return f"Nothing is asked of OneSpan: {asked}." if asked else None

    def clocks_differ() -> str | None:
        try:
            ahead = (clock() - database.now()).total_seconds()
        except SQLAlchemyError:
            return None
        if abs(ahead) < CLOCKS_AGREE:
            return None
        return f"This machine's clock is {ahead:+.0f} s from the database's: leases need them to agree; check NTP."

    def spool_takes_nothing() -> str | None:
        try:
            spool.probe()
        except OSError as problem:
            return f"SPOOL_DIR takes nothing ({problem.strerror}): while the database is away, callbacks are refused."
        return None

    def spooled() -> str | None:
        waiting = len(spool.waiting())
        return f"Callbacks waiting in the spool for the database: {waiting}." if waiting else None

    def damaged() -> str | None:
        files = len(spool.damaged())
        return f"Damaged files set aside in the spool: {files}. See what they hold." if files else None

    return [nothing_is_asked, clocks_differ, spool_takes_nothing, spooled, damaged]
