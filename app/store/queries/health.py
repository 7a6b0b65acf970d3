"""Whether all is well: which processes there are, when callbacks may have been lost, and whether OneSpan answers."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.engine import Connection

from app.errors import KeyRefused, OneSpanDown, Throttled, WrongAddress
from app.store import reconciles
from app.store.models import CALLBACK, Journal, Outage, Process, Read, Run
from app.store.outages import LIVELY, UNREACHABLE, last_end
from app.store.queries.reconciles import last_done

SHOWN = 50  # processes, and outages


@dataclass(frozen=True, slots=True)
class ProcessDetail:
    """A process of the service, last seen at `seen_at`; `stopped_at` where it said good-bye.

    `is_alive`: it was seen within the last minute, and has not said good-bye.
    """

    name: str
    takes_callbacks: bool
    started_at: datetime
    seen_at: datetime
    stopped_at: datetime | None
    is_alive: bool


@dataclass(frozen=True, slots=True)
class OutageDetail:
    """A time in which callbacks may have been lost, or OneSpan could not be asked; our time.

    `kind`: `down` (no process took callbacks), `refused` (neither database nor spool took one), `spooled` (the
    database was away, the spool took them) or `unreachable` (OneSpan did not answer).
    """

    id: int
    kind: str
    began_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether OneSpan answers.

    `answers` is false where the last try failed, with `error`; null where nothing was asked yet. It last showed us
    something at `answered_at`; `unreachable` is the last time for which it did not answer, where that is over.
    """

    answers: bool | None
    error: str | None
    answered_at: datetime | None
    unreachable: OutageDetail | None


def processes(connection: Connection, *, now: datetime) -> list[ProcessDetail]:
    """The processes that were seen last, the newest first."""
    found = select(*Process.__table__.c).order_by(Process.seen_at.desc(), Process.name).limit(SHOWN)
    return [
        ProcessDetail(**row._asdict(), is_alive=row.stopped_at is None and row.seen_at >= now - LIVELY)
        for row in connection.execute(found)
    ]


def outages(connection: Connection) -> list[OutageDetail]:
    """The outages that ended last, the newest first."""
    found = select(*Outage.__table__.c).order_by(Outage.ended_at.desc(), Outage.id.desc()).limit(SHOWN)
    return [OutageDetail(**row._asdict()) for row in connection.execute(found)]


def reach(connection: Connection) -> Reach:
    """Whether OneSpan answered when it was asked last."""
    error = connection.scalar(select(Run.error).where(Run.state == "running")) or _what_reads_met(connection)
    read_at = connection.scalar(
        select(Journal.received_at).where(Journal.kind != CALLBACK).order_by(Journal.id.desc()).limit(1)
    )
    answered_at = max(filter(None, (read_at, last_done(connection))), default=None)
    gone = select(*Outage.__table__.c).where(Outage.kind == UNREACHABLE).order_by(Outage.ended_at.desc()).limit(1)
    row = connection.execute(gone).one_or_none()
    answers = False if error else None if answered_at is None else True
    return Reach(answers, error, answered_at, OutageDetail(**row._asdict()) if row else None)


def next_due(connection: Connection, *, now: datetime, every: timedelta) -> datetime | None:
    """From when on the next reconcile is due: so long after the last began, or once an outage ended; None: at once."""
    began, outage = reconciles.last_began(connection), last_end(connection, now=now)
    if began is None:
        return None
    return outage if outage and outage > began else began + every


def _what_reads_met(connection: Connection) -> str | None:
    met = connection.scalar(select(Read.error).where(Read.error.is_not(None), Read.error.in_(BLAMED)).limit(1))
    return str(BLAMED[met]()) if met else None


# What is not about one package alone.
BLAMED = {one.__name__: one for one in (OneSpanDown, KeyRefused, WrongAddress, Throttled)}
