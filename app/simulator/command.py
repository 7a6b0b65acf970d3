"""`flask simulate`: a OneSpan to develop against."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from random import Random, SystemRandom
from types import FrameType
from typing import Any

import click

from app.simulator import options
from app.simulator.account import Account, Registration
from app.simulator.auth import sender_key
from app.simulator.delivery import Delivery, counted
from app.simulator.faults import Faults
from app.simulator.options import Wish
from app.simulator.outbox import Outbox
from app.simulator.playback import Play
from app.simulator.server import answering, api


@click.command("simulate", epilog=options.explained())
@options.taken
def simulate(**given: Any) -> None:
    """Play OneSpan, and call the service back.

    Packages are sent, signed, declined, forgotten. By default it is a good day: nothing is sent twice and nothing is
    lost. Exits with 1 when any callback was not accepted.
    """
    wish = Wish(**given)
    if wish.keep_serving and wish.port is None:
        raise click.UsageError("--keep-serving goes with --serve.")
    if sum(wish.faults.values()) > 1:
        raise click.UsageError("The rates of all faults together must not exceed 1.")
    seed = SystemRandom().randrange(10**6) if wish.seed is None else wish.seed
    sys.exit(0 if _simulate(wish, seed) else 1)


def _simulate(wish: Wish, seed: int) -> bool:
    """Do all that was wished; returns whether every callback was accepted."""
    account = Account(
        seed,
        packages=wish.packages or None,
        senders=wish.senders,
        crowd=wish.at_once,
        quirks=wish.quirks,
        odd=wish.anomalies,
    )

    def registered() -> Registration | None:
        return account.registration

    outbox = Outbox(Random(f"{seed}:post"), mishaps=wish.mishaps, quirks=wish.quirks, registered=registered)
    with ExitStack() as stack:
        stop = stack.enter_context(_stopped_by_signals())
        delivery = stack.enter_context(Delivery(wish.url, wish.key, registered=registered))
        click.echo(f"Simulating OneSpan with --seed {seed}: callbacks go to {wish.url}", err=True)
        if wish.port is not None:
            _serve(stack, wish, seed, account=account, outbox=outbox)
        play = Play(account, outbox, delivery, clock=_now)
        reached = play.until_over(rate=wish.rate, stop=stop)
        _sum_up(account, outbox, delivery)
        if wish.keep_serving and reached and not stop.is_set():
            click.echo("All histories have ended; still answering. Stop with Ctrl-C.", err=True)
            play.until_stopped(stop)
    return delivery.tally.is_clean


def _serve(stack: ExitStack, wish: Wish, seed: int, *, account: Account, outbox: Outbox) -> None:
    """Answer the REST API until the stack is left."""
    app = api(
        account,
        api_key=wish.api_key,
        client_id=wish.client_id,
        client_secret=wish.client_secret,
        clock=_now,
        faults=Faults(Random(f"{seed}:faults"), wish.faults, slow_by=wish.slow_by),
        tell=lambda events: outbox.put(events, now=_now()),
    )
    assert wish.port is not None
    try:
        address = stack.enter_context(answering(app, port=wish.port))
    except OSError as problem:
        raise click.UsageError(f"--serve {wish.port}: {problem.strerror}. 0 takes a free port.") from None
    click.echo(f"Its REST API answers at {address}: that is ONESPAN_URL for the service.", err=True)
    for sender in account.people[1:]:
        click.echo(f"  The API key of {sender.name} <{sender.email}>: {sender_key(sender)}", err=True)


def _sum_up(account: Account, outbox: Outbox, delivery: Delivery) -> None:
    click.echo(f"{counted(len(account.packages()), 'package')}, {delivery.tally}.")
    befallen = ", ".join(f"{times} {mishap}" for mishap, times in sorted(outbox.befallen.items()) if times)
    if befallen:
        click.echo(f"Mishaps: {befallen}; {len(outbox)} still on their way.", err=True)


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets while the block runs."""
    stop = threading.Event()

    def set_it(_: int, __: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, set_it) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _now() -> datetime:
    return datetime.now(UTC)
