"""Which packages OneSpan is to be asked for. The only writer of their table."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam, case, delete, false, func, select, text, update
from sqlalchemy.engine import Connection

from app.store.models import Read


@dataclass(frozen=True, slots=True)
class Wanted:
    """A package that is ours to ask for until the lease ends. `attempt` counts this one."""

    package_id: str
    wanted_at: datetime
    attempt: int
    fence: int
    rank: int
    tells: str | None
    asked_at: datetime | None


SURPRISED, RECONCILING = 0, 1  # ranks: who was surprised is served first


def want(
    connection: Connection,
    wanted: Mapping[str, str],
    *,
    now: datetime,
    patience: timedelta = timedelta(0),
    rank: int = SURPRISED,
    tells: str | None = None,
) -> None:
    """Ask for these packages, each for a reason, once `patience` has passed; what is wanted already is not put off.

    What could not be read waits no longer, for there is a new reason to try.

    Of two ranks the more urgent counts. What an import would keep silent about is told where somebody else asks, too.
    """
    if wanted:
        asked_at = now if rank == RECONCILING else None
        common = {"wanted_at": now, "asked_at": asked_at, "due_at": now + patience, "rank": rank, "tells": tells}
        rows = [{"package_id": package_id, "reason": reason, **common} for package_id, reason in sorted(wanted.items())]
        connection.execute(_WANT, rows)


def due(connection: Connection, *, now: datetime, limit: int) -> list[tuple[str, int]]:
    """Packages that are to be asked for, each with its rank: the most urgent first, then the longest waiting."""
    found = select(Read.package_id, Read.rank).where(Read.due_at <= now).order_by(Read.rank, Read.due_at).limit(limit)
    return [(row.package_id, row.rank) for row in connection.execute(found)]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a reconcile asked for and was not read yet.

    So many are to be `waited_for`, and these are the `errors` that their last tries met (None: not tried yet). So many
    others are `given_up`, for now.
    """

    waited_for: int
    errors: frozenset[str | None]
    given_up: int


def still_asked(connection: Connection, *, alone: Mapping[str | None, int | None]) -> Asked:
    """What a reconcile asked for and is still to be read.

    `alone`: by error, the number of the try from which on it is about that package alone (None: never), and nobody
    waits for it; under None stands that of all other errors.
    """
    found = (
        select(Read.error, Read.attempts, func.count().label("packages"))
        .where(Read.asked_at.is_not(None))
        .group_by(Read.error, Read.attempts)
    )
    rows = connection.execute(found).all()
    waited_for = [row for row in rows if row.error is None or not _is_alone(row.error, row.attempts, alone)]
    number = sum(row.packages for row in waited_for)
    return Asked(number, frozenset(row.error for row in waited_for), sum(row.packages for row in rows) - number)


def _is_alone(error: str, attempts: int, alone: Mapping[str | None, int | None]) -> bool:
    number = alone.get(error, alone[None])
    return number is not None and attempts >= number


def hasten(connection: Connection, *, now: datetime) -> None:
    """Let what a reconcile asked for and could not be read be tried at once."""
    waits = (Read.asked_at.is_not(None), Read.error.is_not(None), Read.due_at > now)
    connection.execute(update(Read).where(*waits).values(due_at=now))


def take(connection: Connection, package_id: str, *, now: datetime, lease: timedelta) -> Wanted | None:
    """Take this one for ourselves; None where somebody else has it. Of many who ask at once one gets it.

    Where an error is noted it waits, and is nobody's.
    """
    taken = (
        update(Read)
        .where(Read.package_id == package_id, Read.due_at <= now)
        .values(attempts=Read.attempts + 1, fence=Read.fence + 1, due_at=now + lease, error=None)
        .returning(Read.package_id, Read.wanted_at, Read.attempts, Read.fence, Read.rank, Read.tells, Read.asked_at)
    )
    row = connection.execute(taken).one_or_none()
    return Wanted(*row) if row else None


def settle(connection: Connection, wanted: Wanted, *, again_at: datetime) -> None:
    """Note that it was read, or cannot be; where it was wanted anew since we took it is read again, at `again_at`.

    Whoever wants it may have another clock than we, so any change of `wanted_at` counts, be it to an earlier time.
    """
    ours = (Read.package_id == wanted.package_id, Read.fence == wanted.fence)
    connection.execute(delete(Read).where(*ours, Read.wanted_at == wanted.wanted_at))
    same = Read.asked_at == wanted.asked_at if wanted.asked_at else false()
    asked_at = case((same, None), else_=Read.asked_at)  # what a reconcile asked for before is answered
    again = {"due_at": again_at, "asked_at": asked_at, "attempts": 0, "fence": Read.fence + 1}
    connection.execute(update(Read).where(*ours).values(again))


def put_off(connection: Connection, wanted: Wanted, *, until: datetime, error: str) -> None:
    """Note that it could not be read, what it met, and when to try again."""
    ours = (Read.package_id == wanted.package_id, Read.fence == wanted.fence)
    connection.execute(update(Read).where(*ours).values(due_at=until, error=error, fence=Read.fence + 1))


_WANT = text(
    """INSERT INTO reads (package_id, reason, wanted_at, asked_at, due_at, rank, tells)
    VALUES (:package_id, :reason, :wanted_at, :asked_at, :due_at, :rank, :tells)
    ON CONFLICT (package_id) DO UPDATE SET reason = excluded.reason, wanted_at = excluded.wanted_at, error = NULL,
    asked_at = COALESCE(excluded.asked_at, reads.asked_at),
    due_at = CASE WHEN reads.error IS NULL OR reads.due_at < excluded.due_at THEN reads.due_at ELSE excluded.due_at END,
    rank = CASE WHEN excluded.rank < reads.rank THEN excluded.rank ELSE reads.rank END,
    tells = CASE WHEN excluded.tells = 'all' OR reads.tells = 'nothing' THEN excluded.tells ELSE reads.tells END"""
).bindparams(
    bindparam("wanted_at", type_=Read.wanted_at.type),
    bindparam("asked_at", type_=Read.asked_at.type),
    bindparam("due_at", type_=Read.due_at.type),
)
