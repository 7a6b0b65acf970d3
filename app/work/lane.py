"""The threads of one handler in one process, and the runs that wait for them."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

import structlog

from app.store.dispatches import Outcome, TakenDispatch
from app.types import Clock
from app.work.retry import HandlerRun, attempt, not_started

log = structlog.get_logger()

QUICK_SECONDS = 0.01  # a handler is quick if its runs take less than this, on average
AHEAD = 40  # runs of a quick handler that a process takes at once, so that they share its transactions
STUCK_SECONDS = 1.0  # after this time without progress, other processes get the runs that wait
FIRST_SECONDS = 1.0  # how long the first run of a handler is taken to last
SMOOTHING = 8  # the number of runs that the average is about


class Lane:
    """Runs one handler in up to `threads` threads, which end when no run waits.

    `done` is called with each outcome; `count` with 1 when a thread starts and with -1 after it has ended.
    """

    def __init__(
        self, handler: str, *, threads: int, clock: Clock, done: Callable[[Outcome], None], count: Callable[[int], None]
    ) -> None:
        self._handler = handler
        self._threads = threads
        self._clock = clock
        self._done = done
        self._count = count
        self._waiting: deque[HandlerRun] = deque()
        self._busy = 0
        self._lock = threading.Lock()
        self._seconds = FIRST_SECONDS
        self._moved_at = 0.0

    @property
    def capacity(self) -> int:
        """The number of runs to take: one for each free thread, and more if the handler is quick."""
        free = self._threads - self._busy
        return max(free, AHEAD) if free and self._seconds < QUICK_SECONDS else free

    def add(self, runs: Iterable[HandlerRun]) -> None:
        """Start the runs, each as soon as a thread is free."""
        with self._lock:
            self._waiting.extend(runs)
            self._moved_at = time.monotonic()
            new = min(self._threads - self._busy, len(self._waiting))
            self._busy += new
        for _ in range(new):
            self._start_thread()

    def withdraw(self, *, stuck: bool) -> list[TakenDispatch]:
        """Take back the runs that have not begun; with `stuck` only if no run has begun for `STUCK_SECONDS`."""
        with self._lock:
            if stuck and time.monotonic() - self._moved_at < STUCK_SECONDS:
                return []
            waiting = [run.taken for run in self._waiting]
            self._waiting.clear()
        return waiting

    def _start_thread(self) -> None:
        self._count(1)
        thread = threading.Thread(target=self._work, name=f"handler {self._handler}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the machine has no thread left
            log.error("handler.not_started", handler=self._handler)
            with self._lock:
                self._busy -= 1
                refused = [self._waiting.popleft()] if self._waiting else []
            for run in refused:
                self._done(not_started(run.taken, now=self._clock()))
            self._count(-1)

    def _work(self) -> None:
        while run := self._next():
            began = time.monotonic()
            outcome = attempt(run, now=self._clock)
            self._seconds += (time.monotonic() - began - self._seconds) / SMOOTHING
            self._done(outcome)
        self._count(-1)

    def _next(self) -> HandlerRun | None:
        with self._lock:
            self._moved_at = time.monotonic()
            if self._waiting:
                return self._waiting.popleft()
            self._busy -= 1
            return None
