"""`flask doctor`: look at everything that may be wrong, and say what to do about it."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import click
from click import Command
from sqlalchemy.exc import SQLAlchemyError

from app.checks import Check
from app.cli.callback import ask, compare
from app.cli.terminal import Mark, counted, judge
from app.errors import NoOneSpan, NotPermitted, OneSpanError, Throttled
from app.registry import Handlers
from app.store import journal, queries
from app.store.db import Database
from app.store.queries import Pulse
from app.store.schema import slow_search
from app.types import Clock
from config import Settings, SettingsError, require_settings_file, settings_file

WAITS = 300  # seconds that a callback may wait to be digested before somebody should look
OTHERS_READ = 0o004  # of a file's mode
Verdict = tuple[Mark, str, str]


def doctor_command(
    settings: Settings,
    handlers: Handlers,
    *,
    database: Database,
    clock: Clock,
    must_be: Sequence[Check],
    to_know: Sequence[Check],
) -> Command:
    """The command. What makes the service unready FAILs, what is only to be known is a warning."""

    @click.command("doctor")
    def command() -> None:
        """Look for what is wrong, and say what to do.

        Looks at everything and changes nothing. Asks OneSpan what is registered, where it can. Exits with 1 when
        anything FAILs.
        """
        failing = [_settings_are_there(), *must_be, _callbacks_are_digested(database, clock)]
        worth_a_look = [*to_know, *_of_settings(settings), _handlers(handlers), *_of_database(database, clock)]
        marks = Counter[str]()
        for verdict in _look(failing, worth_a_look, settings, handlers):
            judge(*verdict)
            marks[verdict[0]] += 1
        click.echo(f"\n{counted(marks['FAIL'], 'failure')}, {counted(marks['warn'], 'warning')}.")
        if marks["FAIL"]:
            sys.exit(1)

    return command


def _look(
    failing: Sequence[Check], worth_a_look: Sequence[Check], settings: Settings, handlers: Handlers
) -> Iterator[Verdict]:
    for check in failing:
        yield from _examine(check, "FAIL")
    for check in worth_a_look:
        yield from _examine(check, "warn")
    yield from _onespan(settings, handlers)


def _examine(check: Check, otherwise: Mark) -> Iterator[Verdict]:
    """One check, whatever it meets."""
    try:
        problem = check.problem()
    except SQLAlchemyError:
        yield "warn", check.about, "Cannot be looked at until the database is as it must be."
    except OSError as fault:
        yield "warn", check.about, f"Cannot be looked at: {fault.strerror}."
    else:
        if problem:
            yield otherwise, check.about, problem
        elif check.fine:
            yield "ok", check.about, check.fine


def _onespan(settings: Settings, handlers: Handlers) -> Iterator[Verdict]:
    """Whether OneSpan answers, and whether what is registered there is what we want."""
    try:
        registered = ask(handlers.onespan)
    except NoOneSpan:
        return  # one of the checks has said so
    except NotPermitted:
        yield "warn", "OneSpan", "It answers, but these credentials may not see what is registered: use the owner's."
    except Throttled as problem:
        yield "warn", "OneSpan", str(problem)
    except OneSpanError as problem:
        address = "" if str(settings.onespan_url) in str(problem) else f" (ONESPAN_URL is {settings.onespan_url})"
        yield "FAIL", "OneSpan", f"{problem}{address}"
    else:
        yield "ok", "OneSpan", f"{settings.onespan_url} answers and takes our credentials"
        found = compare(registered, settings, handlers)
        for one in found:
            yield "warn" if one.is_note else "FAIL", "registration", one.says
        if not found:
            yield "ok", "registration", "as it should be"


def _settings_are_there() -> Check:
    def problem() -> str | None:
        try:
            require_settings_file()
        except SettingsError as missing:
            return str(missing)
        return None

    file = settings_file()
    return Check("settings", problem, str(file) if file.is_file() else "from the environment alone")


def _of_settings(settings: Settings) -> list[Check]:
    def others_read() -> str | None:
        file = settings_file()
        everybody = file.is_file() and file.stat().st_mode & OTHERS_READ
        return f"Everybody on this machine can read {file} and its secrets: chmod o-r." if everybody else None

    def api_is_closed() -> str | None:
        return None if settings.api_tokens else "The JSON API is closed: set API_TOKENS to open it."

    passwords = {"act": settings.dashboard_password, "look": settings.dashboard_readonly_password}
    who = [f"to {what}" for what, password in passwords.items() if password]

    def dashboard_is_closed() -> str | None:
        return None if who else "The dashboard is closed: set DASHBOARD_PASSWORD to open it."

    return [
        Check("settings", others_read),
        Check("JSON API", api_is_closed, counted(len(settings.api_tokens), "token")),
        Check("dashboard", dashboard_is_closed, f"has a password {' and one '.join(who)}"),
    ]


def _handlers(handlers: Handlers) -> Check:
    names = [handlers.names_wanted_by(one) for one in handlers]
    wanted = {name for some in names for name in some or ()}
    events = f" for {counted(len(wanted), 'event')}" if wanted else ""
    every = ", some of them for every event (`*`)" if None in names else ""

    def nothing_runs() -> str | None:
        return None if names else "No function in app/handlers.py wants any event, so nothing runs."

    return Check("handlers", nothing_runs, f"{counted(len(names), 'function')}{events}{every}")


def _callbacks_are_digested(database: Database, clock: Clock) -> Check:
    def nobody_digests() -> str | None:
        pulse = _pulse(database, clock)
        if pulse.oldest_undigested < WAITS:
            return None
        return (
            f"{counted(pulse.undigested, 'callback')} not digested, the oldest for {pulse.oldest_undigested / 60:.0f} "
            "min: does the service run, and with WORKER=external a `flask worker`? See `turn.failed` in its log."
        )

    return Check("journal", nobody_digests, "callbacks are digested as they come")


def _of_database(database: Database, clock: Clock) -> list[Check]:
    def set_aside() -> str | None:
        with database.read() as connection:
            count = journal.count_set_aside(connection)
        what = f"{counted(count, 'callback')}, with the reason in the journal's `unreadable`: after the repair"
        return f"{what} `flask replay --set-aside`." if count else None

    def parked() -> str | None:
        count = _pulse(database, clock).dispatches.get("parked", 0)
        what = f"{counted(count, 'run')} parked; GET /api/events?state=parked says why: after the repair"
        return f"{what} `flask replay --state parked`." if count else None

    return [
        Check("set aside", set_aside, "no callback is"),
        Check("handler runs", parked, "none is parked"),
        Check("search", lambda: slow_search(database), "as quick as this database makes it"),
    ]


def _pulse(database: Database, clock: Clock) -> Pulse:
    with database.read() as connection:
        return queries.pulse(connection, now=clock())
