"""Which packages OneSpan is to be asked for. The only writer of their table."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam, delete, select, text, update
from sqlalchemy.engine import Connection

from app.store.models import Read


@dataclass(frozen=True, slots=True)
class Wanted:
    """A package that is ours to ask for until the lease ends. `attempt` counts this one."""

    package_id: str
    attempt: int
    fence: int


def want(connection: Connection, wanted: Mapping[str, str], *, now: datetime, patience: timedelta) -> None:
    """Ask for these packages, each for a reason, once `patience` has passed; what is wanted already is not put off."""
    if wanted:
        rows = [
            {"package_id": package_id, "reason": reason, "wanted_at": now, "due_at": now + patience}
            for package_id, reason in sorted(wanted.items())
        ]
        connection.execute(_WANT, rows)


def due(connection: Connection, *, now: datetime, limit: int) -> list[str]:
    """Ids of packages that are to be asked for, the longest waiting first."""
    found = select(Read.package_id).where(Read.due_at <= now).order_by(Read.due_at).limit(limit)
    return list(connection.execute(found).scalars())


def take(connection: Connection, package_id: str, *, now: datetime, lease: timedelta) -> Wanted | None:
    """Take this one for ourselves; None where somebody else has it. Of many who ask at once one gets it."""
    taken = (
        update(Read)
        .where(Read.package_id == package_id, Read.due_at <= now)
        .values(attempts=Read.attempts + 1, fence=Read.fence + 1, due_at=now + lease)
        .returning(Read.package_id, Read.attempts, Read.fence)
    )
    row = connection.execute(taken).one_or_none()
    return Wanted(*row) if row else None


def settle(connection: Connection, wanted: Wanted, *, began_at: datetime, again_at: datetime) -> None:
    """Note that it was read, or cannot be; where it was wanted anew since we began it is read again, at `again_at`."""
    ours = (Read.package_id == wanted.package_id, Read.fence == wanted.fence)
    connection.execute(delete(Read).where(*ours, Read.wanted_at <= began_at))
    connection.execute(update(Read).where(*ours).values(due_at=again_at, attempts=0, fence=Read.fence + 1))


def put_off(connection: Connection, wanted: Wanted, *, until: datetime) -> None:
    """Note that it could not be read, and when to try again."""
    ours = (Read.package_id == wanted.package_id, Read.fence == wanted.fence)
    connection.execute(update(Read).where(*ours).values(due_at=until, fence=Read.fence + 1))


_WANT = text(
    """INSERT INTO reads (package_id, reason, wanted_at, due_at) VALUES (:package_id, :reason, :wanted_at, :due_at)
    ON CONFLICT (package_id) DO UPDATE SET reason = excluded.reason, wanted_at = excluded.wanted_at"""
).bindparams(bindparam("wanted_at", type_=Read.wanted_at.type), bindparam("due_at", type_=Read.due_at.type))
