"""Playback of an account in real time: paced steps, posted callbacks and a progress line."""

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime

import click

from app.simulator.account import Account
from app.simulator.delivery import Delivery, pluralize
from app.simulator.outbox import Outbox

PROGRESS_SECONDS = 10.0  # seconds between two progress lines if the output is not a terminal
POLL_SECONDS = 0.05  # maximum seconds until an action over REST or a late callback is noticed

Clock = Callable[[], datetime]


class Playback:
    """The playback of one account, which sends the account's events through the outbox to the service."""

    def __init__(self, account: Account, outbox: Outbox, delivery: Delivery, *, clock: Clock) -> None:
        self._account = account
        self._outbox = outbox
        self._delivery = delivery
        self._clock = clock

    def run(self, *, rate: float, stop: threading.Event) -> bool:
        """Play all stories and deliver all callbacks, at most `rate` callbacks a second, until `stop` is set.

        Return False at once if the first callback does not reach the service. Later outages are tolerated.
        """
        progress, last_problem = _Progress(self._account, self._outbox, self._delivery), None
        for body in self._paced_bodies(rate, stop):
            problem = self._delivery.post(body)
            if problem and problem != last_problem:
                progress.interrupt(problem)
            last_problem = problem
            progress.show()
            if self._is_unreachable():
                break
        progress.end()
        return not self._is_unreachable()

    def deliver_until_stopped(self, stop: threading.Event) -> None:
        """Deliver the callbacks of actions over REST until `stop` is set."""
        while not stop.wait(POLL_SECONDS):
            for body in self._outbox.take_due(self._clock()):
                self._delivery.post(body)

    def _is_unreachable(self) -> bool:
        counts = self._delivery.counts
        return counts.sent > 0 and counts.unreachable == counts.sent

    def _paced_bodies(self, rate: float, stop: threading.Event) -> Iterator[bytes]:
        """Yield the bodies of callbacks as the callbacks become due. Time lost on a slow service is not made up.

        Callbacks that are already due are delivered even after `stop` is set.
        """
        due = time.monotonic()
        while not stop.wait(max(0.0, due - time.monotonic())):
            if self._account.is_over and not len(self._outbox):
                return
            events = self._account.step(self._clock())
            self._outbox.put(events, now=self._clock())
            bodies = self._outbox.take_due(self._clock())
            for body in bodies:
                stop.wait(max(0.0, due - time.monotonic()))
                yield body
                due = max(due + 1 / rate, time.monotonic())
            if not bodies and (events or self._account.is_over):
                due = time.monotonic() + min(1 / rate, POLL_SECONDS)


class _Progress:
    """The progress display: a line that updates itself on a terminal, elsewhere a new line every 10 seconds."""

    def __init__(self, account: Account, outbox: Outbox, delivery: Delivery) -> None:
        self._account = account
        self._outbox = outbox
        self._delivery = delivery
        self._live = sys.stderr.isatty()
        self._next_line_at = time.monotonic() + PROGRESS_SECONDS

    def show(self) -> None:
        """Show the current numbers of packages and callbacks."""
        packages = f"{pluralize(len(self._account.packages()), 'package')}, {self._account.ended_count} ended"
        line = f"{packages}; {self._delivery.counts}, {len(self._outbox)} not delivered yet"
        if self._live:
            width = shutil.get_terminal_size().columns - 1  # a wrapped line cannot be overwritten
            click.echo(f"\r\033[K{line[:width]}", nl=False, err=True)
        elif time.monotonic() >= self._next_line_at:
            self._next_line_at = time.monotonic() + PROGRESS_SECONDS
            click.echo(line, err=True)

    def interrupt(self, text: str) -> None:
        """Clear the progress line and print a text on its own line."""
        self.end()
        click.echo(text, err=True)

    def end(self) -> None:
        """Clear the progress line."""
        if self._live:
            click.echo("\r\033[K", nl=False, err=True)
