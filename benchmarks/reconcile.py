"""What reconcile costs as the account grows: requests, seconds, and the service's memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.onespan.list_scan import FOLDERS, PAGE
from benchmarks.servers import Databases, companion

KINDS = ("sqlite", "postgresql")
AIM_MEMORY, AIM_TIME = 50, 1.5  # MB more than with the fewest packages; times as long for each package
IMPORT, WALK, WINDOW, CHANGED = "first import", "unchanged, all", "unchanged, window", "1 % changed, window"
RUNS = (IMPORT, WALK, WINDOW, CHANGED)


@dataclass(frozen=True)
class Cost:
    """What one run cost: requests for the list and for single packages, seconds, and CPU of the service.

    `peak`: the most memory, in MB, that the service's process had until then.
    """

    lists: int
    reads: int
    shown: int
    seconds: float
    cpu: float
    peak: float

    @property
    def each(self) -> float:
        """Milliseconds for each package that the list showed."""
        return self.seconds * 1000 / max(1, self.shown)

    @property
    def most(self) -> int:
        """List requests it may make: in each folder one for each 100 packages, begun or whole, and one more."""
        return self.shown // PAGE + 2 * len(FOLDERS)

    @property
    def is_cheap(self) -> bool:
        """It made no more of them, and read no package singly."""
        return self.lists <= self.most and self.reads == 0

    def __str__(self) -> str:
        cpu = self.cpu * 1000 / max(1, self.shown)
        asked = f"{self.lists:>7}{self.reads:>7}{self.shown:>9}"
        return f"{asked}{self.seconds:>9.2f}{self.each:>9.2f}{cpu:>8.2f}{self.peak:>9.1f}"


Costs = dict[tuple[str, int, str], Cost]  # by database, packages and run


def run(databases: Databases, *, sizes: Sequence[int]) -> bool:
    """Measure each size on both databases, and print. Returns whether the aims were met."""
    print("\nReconcile: a simulated account with 4 folders over HTTP, pages of 100; it and the service a process each")
    print(
        f"  {'':<12}{'packages':<10}{'':<20}{'lists':>7}{'reads':>7}{'shown':>9}"
        f"{'s':>9}{'ms each':>9}{'cpu ms':>8}{'peak MB':>9}"
    )
    costs = {place: cost for size in sizes for place, cost in _measured(databases, size)}
    met = [cost.is_cheap for (_, _, name), cost in costs.items() if name in (WALK, WINDOW)]
    met += [aim for kind in KINDS for aim in _judge(kind, costs, sizes)]
    print(f"  With a list of summaries each package is read once, {sizes[0]} packages:")
    summaries = dict(_measured(databases, sizes[0], kinds=KINDS[:1], items="summary"))
    met += [cost.is_cheap for (_, _, name), cost in summaries.items() if name in (WALK, WINDOW)]
    return all(met)


def _measured(
    databases: Databases, size: int, *, kinds: Sequence[str] = KINDS, items: str = "whole"
) -> Iterator[tuple[tuple[str, int, str], Cost]]:
    with companion("benchmarks.account", packages=size, items=items) as onespan:
        for kind in kinds:
            address, name = onespan.said["address"], f"{kind}, {size} packages"
            with (
                databases.fresh(kind) as url,
                companion("benchmarks.reconcile_service", database=url, onespan=address, name=name) as service,
            ):
                for one in RUNS:
                    onespan.ask(change=size // 100 if one == CHANGED else 0)
                    said = service.ask(run=one, backfill=one in (IMPORT, WALK))
                    cost = Cost(**onespan.ask(), **said)
                    print(f"  {kind:<12}{size:<10}{one:<20}{cost}{_mark(cost) if one in (WALK, WINDOW) else ''}")
                    yield (kind, size, one), cost


def _mark(cost: Cost) -> str:
    return f"   (aim {cost.most} lists, 0 reads: {'met' if cost.is_cheap else 'MISSED'})"


def _judge(kind: str, costs: Costs, sizes: Sequence[int]) -> Iterator[bool]:
    few, many = sizes[0], sizes[-1]
    more = max(costs[kind, many, one].peak for one in RUNS) - max(costs[kind, few, one].peak for one in RUNS)
    longer = [costs[kind, many, one].each / costs[kind, few, one].each for one in (IMPORT, WALK)]
    met = (more <= AIM_MEMORY, max(longer) <= AIM_TIME)
    marks = ["met" if aim else "MISSED" for aim in met]
    print(
        f"  {kind:<12}{many} beside {few}: {more:+.1f} MB (aim {AIM_MEMORY}: {marks[0]}); for each package "
        f"{longer[0]:.2f} times as long to import, {longer[1]:.2f} to find unchanged (aim {AIM_TIME}: {marks[1]})"
    )
    yield from met
