"""The response types of the API that the module `queries` does not define."""

from dataclasses import dataclass
from datetime import datetime

from app.store.queries import (
    AccessDetail,
    OneSpanStatus,
    OutageDetail,
    PackageCount,
    ProcessDetail,
    RunDetail,
    Silence,
    UpgradeProgress,
)


@dataclass(frozen=True, slots=True)
class PackageCounts:
    """The number of packages for each combination of type, status, trash and deletion that exists."""

    packages: list[PackageCount]


@dataclass(frozen=True, slots=True)
class ReasonCounts:
    """The number of open attention items for each reason. Counting stops at `counted_to` items per reason."""

    reasons: dict[str, int]
    counted_to: int


@dataclass(frozen=True, slots=True)
class ReplayCount:
    """The number of dispatches that are, or would be, replayed. If `more` is true, further dispatches match."""

    count: int
    more: bool


@dataclass(frozen=True, slots=True)
class FetchQueued:
    """A queued fetch of a package. `is_known` is false if the package is not in the status store yet."""

    package_id: str
    wanted_at: datetime
    is_known: bool


@dataclass(frozen=True, slots=True)
class Dwell:
    """Seconds from a callback's arrival to the end of its handler: percentiles of the most recent `runs` handler runs.

    The percentiles are null if there are no runs.
    """

    runs: int
    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """Work that waits: undigested journal rows, spooled callbacks, and dispatches by state.

    `oldest_undigested` is the age of the oldest undigested row in seconds. `spooled` counts only the spool of the
    machine that answers.
    """

    undigested: int
    oldest_undigested: float
    spooled: int
    due: int
    running: int
    parked: int


@dataclass(frozen=True, slots=True)
class ReconcileStatus:
    """The reconcile run in progress, the last run that is done, the interval in hours, and the time of the next run.

    `next_due_at` is null before the first run, and while the connection to OneSpan is not configured.
    """

    running: RunDetail | None
    last: RunDetail | None
    every_hours: float
    next_due_at: datetime | None


@dataclass(frozen=True, slots=True)
class OneSpanConnection:
    """Whether the connection to OneSpan's REST API is configured, and whether OneSpan responds.

    If the connection is not configured, `is_asked` is false and `why_not` says what is missing.
    """

    is_asked: bool
    why_not: str | None
    reach: OneSpanStatus


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The health report. `reasons` make the service not ready; `notes` are warnings.

    `missed` counts the events of the last 30 days without a callback, by likely cause. `silence` is null while
    callbacks arrive. `access` is null before the first request to OneSpan. `upgrade` is null unless packages are being
    derived again after an upgrade. `unverified` counts the packages that OneSpan does not show to the configured
    credentials. `clock_offset` are the seconds by which OneSpan's clock is ahead; null before its first answer.
    """

    is_ready: bool
    reasons: list[str]
    notes: list[str]
    dwell: Dwell
    backlog: Backlog
    reconciles: ReconcileStatus
    missed: dict[str, int]
    silence: Silence | None
    onespan: OneSpanConnection
    access: AccessDetail | None
    processes: list[ProcessDetail]
    outages: list[OutageDetail]
    upgrade: UpgradeProgress | None
    unverified: int
    clock_offset: float | None
