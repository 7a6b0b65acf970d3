"""The packages of an account as its list shows them: in any order, at once, and a while late where it is so."""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from app.simulator.packages import Package

Entry = tuple[Any, str, Package]  # what is sorted by, and the id where that is the same; a package is never compared
KEPT = 16  # answers that are remembered until something changes
LAST = datetime.max.replace(tzinfo=UTC)
SORTS: Mapping[str, Callable[[Package], Any]] = MappingProxyType(
    {
        "created": lambda one: one.created,
        "updated": lambda one: one.updated,
        "completed": lambda one: one.completed or LAST,
        "due": lambda one: one.due or LAST,
        "name": lambda one: one.name,
        "status": lambda one: one.status,
    }
)


class Shelf:
    """Keeps an index of each order from the first time it is asked for; deleted packages are not on it.

    A change is seen when `lag` has passed since. For one thread at a time.
    """

    def __init__(self, packages: Iterable[Package] = (), *, lag: timedelta = timedelta(0)) -> None:
        self._lag = lag
        self._shown = {one.id: one for one in packages if not one.deleted}
        self._settling: deque[tuple[datetime, Package]] = deque()
        self._indexes: dict[str, list[Entry]] = {}
        self._answers: dict[Hashable, Sequence[Package]] = {}

    def put(self, package: Package, *, now: datetime) -> None:
        """A package has changed."""
        if self._lag:
            self._settling.append((now + self._lag, package))
        else:
            self._show(package)

    def settle(self, now: datetime) -> None:
        """Show what has waited long enough."""
        while self._settling and self._settling[0][0] <= now:
            self._show(self._settling.popleft()[1])

    def index(self, sort: str) -> list[Entry]:
        """All of them in that order, upwards. Only to be read, and only until the next change."""
        if sort not in self._indexes:
            self._indexes[sort] = sorted(_entry(sort, one) for one in self._shown.values())
        return self._indexes[sort]

    def remembered(self, question: Hashable, answer: Callable[[], Sequence[Package]]) -> Sequence[Package]:
        """The answer to a question, found only once while nothing changes."""
        if question not in self._answers:
            if len(self._answers) >= KEPT:
                self._answers.clear()
            self._answers[question] = answer()
        return self._answers[question]

    def _show(self, package: Package) -> None:
        self._answers.clear()
        before = self._shown.pop(package.id, None)
        for sort, index in self._indexes.items():
            if before:
                del index[bisect_left(index, _entry(sort, before)[:2])]
            if not package.deleted:
                insort(index, _entry(sort, package))
        if not package.deleted:
            self._shown[package.id] = package


def _entry(sort: str, one: Package) -> Entry:
    return SORTS[sort](one), one.id, one
