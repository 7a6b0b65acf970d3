"""`flask replay`: run handlers again for past events, and process failed and unreadable callbacks again."""

from datetime import datetime

import click
from click import Command

from app.cli.terminal import Moment, counted, operator, progress
from app.onespan.event_catalogue import CATALOGUE, wire_name
from app.registry import Handlers
from app.store import journal
from app.store.db import Database
from app.store.replay_filter import ReplayFilter
from app.store.states import DispatchState
from app.types import Clock
from app.work import replay as replaying
from app.work.reread import reread

NO_SELECTION = "Select runs with --event, --handler, --package, --state, --since or --until."


def replay_command(database: Database, handlers: Handlers, clock: Clock) -> Command:
    """Create the command `flask replay`."""

    def handler_name(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
        if value is not None and value not in set(handlers):
            raise click.BadParameter(f"app/handlers.py has no handler {value!r}. It has: {', '.join(handlers)}")
        return value

    @click.command("replay")
    @click.option("--event", "event_name", callback=_event_name, help="Only events with this name.")
    @click.option("--handler", callback=handler_name, help="Only this handler.")
    @click.option("--package", help="Only events of the package with this id.")
    @click.option(
        "--state",
        type=click.Choice([state.value for state in DispatchState if state != DispatchState.RUNNING]),
        help="Only runs in this state. `parked` runs have failed and are not retried.",
    )
    @click.option("--since", type=Moment(), help="Only events that happened at or after this time (UTC).")
    @click.option("--until", type=Moment(), help="Only events that happened before this time (UTC).")
    @click.option("--missing", is_flag=True, help="Run a new --handler for older events, instead of repeating runs.")
    @click.option("--set-aside", is_flag=True, help="Digest failed callbacks again, instead of running handlers.")
    @click.option("--unreadable", is_flag=True, help="Read unreadable callbacks again, instead of running handlers.")
    @click.option("--dry-run", is_flag=True, help="Only print how many there are.")
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
        unreadable: bool,
        dry_run: bool,
    ) -> None:
        """Run handlers again for past events.

        Select the runs with at least one option; all given options must match. Each run has all its attempts again.
        Handlers that are running now are not touched.
        """
        replay_filter = ReplayFilter(event_name, handler, state, package, since, until)
        if set_aside or unreadable:
            if replay_filter != ReplayFilter() or missing or (set_aside and unreadable):
                option = "--set-aside" if set_aside else "--unreadable"
                raise click.UsageError(f"{option} can only be combined with --dry-run.")
            if set_aside:
                _digest_again(database, dry_run=dry_run)
            else:
                _read_again(database, now=clock(), dry_run=dry_run)
            return
        if replay_filter == ReplayFilter():
            raise click.UsageError(NO_SELECTION)
        if missing and (handler is None or state is not None):
            raise click.UsageError("--missing needs --handler and cannot be combined with --state.")
        by = operator()
        selection = (
            replaying.MissingDispatches(replay_filter, handlers, by)
            if missing
            else replaying.ExistingDispatches(replay_filter, by)
        )
        with database.read() as connection:
            total = selection.count(connection)
        if dry_run:
            click.echo(f"{counted(total, 'run')} would be made due.")
            return
        with progress("Making due", total) as advance:
            made = replaying.replay(database, selection, now=clock(), progress=advance)
        click.echo(f"Due now: {counted(made, 'run')}.")

    return command


def _event_name(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and wire_name(value) not in CATALOGUE:
        click.echo(f"Note: {value} is not one of the {len(CATALOGUE)} known events.", err=True)
    return wire_name(value) if value is not None else None


def _digest_again(database: Database, *, dry_run: bool) -> None:
    with database.read() if dry_run else database.write() as connection:
        count = journal.count_failed(connection) if dry_run else journal.retry_failed(connection)
    click.echo(f"{counted(count, 'callback')} {'would be' if dry_run else 'will be'} digested again.")


def _read_again(database: Database, *, now: datetime, dry_run: bool) -> None:
    """Read unreadable callbacks again, print why some still cannot be read, and how many can."""
    total = readable = 0
    for callback in reread(database, by=operator(), now=now, write=not dry_run):
        total, readable = total + 1, readable + (callback.error is None)
        if callback.error:
            click.echo(f"Callback {callback.id} names no package: {callback.error}")
    if not total:
        click.echo("No callback is unreadable.")
        return
    outcome = "would be digested" if dry_run else "will be digested"
    click.echo(f"{readable} of {counted(total, 'unreadable callback')} {outcome}.")
