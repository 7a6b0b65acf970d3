"""`flask worker`: process callbacks until stopped."""

import gc
import signal
import threading
from collections.abc import Callable, Sequence

import click
import structlog
from click import Command

from app.captured_logs import capture_uncaught
from app.work.worker import Worker

log = structlog.get_logger()

GRACE_SECONDS = 25.0  # seconds for running handlers to end after a stop signal


def worker_command(worker: Worker, readiness: Callable[[], str | None], *, warnings: Sequence[str]) -> Command:
    """Create the command `flask worker`.

    `readiness` returns what is wrong with the database, if anything. `warnings` are logged at the start.
    """

    @click.command("worker")
    def command() -> None:
        """Process callbacks and run handlers until stopped.

        Use this command with WORKER=external. You can run any number of workers on any number of machines. On SIGTERM
        or Ctrl-C the worker waits up to 25 seconds for running handlers. Other workers run unfinished handlers again.
        """
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        capture_uncaught()
        gc.freeze()  # loaded modules stay in memory; exclude them from garbage collection
        for warning in warnings:
            log.warning("settings.unsafe", warning=warning)
        worker.start()
        if problem := readiness():
            log.warning("worker.waits", problem=problem)
        stop.wait()
        worker.stop(grace=GRACE_SECONDS)

    return command
