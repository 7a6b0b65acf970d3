"""`flask reconcile`: import from OneSpan what callbacks missed, or only show the differences."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import click
from click import Command
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.cli.terminal import Moment, Unusable, counted, operator
from app.errors import OneSpanError, OneSpanNotConfigured, ReconcileRunning
from app.onespan.client import OneSpan
from app.onespan.list_scan import EARLIEST
from app.store import queries, reconciles
from app.store.db import Database
from app.store.queries import RunDetail
from app.store.states import RunState
from app.types import Clock
from app.work.digest import Digest
from app.work.drift import Drift, DriftCheck
from app.work.fetch import Fetcher
from app.work.housekeeping import Heartbeat
from app.work.reconcile import Reconciler, RunRequest

# Attributes whose values are not printed. The names of packages and documents may name persons, too.
PERSONAL = ("name", "email", "sender_id")
MAX_PRINTED = 50  # number of differences to print; further differences are only counted
POLL_SECONDS = 0.2  # seconds between two turns while the run waits
RETRY_SECONDS = 2.0  # seconds until the next turn after a fault of the database
HELD_BY = "for the request of process"
MAX_IDLE_SECONDS = 600.0  # seconds without progress, after which the run is left to the service
MAX_WAIT = timedelta(seconds=90)  # a run that must wait longer than this is left to the service
PROGRESS_SECONDS = 5.0  # seconds between two lines of progress, if the output is not a terminal


@dataclass(frozen=True, slots=True)
class Turns:
    """The parts of the service that take turns during a reconcile run, and the heartbeat."""

    reconcile: Reconciler
    fetcher: Fetcher
    digest: Digest
    heartbeat: Heartbeat


def reconcile_command(database: Database, onespan: OneSpan, turns: Turns, clock: Clock) -> Command:
    """Create the command `flask reconcile`."""

    @click.command("reconcile")
    @click.option(
        "--check",
        is_flag=True,
        help="Change nothing; list the differences to OneSpan. Exits with 1 if there is one.",
    )
    @click.option(
        "--since", type=Moment(), help="Start from packages updated at this time (UTC), instead of at the last run."
    )
    @click.option("--backfill", is_flag=True, help="Read the whole account.")
    @click.option(
        "--fire", is_flag=True, help="Run handlers for every missed event, however old, and for imported packages."
    )
    def command(*, check: bool, since: datetime | None, backfill: bool, fire: bool) -> None:
        """Import from OneSpan what callbacks missed.

        Reads all packages updated since a day before the last run. The first run imports the whole account; it runs
        handlers only with --fire. If you interrupt the command, the service or the next `flask reconcile` continues
        the run. Exits with 1 if the run fails or has to wait, 2 if the command cannot start.
        """
        if not onespan.is_connected:
            raise OneSpanNotConfigured
        if since and not EARLIEST <= since <= clock():
            raise click.UsageError(f"--since must be between {EARLIEST:%Y-%m-%d} and now.")
        if since and backfill:
            raise click.UsageError("--since cannot be combined with --backfill, which reads everything.")
        if check:
            if backfill or fire:
                raise click.UsageError("--check can only be combined with --since.")
            _check(database, onespan, clock, since=since)
            return
        _run(database, turns, clock, RunRequest(since, backfill, fire))

    return command


def _check(database: Database, onespan: OneSpan, clock: Clock, *, since: datetime | None) -> None:
    found = 0
    with _line() as say:
        check = DriftCheck(
            database,
            onespan,
            clock=clock,
            sleep=time.sleep,
            progress=lambda _: say(f"{counted(check.packages, 'package')} compared"),
        )
        try:
            for drift in check.drift(since=since):
                found += 1
                if found <= MAX_PRINTED:
                    say("")
                    click.echo(_drift(drift))
        except OneSpanError as problem:
            raise Unusable(f"{problem}. The check is incomplete. Try again later.") from None
    scope = f"{counted(check.packages, 'package')} in {counted(check.requests, 'request')}"
    scope += f", {check.unreadable} of them unreadable" if check.unreadable else ""
    click.echo(f"{scope}: {counted(found, 'difference')}.")
    if found:
        sys.exit(1)


def _drift(drift: Drift) -> str:
    """Format a difference between the status store and OneSpan, without values that name a person."""
    values = " differs" if drift.attribute in PERSONAL else f": {drift.ours!r} here, {drift.theirs!r} at OneSpan"
    return f"{drift.package_id} {drift.subject} {drift.attribute}{values}"


def _run(database: Database, turns: Turns, clock: Clock, request: RunRequest) -> None:
    try:
        run_id = turns.reconcile.begin(request, by=operator())
    except ReconcileRunning as refused:
        raise Unusable(str(refused)) from None
    if run_id is None:
        with database.read() as connection:
            run_id = queries.run_page(connection, limit=1, before=None)[0].id
        click.echo(f"Reconcile {run_id} is already running; continuing it.", err=True)
    with _line() as say, _present(turns.heartbeat, clock) as beat:
        run = _drive(database, turns, run_id, clock=clock, say=say, beat=beat)
    click.echo(_summary(run))
    if run.state == RunState.RUNNING:
        click.echo("The service continues it, or the next `flask reconcile`.", err=True)
    if run.state != RunState.DONE:
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
    """Work on the reconcile run until it ends, must wait for long, or makes no progress."""
    deadline = time.monotonic() + MAX_IDLE_SECONDS
    while True:
        try:
            beat()
            worked = any([turns.reconcile.turn(), turns.fetcher.turn(), turns.digest.turn()])
            with database.read() as connection:
                run, holder = queries.run(connection, run_id), reconciles.holder(connection)
        except (OperationalError, PoolTimeout):
            if time.monotonic() > deadline:
                raise
            say("the database does not answer; trying again")
            time.sleep(RETRY_SECONDS)
            continue
        assert run
        waits_for = run.error or (f"{HELD_BY} {holder}, or its last heartbeat to be a minute old" if holder else "")
        say(f"{_counts(run)}{f'; waiting: {waits_for}' if waits_for else ''}")
        if worked:
            deadline = time.monotonic() + MAX_IDLE_SECONDS
        must_wait = run.error and run.due_at - clock() > MAX_WAIT
        if run.state != RunState.RUNNING or must_wait or time.monotonic() > deadline:
            return run
        if not worked:
            time.sleep(POLL_SECONDS)


def _counts(run: RunDetail) -> str:
    requests, packages = counted(run.requests, "request"), counted(run.shown, "package")
    return f"{requests}: {packages} listed, {run.changed} changed, {run.asked} queued for a fetch"


def _summary(run: RunDetail) -> str:
    name = f"Reconcile {run.id} ({run.kind})"
    if run.state == RunState.FAILED:
        return f"{name} failed: {run.error} ({_counts(run)})."
    if run.state == RunState.RUNNING:
        return f"{name} is waiting: {run.error or 'some changed packages cannot be read'} ({_counts(run)} so far)."
    left = f", {run.unreadable} unreadable" if run.unreadable else ""
    missed = counted(run.found, "missed event")
    return f"{name} done. {_counts(run)}{left}; {missed} found." + (f" {run.error}." if run.error else "")


@contextmanager
def _line() -> Iterator[Callable[[str], None]]:
    """Yield a function that prints progress: in the same line on a terminal, otherwise every few seconds."""
    on_terminal, last = sys.stderr.isatty(), time.monotonic()

    def say(text: str) -> None:
        nonlocal last
        if on_terminal:
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)
        elif text and time.monotonic() - last > PROGRESS_SECONDS:
            last = time.monotonic()
            click.echo(text, err=True)

    try:
        yield say
    finally:
        if on_terminal:
            click.echo("\r\x1b[K", nl=False, err=True)


@contextmanager
def _present(heartbeat: Heartbeat, clock: Clock) -> Iterator[Callable[[], None]]:
    """Send heartbeats while the command runs; if the command dies, another process takes over its run."""
    seen: datetime | None = None

    def beat() -> None:
        nonlocal seen
        if seen is None or clock() - seen > timedelta(seconds=15):
            heartbeat.beat()
            seen = clock()

    try:
        yield beat
    finally:
        with suppress(SQLAlchemyError):  # another process takes the run over when this heartbeat is a minute old
            heartbeat.record_stop()
