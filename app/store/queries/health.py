"""The health report: processes, outages that may have lost callbacks, the upgrade, and whether OneSpan answers."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.engine import Connection

from app.errors import CredentialsRejected, FirewallRefused, OneSpanUnavailable, Throttled, WrongAddress
from app.store import counters, reconciles, versions
from app.store.models import KIND_CALLBACK, Fetch, Journal, Outage, Process, Run
from app.store.outages import HEARTBEAT_TIMEOUT, last_end
from app.store.queries.access import onespan_access
from app.store.queries.reconciles import last_finished_at
from app.store.states import OutageKind, RunState

SHOWN = 50  # most processes, and most outages, that are shown


@dataclass(frozen=True, slots=True)
class ProcessDetail:
    """A process of the service. Its last heartbeat was at `seen_at`; `stopped_at` is set if it shut down normally.

    `is_alive` is true if the last heartbeat is less than a minute old and the process has not shut down.
    """

    name: str
    takes_callbacks: bool
    started_at: datetime
    seen_at: datetime
    stopped_at: datetime | None
    is_alive: bool


@dataclass(frozen=True, slots=True)
class OutageDetail:
    """A period, by this service's clock, in which callbacks may have been lost or OneSpan could not be reached.

    `kind` is `down`: no process took callbacks; `refused`: neither database nor spool could store a callback;
    `spooled`: the database was down and the spool stored callbacks; or `unreachable`: OneSpan did not answer.
    """

    id: int
    kind: str
    began_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class OneSpanStatus:
    """Whether OneSpan answers.

    `answers` is false if the last attempt failed with `error`; null if there was no request yet. `answered_at` is the
    time of OneSpan's last good answer. `unreachable` is OneSpan's last outage that is over.
    """

    answers: bool | None
    error: str | None
    answered_at: datetime | None
    unreachable: OutageDetail | None


@dataclass(frozen=True, slots=True)
class UpgradeProgress:
    """How many of all packages this version has derived, after an upgrade that changes how packages are derived.

    `waits_for` is the name of a running process of another version; the work continues after that process has ended.
    """

    derived: int
    total: int
    waits_for: str | None


def upgrade_progress(connection: Connection, *, now: datetime) -> UpgradeProgress | None:
    """Return how far the upgrade is; None if nothing is left to do."""
    left = versions.count_outdated(connection)
    if not left:
        return None
    total = sum(counters.count_packages(connection).values())
    return UpgradeProgress(total - left, total, versions.other_process(connection, now=now))


def processes(connection: Connection, *, now: datetime) -> list[ProcessDetail]:
    """Return the processes with the latest heartbeats, newest first."""
    found = select(*_PROCESS).order_by(Process.seen_at.desc(), Process.name).limit(SHOWN)
    return [
        ProcessDetail(**row._asdict(), is_alive=row.stopped_at is None and row.seen_at >= now - HEARTBEAT_TIMEOUT)
        for row in connection.execute(found)
    ]


def outages(connection: Connection) -> list[OutageDetail]:
    """Return the outages that ended last, newest first."""
    found = select(*Outage.__table__.c).order_by(Outage.ended_at.desc(), Outage.id.desc()).limit(SHOWN)
    return [OutageDetail(**row._asdict()) for row in connection.execute(found)]


def onespan_status(connection: Connection) -> OneSpanStatus:
    """Whether OneSpan answered the last request."""
    access = onespan_access(connection)
    refusal = access.error if access else None
    error = (
        refusal or connection.scalar(select(Run.error).where(Run.state == RunState.RUNNING)) or _fetch_error(connection)
    )
    read_at = connection.scalar(
        select(Journal.received_at).where(Journal.kind != KIND_CALLBACK).order_by(Journal.id.desc()).limit(1)
    )
    answered_at = max(filter(None, (read_at, last_finished_at(connection))), default=None)
    last = (
        select(*Outage.__table__.c)
        .where(Outage.kind == OutageKind.UNREACHABLE)
        .order_by(Outage.ended_at.desc())
        .limit(1)
    )
    row = connection.execute(last).one_or_none()
    answers = False if error else None if answered_at is None else True
    return OneSpanStatus(answers, error, answered_at, OutageDetail(**row._asdict()) if row else None)


def next_due(connection: Connection, *, now: datetime, every: timedelta) -> datetime | None:
    """Return when the next reconcile run is due; None if it is due now.

    A run is due `every` after the last run began, or at the end of an outage since then.
    """
    began, outage = reconciles.last_began(connection), last_end(connection, now=now)
    if began is None:
        return None
    return outage if outage and outage > began else began + every


def _fetch_error(connection: Connection) -> str | None:
    name = connection.scalar(
        select(Fetch.error).where(Fetch.error.is_not(None), Fetch.error.in_(OUTAGE_ERRORS)).limit(1)
    )
    return str(OUTAGE_ERRORS[name]()) if name else None


_PROCESS = tuple(column for column in Process.__table__.c if column.name != "projection_version")
# Errors of fetches that do not concern only one package.
OUTAGE_ERRORS = {
    error.__name__: error
    for error in (OneSpanUnavailable, CredentialsRejected, FirewallRefused, WrongAddress, Throttled)
}
