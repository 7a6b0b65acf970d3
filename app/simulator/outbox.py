"""Callbacks in transit from OneSpan to the service. Some are dropped, repeated, delayed, reordered or undated.

The module uses no clock and no sockets, and takes random numbers from a given generator. Only `Outbox` has state.
"""

import heapq
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from random import Random
from typing import NamedTuple

from app.simulator import callbacks
from app.simulator.account import Registration
from app.simulator.packages import Event
from app.simulator.quirks import DEFAULT_QUIRKS, Quirks

REORDER_SECONDS = 3.0  # maximum delay of a callback that arrives after later events
REPEAT_SECONDS = 10.0  # maximum time until a repeated callback arrives again


@dataclass(frozen=True, slots=True)
class Mishaps:
    """The probability of each mishap of a callback, from 0 to 1. `delay_by` is the maximum delay in seconds."""

    drop: float = 0.0
    repeat: float = 0.0
    delay: float = 0.0
    reorder: float = 0.0
    undated: float = 0.0
    delay_by: float = 30.0


NO_MISHAPS = Mishaps()
BAD_DAY = Mishaps(drop=0.05, repeat=0.1, delay=0.1, reorder=0.1, undated=0.02)


class OutgoingCallback(NamedTuple):
    """A callback in transit, with its time of arrival, its body and its mishaps."""

    due: datetime
    body: bytes
    mishaps: tuple[str, ...] = ()


def schedule(
    events: Iterable[Event],
    *,
    now: datetime,
    rng: Random,
    mishaps: Mishaps = NO_MISHAPS,
    quirks: Quirks = DEFAULT_QUIRKS,
) -> list[OutgoingCallback]:
    """Return the callbacks of these events with their times of arrival, earliest first.

    A dropped callback is missing; a repeated callback occurs two or three times. Without mishaps all callbacks arrive
    now, in the order of the events.
    """
    outgoing = [callback for event in events for callback in _schedule(event, now, rng, mishaps, quirks)]
    return sorted(outgoing, key=lambda callback: callback.due)


class Outbox:
    """The callbacks in transit, and a count of each mishap. The outbox is thread-safe."""

    def __init__(
        self,
        rng: Random,
        *,
        mishaps: Mishaps = NO_MISHAPS,
        quirks: Quirks = DEFAULT_QUIRKS,
        registered: Callable[[], Registration | None] = lambda: None,
    ) -> None:
        """`registered` returns the callback registration, if any. Only events that the registration names are sent."""
        self.mishap_counts: Counter[str] = Counter()
        self._rng = rng
        self._mishaps = mishaps
        self._quirks = quirks
        self._registered = registered
        self._waiting: list[tuple[datetime, int, bytes]] = []
        self._number = count()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, events: Iterable[Event], *, now: datetime) -> None:
        """Schedule the callbacks of these events."""
        with self._lock:
            wanted = self._wanted(events)
            outgoing = schedule(wanted, now=now, rng=self._rng, mishaps=self._mishaps, quirks=self._quirks)
            self.mishap_counts.update(mishap for callback in outgoing for mishap in callback.mishaps)
            self.mishap_counts["dropped"] += len(wanted) - sum(
                "repeated" not in callback.mishaps for callback in outgoing
            )
            for callback in outgoing:
                heapq.heappush(self._waiting, (callback.due, next(self._number), callback.body))

    def take_due(self, now: datetime) -> list[bytes]:
        """Remove and return the bodies of callbacks that have arrived by `now`, earliest first."""
        with self._lock:
            bodies = []
            while self._waiting and self._waiting[0][0] <= now:
                bodies.append(heapq.heappop(self._waiting)[2])
            return bodies

    @property
    def next_due(self) -> datetime | None:
        """The arrival time of the next callback, or None if no callback is in transit."""
        with self._lock:
            return self._waiting[0][0] if self._waiting else None

    def _wanted(self, events: Iterable[Event]) -> list[Event]:
        registration = self._registered()
        return [event for event in events if registration is None or event.name in registration.events]


def _schedule(event: Event, now: datetime, rng: Random, mishaps: Mishaps, quirks: Quirks) -> Iterator[OutgoingCallback]:
    if rng.random() < mishaps.drop:
        return
    due, mishap_names = now, []
    for name, rate, seconds in (
        ("delayed", mishaps.delay, mishaps.delay_by),
        ("reordered", mishaps.reorder, REORDER_SECONDS),
    ):
        if rng.random() < rate:
            due += timedelta(seconds=rng.uniform(0, seconds))
            mishap_names.append(name)
    if rng.random() < mishaps.undated:
        event = replace(event, at=None)
        mishap_names.append("undated")
    elif quirks.created_date == "sent":
        event = replace(event, at=due)
    body = callbacks.body(event, quirks=quirks)
    yield OutgoingCallback(due, body, tuple(mishap_names))
    if rng.random() < mishaps.repeat:
        for _ in range(rng.randint(1, 2)):
            repeated = callbacks.reformatted(body) if rng.random() < 0.5 else body  # noqa: PLR2004
            yield OutgoingCallback(due + timedelta(seconds=rng.uniform(0, REPEAT_SECONDS)), repeated, ("repeated",))
