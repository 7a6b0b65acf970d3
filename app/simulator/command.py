"""`flask simulate`: a simulated OneSpan to develop against."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from random import Random, SystemRandom
from types import FrameType
from typing import Any

import click

from app.simulator.account import Account, Registration
from app.simulator.auth import sender_key
from app.simulator.connectors import Connectors
from app.simulator.delivery import Delivery, pluralize
from app.simulator.faults import Faults
from app.simulator.options import SimulateOptions, help_epilog, with_options
from app.simulator.outbox import Outbox
from app.simulator.playback import Playback
from app.simulator.server import api, serve_in_thread


@click.command("simulate", epilog=help_epilog())
@with_options
def simulate(**given: Any) -> None:
    """Simulate OneSpan: send callbacks to the service and answer its REST API.

    Packages are created, sent, signed, declined and forgotten. By default no callback is lost or sent twice.
    Exits with 1 if any callback was not accepted.
    """
    options = SimulateOptions(**given)
    if options.keep_serving and options.port is None:
        raise click.UsageError("--keep-serving requires --serve.")
    if sum(options.faults.values()) > 1:
        raise click.UsageError("The rates of all faults together must not exceed 1.")
    seed = SystemRandom().randrange(10**6) if options.seed is None else options.seed
    sys.exit(0 if _simulate(options, seed) else 1)


def _simulate(options: SimulateOptions, seed: int) -> bool:
    """Run the simulation. Returns whether every callback was accepted."""
    account = Account(
        seed,
        packages=options.packages or None,
        senders=options.senders,
        at_once=options.at_once,
        quirks=options.quirks,
        anomalies=options.anomalies,
        features=options.features,
    )
    ahead = timedelta(seconds=options.clock_ahead)

    def clock() -> datetime:
        return datetime.now(UTC) + ahead

    def registered() -> Registration | None:
        return account.registration

    outbox = Outbox(Random(f"{seed}:post"), mishaps=options.mishaps, quirks=options.quirks, registered=registered)
    with ExitStack() as stack:
        stop = stack.enter_context(_stopped_by_signals())
        delivery = stack.enter_context(Delivery(options.url, options.key, registered=registered))
        click.echo(f"Simulating OneSpan with --seed {seed}. Callbacks go to {options.url}", err=True)
        if options.port is not None:
            _serve(stack, options, seed, account=account, outbox=outbox, clock=clock)
        playback = Playback(account, outbox, delivery, clock=clock)
        reachable = playback.run(rate=options.rate, stop=stop)
        _print_summary(account, outbox, delivery)
        if options.keep_serving and reachable and not stop.is_set():
            click.echo("All stories have ended. The REST API still answers; stop it with Ctrl-C.", err=True)
            playback.deliver_until_stopped(stop)
    return delivery.counts.is_clean


def _serve(
    stack: ExitStack,
    options: SimulateOptions,
    seed: int,
    *,
    account: Account,
    outbox: Outbox,
    clock: Callable[[], datetime],
) -> None:
    """Serve the REST API until the exit stack closes."""
    connectors = stack.enter_context(Connectors(account, lambda events: outbox.put(events, now=clock())))
    app = api(
        account,
        api_key=options.api_key,
        client_id=options.client_id,
        client_secret=options.client_secret,
        clock=clock,
        faults=Faults(Random(f"{seed}:faults"), options.faults, slow_by=options.slow_by),
        notify=connectors.notify,
    )
    assert options.port is not None
    try:
        address = stack.enter_context(serve_in_thread(app, port=options.port))
    except OSError as problem:
        raise click.UsageError(f"--serve {options.port}: {problem.strerror}. Use 0 for a free port.") from None
    is_set = os.environ.get("ONESPAN_URL") == address
    advice = "" if is_set else " Set ONESPAN_URL of the service to this address."
    click.echo(f"The REST API answers at {address}.{advice}", err=True)
    for sender in account.people[1:]:
        click.echo(f"  API key of {sender.name} <{sender.email}>: {sender_key(sender)}", err=True)


def _print_summary(account: Account, outbox: Outbox, delivery: Delivery) -> None:
    click.echo(f"{pluralize(len(account.packages()), 'package')}, {delivery.counts}.")
    mishaps = ", ".join(f"{count} {mishap}" for mishap, count in sorted(outbox.mishap_counts.items()) if count)
    if mishaps:
        click.echo(f"{mishaps}, {len(outbox)} not delivered yet.", err=True)


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """Yield a `threading.Event` that Ctrl-C and SIGTERM set while the block runs."""
    stop = threading.Event()

    def set_stop(_: int, __: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, set_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
