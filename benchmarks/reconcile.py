"""The benchmark of a reconcile run as the account grows: requests, seconds, and the service's memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.onespan.list_scan import FOLDERS, PAGE_SIZE
from benchmarks.child_process import start_child
from benchmarks.servers import Databases

KINDS = ("sqlite", "postgresql")
AIM_MEMORY_MB = 50  # the largest account may need this much more memory than the smallest account
# A package of the largest account may take this many times as long as a package of the smallest account.
AIM_TIME_RATIO = 1.5
IMPORT, FULL_RUN, RECENT_RUN, CHANGED_RUN = "first import", "unchanged, all", "unchanged, recent", "1 % changed, recent"
RUNS = (IMPORT, FULL_RUN, RECENT_RUN, CHANGED_RUN)


@dataclass(frozen=True)
class Cost:
    """What one reconcile run cost: list requests, fetches of single packages, seconds, and CPU seconds of the service.

    `listed` is the number of packages that the list returned. `peak_mb` is the highest memory use of the service's
    process so far.
    """

    lists: int
    fetches: int
    listed: int
    seconds: float
    cpu: float
    peak_mb: float

    @property
    def ms_per_package(self) -> float:
        """The milliseconds of the run divided by the number of packages that the list returned."""
        return self.seconds * 1000 / max(1, self.listed)

    @property
    def max_lists(self) -> int:
        """The allowed number of list requests: one for each page of 100 packages, and two more for each folder."""
        return self.listed // PAGE_SIZE + 2 * len(FOLDERS)

    @property
    def is_cheap(self) -> bool:
        """Whether the run made at most `max_lists` list requests and no fetch."""
        return self.lists <= self.max_lists and self.fetches == 0

    def __str__(self) -> str:
        cpu = self.cpu * 1000 / max(1, self.listed)
        requests = f"{self.lists:>7}{self.fetches:>9}{self.listed:>9}"
        return f"{requests}{self.seconds:>9.2f}{self.ms_per_package:>9.2f}{cpu:>8.2f}{self.peak_mb:>9.1f}"


Costs = dict[tuple[str, int, str], Cost]  # costs by database kind, number of packages and run


def run(databases: Databases, *, sizes: Sequence[int]) -> bool:
    """Measure each account size on both databases and print the results. Returns whether the aims were met."""
    print(
        "\nReconcile: a simulated account with 4 folders over HTTP, pages of 100; account and service in own processes"
    )
    print(
        f"  {'':<12}{'packages':<10}{'':<20}{'lists':>7}{'fetches':>9}{'listed':>9}"
        f"{'s':>9}{'ms each':>9}{'cpu ms':>8}{'peak MB':>9}"
    )
    costs = {key: cost for size in sizes for key, cost in _measure(databases, size)}
    met = [cost.is_cheap for (_, _, name), cost in costs.items() if name in (FULL_RUN, RECENT_RUN)]
    met += [aim for kind in KINDS for aim in _check_growth(kind, costs, sizes)]
    print(f"  With a list of summaries each package is fetched once, {sizes[0]} packages:")
    summaries = dict(_measure(databases, sizes[0], kinds=KINDS[:1], items="summary"))
    met += [cost.is_cheap for (_, _, name), cost in summaries.items() if name in (FULL_RUN, RECENT_RUN)]
    return all(met)


def _measure(
    databases: Databases, size: int, *, kinds: Sequence[str] = KINDS, items: str = "whole"
) -> Iterator[tuple[tuple[str, int, str], Cost]]:
    with start_child("benchmarks.account", packages=size, items=items) as onespan:
        for kind in kinds:
            address, label = onespan.ready_message["address"], f"{kind}, {size} packages"
            with (
                databases.fresh(kind) as url,
                start_child("benchmarks.reconcile_service", database=url, onespan=address, label=label) as service,
            ):
                for name in RUNS:
                    onespan.request(change=size // 100 if name == CHANGED_RUN else 0)
                    measured = service.request(run=name, backfill=name in (IMPORT, FULL_RUN))
                    cost = Cost(**onespan.request(), **measured)
                    aim = _aim_text(cost) if name in (FULL_RUN, RECENT_RUN) else ""
                    print(f"  {kind:<12}{size:<10}{name:<20}{cost}{aim}")
                    yield (kind, size, name), cost


def _aim_text(cost: Cost) -> str:
    return f"   (aim {cost.max_lists} lists, 0 fetches: {'met' if cost.is_cheap else 'MISSED'})"


def _check_growth(kind: str, costs: Costs, sizes: Sequence[int]) -> Iterator[bool]:
    smallest, largest = ({name: costs[kind, size, name] for name in RUNS} for size in (sizes[0], sizes[-1]))
    memory = max(cost.peak_mb for cost in largest.values()) - max(cost.peak_mb for cost in smallest.values())
    ratios = [largest[name].ms_per_package / smallest[name].ms_per_package for name in (IMPORT, FULL_RUN)]
    met = (memory <= AIM_MEMORY_MB, max(ratios) <= AIM_TIME_RATIO)
    marks = ["met" if aim else "MISSED" for aim in met]
    print(
        f"  {kind:<12}{sizes[-1]} packages beside {sizes[0]}: memory {memory:+.1f} MB "
        f"(aim {AIM_MEMORY_MB}: {marks[0]}); time per package {ratios[0]:.2f} times as long to import, "
        f"{ratios[1]:.2f} to compare unchanged (aim {AIM_TIME_RATIO}: {marks[1]})"
    )
    yield from met
