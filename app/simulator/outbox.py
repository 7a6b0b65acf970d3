"""What becomes of callbacks between OneSpan and us: dropped, repeated, delayed, reordered, undated.

Pure but for the `Outbox`, which only remembers what is on its way: no clock, no sockets, and all chance from the dice.
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
from app.simulator.quirks import USUAL, Quirks

OVERTAKEN = 3.0  # seconds: reordered callbacks come up to so much later, after those that happened meanwhile
AGAIN = 10.0  # seconds within which a repeated callback comes again


@dataclass(frozen=True, slots=True)
class Mishaps:
    """How often each happens to a callback, from 0 to 1; `delay_by`: how many seconds late, at most."""

    drop: float = 0.0
    repeat: float = 0.0
    delay: float = 0.0
    reorder: float = 0.0
    undated: float = 0.0
    delay_by: float = 30.0


NO_MISHAPS = Mishaps()
BAD_DAY = Mishaps(drop=0.05, repeat=0.1, delay=0.1, reorder=0.1, undated=0.02)


class Letter(NamedTuple):
    """A callback on its way: when it arrives, its body, and what befell it."""

    due: datetime
    body: bytes
    mishaps: tuple[str, ...] = ()


def carry(
    events: Iterable[Event], *, now: datetime, dice: Random, mishaps: Mishaps = NO_MISHAPS, quirks: Quirks = USUAL
) -> list[Letter]:
    """The callbacks that tell of these events, each with the time at which it arrives, earliest first.

    A dropped one is not among them, a repeated one is there two or three times. Without mishaps all arrive now, in
    the order in which they happened.
    """
    letters = [letter for event in events for letter in _carried(event, now, dice, mishaps, quirks)]
    return sorted(letters, key=lambda letter: letter.due)


class Outbox:
    """The callbacks on their way, and how many met which mishap. Any number of threads may use it."""

    def __init__(
        self,
        dice: Random,
        *,
        mishaps: Mishaps = NO_MISHAPS,
        quirks: Quirks = USUAL,
        registered: Callable[[], Registration | None] = lambda: None,
    ) -> None:
        """`registered`: where a registration says which events are wanted, only those are sent."""
        self.befallen: Counter[str] = Counter()
        self._dice = dice
        self._mishaps = mishaps
        self._quirks = quirks
        self._registered = registered
        self._waiting: list[tuple[datetime, int, bytes]] = []
        self._number = count()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, events: Iterable[Event], *, now: datetime) -> None:
        """These have happened."""
        with self._lock:
            wanted = self._wanted(events)
            letters = carry(wanted, now=now, dice=self._dice, mishaps=self._mishaps, quirks=self._quirks)
            self.befallen.update(mishap for letter in letters for mishap in letter.mishaps)
            self.befallen["dropped"] += len(wanted) - sum("repeated" not in letter.mishaps for letter in letters)
            for letter in letters:
                heapq.heappush(self._waiting, (letter.due, next(self._number), letter.body))

    def due(self, now: datetime) -> list[bytes]:
        """Take out the bodies of those that arrive by now, earliest first."""
        with self._lock:
            bodies = []
            while self._waiting and self._waiting[0][0] <= now:
                bodies.append(heapq.heappop(self._waiting)[2])
            return bodies

    @property
    def next_due(self) -> datetime | None:
        """When the next one arrives; None where nothing is on its way."""
        with self._lock:
            return self._waiting[0][0] if self._waiting else None

    def _wanted(self, events: Iterable[Event]) -> list[Event]:
        registration = self._registered()
        return [event for event in events if registration is None or event.name in registration.events]


def _carried(event: Event, now: datetime, dice: Random, mishaps: Mishaps, quirks: Quirks) -> Iterator[Letter]:
    if dice.random() < mishaps.drop:
        return
    due, befell = now, []
    for name, rate, seconds in (
        ("delayed", mishaps.delay, mishaps.delay_by),
        ("reordered", mishaps.reorder, OVERTAKEN),
    ):
        if dice.random() < rate:
            due += timedelta(seconds=dice.uniform(0, seconds))
            befell.append(name)
    if dice.random() < mishaps.undated:
        event = replace(event, at=None)
        befell.append("undated")
    elif quirks.created_date == "sent":
        event = replace(event, at=due)
    body = callbacks.body(event, quirks=quirks)
    yield Letter(due, body, tuple(befell))
    if dice.random() < mishaps.repeat:
        for _ in range(dice.randint(1, 2)):
            again = callbacks.by_hand(body) if dice.random() < 0.5 else body  # noqa: PLR2004
            yield Letter(due + timedelta(seconds=dice.uniform(0, AGAIN)), again, ("repeated",))
