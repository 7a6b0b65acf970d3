"""`flask reconcile`: ask OneSpan now what callbacks missed, or see what is not as it should be."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import click
from click import Command

from app.cli.terminal import Moment, Unusable, counted, operator
from app.errors import NoOneSpan, OneSpanError, UnderWay
from app.onespan.client import OneSpan
from app.onespan.list_scan import EARLIEST
from app.store import queries
from app.store.db import Database
from app.store.queries import RunDetail
from app.types import Clock
from app.work.digest import Digest
from app.work.drift import Drift, DriftCheck
from app.work.fetch import Refresh
from app.work.housekeeping import Presence
from app.work.reconcile import Asked, Reconcile

PERSONAL = ("name", "email", "sender_id")  # people call packages and documents after each other
SHOWN = 50  # differences printed one by one; the rest is counted
LOOK = 0.2  # seconds between two looks, while there is nothing to do for us
PATIENCE = 600.0  # seconds without any progress after which we leave the run to the service
LONG = timedelta(seconds=90)  # a wait that we leave to the service
LINE = 5.0  # seconds between two lines of progress, where there is no terminal


@dataclass(frozen=True, slots=True)
class Turns:
    """The turns that a reconcile needs, and who takes them."""

    reconcile: Reconcile
    refresh: Refresh
    digest: Digest
    presence: Presence


def reconcile_command(database: Database, onespan: OneSpan, turns: Turns, clock: Clock) -> Command:
    """The command."""

    @click.command("reconcile")
    @click.option(
        "--check",
        is_flag=True,
        help="Change nothing: list where the picture is not what OneSpan shows. Exits with 1 when there is any drift.",
    )
    @click.option("--since", type=Moment(), help="Ask for what was updated since this time (UTC).")
    @click.option("--backfill", is_flag=True, help="Walk through the whole account.")
    @click.option(
        "--fire", is_flag=True, help="Run handlers for all that was never told, however old; for an import, too."
    )
    def command(*, check: bool, since: datetime | None, backfill: bool, fire: bool) -> None:
        """Ask OneSpan what callbacks missed, and repair it.

        Asks for what was updated since the last time, and a day before. The first time it imports the account, which
        runs no handler but with --fire. Stopped half-way, the service goes on with it, or the next `flask reconcile`.
        """
        if not onespan.is_connected:
            raise NoOneSpan
        if since and not EARLIEST <= since <= clock():
            raise click.UsageError(f"--since: say a time between {EARLIEST:%Y-%m-%d} and now.")
        if since and backfill:
            raise click.UsageError(
                "--since and --backfill exclude each other: the backfill goes back to the beginning."
            )
        if check:
            if backfill or fire:
                raise click.UsageError("--check changes nothing: it goes with --since only.")
            _check(database, onespan, clock, since=since)
            return
        _run(database, turns, clock, Asked(since, backfill, fire))

    return command


def _check(database: Database, onespan: OneSpan, clock: Clock, *, since: datetime | None) -> None:
    found = 0
    with _line() as say:
        check = DriftCheck(
            database,
            onespan,
            clock=clock,
            sleep=time.sleep,
            progress=lambda _: say(f"{counted(check.packages, 'package')} looked at"),
        )
        try:
            for drift in check.drift(since=since):
                found += 1
                if found <= SHOWN:
                    say("")
                    click.echo(_drift(drift))
        except OneSpanError as problem:
            raise Unusable(f"{problem}. The check did not come to its end: when that is over, try again.") from None
    asked = f"{counted(check.packages, 'package')} in {counted(check.requests, 'request')}"
    asked += f", {check.unreadable} of them unreadable" if check.unreadable else ""
    click.echo(f"{asked}: {counted(found, 'difference') if found else 'all as OneSpan has it'}.")
    if found:
        sys.exit(1)


def _drift(one: Drift) -> str:
    """One line, without what names a person."""
    values = " differs" if one.attribute in PERSONAL else f": {one.ours!r} here, {one.theirs!r} at OneSpan"
    return f"{one.package_id} {one.subject} {one.attribute}{values}"


def _run(database: Database, turns: Turns, clock: Clock, asked: Asked) -> None:
    try:
        run_id = turns.reconcile.begin(asked, by=operator())
    except UnderWay as refused:
        raise Unusable(str(refused)) from None
    if run_id is None:
        with database.read() as connection:
            run_id = queries.run_page(connection, limit=1, before=None)[0].id
        click.echo(f"Reconcile {run_id} is under way already; going on with it.", err=True)
    with _line() as say, _present(turns.presence, clock) as beat:
        run = _drive(database, turns, run_id, clock=clock, say=say, beat=beat)
    click.echo(_summary(run))
    if run.state == "running":
        click.echo("It goes on by itself where the service runs, or with the next `flask reconcile`.", err=True)
    if run.state != "done":
        sys.exit(1)


def _drive(
    database: Database,
    turns: Turns,
    run_id: int,
    *,
    clock: Clock,
    say: Callable[[str], None],
    beat: Callable[[], None],
) -> RunDetail:
    """Take turns until the run is done, waits for what may take long, or does not get on."""
    deadline = time.monotonic() + PATIENCE
    while True:
        beat()
        worked = any([turns.reconcile.turn(), turns.refresh.turn(), turns.digest.turn()])
        with database.read() as connection:
            run = queries.run(connection, run_id)
        assert run
        say(f"{_so_far(run)}{f'; waits: {run.error}' if run.error else ''}")
        if worked:
            deadline = time.monotonic() + PATIENCE
        waits_long = run.error and run.due_at - clock() > LONG
        if run.state != "running" or waits_long or time.monotonic() > deadline:
            return run
        if not worked:
            time.sleep(LOOK)


def _so_far(run: RunDetail) -> str:
    asked = counted(run.requests, "request")
    return f"{asked}: {counted(run.shown, 'package')} shown, {run.changed} changed, {run.asked} to be read singly"


def _summary(run: RunDetail) -> str:
    name = f"Reconcile {run.id} ({run.kind})"
    if run.state == "failed":
        return f"{name} was given up: {run.error} ({_so_far(run)})."
    if run.state == "running":
        return f"{name} waits: {run.error or 'for packages that cannot be read now'} ({_so_far(run)} so far)."
    left = f", {run.unreadable} unreadable" if run.unreadable else ""
    told = f"{counted(run.found, 'fact')} found that no callback had told."
    return f"{name} done. {_so_far(run)}{left}; {told}" + (f" {run.error}." if run.error else "")


@contextmanager
def _line() -> Iterator[Callable[[str], None]]:
    """One line that is written over on a terminal; elsewhere a line every few seconds."""
    on_terminal, last = sys.stderr.isatty(), time.monotonic()

    def say(text: str) -> None:
        nonlocal last
        if on_terminal:
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)
        elif text and time.monotonic() - last > LINE:
            last = time.monotonic()
            click.echo(text, err=True)

    try:
        yield say
    finally:
        if on_terminal:
            click.echo("\r\x1b[K", nl=False, err=True)


@contextmanager
def _present(presence: Presence, clock: Clock) -> Iterator[Callable[[], None]]:
    """Be seen as a process while it lasts, so that a run of ours is taken over when we are gone."""
    seen: datetime | None = None

    def beat() -> None:
        nonlocal seen
        if seen is None or clock() - seen > timedelta(seconds=15):
            presence.beat()
            seen = clock()

    try:
        yield beat
    finally:
        presence.say_goodbye()
