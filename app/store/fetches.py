"""The fetch queue: packages to be read from OneSpan, and why. The only writer of its table."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam, case, delete, false, func, select, text, update
from sqlalchemy.engine import Connection

from app.store.models import Fetch
from app.store.states import Emit


@dataclass(frozen=True, slots=True)
class TakenFetch:
    """A fetch leased to this process. `attempt` includes this one."""

    package_id: str
    wanted_at: datetime
    attempt: int
    fence: int
    rank: int
    emit: str
    asked_at: datetime | None


AFTER_CALLBACK, FOR_RECONCILE = 0, 1  # ranks: fetches after callbacks come first


def enqueue(
    connection: Connection,
    wanted: Mapping[str, str],
    *,
    now: datetime,
    delay: timedelta = timedelta(0),
    rank: int = AFTER_CALLBACK,
    emit: str = Emit.NEW,
) -> None:
    """Enqueue these packages, with a reason for each, to be fetched after `delay`.

    A package that is already queued is not delayed, and one that waits after an error becomes due for the new reason.
    Of two ranks the more urgent counts. If an import would report nothing, but another request reports events, they
    are reported.
    """
    if wanted:
        asked_at = now if rank == FOR_RECONCILE else None
        common = {"wanted_at": now, "asked_at": asked_at, "due_at": now + delay, "rank": rank, "emit": emit}
        rows = [{"package_id": package_id, "reason": reason, **common} for package_id, reason in sorted(wanted.items())]
        connection.execute(_WANT, rows)


def due(connection: Connection, *, now: datetime, limit: int) -> list[tuple[str, int]]:
    """The packages that are due, with their ranks: the most urgent first, then the longest waiting."""
    found = (
        select(Fetch.package_id, Fetch.rank).where(Fetch.due_at <= now).order_by(Fetch.rank, Fetch.due_at).limit(limit)
    )
    return [(row.package_id, row.rank) for row in connection.execute(found)]


@dataclass(frozen=True, slots=True)
class ReconcileFetches:
    """The open fetches of a reconcile run.

    `waited_for` counts those that the run waits for, and `errors` are the errors of their last attempts (None: not
    attempted yet). `given_up` counts the others, which the run does not wait for.
    """

    waited_for: int
    errors: frozenset[str | None]
    given_up: int


def requested_by_reconcile(connection: Connection, *, alone: Mapping[str | None, int | None]) -> ReconcileFetches:
    """The open fetches that a reconcile run requested.

    `alone`: by error, the attempt from which on the error concerns only that package (None: never), so that the run
    does not wait for it. The key None is for all other errors.
    """
    found = (
        select(Fetch.error, Fetch.attempts, func.count().label("packages"))
        .where(Fetch.asked_at.is_not(None))
        .group_by(Fetch.error, Fetch.attempts)
    )
    rows = connection.execute(found).all()
    waited_for = [row for row in rows if row.error is None or not _is_alone(row.error, row.attempts, alone)]
    waiting = sum(row.packages for row in waited_for)
    return ReconcileFetches(
        waiting, frozenset(row.error for row in waited_for), sum(row.packages for row in rows) - waiting
    )


def _is_alone(error: str, attempts: int, alone: Mapping[str | None, int | None]) -> bool:
    limit = alone.get(error, alone[None])
    return limit is not None and attempts >= limit


def expedite(connection: Connection, *, now: datetime) -> None:
    """Make failed fetches of a reconcile run due now."""
    is_waiting = (Fetch.asked_at.is_not(None), Fetch.error.is_not(None), Fetch.due_at > now)
    connection.execute(update(Fetch).where(*is_waiting).values(due_at=now))


def take(connection: Connection, package_id: str, *, now: datetime, lease: timedelta) -> TakenFetch | None:
    """Lease the fetch of a package to this process; None if it is not due or leased elsewhere.

    Safe for any number of processes at once: exactly one gets the lease. A row has an error only while it waits and
    is not leased.
    """
    taken = (
        update(Fetch)
        .where(Fetch.package_id == package_id, Fetch.due_at <= now)
        .values(attempts=Fetch.attempts + 1, fence=Fetch.fence + 1, due_at=now + lease, error=None)
        .returning(
            Fetch.package_id, Fetch.wanted_at, Fetch.attempts, Fetch.fence, Fetch.rank, Fetch.emit, Fetch.asked_at
        )
    )
    row = connection.execute(taken).one_or_none()
    return TakenFetch(*row) if row else None


def settle(connection: Connection, wanted: TakenFetch, *, again_at: datetime) -> None:
    """Remove a fetch that is done or given up. If it was requested again meanwhile, fetch it again at `again_at`.

    The process that requested it may have another clock. So any change of `wanted_at` counts, even to an earlier time.
    """
    is_leased = (Fetch.package_id == wanted.package_id, Fetch.fence == wanted.fence)
    connection.execute(delete(Fetch).where(*is_leased, Fetch.wanted_at == wanted.wanted_at))
    is_answered = Fetch.asked_at == wanted.asked_at if wanted.asked_at else false()
    asked_at = case((is_answered, None), else_=Fetch.asked_at)  # the reconcile run has its answer
    again = {"due_at": again_at, "asked_at": asked_at, "attempts": 0, "fence": Fetch.fence + 1}
    connection.execute(update(Fetch).where(*is_leased).values(again))


def postpone(connection: Connection, wanted: TakenFetch, *, until: datetime, error: str) -> None:
    """Store the error of a failed fetch, and when to try again."""
    is_leased = (Fetch.package_id == wanted.package_id, Fetch.fence == wanted.fence)
    connection.execute(update(Fetch).where(*is_leased).values(due_at=until, error=error, fence=Fetch.fence + 1))


_WANT = text(
    """INSERT INTO fetches (package_id, reason, wanted_at, asked_at, due_at, rank, emit)
    VALUES (:package_id, :reason, :wanted_at, :asked_at, :due_at, :rank, :emit)
    ON CONFLICT (package_id) DO UPDATE SET reason = excluded.reason, wanted_at = excluded.wanted_at, error = NULL,
    asked_at = COALESCE(excluded.asked_at, fetches.asked_at),
    due_at = CASE WHEN fetches.error IS NULL OR fetches.due_at < excluded.due_at THEN fetches.due_at
        ELSE excluded.due_at END,
    rank = CASE WHEN excluded.rank < fetches.rank THEN excluded.rank ELSE fetches.rank END,
    emit = CASE WHEN excluded.emit = 'all' OR fetches.emit = 'none' THEN excluded.emit ELSE fetches.emit END"""
).bindparams(
    bindparam("wanted_at", type_=Fetch.wanted_at.type),
    bindparam("asked_at", type_=Fetch.asked_at.type),
    bindparam("due_at", type_=Fetch.due_at.type),
)
