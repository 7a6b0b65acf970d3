"""The fetch queue: packages to be read from OneSpan, and why. The only writer of its table."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam, case, delete, false, func, select, text, update
from sqlalchemy.engine import Connection

from app.store.models import Read
from app.store.states import Emit


@dataclass(frozen=True, slots=True)
class Wanted:
    """A fetch leased to this process. `attempt` includes this one."""

    package_id: str
    wanted_at: datetime
    attempt: int
    fence: int
    rank: int
    emit: str
    asked_at: datetime | None


SURPRISED, RECONCILING = 0, 1  # ranks: fetches after callbacks come first


def want(
    connection: Connection,
    wanted: Mapping[str, str],
    *,
    now: datetime,
    patience: timedelta = timedelta(0),
    rank: int = SURPRISED,
    emit: str = Emit.NEW,
) -> None:
    """Enqueue these packages, with a reason for each, to be fetched after `patience`.

    A package that is already queued is not delayed, and one that waits after an error becomes due for the new reason.
    Of two ranks the more urgent counts. If an import would report nothing, but another request reports events, they
    are reported.
    """
    if wanted:
        asked_at = now if rank == RECONCILING else None
        common = {"wanted_at": now, "asked_at": asked_at, "due_at": now + patience, "rank": rank, "emit": emit}
        rows = [{"package_id": package_id, "reason": reason, **common} for package_id, reason in sorted(wanted.items())]
        connection.execute(_WANT, rows)


def due(connection: Connection, *, now: datetime, limit: int) -> list[tuple[str, int]]:
    """The packages that are due, with their ranks: the most urgent first, then the longest waiting."""
    found = select(Read.package_id, Read.rank).where(Read.due_at <= now).order_by(Read.rank, Read.due_at).limit(limit)
    return [(row.package_id, row.rank) for row in connection.execute(found)]


@dataclass(frozen=True, slots=True)
class Asked:
    """The open fetches of a reconcile run.

    `waited_for` counts those that the run waits for, and `errors` are the errors of their last attempts (None: not
    attempted yet). `given_up` counts the others, which the run does not wait for.
    """

    waited_for: int
    errors: frozenset[str | None]
    given_up: int


def still_asked(connection: Connection, *, alone: Mapping[str | None, int | None]) -> Asked:
    """The open fetches that a reconcile run requested.

    `alone`: by error, the attempt from which on the error concerns only that package (None: never), so that the run
    does not wait for it. The key None is for all other errors.
    """
    found = (
        select(Read.error, Read.attempts, func.count().label("packages"))
        .where(Read.asked_at.is_not(None))
        .group_by(Read.error, Read.attempts)
    )
    rows = connection.execute(found).all()
    waited_for = [row for row in rows if row.error is None or not _is_alone(row.error, row.attempts, alone)]
    waiting = sum(row.packages for row in waited_for)
    return Asked(waiting, frozenset(row.error for row in waited_for), sum(row.packages for row in rows) - waiting)


def _is_alone(error: str, attempts: int, alone: Mapping[str | None, int | None]) -> bool:
    limit = alone.get(error, alone[None])
    return limit is not None and attempts >= limit


def hasten(connection: Connection, *, now: datetime) -> None:
    """Make failed fetches of a reconcile run due now."""
    is_waiting = (Read.asked_at.is_not(None), Read.error.is_not(None), Read.due_at > now)
    connection.execute(update(Read).where(*is_waiting).values(due_at=now))


def take(connection: Connection, package_id: str, *, now: datetime, lease: timedelta) -> Wanted | None:
    """Lease the fetch of a package to this process; None if it is not due or leased elsewhere.

    Safe for any number of processes at once: exactly one gets the lease. A row has an error only while it waits and
    is not leased.
    """
    taken = (
        update(Read)
        .where(Read.package_id == package_id, Read.due_at <= now)
        .values(attempts=Read.attempts + 1, fence=Read.fence + 1, due_at=now + lease, error=None)
        .returning(Read.package_id, Read.wanted_at, Read.attempts, Read.fence, Read.rank, Read.emit, Read.asked_at)
    )
    row = connection.execute(taken).one_or_none()
    return Wanted(*row) if row else None


def settle(connection: Connection, wanted: Wanted, *, again_at: datetime) -> None:
    """Remove a fetch that is done or given up. If it was requested again meanwhile, fetch it again at `again_at`.

    The process that requested it may have another clock. So any change of `wanted_at` counts, even to an earlier time.
    """
    is_leased = (Read.package_id == wanted.package_id, Read.fence == wanted.fence)
    connection.execute(delete(Read).where(*is_leased, Read.wanted_at == wanted.wanted_at))
    is_answered = Read.asked_at == wanted.asked_at if wanted.asked_at else false()
    asked_at = case((is_answered, None), else_=Read.asked_at)  # the reconcile run has its answer
    again = {"due_at": again_at, "asked_at": asked_at, "attempts": 0, "fence": Read.fence + 1}
    connection.execute(update(Read).where(*is_leased).values(again))


def put_off(connection: Connection, wanted: Wanted, *, until: datetime, error: str) -> None:
    """Store the error of a failed fetch, and when to try again."""
    is_leased = (Read.package_id == wanted.package_id, Read.fence == wanted.fence)
    connection.execute(update(Read).where(*is_leased).values(due_at=until, error=error, fence=Read.fence + 1))


_WANT = text(
    """INSERT INTO reads (package_id, reason, wanted_at, asked_at, due_at, rank, emit)
    VALUES (:package_id, :reason, :wanted_at, :asked_at, :due_at, :rank, :emit)
    ON CONFLICT (package_id) DO UPDATE SET reason = excluded.reason, wanted_at = excluded.wanted_at, error = NULL,
    asked_at = COALESCE(excluded.asked_at, reads.asked_at),
    due_at = CASE WHEN reads.error IS NULL OR reads.due_at < excluded.due_at THEN reads.due_at ELSE excluded.due_at END,
    rank = CASE WHEN excluded.rank < reads.rank THEN excluded.rank ELSE reads.rank END,
    emit = CASE WHEN excluded.emit = 'all' OR reads.emit = 'none' THEN excluded.emit ELSE reads.emit END"""
).bindparams(
    bindparam("wanted_at", type_=Read.wanted_at.type),
    bindparam("asked_at", type_=Read.asked_at.type),
    bindparam("due_at", type_=Read.due_at.type),
)
