"""One OneSpan account: its people, its packages, and what is yet to happen to them."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random
from typing import TypeVar

from app.simulator import drafts, people, stories
from app.simulator.actions import BY_SYSTEM, perform
from app.simulator.anomalies import NOTHING_ODD, Rates
from app.simulator.list_view import Shelf
from app.simulator.packages import Act, Event, Impossible, Package
from app.simulator.people import Person
from app.simulator.quirks import USUAL, Quirks

CROWD = 8  # packages that live at the same time
SENDERS = 2  # besides the owner
SYSTEM = {"system": "onespan-system", "null": None}  # what stands for nobody, by quirk

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Registration:
    """Where the account wants its callbacks: the one there is, with one key and one list of events."""

    url: str
    key: str
    events: frozenset[str]


class Account:
    """Lives through the histories of its packages, one act a step; somebody may act by hand meanwhile.

    The same seed makes the same packages live the same lives in the same order; only times come from outside.
    Any number of threads may read and act; packages are immutable and replaced whole.
    """

    def __init__(
        self,
        seed: int,
        *,
        packages: int | None,
        senders: int = SENDERS,
        crowd: int = CROWD,
        quirks: Quirks = USUAL,
        odd: Rates = NOTHING_ODD,
    ) -> None:
        """`packages`: how many there will be, None: ever more; `crowd`: how many live at the same time.

        `senders`: how many there are besides the owner.
        """
        self.quirks = quirks
        self.registration: Registration | None = None
        self.reminders: list[tuple[str, str | None]] = []  # package and role of each reminder that was asked for
        self._dice = Random(seed)
        self.people = tuple(people.sender(self._dice) for _ in range(senders + 1))
        self._odd = odd
        self._packages: dict[str, Package] = {}
        self._plans: dict[str, deque[Act]] = {}
        self._handled: set[str] = set()  # packages whose plan may have become impossible by somebody's hand
        self._to_begin = packages
        self._crowd = crowd
        self._lag = timedelta(seconds=quirks.list_lag)
        self._shelf = Shelf(lag=self._lag)
        self._lock = threading.RLock()

    def hold(self, packages: Iterable[Package]) -> "Account":
        """Take these in as they stand, with nothing before them; returns itself."""
        with self._lock:
            self._packages |= {one.id: one for one in packages}
            self._shelf = Shelf(self._packages.values(), lag=self._lag)
        return self

    @property
    def owner(self) -> Person:
        """Whose account it is."""
        return self.people[0]

    @property
    def is_over(self) -> bool:
        """Every history has come to its end."""
        return self._to_begin == 0 and not self._plans

    @property
    def ended(self) -> int:
        """How many packages have nothing before them any more."""
        return len(self._packages) - len(self._plans)

    def packages(self) -> list[Package]:
        """All of them as they stand now, deleted ones too, in the order they began."""
        with self._lock:
            return list(self._packages.values())

    def package(self, package_id: str) -> Package | None:
        """One as it stands now; None where there never was one."""
        return self._packages.get(package_id)

    def listed(self, ask: Callable[[Shelf], T], *, now: datetime) -> T:
        """What somebody finds who looks at the list, which may be a while late."""
        with self._lock:
            self._shelf.settle(now)
            return ask(self._shelf)

    def step(self, now: datetime) -> list[Event]:
        """Let one thing happen and return what OneSpan tells of it, which may be nothing."""
        with self._lock:
            if self.is_over:
                return []
            package_id = self._next(now)
            plan = self._plans[package_id]
            try:
                return self._do(package_id, plan.popleft(), now)
            except Impossible:
                if package_id not in self._handled:
                    raise
                plan.clear()  # somebody took it into their own hands
                return []
            finally:
                if not plan:
                    del self._plans[package_id]

    def act(self, package_id: str, act: Act, *, now: datetime) -> list[Event]:
        """Somebody does something by hand; returns what OneSpan tells of it.

        Raises `Impossible` where it cannot be done. What was to happen to the package goes on, if it still can.
        """
        with self._lock:
            self._handled.add(package_id)
            return self._do(package_id, act, now)

    def _do(self, package_id: str, act: Act, now: datetime) -> list[Event]:
        before = self._packages[package_id]
        after, events = perform(before, act, now=now)
        self._packages[package_id] = after
        self._shelf.put(after, now=now)
        return [self._spoken(event, act, before) for event in events]

    def _spoken(self, event: Event, act: Act, package: Package) -> Event:
        """With the `sessionUser` that the quirks say."""
        if act.verb in BY_SYSTEM and self.quirks.system_user in SYSTEM:
            return replace(event, session_user=SYSTEM[self.quirks.system_user])
        if self.quirks.session_user == "role":
            roles = {role.person.id: role.id for role in package.roles if role.person and not role.is_sender}
            return replace(event, session_user=roles.get(event.session_user or "", event.session_user))
        return event

    def _next(self, now: datetime) -> str:
        """Whose turn it is: a new package's while there is room in the crowd, otherwise anybody's."""
        if self._to_begin == 0 or len(self._plans) >= self._crowd:
            return self._dice.choice(list(self._plans))
        package = drafts.draft(self._dice, self.people, now=now, odd=self._odd)
        self._packages[package.id] = package
        self._plans[package.id] = deque(stories.life(self._dice, package, odd=self._odd, quirks=self.quirks))
        if self._to_begin is not None:
            self._to_begin -= 1
        return package.id
