"""The commands: `flask setup`, `worker`, `replay`, `rebuild`, `simulate`. Each parses and calls one function."""

import copy
import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click
from click import Command
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from app.onespan.catalogue import CATALOGUE, wire_name
from app.simulator.command import simulate
from app.store import journal
from app.store.choice import Choice
from app.store.db import Database
from app.work import rebuild as rebuilding
from app.work import replay as replaying
from app.work.attempt import Clock
from app.work.dispatch import Handlers
from app.work.rebuild import Difference
from app.work.worker import Worker
from config import ROOT, SettingsError, generate_settings, load_settings, require_settings_file, settings_file

FIRST_CALLBACK = """
Send a first callback, from another terminal:

  . {file}
  curl {address}/onespan/callback -H "Authorization: Basic ${{ONESPAN_CALLBACK_KEYS#*=}}" \\
    -d '{{"name":"PACKAGE_ACTIVATE","packageId":"my-first-package","createdDate":"2026-01-31T12:00:00.000Z"}}'

and read what became of it:

  curl {address}/api/packages/my-first-package -H "Authorization: Bearer ${{API_TOKENS#*=}}"
"""
PERSONAL = ("name", "email")
SHOWN = 50  # differences printed one by one; the rest is counted
GRACE = 25.0  # seconds that running handlers get to end before they are handed back


Check = Callable[[], str | None]


def commands(
    database: Database,
    worker: Worker,
    *,
    handlers: Handlers,
    clock: Clock,
    readiness: Check,
    callback_key: str | None,
) -> list[Command]:
    """All commands of this service, but for `flask db`. `readiness` says what is wrong with the database."""
    simulating = copy.copy(simulate)
    simulating.context_settings = {"default_map": {"key": f"first={callback_key}" if callback_key else None}}
    return [
        _setup(),
        with_database(_worker(worker, readiness)),
        with_database(_replay(database, handlers, clock), readiness),
        with_database(_rebuild(database, clock), readiness),
        simulating,
    ]


def with_database(command: Command, readiness: Check = lambda: None) -> Command:
    """The same command; where its settings file or its database is not as it must be it says so, and exits with 2."""
    run = command.invoke

    def invoke(context: click.Context) -> Any:
        try:
            require_settings_file()
            if problem := readiness():
                raise Unusable(problem)
            return run(context)
        except SettingsError as problem:
            raise Unusable(str(problem)) from None
        except OperationalError as error:
            raise Unusable(f"The database does not answer: {str(error.orig).strip()}") from None

    command.invoke = invoke  # type: ignore[method-assign, assignment]
    return command


class Unusable(click.ClickException):
    """What a command needs is not there."""

    exit_code = 2


def _setup() -> Command:
    @click.command("setup")
    def command() -> None:
        """Write instance/settings.env with fresh secrets, where there is none, and say where everything is."""
        file = settings_file()
        made = generate_settings(file)
        settings = load_settings()
        address = settings.address
        click.echo(f"Settings   {file}{' (made just now, with fresh secrets)' if made else ''}")
        click.echo(f"Database   {make_url(settings.database_url.get_secret_value()).set(query={})!r}")
        click.echo(f"Handlers   {ROOT / 'app' / 'handlers.py'}")
        click.echo(f"Callbacks  {address}/onespan/callback")
        click.echo(f"JSON API   {address}/api/openapi.json")
        click.echo(f"Health     {address}/readyz")
        click.echo(FIRST_CALLBACK.format(file=file, address=address))

    return command


def _worker(worker: Worker, readiness: Check) -> Command:
    @click.command("worker")
    def command() -> None:
        """Digest callbacks and run handlers until told to stop (SIGTERM or Ctrl-C).

        Run as many as you like, on as many machines as you like. What is running when the signal comes is
        finished, or handed back to the others.
        """
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        gc.freeze()  # as in gunicorn.conf.py
        worker.start()
        click.echo("Working. Stop with Ctrl-C.", err=True)
        if problem := readiness():
            click.echo(f"{problem} Until then there is nothing to do.", err=True)
        stop.wait()
        worker.stop(grace=GRACE)

    return command


class _Moment(click.ParamType[datetime]):
    """A time in UTC, with or without its time of day."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read it."""
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time; say 2026-01-31 or 2026-01-31T12:00:00Z.", param, ctx)
        try:
            return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
        except OverflowError:
            self.fail(f"{value!r} is outside of the calendar.", param, ctx)


def _event_name(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and wire_name(value) not in CATALOGUE:
        click.echo(f"Note: {value} is none of the {len(CATALOGUE)} events known to this version.", err=True)
    return wire_name(value) if value is not None else None


def _replay(database: Database, handlers: Handlers, clock: Clock) -> Command:
    def handler_name(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
        if value is not None and value not in set(handlers):
            raise click.BadParameter(f"there is no handler {value!r} in app/handlers.py: {', '.join(handlers)}")
        return value

    @click.command("replay")
    @click.option("--event", "event_name", callback=_event_name, help="Only events of this name.")
    @click.option("--handler", callback=handler_name, help="Only runs of this handler.")
    @click.option("--package", help="Only events of this package.")
    @click.option(
        "--state",
        type=click.Choice(["due", "done", "parked", "discarded"]),
        help="Only runs in this state: `parked` for those that were given up.",
    )
    @click.option("--since", type=_Moment(), help="Only events that happened at this time (UTC) or later.")
    @click.option("--until", type=_Moment(), help="Only events that happened before this time (UTC).")
    @click.option("--missing", is_flag=True, help="Instead: run --handler for the events that it was never told of.")
    @click.option("--set-aside", is_flag=True, help="Instead: digest callbacks again that could not be digested.")
    @click.option("--dry-run", is_flag=True, help="Only count.")
    def command(  # noqa: PLR0917  (click passes them by name)
        event_name: str | None,
        handler: str | None,
        package: str | None,
        state: str | None,
        since: datetime | None,
        until: datetime | None,
        *,
        missing: bool,
        set_aside: bool,
        dry_run: bool,
    ) -> None:
        """Run handlers again for events of the past, each with all its attempts before it.

        At least one of the options must say which. What runs right now is left alone.
        """
        choice = Choice(event_name, handler, state, package, since, until)
        if set_aside:
            if choice != Choice() or missing:
                raise click.UsageError("--set-aside goes with --dry-run only.")
            _digest_again(database, dry_run=dry_run)
            return
        if choice == Choice():
            raise click.UsageError("Say which: --event, --handler, --package, --state, --since or --until.")
        if missing and (handler is None or state is not None):
            raise click.UsageError("--missing goes with --handler, and without --state.")
        work = replaying.Missing(choice, handlers) if missing else replaying.Again(choice)
        with database.read() as connection:
            total = work.count(connection)
        if dry_run:
            click.echo(f"{_counted(total, 'run')} would be made due.")
            return
        with _progress("Making due", total) as advance:
            made = replaying.replay(database, work, now=clock(), progress=advance)
        click.echo(f"Due now: {_counted(made, 'run')}.")

    return command


def _digest_again(database: Database, *, dry_run: bool) -> None:
    with database.read() if dry_run else database.write() as connection:
        found = journal.count_set_aside(connection) if dry_run else journal.take_back(connection)
    click.echo(f"{_counted(found, 'callback')} {'would wait' if dry_run else 'waiting'} to be digested again.")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _rebuild(database: Database, clock: Clock) -> Command:
    @click.command("rebuild")
    @click.option(
        "--check",
        is_flag=True,
        help="Change nothing; exit with 1 when there is any difference, 2 when it could not look.",
    )
    def command(*, check: bool) -> None:
        """Derive the packages, signers and documents again from the journal.

        Says where they differ from what is stored, and mends them unless --check is given. No handler runs.
        """
        found = 0
        with database.read() as connection:
            total = journal.count_packages(connection)
        with _progress("Packages", total) as advance:
            for one in rebuilding.rebuild(database, clock=clock, write=not check, progress=advance):
                found += 1
                if found <= SHOWN:
                    click.echo(_difference(one))
        mended = "" if check or not found else ", mended"
        click.echo(f"{_counted(total, 'package')}, {_counted(found, 'difference')}{mended}.")
        if check and found:
            sys.exit(1)

    return command


def _difference(one: Difference) -> str:
    """One line, without what names a person."""
    hidden = one.subject != "package" and one.attribute in PERSONAL
    values = " differs" if hidden else f": {one.stored!r} -> {one.derived!r}"
    return f"{one.package_id} {one.subject} {one.attribute}{values}"


@contextmanager
def _progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; elsewhere a line at every tenth of the way."""
    if sys.stderr.isatty():
        with click.progressbar(length=total, label=label, file=sys.stderr) as bar:
            yield bar.update
        return
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        before, done = done * 10 // max(total, 1), done + more
        if done * 10 // max(total, 1) > before:
            click.echo(f"{label}: {done} of {total}", err=True)

    yield advance
