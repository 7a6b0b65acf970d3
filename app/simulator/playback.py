"""Lets an account live in real time: steps it at a pace, posts what arrives, says how far it is."""

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime

import click

from app.simulator.account import Account
from app.simulator.delivery import Delivery, counted
from app.simulator.outbox import Outbox

LINE_EVERY = 10.0  # seconds between two lines of progress where there is no terminal
LOOK_EVERY = 0.05  # seconds until somebody's act by hand is noticed, or a late callback

Clock = Callable[[], datetime]


class Play:
    """One account, its callbacks on their way, and who takes them there."""

    def __init__(self, account: Account, outbox: Outbox, delivery: Delivery, *, clock: Clock) -> None:
        self._account = account
        self._outbox = outbox
        self._delivery = delivery
        self._clock = clock

    def until_over(self, *, rate: float, stop: threading.Event) -> bool:
        """Live and tell, at most so many callbacks a second, until all has ended and arrived, or we are stopped.

        Gives up and returns False where not even the first callback reached anybody; later a service may come and go.
        """
        progress, said = _Progress(self._account, self._outbox, self._delivery), None
        for body in self._paced(rate, stop):
            problem = self._delivery.post(body)
            if problem and problem != said:
                progress.interrupt(problem)
            said = problem
            progress.show()
            if self._nobody_there():
                break
        progress.end()
        return not self._nobody_there()

    def until_stopped(self, stop: threading.Event) -> None:
        """Tell what callers of the REST API do by hand."""
        while not stop.wait(LOOK_EVERY):
            for body in self._outbox.due(self._clock()):
                self._delivery.post(body)

    def _nobody_there(self) -> bool:
        tally = self._delivery.tally
        return tally.sent > 0 and tally.unreachable == tally.sent

    def _paced(self, rate: float, stop: threading.Event) -> Iterator[bytes]:
        """The callbacks as they arrive; time lost on a slow service is not caught up.

        What has arrived is told whole, also when we are stopped half-way.
        """
        due = time.monotonic()
        while not stop.wait(max(0.0, due - time.monotonic())):
            if self._account.is_over and not len(self._outbox):
                return
            events = self._account.step(self._clock())
            self._outbox.put(events, now=self._clock())
            bodies = self._outbox.due(self._clock())
            for body in bodies:
                stop.wait(max(0.0, due - time.monotonic()))
                yield body
                due = max(due + 1 / rate, time.monotonic())
            if not bodies and (events or self._account.is_over):
                due = time.monotonic() + min(1 / rate, LOOK_EVERY)


class _Progress:
    """How far it is: a line that renews itself on a terminal, elsewhere a line now and then."""

    def __init__(self, account: Account, outbox: Outbox, delivery: Delivery) -> None:
        self._account = account
        self._outbox = outbox
        self._delivery = delivery
        self._live = sys.stderr.isatty()
        self._next = time.monotonic() + LINE_EVERY

    def show(self) -> None:
        """Renew it."""
        packages = f"{counted(len(self._account.packages()), 'package')}, {self._account.ended} ended"
        line = f"{packages}; {self._delivery.tally}, {len(self._outbox)} on their way"
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
