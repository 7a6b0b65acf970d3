"""Handlers, and the turn that runs them: settle what has ended, take what is due, start it.

A handler runs in a thread of its own, outside any transaction. Each may work on a few events at once and no
more, so that a slow or failing one takes nothing from the others.
"""

import copy
import dataclasses
import hashlib
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.util import immutabledict

from app.onespan.values import Event
from app.registry import Handlers
from app.store import dispatches, packages, queries
from app.store.db import Database
from app.store.dispatches import Outcome, Taken
from app.types import Clock
from app.work.attempt import ATTEMPTS, RETRIES, Run, attempt, hopeless

log = structlog.get_logger()


SUSPICION = 2  # leases that a run must live before it is no longer suspected of killing processes


class Dispatcher:
    """Runs what is due in this process. `turn` is for one thread at a time; the handlers have their own.

    `threads`: how many events one handler works on at once. `lease`: how long a taken dispatch stays ours
    unless `renew` is called. `wake` is called when a run has ended and wants to be settled.
    """

    def __init__(
        self,
        database: Database,
        handlers: Handlers,
        *,
        clock: Clock,
        threads: int,
        lease: timedelta,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self.handlers = handlers
        self._clock = clock
        self._threads = threads
        self._lease = lease
        self._wake = wake
        self._running: dict[int, Taken] = {}
        self._ended: deque[Outcome] = deque()
        self._open = True
        self._survivor: int | None = None  # under suspicion: one at a time ...
        self._suspected_until = datetime.min.replace(tzinfo=UTC)  # ... until it has shown that it kills nobody
        self._turning = threading.Lock()
        self._counting = threading.Lock()
        self._threads_alive = 0
        self.quiet = threading.Event()  # set while no handler runs here
        self.idle = threading.Event()  # set while, besides, all that ran here is settled
        self.quiet.set()
        self.idle.set()

    def turn(self) -> bool:
        """Settle, take, start. Returns whether there was work."""
        with self._turning:
            return self._turn()

    def _turn(self) -> bool:
        ended = [self._ended.popleft() for _ in range(len(self._ended))]
        try:
            runs = self._settle_and_take(ended)
        except Exception:
            self._ended.extend(ended)  # still true; the next turn tells the database
            raise
        for outcome in ended:
            if self._running.get(outcome.taken.id) == outcome.taken:
                del self._running[outcome.taken.id]
        self._running |= {run.taken.id: run.taken for run in runs}
        if self._running:
            self.idle.clear()
        else:
            self.idle.set()
        for run in runs:
            self._start(run)
        return bool(ended or runs)

    def renew(self) -> None:
        """Keep what still runs ours for another lease."""
        with self._turning:  # a turn settles rows in an order of its own; two at once could wait for one another
            if running := list(self._running.values()):
                with self._database.write() as connection:
                    dispatches.renew(connection, running, until=self._clock() + self._lease)

    def close(self) -> None:
        """Take nothing more; when this returns no new run begins."""
        with self._turning:
            self._open = False

    def hand_back(self) -> int:
        """Make due for others, at once, what has not ended here; being interrupted is no attempt. Returns how many."""
        with self._turning:
            now = self._clock()
            ended = [self._ended.popleft() for _ in range(len(self._ended))]
            known = {outcome.taken.id for outcome in ended}
            unfinished = [
                Outcome(taken, "due", now, "interrupted", counts=False)
                for taken in self._running.values()
                if taken.id not in known
            ]
            if ended or unfinished:
                with self._database.write() as connection:
                    self._settle(connection, [*ended, *unfinished], now=now)
            self._running.clear()
        return len(unfinished)

    def _settle_and_take(self, ended: list[Outcome]) -> list[Run]:
        now = self._clock()
        with self._database.read() as connection:
            wanted = self._wanted(connection, ended, now=now) if self._open else []
        if not ended and not wanted:
            return []
        with self._database.write() as connection:
            taken = dispatches.take(connection, wanted, now=now, lease=self._lease) if wanted else []
            dead = [hopeless(one, now) for one in taken if one.attempt > ATTEMPTS]
            self._settle(connection, [*ended, *dead], now=now)
        return self._prepare([one for one in taken if one.attempt <= ATTEMPTS])

    def _wanted(self, connection: Connection, ended: list[Outcome], *, now: datetime) -> list[int]:
        """What to take; never what runs or ran here and was not settled yet, even if its lease has ended."""
        room = self._room(ended)
        wanted = dispatches.due(connection, room, now=now)
        if self._survivor not in self._running or now >= self._suspected_until:
            survivors = [one for one in dispatches.survivor(connection, room, now=now) if one not in self._running]
            self._survivor = survivors[0] if survivors else None
            self._suspected_until = now + SUSPICION * self._lease
            wanted += survivors
        return [one for one in wanted if one not in self._running]

    def _settle(self, connection: Connection, outcomes: list[Outcome], *, now: datetime) -> None:
        if parked := dispatches.settle(connection, outcomes, now=now):
            packages.record(connection, dispatches.parked_changes(connection, parked, now=now), now=now)

    def _room(self, ended: list[Outcome]) -> dict[str, int]:
        busy = [taken.handler for taken in self._running.values()]
        idle = [outcome.taken.handler for outcome in ended]
        room = {name: self._threads - busy.count(name) + idle.count(name) for name in self.handlers}
        return {name: places for name, places in room.items() if places > 0}

    def _prepare(self, taken: list[Taken]) -> list[Run]:
        if not taken:
            return []
        try:
            with self._database.read() as connection:
                events = queries.facts(connection, {one.event_id for one in taken})
                packages = queries.packages(connection, {one.package_id for one in taken})
        except SQLAlchemyError:
            self._running |= {one.id: one for one in taken}
            self._ended.extend(self._not_begun(one, "the database was away") for one in taken)
            raise
        return [
            Run(one, self.handlers[one.handler], _for_handler(events[one.event_id], one), packages[one.package_id])
            for one in taken
        ]

    def _start(self, run: Run) -> None:
        thread = threading.Thread(target=self._run, args=(run,), name=f"handler {run.taken.handler}", daemon=True)
        self._one_thread_more(1)
        try:
            thread.start()
        except RuntimeError:  # the machine has no thread left for us
            self._one_thread_more(-1)
            log.error("handler.not_started", handler=run.taken.handler)
            self._ended.append(self._not_begun(run.taken, "the machine had no thread left"))

    def _not_begun(self, taken: Taken, why: str) -> Outcome:
        return Outcome(taken, "due", self._clock() + RETRIES[0], why, counts=False)

    def _run(self, run: Run) -> None:
        self._ended.append(attempt(run, now=self._clock))
        self._one_thread_more(-1)
        self._wake()

    def _one_thread_more(self, more: int) -> None:
        with self._counting:
            self._threads_alive += more
            if self._threads_alive:
                self.quiet.clear()
            else:
                self.quiet.set()


def _for_handler(event: Event, taken: Taken) -> Event:
    """The event with a key of this handler's own; rows know facts by their fingerprint."""
    key = hashlib.sha256(f"{event.key} {taken.handler}".encode()).hexdigest()[:32]
    return dataclasses.replace(event, key=key, extra=immutabledict(copy.deepcopy(dict(event.extra))))
