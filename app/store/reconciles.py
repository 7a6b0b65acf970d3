"""Reconcile runs: when each began, who requested it, and how far it has come. Only this module writes their table."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.engine import Connection

from app.onespan.claims import MAX_CLOCK_AHEAD
from app.onespan.list_scan import ScanState
from app.store import outages
from app.store.db import take_write_lock
from app.store.models import SOURCE_RECONCILE, Event, Run
from app.store.states import RunKind, RunState

LONGEST_WAIT = timedelta(days=1)  # a `due_at` further in the future was set while a clock was ahead


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a reconcile run has come: the index of its current folder in the run plan, and the `place` in the folder.

    After the last folder, the run requests unlisted packages with ids above `after`. `refused` counts consecutive
    refusals of the current folder, and `unreadable` its rows that could not be parsed. `skipped` names folders that the
    run gave up. `incomplete` names folders that were not listed fully, each with a time; this run or a later run lists
    packages that were updated from that time on (None: all packages). `queued_at` is when all fetches were queued, and
    `open_fetches` counts those still open. `progress_at` is when the run last made progress. `queued_at` and
    `progress_at` are times of this service's clock.
    """

    folder_number: int = 0
    place: ScanState = field(default_factory=ScanState)
    refused: int = 0
    unreadable: int = 0
    after: str = ""
    skipped: tuple[str, ...] = ()
    incomplete: Mapping[str, str | None] = field(default_factory=dict)
    queued_at: str | None = None
    open_fetches: int | None = None
    progress_at: str | None = None

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Progress":
        """Load the stored progress of a run. Members that only another version of this service knows are ignored."""
        place = ScanState(**_known(ScanState, stored.get("place", {})))
        return cls(**{**_known(cls, stored), "place": place, "skipped": tuple(stored.get("skipped", ()))})


def _known(kind: type, stored: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in stored.items() if name in names}


@dataclass(frozen=True, slots=True)
class RunCounts:
    """The counts of one step of a run: requests made; packages listed, changed, queued for a fetch, and unreadable."""

    requests: int = 0
    shown: int = 0
    changed: int = 0
    asked: int = 0
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class TakenRun:
    """A reconcile run leased to this process. Only the holder of `fence` may change the run."""

    id: int
    kind: str
    fires: bool
    since: datetime | None
    until: datetime | None
    began_at: datetime
    attempts: int
    fence: int
    progress: Progress


def running(connection: Connection) -> int | None:
    """Return the id of the reconcile run in progress, or None if no run is in progress."""
    return connection.scalar(select(Run.id).where(Run.state == RunState.RUNNING))


def waiting_reason(connection: Connection) -> str | None:
    """Return why the reconcile run in progress waits and when it continues; None if no error makes it wait."""
    row = connection.execute(select(Run.id, Run.error, Run.due_at).where(Run.state == RunState.RUNNING)).one_or_none()
    if row is None or row.error is None:
        return None
    return f"reconcile {row.id} waits: {row.error}; it goes on at {row.due_at:%H:%M:%S} UTC"


def holder(connection: Connection) -> str | None:
    """Return the name of the process that holds the lease of the reconcile run in progress; None if none does."""
    return connection.scalar(select(Run.process).where(Run.state == RunState.RUNNING))


def last_began(connection: Connection) -> datetime | None:
    """Return when the newest reconcile run began, by the clock of the process that began the run."""
    return connection.scalar(select(Run.began_at).order_by(Run.id.desc()).limit(1))


def last_done_began_at(connection: Connection, *kinds: str) -> datetime | None:
    """Return when the newest completed run of the given kinds began, by the clock of the process that began the run."""
    done = select(Run.began_at).where(Run.kind.in_(kinds), Run.state == RunState.DONE)
    return connection.scalar(done.order_by(Run.id.desc()).limit(1))


def first_import(connection: Connection) -> datetime | None:
    """Return when the first completed import began."""
    found = select(func.min(Run.began_at, type_=Run.began_at.type))
    return connection.scalar(found.where(Run.kind == RunKind.BACKFILL, Run.state == RunState.DONE))


def watermark(connection: Connection, *, now: datetime) -> datetime | None:
    """Return the time of OneSpan's clock up to which all changes are known. Only reconcile runs that are done count.

    `now` is the time of OneSpan's clock. A run whose `until` is in the future does not count, because a clock was ahead
    during that run.
    """
    known = select(func.max(Run.until, type_=Run.until.type)).where(
        Run.state == RunState.DONE, Run.until <= now + MAX_CLOCK_AHEAD
    )
    return connection.scalar(known)


def begin(
    connection: Connection,
    *,
    kind: str,
    reason: str,
    since: datetime | None,
    fires: bool,
    now: datetime,
    by: str | None = None,
) -> int | None:
    """Begin a reconcile run, requested by the person `by`. Returns its id, or None if another run is in progress."""
    take_write_lock(connection)  # the lock ensures that only one of two concurrent callers begins a run
    if running(connection) is not None:
        return None
    row = {
        "kind": kind,
        "reason": reason,
        "state": RunState.RUNNING,
        "fires": fires,
        "by": by,
        "since": since,
        "began_at": now,
        "due_at": now,
        "progress": dataclasses.asdict(_first_progress(connection)),
    }
    return connection.scalar(insert(Run).values(row).returning(Run.id))


def _first_progress(connection: Connection) -> Progress:
    """Return the progress with which a run begins. Its largest page size and incomplete folders are the last run's."""
    stored = connection.scalar(select(Run.progress).order_by(Run.id.desc()).limit(1))
    last = Progress.of(stored or {})
    return Progress(place=ScanState(largest=last.place.largest), incomplete=last.incomplete)


def take(connection: Connection, *, now: datetime, lease: timedelta, process: str) -> TakenRun | None:
    """Lease the reconcile run in progress to this process if it is due or its process is gone. Returns None otherwise.

    A process without a recent heartbeat loses its lease. A process takes its own lease again after a failed turn. A
    wait beyond `LONGEST_WAIT` is ignored, because a clock was ahead. The lease counts as an attempt of the run;
    `advance` resets the count.
    """
    is_lost = outages.has_lost(Run.process, own=process, now=now)
    taken = (
        update(Run)
        .where(Run.state == RunState.RUNNING, or_(Run.due_at <= now, Run.due_at > now + LONGEST_WAIT, is_lost))
        .values(fence=Run.fence + 1, attempts=Run.attempts + 1, due_at=now + lease, process=process)
        .returning(*_TAKEN)
    )
    row = connection.execute(taken).one_or_none()
    return TakenRun(**{**row._asdict(), "progress": Progress.of(row.progress)}) if row else None


def advance(
    connection: Connection,
    run: TakenRun,
    progress: Progress,
    *,
    did: RunCounts,
    until: datetime | None,
    due_at: datetime,
) -> bool:
    """Store the progress of a run. Returns False if the lease of the run was lost; the caller must then roll back."""
    counted = {name: getattr(Run, name) + more for name, more in dataclasses.asdict(did).items()}
    position = {"progress": dataclasses.asdict(progress), "until": until, "due_at": due_at, "process": None}
    return _settle(connection, run, **counted, **position, attempts=0, error=None)


def postpone(connection: Connection, run: TakenRun, *, until: datetime, error: str, progress: Progress) -> None:
    """Store why a reconcile run cannot continue now, and when to try again."""
    stored = dataclasses.asdict(progress)
    _settle(connection, run, due_at=until, error=error, progress=stored, process=None)


def pause(
    connection: Connection, run: TakenRun, *, until: datetime, error: str | None, progress: Progress | None = None
) -> None:
    """Make a run wait for fetches or the request budget, which is no failed attempt. `error` is that of the fetches."""
    stored = {"progress": dataclasses.asdict(progress)} if progress else {}
    _settle(connection, run, due_at=until, attempts=run.attempts - 1, error=error, process=None, **stored)


def finish(
    connection: Connection,
    run: TakenRun,
    *,
    now: datetime,
    until: datetime | None,
    unreadable: int,
    error: str | None = None,
) -> bool:
    """Store that a run is done, until when all changes are known, and how many packages could not be read."""
    total = Run.unreadable + unreadable
    found = _found_between(connection, run.began_at, now)
    return _end(connection, run, RunState.DONE, now=now, until=until, error=error, unreadable=total, found=found)


def fail(connection: Connection, run: TakenRun, *, now: datetime, error: str) -> bool:
    """Mark a run as failed, so that another run can begin. A failed run does not move the watermark."""
    found = _found_between(connection, run.began_at, now)
    return _end(connection, run, RunState.FAILED, now=now, until=None, error=error, found=found)


def _end(connection: Connection, run: TakenRun, state: str, *, now: datetime, **values: Any) -> bool:
    return _settle(connection, run, state=state, finished_at=now, due_at=now, process=None, **values)


def _found_between(connection: Connection, start: datetime, end: datetime) -> int:
    """Return the number of events that snapshots found between two times before any callback reported them."""
    found = select(func.count()).where(
        Event.source == SOURCE_RECONCILE, Event.first_received_at >= start, Event.first_received_at <= end
    )
    return connection.scalar(found) or 0


def expedite(connection: Connection, *, now: datetime) -> bool:
    """Make a waiting reconcile run due now. Returns whether a run was waiting."""
    is_waiting = (Run.state == RunState.RUNNING, Run.process.is_(None), Run.due_at > now)
    return bool(connection.execute(update(Run).where(*is_waiting).values(due_at=now)).rowcount)


def _settle(connection: Connection, run: TakenRun, **values: Any) -> bool:
    """Update a run if this process still holds the run's fence. Returns whether the run was updated."""
    leased = update(Run).where(Run.id == run.id, Run.fence == run.fence, Run.state == RunState.RUNNING)
    return bool(connection.execute(leased.values(values)).rowcount)


_TAKEN = (
    Run.id,
    Run.kind,
    Run.fires,
    Run.since,
    Run.until,
    Run.began_at,
    Run.attempts,
    Run.fence,
    Run.progress,
)
