"""The dispatcher, which runs handlers: it settles the runs that ended, takes due dispatches and starts them.

A run has no transaction. Each handler has its own threads, so a slow or failing handler does not delay the others.
"""

import copy
import dataclasses
import hashlib
import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.util import immutabledict

from app.onespan.values import Event
from app.registry import Handlers
from app.store import dispatches, packages, queries
from app.store.db import Database
from app.store.dispatches import Outcome, TakenDispatch
from app.store.states import DispatchState
from app.types import Clock
from app.work.lane import Lane
from app.work.retry import ATTEMPTS, HandlerRun, failed, poisoned

SUSPECT_LEASES = 2  # number of lease times for which only one dispatch runs that may have killed a process


class Dispatcher:
    """The dispatcher of one process, which runs due dispatches.

    `threads` is the number of concurrent runs of one handler. `lease` is how long a taken dispatch belongs to this
    process unless `renew` is called. `wake` is called when a run has ended, so that the next turn settles it.
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
        self._lanes: dict[str, Lane] = {}
        self._running: dict[int, TakenDispatch] = {}
        self._ended: deque[Outcome] = deque()
        self._unsure: dict[datetime, list[int]] = {}  # ids that failed turns may have taken, by the end of the lease
        self._open = True
        self._suspect: int | None = None  # id of a dispatch that may have killed a process and runs again
        self._suspect_until = datetime.min.replace(tzinfo=UTC)  # no second suspect dispatch starts before
        self._turn_lock = threading.Lock()
        self._count_lock = threading.Lock()
        self._threads_alive = 0
        self.handlers_done = threading.Event()  # set while no handler runs in this process
        self.idle = threading.Event()  # set while no handler runs and every run is settled
        self.handlers_done.set()
        self.idle.set()

    def turn(self) -> int:
        """Settle the runs that ended, take due dispatches and start them. Returns how many there were."""
        with self._turn_lock:
            return self._turn()

    def _turn(self) -> int:
        self._ended.extend(self._stuck())
        ended = [self._ended.popleft() for _ in range(len(self._ended))]
        try:
            runs = self._settle_and_take(ended)
        except Exception:
            self._ended.extend(ended)  # the next turn settles these runs
            raise
        for outcome in ended:
            if self._running.get(outcome.taken.id) == outcome.taken:
                del self._running[outcome.taken.id]
        self._running |= {run.taken.id: run.taken for run in runs}
        if self._running:
            self.idle.clear()
        else:
            self.idle.set()
        for name in {run.taken.handler for run in runs}:
            self._lanes[name].add([run for run in runs if run.taken.handler == name])
        return max(len(ended), len(runs))

    def _stuck(self) -> list[Outcome]:
        """Take back the runs that wait for a thread too long, for other processes. They do not count as attempts."""
        now = self._clock()
        return [
            Outcome(taken, DispatchState.DUE, now, taken.error, counts=False)
            for lane in self._lanes.values()
            for taken in lane.withdraw(stuck=True)
        ]

    def renew(self) -> None:
        """Extend the leases of all running dispatches."""
        with self._turn_lock:  # a turn locks rows in another order, so a concurrent turn could deadlock
            if running := list(self._running.values()):
                with self._database.write() as connection:
                    dispatches.renew(connection, running, until=self._clock() + self._lease)

    def close(self) -> None:
        """Stop taking dispatches. No run starts after this method returns."""
        with self._turn_lock:
            self._open = False
            for lane in self._lanes.values():
                lane.withdraw(stuck=False)  # `hand_back` makes these runs due

    def hand_back(self) -> int:
        """Make unfinished dispatches due for other processes at once. Returns their number.

        An interrupted run does not count as an attempt.
        """
        with self._turn_lock:
            now = self._clock()
            ended = [self._ended.popleft() for _ in range(len(self._ended))]
            ended_ids = {outcome.taken.id for outcome in ended}
            unfinished = [
                Outcome(taken, DispatchState.DUE, now, "interrupted", counts=False)
                for taken in self._running.values()
                if taken.id not in ended_ids
            ]
            if ended or unfinished or self._unsure:
                with self._database.write() as connection:
                    self._give_back(connection, self._unsure, now=now)
                    self._settle(connection, [*ended, *unfinished], now=now)
            self._running.clear()
            self._unsure.clear()
        return len(unfinished)

    def _settle_and_take(self, ended: list[Outcome]) -> list[HandlerRun]:
        now = self._clock()
        with self._database.read() as connection:
            ids = self._due(connection, now=now) if self._open else []
        if not ended and not ids and not self._unsure:
            return []
        unsure = {end: held for end, held in self._unsure.items() if held and end > now}
        self._unsure = unsure | {now + self._lease: ids}  # even a commit that fails may have its effect
        with self._database.write() as connection:
            self._give_back(connection, unsure, now=now)
            taken = dispatches.take(connection, ids, now=now, lease=self._lease) if ids else []
            poison = [poisoned(dispatch, now) for dispatch in taken if dispatch.attempt > ATTEMPTS]
            self._settle(connection, [*ended, *poison], now=now)
        runs = self._prepare_all([dispatch for dispatch in taken if dispatch.attempt <= ATTEMPTS])
        self._unsure = {}
        return runs

    def _give_back(self, connection: Connection, unsure: Mapping[datetime, list[int]], *, now: datetime) -> None:
        """Give back what failed turns may have taken, which no thread runs."""
        for end, held in unsure.items():
            dispatches.give_back(connection, held, lease_end=end, now=now)

    def _due(self, connection: Connection, *, now: datetime) -> list[int]:
        """Return the ids of the dispatches to take.

        An unsettled run of this process is not taken again, even if its lease has ended.
        """
        capacity = {name: free for name in self.handlers if (free := self._lane(name).capacity)}
        ids = dispatches.due(connection, capacity, now=now)
        if self._suspect not in self._running or now >= self._suspect_until:
            suspects = [
                dispatch
                for dispatch in dispatches.suspect(connection, capacity, now=now)
                if dispatch not in self._running
            ]
            self._suspect = suspects[0] if suspects else None
            self._suspect_until = now + SUSPECT_LEASES * self._lease
            ids += suspects
        return [dispatch for dispatch in ids if dispatch not in self._running]

    def _lane(self, handler: str) -> Lane:
        if handler not in self._lanes:
            self._lanes[handler] = Lane(
                handler, threads=self._threads, clock=self._clock, done=self._end, count=self._count_threads
            )
        return self._lanes[handler]

    def _settle(self, connection: Connection, outcomes: list[Outcome], *, now: datetime) -> None:
        if parked := dispatches.settle(connection, outcomes, now=now):
            packages.record_changes(connection, dispatches.parked_changes(connection, parked, now=now), now=now)

    def _prepare_all(self, taken: list[TakenDispatch]) -> list[HandlerRun]:
        """Prepare runs. A dispatch that cannot be prepared counts as a failed attempt, so that it delays no other."""
        try:
            return self._prepare(taken)
        except SQLAlchemyError:
            raise
        except Exception as error:  # noqa: BLE001  (a row that cannot be read)
            if len(taken) > 1:
                return [run for dispatch in taken for run in self._prepare_all([dispatch])]
            (dispatch,) = taken
            fields = {"dispatch_id": dispatch.id, "handler": dispatch.handler, "package_id": dispatch.package_id}
            self._ended.append(failed(dispatch, error, now=self._clock(), **fields))
            return []

    def _prepare(self, taken: list[TakenDispatch]) -> list[HandlerRun]:
        if not taken:
            return []
        with self._database.read() as connection:
            events = queries.handler_events(connection, {dispatch.event_id for dispatch in taken})
            packages = queries.packages(connection, {dispatch.package_id for dispatch in taken})
        return [
            HandlerRun(
                dispatch,
                self.handlers[dispatch.handler],
                _for_handler(events[dispatch.event_id], dispatch),
                packages[dispatch.package_id],
            )
            for dispatch in taken
        ]

    def _end(self, outcome: Outcome) -> None:
        self._ended.append(outcome)
        self._wake()

    def _count_threads(self, change: int) -> None:
        with self._count_lock:
            self._threads_alive += change
            if self._threads_alive:
                self.handlers_done.clear()
            else:
                self.handlers_done.set()


def _for_handler(event: Event, taken: TakenDispatch) -> Event:
    """Return the event with an idempotency key for this handler, derived from the event's fingerprint."""
    key = hashlib.sha256(f"{event.key} {taken.handler}".encode()).hexdigest()[:32]
    return dataclasses.replace(event, key=key, extra=immutabledict(copy.deepcopy(dict(event.extra))))
