"""`flask simulate`: a OneSpan to develop against."""

import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from random import SystemRandom
from types import FrameType

import click

from app.simulator.account import Account
from app.simulator.delivery import Delivery
from app.simulator.packages import Event
from app.simulator.server import answering, api

URL = "http://127.0.0.1:8000/onespan/callback"
API_KEY = "simulated-api-key"
LABELLED = re.compile(r"[A-Za-z0-9_.-]{1,40}=(.*[^=].*)", re.DOTALL)  # a base64 key that merely ends in "=" is not
LINE_EVERY = 10.0  # seconds between two lines of progress where there is no terminal

NO_KEY = """There is no callback key. Say which key the service believes:

  flask --env-file instance/settings.env simulate

or give --key, or set ONESPAN_CALLBACK_KEYS."""


def _first_key(_: click.Context, __: click.Parameter, value: str | None) -> str:
    """The first entry of the setting, without its label."""
    entries = [entry.strip() for entry in (value or "").split(",")]
    first = next(filter(None, entries), None)
    if first is None:
        raise click.UsageError(NO_KEY)
    labelled = LABELLED.fullmatch(first)
    return labelled[1] if labelled else first


def _address(_: click.Context, __: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#]+/\S*", value):
        raise click.BadParameter(f"must look like {URL}")
    return value


@click.command("simulate")
@click.option(
    "--packages",
    default=20,
    show_default=True,
    type=click.IntRange(min=0),
    help="How many packages live their lives; 0: ever more, until stopped.",
)
@click.option(
    "--rate",
    default=10.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Callbacks per second, at most.",
)
@click.option("--seed", type=int, help="The same seed tells the same histories again.  [default: a new one]")
@click.option("--url", default=URL, show_default=True, callback=_address, help="Where callbacks go.")
@click.option(
    "--key",
    envvar="ONESPAN_CALLBACK_KEYS",
    callback=_first_key,
    help="The callback key; by default the first of ONESPAN_CALLBACK_KEYS.",
)
@click.option(
    "--serve",
    "port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Answer OneSpan's REST reads on this port meanwhile; 0 takes a free one.",
)
@click.option("--keep-serving", is_flag=True, help="With --serve: go on answering when all histories have ended.")
@click.option("--api-key", envvar="ONESPAN_API_KEY", default=API_KEY, help="The key that REST reads must show.")
def simulate(  # noqa: PLR0917  (click passes them by name)
    packages: int,
    rate: float,
    seed: int | None,
    url: str,
    key: str,
    port: int | None,
    *,
    keep_serving: bool,
    api_key: str,
) -> None:
    """Play OneSpan: packages are sent, signed, declined, forgotten, and the service is called back.

    Nothing is sent twice and nothing is lost. Exits with 1 when any callback was not accepted.
    """
    if keep_serving and port is None:
        raise click.UsageError("--keep-serving goes with --serve.")
    seed = SystemRandom().randrange(10**6) if seed is None else seed
    account = Account(seed, packages=packages or None)
    with ExitStack() as stack:
        stop = stack.enter_context(_stopped_by_signals())
        delivery = stack.enter_context(Delivery(url, key))
        click.echo(f"Simulating OneSpan with --seed {seed}: callbacks go to {url}", err=True)
        if port is not None:
            address = stack.enter_context(answering(api(account, api_key=api_key, clock=_now), port=port))
            click.echo(f"Its REST API answers at {address}: that is ONESPAN_URL for the service.", err=True)
        reached = _play(account, delivery, rate=rate, stop=stop)
        click.echo(f"{len(account.packages())} packages, {delivery.tally}.")
        if keep_serving and reached and not stop.is_set():
            click.echo("All histories have ended; still answering. Stop with Ctrl-C.", err=True)
            stop.wait()
    sys.exit(0 if delivery.tally.is_clean else 1)


def _play(account: Account, delivery: Delivery, *, rate: float, stop: threading.Event) -> bool:
    """Live and tell, until all has ended or we are stopped.

    Gives up and returns False where not even the first callback reached anybody; later a service may come and go.
    """
    progress = _Progress(account, delivery)
    said = None
    for event in _paced(account, rate, stop):
        problem = delivery.post(event)
        if problem and problem != said:
            progress.interrupt(problem)
        said = problem
        progress.show()
        if delivery.tally.unreachable == delivery.tally.sent:
            break
    progress.end()
    return delivery.tally.unreachable < delivery.tally.sent


def _paced(account: Account, rate: float, stop: threading.Event) -> Iterator[Event]:
    """The account's events as they happen, so many a second; time lost on a slow service is not caught up.

    What one step has caused is told whole, also when we are stopped half-way.
    """
    due = time.monotonic()
    while not account.is_over:
        if stop.wait(max(0.0, due - time.monotonic())):
            return
        for event in account.step(_now()):
            stop.wait(max(0.0, due - time.monotonic()))
            yield event
            due = max(due + 1 / rate, time.monotonic())


class _Progress:
    """How far it is: a line that renews itself on a terminal, elsewhere a line now and then."""

    def __init__(self, account: Account, delivery: Delivery) -> None:
        self._account = account
        self._delivery = delivery
        self._live = sys.stderr.isatty()
        self._next = time.monotonic() + LINE_EVERY

    def show(self) -> None:
        """Renew it."""
        line = f"{len(self._account.packages())} packages, {self._account.ended} ended; {self._delivery.tally}"
        if self._live:
            width = shutil.get_terminal_size().columns - 1  # a line that breaks cannot be renewed
            click.echo(f"\r\033[K{line[:width]}", nl=False, err=True)
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + LINE_EVERY
            click.echo(line, err=True)

    def interrupt(self, text: str) -> None:
        """Say something on a line of its own."""
        self.end()
        click.echo(text, err=True)

    def end(self) -> None:
        """Leave the terminal clean."""
        if self._live:
            click.echo("\r\033[K", nl=False, err=True)


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
