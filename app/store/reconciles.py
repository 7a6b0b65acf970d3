"""The run ledger: when OneSpan was asked what changed, by whom, and how far that has come. Their only writer."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import exists, func, insert, or_, select, update
from sqlalchemy.engine import Connection

from app.onespan.claims import AHEAD
from app.onespan.list_scan import Place
from app.store.db import take_pen
from app.store.models import FOUND, Event, Process, Run
from app.store.outages import LIVELY

RECONCILE, SWEEP, BACKFILL = "reconcile", "sweep", "backfill"
RUNNING, DONE, FAILED = "running", "done", "failed"
LONG = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run has come to: the leg of its way and the place there; after the last leg, the packages `after` one.

    This leg was `refused` so many times in a row; `left_out` are the folders that were refused for good, and `behind`
    those that were not shown us since: what was updated from then on (None: ever) is to be seen there, by this run or
    by one after it. `walked_at` is when all was asked for that is to be read singly, of which `waits_for` are open.
    `moved_at` is when it last came further: both are our time.
    """

    leg: int = 0
    place: Place = field(default_factory=Place)
    refused: int = 0
    after: str = ""
    left_out: tuple[str, ...] = ()
    behind: Mapping[str, str | None] = field(default_factory=dict)
    walked_at: str | None = None
    waits_for: int | None = None
    moved_at: str | None = None

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> "Progress":
        """What the ledger kept; another version of us may have kept other things."""
        place = Place(**_known(Place, kept.get("place", {})))
        return cls(**{**_known(cls, kept), "place": place, "left_out": tuple(kept.get("left_out", ()))})


def _known(kind: type, kept: Mapping[str, Any]) -> dict[str, Any]:
    names = {one.name for one in dataclasses.fields(kind)}
    return {name: value for name, value in kept.items() if name in names}


@dataclass(frozen=True, slots=True)
class Tally:
    """What a step of a run did: requests made, packages shown, of them changed, asked for singly, unreadable."""

    requests: int = 0
    shown: int = 0
    changed: int = 0
    asked: int = 0
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class TakenRun:
    """A run that is ours until its lease ends; who holds `fence` may take it further."""

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
    """The id of the run that is under way, or None."""
    return connection.scalar(select(Run.id).where(Run.state == RUNNING))


def what_it_waits_for(connection: Connection) -> str | None:
    """What hinders the run that is under way, and when it goes on; None where nothing does."""
    row = connection.execute(select(Run.id, Run.error, Run.due_at).where(Run.state == RUNNING)).one_or_none()
    if row is None or row.error is None:
        return None
    return f"reconcile {row.id} waits: {row.error}; it goes on at {row.due_at:%H:%M:%S} UTC"


def last_began(connection: Connection) -> datetime | None:
    """When the newest run began, by the clock of that time."""
    return connection.scalar(select(Run.began_at).order_by(Run.id.desc()).limit(1))


def last_done(connection: Connection, *kinds: str) -> datetime | None:
    """When the newest run of these kinds began that came to its end, by the clock of that time."""
    done = select(Run.began_at).where(Run.kind.in_(kinds), Run.state == DONE)
    return connection.scalar(done.order_by(Run.id.desc()).limit(1))


def first_import(connection: Connection) -> datetime | None:
    """When the first import began that came to its end."""
    found = select(func.min(Run.began_at, type_=Run.began_at.type))
    return connection.scalar(found.where(Run.kind == BACKFILL, Run.state == DONE))


def watermark(connection: Connection, *, now: datetime) -> datetime | None:
    """Up to when, on OneSpan's clock, all changes are known: runs that are not done do not count.

    Nor do those that say more than anybody can know: a clock was ahead then.
    """
    known = select(func.max(Run.until, type_=Run.until.type)).where(Run.state == DONE, Run.until <= now + AHEAD)
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
    """Write down that a run begins; `by` is who asked for it. Returns its id, or None where one is under way."""
    take_pen(connection)  # so that of two who look at once one begins
    if running(connection) is not None:
        return None
    row = {
        "kind": kind,
        "reason": reason,
        "state": RUNNING,
        "fires": fires,
        "by": by,
        "since": since,
        "began_at": now,
        "due_at": now,
        "progress": dataclasses.asdict(_from_the_last(connection)),
    }
    return connection.scalar(insert(Run).values(row).returning(Run.id))


def _from_the_last(connection: Connection) -> Progress:
    """Where a run begins: with how large a page may be, and the folders that are behind, as the last one knew."""
    kept = connection.scalar(select(Run.progress).order_by(Run.id.desc()).limit(1))
    last = Progress.of(kept or {})
    return Progress(place=Place(largest=last.place.largest), behind=last.behind)


def take(connection: Connection, *, now: datetime, lease: timedelta, process: str) -> TakenRun | None:
    """Take the run that is under way for ourselves, where nobody has it and it does not wait.

    Somebody who was not seen for a while has it no more; nobody waits `LONG`, but a clock may have been ahead. Taking
    counts as an attempt; `advance` begins the count anew.
    """
    gone = exists().where(
        Process.name == Run.process, or_(Process.stopped_at.is_not(None), Process.seen_at < now - LIVELY)
    )
    taken = (
        update(Run)
        .where(Run.state == RUNNING, or_(Run.due_at <= now, Run.due_at > now + LONG, gone))
        .values(fence=Run.fence + 1, attempts=Run.attempts + 1, due_at=now + lease, process=process)
        .returning(*_TAKEN)
    )
    row = connection.execute(taken).one_or_none()
    return TakenRun(**{**row._asdict(), "progress": Progress.of(row.progress)}) if row else None


def advance(
    connection: Connection, run: TakenRun, progress: Progress, *, did: Tally, until: datetime | None, due_at: datetime
) -> bool:
    """Note how far a run has come. Returns False where it is ours no more: then nothing of this may be committed."""
    counted = {name: getattr(Run, name) + more for name, more in dataclasses.asdict(did).items()}
    moved = {"progress": dataclasses.asdict(progress), "until": until, "due_at": due_at, "process": None}
    return _settle(connection, run, **counted, **moved, attempts=0, error=None)


def put_off(connection: Connection, run: TakenRun, *, until: datetime, error: str, progress: Progress) -> None:
    """Note that it cannot go on now, and from when on it may."""
    kept = dataclasses.asdict(progress)
    _settle(connection, run, due_at=until, error=error, progress=kept, process=None)


def wait(
    connection: Connection, run: TakenRun, *, until: datetime, error: str | None, progress: Progress | None = None
) -> None:
    """Note that it has to wait for others, which is no failure of its own; `error` is what these met."""
    kept = {"progress": dataclasses.asdict(progress)} if progress else {}
    _settle(connection, run, due_at=until, attempts=run.attempts - 1, error=error, process=None, **kept)


def finish(
    connection: Connection,
    run: TakenRun,
    *,
    now: datetime,
    until: datetime | None,
    unreadable: int,
    error: str | None = None,
) -> bool:
    """Note that a run is done, up to when it makes all known, how many packages it left unread, and what else."""
    left = Run.unreadable + unreadable
    found = found_between(connection, run.began_at, now)
    return _end(connection, run, DONE, now=now, until=until, error=error, unreadable=left, found=found)


def give_up(connection: Connection, run: TakenRun, *, now: datetime, error: str) -> bool:
    """Note that a run does not come to its end, so that another can begin: it stays undone, and makes nothing known."""
    found = found_between(connection, run.began_at, now)
    return _end(connection, run, FAILED, now=now, until=None, error=error, found=found)


def _end(connection: Connection, run: TakenRun, state: str, *, now: datetime, **values: Any) -> bool:
    return _settle(connection, run, state=state, finished_at=now, due_at=now, process=None, **values)


def found_between(connection: Connection, start: datetime, end: datetime) -> int:
    """How many facts came up between two moments which no callback had told."""
    found = select(func.count()).where(
        Event.source == FOUND, Event.first_received_at >= start, Event.first_received_at <= end
    )
    return connection.scalar(found) or 0


def hasten(connection: Connection, *, now: datetime) -> bool:
    """Let the run that is under way go on at once, where it waits. Returns whether it did."""
    waits = (Run.state == RUNNING, Run.process.is_(None), Run.due_at > now)
    return bool(connection.execute(update(Run).where(*waits).values(due_at=now)).rowcount)


def _settle(connection: Connection, run: TakenRun, **values: Any) -> bool:
    """Only whoever took it last may."""
    ours = update(Run).where(Run.id == run.id, Run.fence == run.fence, Run.state == RUNNING)
    return bool(connection.execute(ours.values(values)).rowcount)


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
