"""The list of an account's packages: sorted, and with the delay that the quirk `list_lag` sets."""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from app.simulator.packages import Package

IndexEntry = tuple[Any, str, Package]  # sort key, package id, package; unique ids, so sorting never compares packages
MAX_CACHED_QUERIES = 16
LATEST = datetime.max.replace(tzinfo=UTC)
SORTS: Mapping[str, Callable[[Package], Any]] = MappingProxyType(
    {
        "created": lambda package: package.created,
        "updated": lambda package: package.updated,
        "completed": lambda package: package.completed or LATEST,
        "due": lambda package: package.due or LATEST,
        "name": lambda package: package.name,
        "status": lambda package: package.status,
    }
)


class ListView:
    """The list of packages that are not deleted, with an index for each sort key that a query has used.

    A change of a package becomes visible after `lag`. The list is not thread-safe.
    """

    def __init__(self, packages: Iterable[Package] = (), *, lag: timedelta = timedelta(0)) -> None:
        self._lag = lag
        self._visible = {package.id: package for package in packages if not package.deleted}
        self._pending: deque[tuple[datetime, Package]] = deque()
        self._indexes: dict[str, list[IndexEntry]] = {}
        self._cache: dict[Hashable, Sequence[Package]] = {}

    def put(self, package: Package, *, now: datetime) -> None:
        """Record a changed package, which the list shows after the delay."""
        if self._lag:
            self._pending.append((now + self._lag, package))
        else:
            self._publish(package)

    def publish_due(self, now: datetime) -> None:
        """Let the list show the changed packages whose delay has passed."""
        while self._pending and self._pending[0][0] <= now:
            self._publish(self._pending.popleft()[1])

    def index(self, sort: str) -> list[IndexEntry]:
        """Return all entries in ascending order of the sort key, read-only and valid until the next change."""
        if sort not in self._indexes:
            self._indexes[sort] = sorted(_index_entry(sort, package) for package in self._visible.values())
        return self._indexes[sort]

    def cached(self, key: Hashable, compute: Callable[[], Sequence[Package]]) -> Sequence[Package]:
        """Return the result of a query, which is computed only once until the list changes."""
        if key not in self._cache:
            if len(self._cache) >= MAX_CACHED_QUERIES:
                self._cache.clear()
            self._cache[key] = compute()
        return self._cache[key]

    def _publish(self, package: Package) -> None:
        self._cache.clear()
        before = self._visible.pop(package.id, None)
        for sort, index in self._indexes.items():
            if before:
                del index[bisect_left(index, _index_entry(sort, before)[:2])]
            if not package.deleted:
                insort(index, _index_entry(sort, package))
        if not package.deleted:
            self._visible[package.id] = package


def _index_entry(sort: str, package: Package) -> IndexEntry:
    return SORTS[sort](package), package.id, package
