"""Signals that start a turn without waiting for its poll, across threads and processes."""

import os
import select
import weakref
from contextlib import suppress
from dataclasses import dataclass, field


class Wakeup:
    """Like `threading.Event`, but shared with the processes that are forked later."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        for end in (self._read, self._write):
            os.set_blocking(end, False)
            weakref.finalize(self, os.close, end)

    def set(self) -> None:
        """Wake the thread that waits, or the next that will wait."""
        with suppress(BlockingIOError):  # the pipe is full, so the signal is set
            os.write(self._write, b"\0")

    def clear(self) -> None:
        """Forget all signals so far."""
        with suppress(BlockingIOError):
            while os.read(self._read, select.PIPE_BUF):
                pass

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the signal. Returns whether it is set."""
        waiting = select.poll()  # unlike `select.select`, takes any file number
        waiting.register(self._read, select.POLLIN)
        return bool(waiting.poll(timeout * 1000))


@dataclass(frozen=True, slots=True)
class Wakeups:
    """The signals of a service.

    `digesting` says that a row was journaled, `dispatching` that a dispatch is due or has ended, `reconciling` that a
    reconcile run may be due.
    """

    digesting: Wakeup = field(default_factory=Wakeup)
    dispatching: Wakeup = field(default_factory=Wakeup)
    reconciling: Wakeup = field(default_factory=Wakeup)
