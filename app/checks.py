"""What `/readyz` and `flask doctor` look at: what must be so, and what an operator should know."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from app.store import queries
from app.store.db import Database
from app.store.queries import RunDetail, Silence
from app.store.schema import is_behind
from app.store.spool import Spool

BECAME = {"running": "waits", "failed": "was given up", "done": "left something out"}
CLOCKS_AGREE = 10  # seconds


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at.

    `problem` says what is wrong and what to do, or None; it may raise `SQLAlchemyError` where it needs the database.
    `fine` is what is so when nothing is wrong, if that is worth a line.
    """

    about: str
    problem: Callable[[], str | None]
    fine: str = ""


def must_be(database: Database, *, migrations: Path, keys: Sequence[str]) -> list[Check]:
    """What makes us unready; the first is about the database. `keys` are the labels of the callback keys."""

    def database_is_there() -> str | None:
        try:
            behind = is_behind(database, migrations)
        except SQLAlchemyError:
            return "The database does not answer: check DATABASE_URL and that it runs. Callbacks go to the spool."
        return "The database is not at this version: run `flask db upgrade`." if behind else None

    def somebody_may_call() -> str | None:
        return None if keys else "No callback is believed: set ONESPAN_CALLBACK_KEYS to the key that OneSpan has."

    return [
        Check("database", database_is_there, f"{_place(database.engine.url)}, at this version"),
        Check("callback keys", somebody_may_call, f"{', '.join(keys)}{' (the first is the newest)' * (len(keys) > 1)}"),
    ]


def to_know(database: Database, spool: Spool, *, clock: Callable[[], datetime], asked: str | None) -> list[Check]:
    """What is worth a note; `asked` is why nothing is asked of OneSpan, if nothing is."""

    def clocks_differ() -> str | None:
        ahead = (clock() - database.now()).total_seconds()
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

    def nothing_is_asked() -> str | None:
        return f"Nothing is asked of OneSpan: {asked}." if asked else None

    return [
        Check("clock", clocks_differ, "agrees with the database's"),
        Check("spool", spool_takes_nothing, "takes callbacks while the database is away"),
        Check("spool", spooled),
        Check("spool", damaged),
        Check("OneSpan", nothing_is_asked),
    ]


def of_asking(database: Database) -> list[Check]:
    """What asking OneSpan showed that is worth a note. A page that has read it already asks `said_of_…` itself."""

    def nobody_calls() -> str | None:
        with database.read() as connection:
            return said_of_silence(queries.silence(connection))

    def reconcile_is_hindered() -> str | None:
        with database.read() as connection:
            return said_of_run(queries.newest_run(connection))

    return [Check("callbacks", nobody_calls), Check("reconcile", reconcile_is_hindered)]


def said_of_silence(silent: Silence | None) -> str | None:
    """What to say of a silence, where there is one."""
    if silent is None:
        return None
    how = f"come since {silent.since:%Y-%m-%d %H:%M} UTC" if silent.since else "ever come"
    return f"No callback has {how}, but {silent.missed} facts were found by asking. {silent.advice}"


def said_of_run(newest: RunDetail | None) -> str | None:
    """What to say of the newest run: that it waits for something, was given up, or left something out."""
    if newest is None or newest.error is None:
        return None
    name = f"Reconcile {newest.id} ({newest.kind}, {newest.began_at:%Y-%m-%d %H:%M} UTC)"
    goes_on = f"; it goes on at {newest.due_at:%H:%M} UTC" if newest.state == "running" else ""
    return f"{name} {BECAME[newest.state]}: {newest.error}{goes_on}."


def _place(url: URL) -> str:
    """Where a database is, without user and password."""
    if url.get_backend_name() == "sqlite":
        return f"SQLite, {url.database}"
    return f"PostgreSQL, {'/'.join(filter(None, (url.host, url.database)))}"
