"""The worker: one thread for each kind of turn."""

import threading
import time
from collections.abc import Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.logs import error_fields
from app.work.access import AccessCheck
from app.work.digest import Digest
from app.work.dispatch import Dispatcher
from app.work.fetch import Fetcher
from app.work.housekeeping import Heartbeat
from app.work.reconcile import Reconciler
from app.work.scheduler import Scheduler
from app.work.upgrade import Upgrader
from app.work.wakeup import Wakeup, Wakeups

log = structlog.get_logger()

# Pause after a turn for each row or run of it, and at most: when much arrives, much shares a transaction.
DIGEST_GATHER = (0.004, 0.06)
DISPATCH_GATHER = (0.001, 0.02)
POLL_SECONDS = 0.5  # time between turns without a wakeup, which find other processes' callbacks and retries
ACCESS_POLL_SECONDS = 5.0  # time after which the access check may be due
RECONCILE_POLL_SECONDS = 60.0  # longer than other polls, because the scheduler wakes the reconcile turn
UPGRADE_POLL_SECONDS = 5.0  # time between two looks for packages that another version has derived
UPGRADE_PAUSE_SECONDS = 0.2  # pause between two chunks, for callbacks and the digest
BACKOFF_SECONDS = 2.0  # pause after a turn that failed


class TurnThread:
    """A thread that takes one kind of turn while there is work, then waits for a wakeup.

    A turn returns how much work there was. After a turn with work there is a `pause`, and a longer one for more work.
    """

    def __init__(
        self,
        name: str,
        turn: Callable[[], int],
        wakeup: Wakeup,
        *,
        poll: float = POLL_SECONDS,
        pause: float = 0,
        gather: tuple[float, float] = (0, 0),
    ) -> None:
        self._poll = poll
        self._pause = pause
        self._gather = gather
        self._name = name
        self._turn = turn
        self._wakeup = wakeup
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._take_turns, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, *, timeout: float) -> None:
        """Stop the thread after its current turn; wait at most `timeout` seconds for that."""
        self._stopped.set()
        self._wakeup.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _take_turns(self) -> None:
        while not self._stopped.is_set():
            self._wakeup.clear()
            try:
                worked = self._turn()
            except Exception as error:  # noqa: BLE001  (the thread must live: the next turn may succeed)
                log.error("turn.failed", turn=self._name, **error_fields(error))
                self._stopped.wait(BACKOFF_SECONDS)
                continue
            if worked:
                per_item, limit = self._gather
                self._stopped.wait(self._pause + min(worked * per_item, limit))
            else:
                self._wakeup.wait(self._poll)


class Worker:
    """All turns of one process: digest, dispatch, fetch, reconcile, access, and the scheduler's periodic turns."""

    def __init__(
        self,
        digest: Digest,
        dispatcher: Dispatcher,
        *,
        fetcher: Fetcher,
        reconcile: Reconciler,
        upgrader: Upgrader,
        access: AccessCheck,
        scheduler: Scheduler,
        heartbeat: Heartbeat,
        wakeups: Wakeups,
        report_held_lines: Callable[[], None] = lambda: None,
    ) -> None:
        self._dispatcher = dispatcher
        self._scheduler = scheduler
        self._presence = heartbeat
        self._retry_failed = reconcile.expedite
        self._fetching = TurnThread("fetch", fetcher.turn, Wakeup())
        self._reconciling = TurnThread("reconcile", reconcile.turn, wakeups.reconciling, poll=RECONCILE_POLL_SECONDS)
        self._upgrading = TurnThread(
            "upgrade", upgrader.turn, Wakeup(), poll=UPGRADE_POLL_SECONDS, pause=UPGRADE_PAUSE_SECONDS
        )
        self._checking = TurnThread("access", access.turn, Wakeup(), poll=ACCESS_POLL_SECONDS)
        self._digesting = TurnThread("digest", digest.turn, wakeups.digesting, gather=DIGEST_GATHER)
        self._dispatching = TurnThread("dispatch", dispatcher.turn, wakeups.dispatching, gather=DISPATCH_GATHER)
        self._report_held_lines = report_held_lines
        self._started = False

    def start(self) -> None:
        """Start all threads. A server that forks calls this method after the fork."""
        self.start_scheduler()
        self._retry_now()
        self._digesting.start()
        self._dispatching.start()
        self._fetching.start()
        self._reconciling.start()
        self._upgrading.start()
        self._checking.start()
        log.info("worker.started")

    def start_scheduler(self) -> None:
        """Start only the scheduler, in a process that leaves the other turns to workers."""
        self._started = True
        self._first_beat()
        self._scheduler.start()

    def _first_beat(self) -> None:
        try:
            self._presence.beat()
        except SQLAlchemyError as error:  # the scheduler repeats the heartbeat
            log.error("process.unseen", error=type(error).__name__)

    def _retry_now(self) -> None:
        """Retry failed requests at once, because this process may have other settings than the last."""
        try:
            self._retry_failed()
        except SQLAlchemyError as error:  # the requests then wait for their usual delay
            log.error("reconcile.not_hastened", error=type(error).__name__)

    def stop(self, *, grace: float) -> None:
        """Stop taking work, wait up to `grace` seconds for running handlers, and hand back unfinished runs.

        The method does nothing if the worker is not started, or was stopped before.
        """
        if not self._started:
            return
        self._started = False
        deadline = time.monotonic() + grace
        self._dispatcher.close()
        for thread in (self._fetching, self._reconciling, self._checking):
            thread.stop(timeout=1)  # OneSpan may answer slowly; the request is sent again later
        self._upgrading.stop(timeout=1)  # an unfinished chunk is derived again later
        self._digesting.stop(timeout=grace)
        self._dispatcher.handlers_done.wait(max(0, deadline - time.monotonic()))
        self._dispatching.stop(timeout=5)
        try:
            handed_back = self._dispatcher.hand_back()
            self._presence.record_stop()
        except SQLAlchemyError as error:  # other processes take the runs when their leases end
            log.error("worker.stopped", error=type(error).__name__)
        else:
            log.info("worker.stopped", handed_back=handed_back)
        self._scheduler.stop()
        self._report_held_lines()
