"""`flask doctor`: check everything that can be wrong with the installation, and say how to fix each problem."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import click
from click import Command
from sqlalchemy.exc import SQLAlchemyError

from app.checks import Check
from app.cli import callback
from app.cli.terminal import Mark, counted, print_result
from app.errors import NotPermitted, OneSpanError, Throttled, UnreadableAnswer
from app.onespan.client import OneSpan
from app.onespan.list_scan import FOLDERS, ScanState, list_query, parse_page
from app.registry import Handlers
from app.store import journal, queries
from app.store.db import Database
from app.store.queries import PipelineState
from app.store.schema import slow_search, synchronous_standbys
from app.store.states import DispatchState
from app.types import Clock
from app.work.reconcile import window_start
from config import Settings, SettingsError, require_settings_file, settings_file

MAX_WAIT_SECONDS = 300  # a callback that is not digested after this time is reported
TOKEN_NOTICE = timedelta(days=14)  # how long before its end an API token is reported
READABLE_BY_OTHERS = 0o004  # the bit of a file's mode that lets all users read the file
NO_STANDBY = "none is synchronous; keeping every acknowledged callback through a failover needs one"
Result = tuple[Mark, str, str]


def doctor_command(
    settings: Settings,
    handlers: Handlers,
    *,
    database: Database,
    clock: Clock,
    critical_checks: Sequence[Check],
    note_checks: Sequence[Check],
) -> Command:
    """Create `flask doctor`. Problems of `critical_checks` are failures, problems of `note_checks` are warnings."""

    @click.command("doctor")
    def command() -> None:
        """Check the installation and say how to fix each problem.

        Checks settings, database, callbacks, spool, handlers, the connection to OneSpan and the callback registration.
        Changes nothing but the record of OneSpan's last answer. Exits with 1 if a check FAILs; warnings do not count.
        """
        critical = [_settings_file(), *critical_checks, _pending_callbacks(database, clock)]
        others = [*note_checks, *_access(settings, clock), _registered(handlers), *_failures(database, clock)]
        marks = Counter[str]()
        results = [
            *_results(critical, "FAIL"),
            *_results(others, "warn"),
            *_standby(database),
            *_onespan(settings, handlers, database=database, clock=clock),
        ]
        for result in results:
            print_result(*result)
            marks[result[0]] += 1
        click.echo(f"\n{counted(marks['FAIL'], 'failure')}, {counted(marks['warn'], 'warning')}.")
        if marks["FAIL"]:
            sys.exit(1)

    return command


def _results(checks: Sequence[Check], mark: Mark) -> Iterator[Result]:
    for check in checks:
        yield from _run(check, mark)


def _run(check: Check, mark: Mark) -> Iterator[Result]:
    """Run a check and yield its result, with `mark` for a problem. A check that cannot run is a warning."""
    try:
        problem = check.problem()
    except SQLAlchemyError:
        yield "warn", check.about, "Not checked: the database is not ready."
    except OSError as fault:
        yield "warn", check.about, f"Not checked: {fault.strerror}."
    else:
        if problem:
            yield mark, check.about, problem
        elif check.ok_message:
            yield "ok", check.about, check.ok_message


def _standby(database: Database) -> Iterator[Result]:
    """Say on PostgreSQL whether a failover can lose acknowledged callbacks, which is no problem without failovers."""
    with suppress(SQLAlchemyError):
        names = synchronous_standbys(database)
        if names is not None:
            yield "ok", "standby", f"synchronous: {names}" if names else NO_STANDBY


def _onespan(settings: Settings, handlers: Handlers, *, database: Database, clock: Clock) -> Iterator[Result]:
    """Check the first request of the next reconcile, and the callback registration. Both may fail independently."""
    if not handlers.onespan.is_connected:
        return  # another check reports that OneSpan is not configured
    try:
        _read_first_page(handlers.onespan, database, now=clock())
    except NotPermitted:
        message = "OneSpan answers, but these credentials may not list packages. Use those of the account owner."
        yield "FAIL", "OneSpan", message
    except OneSpanError as problem:
        yield _failure("OneSpan", problem, settings)
    else:
        yield "ok", "OneSpan", f"{settings.onespan_url} accepts the credentials and lists packages"
        yield from _registration(settings, handlers)


def _read_first_page(onespan: OneSpan, database: Database, *, now: datetime) -> None:
    """Send the request with which the next reconcile begins, and parse the answer. May raise an `OneSpanError`."""
    since = None
    with suppress(SQLAlchemyError), database.read() as connection:
        since = window_start(connection, now=now)
    page = parse_page(onespan.packages(**list_query(FOLDERS[0], ScanState(), since=since, now=now)).json)
    if page.rows and not page.items:
        raise UnreadableAnswer("no row of its list is a package")


def _registration(settings: Settings, handlers: Handlers) -> Iterator[Result]:
    try:
        registration = callback.read(handlers.onespan)
    except NotPermitted:
        message = "These credentials may not read the callback registration. Use those of the account owner."
        yield "warn", "registration", message
    except OneSpanError as problem:
        yield _failure("registration", problem, settings)
    else:
        differences = callback.compare(registration, settings, handlers)
        for difference in differences:
            yield "warn" if difference.is_note else "FAIL", "registration", difference.message
        if not differences:
            yield "ok", "registration", "as configured"


def _failure(about: str, problem: OneSpanError, settings: Settings) -> Result:
    address = "" if str(settings.onespan_url) in str(problem) else f" (ONESPAN_URL is {settings.onespan_url})"
    return "warn" if isinstance(problem, Throttled) else "FAIL", about, f"{problem}{address}"


def _settings_file() -> Check:
    def problem() -> str | None:
        try:
            require_settings_file()
        except SettingsError as missing:
            return str(missing)
        return None

    file = settings_file()
    return Check("settings", problem, str(file) if file.is_file() else "from the environment only")


def _access(settings: Settings, clock: Clock) -> list[Check]:
    def readable_by_others() -> str | None:
        file = settings_file()
        is_readable = file.is_file() and file.stat().st_mode & READABLE_BY_OTHERS
        return f"All users of this machine can read the secrets in it: `chmod o-r {file}`." if is_readable else None

    def api_disabled() -> str | None:
        return None if settings.api_tokens else "The JSON API is disabled. Set API_TOKENS to enable it."

    def tokens_end() -> str | None:
        soon = clock().date() + TOKEN_NOTICE
        ends = [(key.label, key.last_day) for key in settings.api_tokens if key.last_day and key.last_day <= soon]
        listed = ", ".join(f"{label} ({last_day})" for label, last_day in ends)
        return f"API tokens that end soon or have ended: {listed}. Replace or remove them." if ends else None

    passwords = {"full access": settings.dashboard_password, "view only": settings.dashboard_readonly_password}
    enabled = [role for role, password in passwords.items() if password]
    shared = [f"passwords set: {', '.join(enabled)}"] if enabled else []
    named = [counted(len(settings.dashboard_users), "user")] if settings.dashboard_users else []

    def dashboard_disabled() -> str | None:
        if enabled or named:
            return None
        return "The dashboard is disabled. Set DASHBOARD_PASSWORD or DASHBOARD_USERS to enable it."

    return [
        Check("settings", readable_by_others),
        *(_warning(text) for text in settings.warnings),
        Check("JSON API", api_disabled, counted(len(settings.api_tokens), "token")),
        Check("JSON API", tokens_end),
        Check("dashboard", dashboard_disabled, "; ".join(shared + named)),
    ]


def _warning(text: str) -> Check:
    return Check("settings", lambda: text)


def _registered(handlers: Handlers) -> Check:
    subscriptions = [handlers.events_of(handler) for handler in handlers]
    events = {name for names in subscriptions for name in names or ()}
    listed = [counted(len(events), "event")] if events else []
    listed += ["`*`"] if None in subscriptions else []

    def none_registered() -> str | None:
        return None if subscriptions else "No handler is registered in app/handlers.py, so nothing runs."

    return Check("handlers", none_registered, f"{counted(len(subscriptions), 'handler')} for {' and '.join(listed)}")


def _pending_callbacks(database: Database, clock: Clock) -> Check:
    def not_digested() -> str | None:
        state = _state(database, clock)
        if state.oldest_undigested < MAX_WAIT_SECONDS:
            return None
        return (
            f"{counted(state.undigested, 'callback')} not digested, the oldest for {state.oldest_undigested / 60:.0f} "
            "min. Check that the service runs (with WORKER=external: `flask worker`), and its log for `turn.failed`."
        )

    return Check("journal", not_digested, "callbacks are digested")


def _failures(database: Database, clock: Clock) -> list[Check]:
    def failed_callbacks() -> str | None:
        with database.read() as connection:
            count = journal.count_failed(connection)
        what = f"{counted(count, 'callback')} failed; GET /api/callbacks shows the reason."
        return f"{what} Fix the cause, then `flask replay --set-aside`." if count else None

    def parked_runs() -> str | None:
        count = _state(database, clock).dispatches.get(DispatchState.PARKED, 0)
        what = f"{counted(count, 'run')} parked; GET /api/events?state=parked shows the error."
        return f"{what} Fix the cause, then `flask replay --state parked`." if count else None

    is_sqlite = database.engine.dialect.name == "sqlite"
    search = "scans all packages, as always on SQLite" if is_sqlite else "uses a trigram index"
    return [
        Check("digest", failed_callbacks, "no callback failed"),
        Check("handler runs", parked_runs, "none is parked"),
        Check("search", lambda: slow_search(database), search),
    ]


def _state(database: Database, clock: Clock) -> PipelineState:
    with database.read() as connection:
        return queries.pipeline_state(connection, now=clock())
