"""`flask replay`: run handlers again, and digest again what was set aside."""

from datetime import datetime

import click
from click import Command

from app.cli.terminal import Moment, counted, operator, progress
from app.onespan.catalogue import CATALOGUE, wire_name
from app.registry import Handlers
from app.store import journal
from app.store.db import Database
from app.store.dispatch_filter import Choice
from app.types import Clock
from app.work import replay as replaying


def replay_command(database: Database, handlers: Handlers, clock: Clock) -> Command:
    """The command."""

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
    @click.option("--since", type=Moment(), help="Only events that happened at this time (UTC) or later.")
    @click.option("--until", type=Moment(), help="Only events that happened before this time (UTC).")
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
        """Run handlers again for past events.

        Each with all its attempts before it. At least one of the options must say which. What runs right now is left
        alone.
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
        by = operator()
        work = (
            replaying.MissingDispatches(choice, handlers, by) if missing else replaying.ExistingDispatches(choice, by)
        )
        with database.read() as connection:
            total = work.count(connection)
        if dry_run:
            click.echo(f"{counted(total, 'run')} would be made due.")
            return
        with progress("Making due", total) as advance:
            made = replaying.replay(database, work, now=clock(), progress=advance)
        click.echo(f"Due now: {counted(made, 'run')}.")

    return command


def _event_name(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and wire_name(value) not in CATALOGUE:
        click.echo(f"Note: {value} is none of the {len(CATALOGUE)} events known to this version.", err=True)
    return wire_name(value) if value is not None else None


def _digest_again(database: Database, *, dry_run: bool) -> None:
    with database.read() if dry_run else database.write() as connection:
        found = journal.count_set_aside(connection) if dry_run else journal.take_back(connection)
    click.echo(f"{counted(found, 'callback')} {'would wait' if dry_run else 'waiting'} to be digested again.")
