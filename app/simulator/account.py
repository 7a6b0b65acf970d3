"""One OneSpan account: its senders, its packages, and what is yet to happen to them."""

from collections import deque
from datetime import datetime
from random import Random

from app.simulator import drafts, histories, people
from app.simulator.packages import Act, Event, Package, perform

CROWD = 8  # packages that live at the same time
SENDERS = 3


class Account:
    """Lives through the histories of its packages, one act a step.

    The same seed makes the same packages live the same lives in the same order; only times come from outside.
    One thread steps; others may read meanwhile, for packages are immutable and replaced whole.
    """

    def __init__(self, seed: int, *, packages: int | None) -> None:
        """`packages`: how many there will be; None: ever more."""
        self._dice = Random(seed)
        self._senders = [people.sender(self._dice) for _ in range(SENDERS)]
        self._packages: dict[str, Package] = {}
        self._plans: dict[str, deque[Act]] = {}
        self._to_begin = packages

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
        return list(self._packages.values())

    def package(self, package_id: str) -> Package | None:
        """One as it stands now; None where there never was one."""
        return self._packages.get(package_id)

    def step(self, now: datetime) -> list[Event]:
        """Let one thing happen and return what OneSpan tells of it, which may be nothing."""
        if self.is_over:
            return []
        package_id = self._next(now)
        plan = self._plans[package_id]
        self._packages[package_id], events = perform(self._packages[package_id], plan.popleft(), now=now)
        if not plan:
            del self._plans[package_id]
        return events

    def _next(self, now: datetime) -> str:
        """Whose turn it is: a new package's while there is room in the crowd, otherwise anybody's."""
        if self._to_begin == 0 or len(self._plans) >= CROWD:
            return self._dice.choice(list(self._plans))
        package = drafts.draft(self._dice, self._senders, now=now)
        self._packages[package.id] = package
        self._plans[package.id] = deque(histories.life(self._dice, package))
        if self._to_begin is not None:
            self._to_begin -= 1
        return package.id
