"""The checks of `/readyz` and `flask doctor`: the schema, the keys, and notes for the operator."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from app.store import onespan_clock, queries
from app.store.db import Database
from app.store.queries import RunDetail, Silence, UpgradeProgress
from app.store.schema import is_behind
from app.store.spool import Spool
from app.store.states import RunState

RUN_PROBLEMS: dict[str, str] = {RunState.RUNNING: "waits", RunState.FAILED: "failed", RunState.DONE: "is incomplete"}
NO_ANSWER = "The database does not respond: check DATABASE_URL and that the database runs."
MAX_CLOCK_DIFFERENCE_SECONDS = 10
API_KEY_LENGTH = 76  # characters of an API key of OneSpan's release 26.R5 or later
OLD_KEYS_STOP = datetime(2026, 12, 1, tzinfo=UTC)  # when shorter API keys stop, by the notes of release 26.R5
OAUTH = "an OAuth 2.0 client, which OneSpan recommends (ONESPAN_AUTH=oauth2)"
MAX_ONESPAN_CLOCK_DIFFERENCE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Check:
    """A check of the service.

    `problem` returns what is wrong and what to do, or None. A `problem` that reads the database may raise
    `SQLAlchemyError`. `ok_message` describes the good state; it is empty if a good state is not reported.
    """

    about: str
    problem: Callable[[], str | None]
    ok_message: str = ""


def schema_check(database: Database, *, migrations: Path) -> Check:
    """Return the check whether the database responds and lacks no migration."""

    def problem() -> str | None:
        try:
            behind = is_behind(database, migrations)
        except SQLAlchemyError:
            return NO_ANSWER
        return "The database schema is not up to date: run `flask db upgrade`." if behind else None

    return Check("database", problem, f"{_location(database.engine.url)}, schema up to date")


def keys_check(keys: Sequence[str]) -> Check:
    """Return the check whether there is a callback key. `keys` are the labels of the callback keys."""

    def keys_problem() -> str | None:
        if keys:
            return None
        return "Every callback is refused: set ONESPAN_CALLBACK_KEYS to the callback key that is entered in OneSpan."

    labels = ", ".join(keys)
    listed = f"{len(keys)} keys: {labels} (the first is the newest)" if len(keys) > 1 else f"1 key: {labels}"
    return Check("callback keys", keys_problem, listed)


def note_checks(database: Database, *, clock: Callable[[], datetime], why_not_connected: str | None) -> list[Check]:
    """Return the checks that only yield notes. `why_not_connected` is why OneSpan's API cannot be called, or None."""

    def clock_problem() -> str | None:
        ahead = (clock() - database.now()).total_seconds()
        if abs(ahead) < MAX_CLOCK_DIFFERENCE_SECONDS:
            return None
        return (
            f"This machine's clock is {ahead:+.0f} s from the database's clock. Leases need both to agree: check NTP."
        )

    def onespan_clock_problem() -> str | None:
        with database.read() as connection:
            ahead = onespan_clock.seconds_ahead(connection) or 0
        if abs(ahead) < MAX_ONESPAN_CLOCK_DIFFERENCE_SECONDS:
            return None
        how_much = f"{abs(ahead) / 60:.0f} min" if abs(ahead) >= 2 * 60 else f"{abs(ahead):.0f} s"
        return (
            f"OneSpan's clock is {how_much} {'ahead of' if ahead > 0 else 'behind'} this machine's. "
            "The service allows for the difference. Check NTP on this machine."
        )

    def connection_problem() -> str | None:
        return f"Sync with OneSpan (reconcile) is off: {why_not_connected}." if why_not_connected else None

    return [
        Check("clock", clock_problem, "agrees with the database's clock"),
        Check("clock", onespan_clock_problem),
        Check("OneSpan", connection_problem),
    ]


def spool_checks(spool: Spool) -> list[Check]:
    """Return the checks of the files in the spool, which need no database."""

    def spooled_callbacks() -> str | None:
        waiting = len(spool.waiting())
        return f"Callbacks waiting in the spool for the database: {waiting}." if waiting else None

    def damaged_files() -> str | None:
        files = len(spool.damaged())
        return f"Damaged files in the spool: {files}. Inspect them by hand." if files else None

    def foreign_files() -> str | None:
        files = len(spool.foreign())
        what = f"Files in the spool that are not the service's own: {files}"
        return f"{what}. Remove them, or `chown` those that are callbacks." if files else None

    return [
        Check("spool", spooled_callbacks),
        Check("spool", damaged_files),
        Check("spool", foreign_files),
    ]


def access_checks(database: Database, *, clock: Callable[[], datetime]) -> list[Check]:
    """Return the checks whether OneSpan accepts this service's requests, and whether it calls the right address."""

    def refusal() -> str | None:
        with database.read() as connection:
            access = queries.onespan_access(connection)
        if access is None or access.refused_since is None:
            return None
        return f"OneSpan has refused all requests since {access.refused_since:%Y-%m-%d %H:%M} UTC: {access.error}."

    def misdirected() -> str | None:
        with database.read() as connection:
            path = queries.misdirected_path(connection, now=clock())
        if path is None:
            return None
        return (
            f"OneSpan posts callbacks to {path}, where they are lost: register an address that ends in "
            "/onespan/callback (`flask callback register`)."
        )

    return [Check("access", refusal), Check("callbacks", misdirected)]


def credentials_checks(
    *, api_key_length: int | None, pasted_schemes: Sequence[str], clock: Callable[[], datetime]
) -> list[Check]:
    """Return the checks of the credentials in the settings. `api_key_length` is None if no API key is used."""

    def old_key() -> str | None:
        if api_key_length is None or api_key_length >= API_KEY_LENGTH:
            return None
        verb = "stopped" if clock() >= OLD_KEYS_STOP else "stop"
        return (
            f"ONESPAN_API_KEY has {api_key_length} characters. Keys shorter than {API_KEY_LENGTH} characters {verb} "
            f"working on {OLD_KEYS_STOP:%Y-%m-%d}: create a new key in OneSpan, or better {OAUTH}."
        )

    def pasted() -> str | None:
        if not pasted_schemes:
            return None
        names = " and ".join(pasted_schemes)
        return f"`Basic ` at the start of {names} is ignored: set the key alone, without `Basic `."

    used = f"an API key of {api_key_length} characters; consider {OAUTH}" if api_key_length else ""
    return [Check("credentials", old_key, used), Check("credentials", pasted)]


def reconcile_checks(database: Database) -> list[Check]:
    """Return the checks of what reconcile found. The health report reads the same rows by itself."""

    def silence_problem() -> str | None:
        with database.read() as connection:
            return silence_note(queries.silence(connection))

    def run_problem() -> str | None:
        with database.read() as connection:
            return reconcile_note(queries.newest_run(connection))

    def unverified_packages() -> str | None:
        with database.read() as connection:
            count = queries.count_unverified(connection)
        what = f"OneSpan does not show {count:,} package{'s' * (count != 1)} to these credentials"
        return f"{what}; GET /api/packages?unverified=true says why. Use those of the account owner." if count else None

    return [
        Check("callbacks", silence_problem),
        Check("reconcile", run_problem),
        Check("reconcile", unverified_packages),
    ]


def upgrade_check(database: Database, *, clock: Callable[[], datetime]) -> Check:
    """Return the check that says how far an upgrade is. The health report reads the same rows by itself."""

    def is_not_done() -> str | None:
        with database.read() as connection:
            return upgrade_note(queries.upgrade_progress(connection, now=clock()))

    return Check("upgrade", is_not_done)


def upgrade_note(progress: UpgradeProgress | None) -> str | None:
    """Return the note on an upgrade that is not done yet: how far it is, and what it waits for; or None."""
    if progress is None:
        return None
    done = f"{progress.derived:,} of {progress.total:,} transactions are derived again after the upgrade"
    if progress.waits_for is None:
        return f"{done}. The worker continues; if the number stays the same, see its log for `package.not_derived`."
    return f"{done}. The rest waits until no process of another version runs: stop {progress.waits_for}."


def silence_note(silence: Silence | None) -> str | None:
    """Return the note on missing callbacks, or None while callbacks arrive."""
    if silence is None:
        return None
    period = f"since {silence.since:%Y-%m-%d %H:%M} UTC" if silence.since else "yet"
    return f"No callback has arrived {period}, but reconcile found {silence.missed} events. {silence.advice}"


def reconcile_note(newest: RunDetail | None) -> str | None:
    """Return the note on the newest reconcile run: what it waits for, why it failed or what it left out; or None."""
    if newest is None or newest.error is None:
        return None
    name = f"Reconcile {newest.id} ({newest.kind}, {newest.began_at:%Y-%m-%d %H:%M} UTC)"
    until = f" until {newest.due_at:%H:%M} UTC" if newest.state == RunState.RUNNING else ""
    return f"{name} {RUN_PROBLEMS[newest.state]}{until}: {newest.error}."


def _location(url: URL) -> str:
    """Return where a database is, without user and password."""
    if url.get_backend_name() == "sqlite":
        return f"SQLite, {url.database}"
    return f"PostgreSQL, {'/'.join(filter(None, (url.host, url.database)))}"
