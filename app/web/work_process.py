"""gunicorn's process that serves no connection, but digests callbacks and runs handlers (`WORKER=embedded`).

A handler that uses much CPU time, or kills its process, so takes nothing from the processes that receive callbacks.
"""

import os
import select
from typing import Any

from gunicorn.workers.base import Worker

CHECK_SECONDS = 1.0  # time between two signs of life


class WorkProcess(Worker):  # type: ignore[misc]  # gunicorn has no types
    """A process of gunicorn in which the hook `post_worker_init` starts the worker's threads."""

    alive: bool
    PIPE: Any
    sockets: Any

    def run(self) -> None:
        """Wait until the process must stop."""
        for bound in self.sockets:
            bound.sock.close()  # the processes that serve have their own
        while self.alive and self.ppid == os.getppid():
            self.notify()
            received, _, _ = select.select(self.PIPE[:1], [], [], CHECK_SECONDS)
            if received:  # signals
                os.read(self.PIPE[0], select.PIPE_BUF)
