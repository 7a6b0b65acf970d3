"""The worker: threads that take turns until told to stop."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.logs import what_and_where
from app.work.digest import Digest
from app.work.dispatch import Dispatcher
from app.work.fetch import Refresh
from app.work.housekeeping import Presence
from app.work.reconcile import Reconcile
from app.work.scheduler import Scheduler

log = structlog.get_logger()

POLL = 0.5  # seconds between two looks for work that nobody woke us for: other processes' callbacks, retries
OFFERED = 60.0  # the same for what the scheduler offers by itself
BACK_OFF = 2.0  # seconds of rest after a turn that failed


class Pump:
    """A thread that takes one kind of turn for as long as there is work, then waits for its bell."""

    def __init__(self, name: str, turn: Callable[[], bool], bell: threading.Event, *, poll: float = POLL) -> None:
        self._poll = poll
        self._name = name
        self._turn = turn
        self._bell = bell
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._pump, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, *, timeout: float) -> None:
        """End after the turn under way."""
        self._stopped.set()
        self._bell.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _pump(self) -> None:
        while not self._stopped.is_set():
            self._bell.clear()
            try:
                worked = self._turn()
            except Exception as error:  # noqa: BLE001  (the next turn may do better; the thread must live)
                log.error("turn.failed", turn=self._name, **what_and_where(error))
                self._stopped.wait(BACK_OFF)
                continue
            if not worked:
                self._bell.wait(self._poll)


@dataclass(frozen=True, slots=True)
class Bells:
    """Who rings says what there is to do.

    `digesting`: something was journaled; `dispatching`: a dispatch is due, or has ended; `reconciling`: it is time to
    look whether OneSpan is to be asked.
    """

    digesting: threading.Event = field(default_factory=threading.Event)
    dispatching: threading.Event = field(default_factory=threading.Event)
    reconciling: threading.Event = field(default_factory=threading.Event)


class Worker:
    """All turns of one process: digest, dispatch, refresh, reconcile, and what the scheduler offers."""

    def __init__(
        self,
        digest: Digest,
        dispatcher: Dispatcher,
        *,
        refresh: Refresh,
        reconcile: Reconcile,
        scheduler: Scheduler,
        presence: Presence,
        bells: Bells,
    ) -> None:
        self._dispatcher = dispatcher
        self._scheduler = scheduler
        self._presence = presence
        self._hasten = reconcile.hasten
        self._reading = Pump("refresh", refresh.turn, threading.Event())
        self._reconciling = Pump("reconcile", reconcile.turn, bells.reconciling, poll=OFFERED)
        self._digesting = Pump("digest", digest.turn, bells.digesting)
        self._dispatching = Pump("dispatch", dispatcher.turn, bells.dispatching)
        self._started = False

    def start(self) -> None:
        """Begin taking turns. Call it after any fork."""
        self.start_upkeep()
        self._try_again()
        self._digesting.start()
        self._dispatching.start()
        self._reading.start()
        self._reconciling.start()
        log.info("worker.started")

    def start_upkeep(self) -> None:
        """Begin only with what the scheduler offers, in a process that leaves the work to others."""
        self._started = True
        self._greet()
        self._scheduler.start()

    def _greet(self) -> None:
        try:
            self._presence.beat()
        except SQLAlchemyError as error:  # the scheduler says it again
            log.error("process.unseen", error=type(error).__name__)

    def _try_again(self) -> None:
        """What failed may have failed for want of the settings that we begin with."""
        try:
            self._hasten()
        except SQLAlchemyError as error:  # then it waits as long as it would have
            log.error("reconcile.not_hastened", error=type(error).__name__)

    def stop(self, *, grace: float) -> None:
        """Take nothing more, give running handlers `grace` seconds to end, hand back what has not. Once is enough."""
        if not self._started:
            return
        self._started = False
        deadline = time.monotonic() + grace
        self._dispatcher.close()
        for asking in (self._reading, self._reconciling):
            asking.stop(timeout=1)  # OneSpan may take long; what it was about to tell is asked again
        self._digesting.stop(timeout=grace)
        self._dispatcher.quiet.wait(max(0, deadline - time.monotonic()))
        self._dispatching.stop(timeout=5)
        try:
            handed_back = self._dispatcher.hand_back()
            self._presence.say_goodbye()
        except SQLAlchemyError as error:  # the leases end by themselves
            log.error("worker.stopped", error=type(error).__name__)
        else:
            log.info("worker.stopped", handed_back=handed_back)
        self._scheduler.stop()
