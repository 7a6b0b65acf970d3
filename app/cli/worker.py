"""`flask worker`: process callbacks until stopped."""

import gc
import signal
import threading
from collections.abc import Callable

import click
from click import Command

from app.work.worker import Worker

GRACE_SECONDS = 25.0  # for running handlers to end, after a signal to stop


def worker_command(worker: Worker, readiness: Callable[[], str | None]) -> Command:
    """Create the command. `readiness` returns what is wrong with the database."""

    @click.command("worker")
    def command() -> None:
        """Process callbacks and run handlers until stopped.

        Use it with WORKER=external. You can run any number of workers on any number of machines. On SIGTERM or Ctrl-C
        it waits up to 25 seconds for running handlers. Handlers that are still running then are run again by other
        workers.
        """
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        gc.freeze()  # as in gunicorn.conf.py
        worker.start()
        click.echo("Working. Press Ctrl-C to stop.", err=True)
        if problem := readiness():
            click.echo(f"{problem} The worker waits until then.", err=True)
        stop.wait()
        worker.stop(grace=GRACE_SECONDS)

    return command
