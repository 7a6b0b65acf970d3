"""`flask worker`: take turns until told to stop."""

import gc
import signal
import threading
from collections.abc import Callable

import click
from click import Command

from app.work.worker import Worker

GRACE = 25.0  # seconds that running handlers get to end before they are handed back


def worker_command(worker: Worker, readiness: Callable[[], str | None]) -> Command:
    """The command. `readiness` says what is wrong with the database."""

    @click.command("worker")
    def command() -> None:
        """Digest callbacks and run handlers.

        Until told to stop (SIGTERM or Ctrl-C). Run as many as you like, on as many machines as you like. What is
        running when the signal comes is finished, or handed back to the others.
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
