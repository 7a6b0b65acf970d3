"""What views answer beyond what the reads give."""

from dataclasses import dataclass
from datetime import datetime

from app.store.queries import OutageDetail, PackageCount, ProcessDetail, Reach, RunDetail, Silence


@dataclass(frozen=True, slots=True)
class PackageCounts:
    """How many packages there are of each kind that there is: type, status, in the trash, deleted."""

    packages: list[PackageCount]


@dataclass(frozen=True, slots=True)
class ReasonCounts:
    """How many open ones there are of each reason; of each at most `counted_to` are counted."""

    reasons: dict[str, int]
    counted_to: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """How many runs are due because of this, or would be. `more`: there are more than so many, which were counted."""

    count: int
    more: bool


@dataclass(frozen=True, slots=True)
class ReadWanted:
    """The package will be asked for. `is_known`: we had heard of it; otherwise OneSpan may have it all the same."""

    package_id: str
    wanted_at: datetime
    is_known: bool


@dataclass(frozen=True, slots=True)
class Dwell:
    """Seconds from a callback's arrival to its handler's end, of the `runs` that ended last; null where none did."""

    runs: int
    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits: journal rows (the oldest for so many seconds), callbacks in a spool, and handlers' runs by state.

    `spooled` is of the machine that answers: each has a spool of its own.
    """

    undigested: int
    oldest_undigested: float
    spooled: int
    due: int
    running: int
    parked: int


@dataclass(frozen=True, slots=True)
class Reconciles:
    """The run that is under way, the last that is done, how many hours lie between two, and when the next is due.

    `next_due_at` is null while there was none at all, and while OneSpan cannot be asked.
    """

    running: RunDetail | None
    last: RunDetail | None
    every_hours: float
    next_due_at: datetime | None


@dataclass(frozen=True, slots=True)
class OneSpanSide:
    """Whether OneSpan is asked; `why_not` says what hinders us. And whether it answers."""

    is_asked: bool
    why_not: str | None
    reach: Reach


@dataclass(frozen=True, slots=True)
class Vitals:
    """How the service is. `reasons` make it unready; `notes` are worth a look.

    `missed` counts the facts of the last 30 days that no callback told, by likely cause. `silence` is null while
    callbacks come.
    """

    is_ready: bool
    reasons: list[str]
    notes: list[str]
    dwell: Dwell
    backlog: Backlog
    reconciles: Reconciles
    missed: dict[str, int]
    silence: Silence | None
    onespan: OneSpanSide
    processes: list[ProcessDetail]
    outages: list[OutageDetail]
