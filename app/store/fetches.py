"""The fetch queue: packages to be read from OneSpan, and why. Only this module writes the queue's table."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, case, delete, false, func, or_, select, text, update
from sqlalchemy.engine import Connection

from app.store import outages
from app.store.models import Fetch
from app.store.states import Emit


@dataclass(frozen=True, slots=True)
class TakenFetch:
    """A fetch leased to this process. `attempt` is the number of the current attempt."""

    package_id: str
    wanted_at: datetime
    attempt: int
    fence: int
    rank: int
    emit: str
    asked_at: datetime | None
    lag_fetches: int = 0
    lagged_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LagFetch:
    """A package to be fetched again at `due_at`, the `number`-th time since the snapshot of `lagged_at`."""

    package_id: str
    number: int
    lagged_at: datetime
    due_at: datetime
    emit: str


AFTER_CALLBACK, FOR_RECONCILE = 0, 1  # ranks of fetches; fetches after callbacks come first


def enqueue(
    connection: Connection,
    wanted: Mapping[str, str],
    *,
    now: datetime,
    delay: timedelta = timedelta(0),
    rank: int = AFTER_CALLBACK,
    emit: str = Emit.NEW,
) -> None:
    """Enqueue packages, each with a reason, to be fetched after `delay`.

    A package that is already queued is not delayed. A package that waits after an error is due after `delay` at the
    latest. Of two ranks, the more urgent counts. Of two values of `emit`, the value that reports more events counts.
    """
    if wanted:
        asked_at = now if rank == FOR_RECONCILE else None
        common = {"wanted_at": now, "asked_at": asked_at, "due_at": now + delay, "rank": rank, "emit": emit}
        rows = [{"package_id": package_id, "reason": reason, **common} for package_id, reason in sorted(wanted.items())]
        connection.execute(_WANT, rows)


def enqueue_again(connection: Connection, lagging: Iterable[LagFetch], *, now: datetime) -> None:
    """Enqueue packages whose last snapshot showed less than a callback. A package that is already queued is left."""
    rows = [
        {
            "package_id": fetch.package_id,
            "reason": "lag",
            "wanted_at": now,
            "due_at": fetch.due_at,
            "rank": AFTER_CALLBACK,
            "emit": fetch.emit,
            "lag_fetches": fetch.number,
            "lagged_at": fetch.lagged_at,
        }
        for fetch in lagging
    ]
    if rows:
        connection.execute(_AGAIN, rows)


def due(connection: Connection, *, now: datetime, limit: int, process: str) -> list[tuple[str, int]]:
    """Return the packages whose fetch is due, with their ranks: the most urgent first, then the longest waiting.

    Of equal ranks, those that have lost their process come first, see `outages.has_lost`.
    """
    fetch = select(Fetch.package_id, Fetch.rank)
    lost = fetch.where(Fetch.process.is_not(None), outages.has_lost(Fetch.process, own=process, now=now)).limit(limit)
    found = fetch.where(Fetch.due_at <= now).order_by(Fetch.rank, Fetch.due_at).limit(limit)
    rows = [*connection.execute(lost), *connection.execute(found)]
    return [(row.package_id, row.rank) for row in sorted(rows, key=lambda row: row.rank)]


@dataclass(frozen=True, slots=True)
class ReconcileFetches:
    """The open fetches of a reconcile run.

    `waited_for` counts the fetches that the run waits for. `errors` contains their errors, and None if a fetch has no
    error. `given_up` counts the fetches that the run does not wait for.
    """

    waited_for: int
    errors: frozenset[str | None]
    given_up: int


def requested_by_reconcile(connection: Connection, *, alone: Mapping[str | None, int | None]) -> ReconcileFetches:
    """Count the open fetches that a reconcile run requested.

    `alone` maps an error to the attempt from which on the error counts as a problem of the fetched package alone (None:
    never). The run does not wait for such a package. The key None of `alone` applies to all errors that are not listed.
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


def take(
    connection: Connection, package_id: str, *, now: datetime, lease: timedelta, process: str
) -> TakenFetch | None:
    """Lease the fetch of a package to this process. Returns None if the fetch is not due or is leased elsewhere.

    If several processes want a lease at once, exactly one process gets it. The lease clears the error of the previous
    attempt. A process that takes its own lease again after a failed turn makes the same attempt.
    """
    is_lost = outages.has_lost(Fetch.process, own=process, now=now)
    attempts = Fetch.attempts + case((Fetch.process == process, 0), else_=1)
    taken = (
        update(Fetch)
        .where(Fetch.package_id == package_id, or_(Fetch.due_at <= now, is_lost))
        .values(attempts=attempts, fence=Fetch.fence + 1, due_at=now + lease, error=None, process=process)
        .returning(
            *(Fetch.package_id, Fetch.wanted_at, Fetch.attempts, Fetch.fence, Fetch.rank, Fetch.emit, Fetch.asked_at),
            *(Fetch.lag_fetches, Fetch.lagged_at),
        )
    )
    row = connection.execute(taken).one_or_none()
    return TakenFetch(*row) if row else None


def settle(connection: Connection, wanted: TakenFetch, *, again_at: datetime) -> None:
    """Remove a fetch that is done or given up. A fetch that was requested again meanwhile becomes due at `again_at`.

    Any change of `wanted_at` counts as a new request, even to an earlier time, because the requesting process may have
    another clock.
    """
    is_leased = (Fetch.package_id == wanted.package_id, Fetch.fence == wanted.fence)
    connection.execute(delete(Fetch).where(*is_leased, Fetch.wanted_at == wanted.wanted_at))
    is_answered = Fetch.asked_at == wanted.asked_at if wanted.asked_at else false()
    asked_at = case((is_answered, None), else_=Fetch.asked_at)  # no reconcile run waits for an answered fetch
    again = {"due_at": again_at, "asked_at": asked_at, "attempts": 0, "lag_fetches": 0}
    connection.execute(update(Fetch).where(*is_leased).values(**again, **_RELEASED))


def postpone(connection: Connection, wanted: TakenFetch, *, until: datetime, error: str) -> None:
    """Store the error of a failed fetch and the time of its next attempt."""
    is_leased = (Fetch.package_id == wanted.package_id, Fetch.fence == wanted.fence)
    connection.execute(update(Fetch).where(*is_leased).values(due_at=until, error=error, **_RELEASED))


def give_back(connection: Connection, wanted: TakenFetch, *, now: datetime) -> None:
    """Make a fetch due again whose turn a fault of the database ended, which is no failed attempt."""
    is_leased = (Fetch.package_id == wanted.package_id, Fetch.fence == wanted.fence)
    connection.execute(update(Fetch).where(*is_leased).values(due_at=now, attempts=wanted.attempt - 1, **_RELEASED))


_RELEASED: Mapping[str, Any] = {"fence": Fetch.fence + 1, "process": None}
_WANT = text(
    """INSERT INTO fetches (package_id, reason, wanted_at, asked_at, due_at, rank, emit)
    VALUES (:package_id, :reason, :wanted_at, :asked_at, :due_at, :rank, :emit)
    ON CONFLICT (package_id) DO UPDATE SET reason = excluded.reason, wanted_at = excluded.wanted_at, error = NULL,
    asked_at = COALESCE(excluded.asked_at, fetches.asked_at),
    due_at = CASE WHEN fetches.due_at < excluded.due_at THEN fetches.due_at
        WHEN fetches.error IS NULL AND (fetches.attempts > 0 OR fetches.lag_fetches = 0) THEN fetches.due_at
        ELSE excluded.due_at END, lag_fetches = 0, lagged_at = NULL,
    rank = CASE WHEN excluded.rank < fetches.rank THEN excluded.rank ELSE fetches.rank END,
    emit = CASE WHEN excluded.emit = 'all' OR fetches.emit = 'none' THEN excluded.emit ELSE fetches.emit END"""
).bindparams(
    bindparam("wanted_at", type_=Fetch.wanted_at.type),
    bindparam("asked_at", type_=Fetch.asked_at.type),
    bindparam("due_at", type_=Fetch.due_at.type),
)
_AGAIN = text(
    """INSERT INTO fetches (package_id, reason, wanted_at, due_at, rank, emit, lag_fetches, lagged_at)
    VALUES (:package_id, :reason, :wanted_at, :due_at, :rank, :emit, :lag_fetches, :lagged_at)
    ON CONFLICT (package_id) DO NOTHING"""
).bindparams(
    bindparam("wanted_at", type_=Fetch.wanted_at.type),
    bindparam("due_at", type_=Fetch.due_at.type),
    bindparam("lagged_at", type_=Fetch.lagged_at.type),
)
