"""When OneSpan last showed a package, or refused it. The only writer of their table."""

from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy import bindparam, func, or_, select, text
from sqlalchemy.engine import Connection

from app.store.models import Package, Sighting


def passed(connection: Connection, package_ids: Collection[str], *, walks: tuple[int, int]) -> dict[str, int]:
    """Which of these a walk of these numbers, first and last, was the last to come by; counted from the first."""
    found = select(Sighting.package_id, Sighting.walk).where(
        Sighting.package_id.in_(package_ids), Sighting.walk.between(*walks)
    )
    return {row.package_id: row.walk - walks[0] for row in connection.execute(found)}


def seen_at(connection: Connection, package_ids: Collection[str]) -> dict[str, datetime]:
    """When OneSpan's list last showed each of these, by OneSpan's clock."""
    found = select(Sighting.package_id, Sighting.seen_at).where(
        Sighting.package_id.in_(package_ids), Sighting.seen_at.is_not(None)
    )
    return {row.package_id: row.seen_at for row in connection.execute(found)}


def refused_since(connection: Connection, package_ids: Collection[str], *, since: datetime) -> set[str]:
    """Which of these were asked for and denied us since then."""
    found = select(Sighting.package_id).where(Sighting.package_id.in_(package_ids), Sighting.refused_at >= since)
    return set(connection.execute(found).scalars())


def was_seen(connection: Connection, package_id: str, *, key: str | None) -> bool:
    """Whether these very credentials saw it in the list."""
    found = select(Sighting.key).where(Sighting.package_id == package_id, Sighting.seen_at.is_not(None))
    return key is not None and connection.scalar(found) == key


def note(connection: Connection, package_ids: Iterable[str], *, walk: int, at: datetime, key: str | None) -> None:
    """A walk came by these; `at` is OneSpan's time."""
    rows = [{"id": one, "walk": walk, "at": at, "key": key} for one in sorted(package_ids)]
    if rows:
        connection.execute(_NOTE, rows)


def refused(connection: Connection, package_id: str, *, now: datetime) -> None:
    """It was asked for, and denied us; it is not asked for again without a new reason."""
    connection.execute(_REFUSED, {"id": package_id, "now": now})


def not_shown(
    connection: Connection, *, walks: tuple[int, int], since: datetime | None, after: str, limit: int
) -> list[str]:
    """Packages that stood, or were told of, in the window but that none of these walks (first, last) came by.

    Without those that OneSpan denies us since, and those that are deleted. In the order of their ids, after one.
    """
    newest = func.coalesce(Package.updated_at, Package.last_event_at, Package.read_at)
    found = (
        select(Package.id)
        .outerjoin(Sighting, Sighting.package_id == Package.id)
        .where(
            Package.id > after,
            Package.deleted.is_(False),
            or_(Sighting.walk.is_(None), Sighting.walk < walks[0], Sighting.walk > walks[1]),
            or_(Sighting.refused_at.is_(None), Sighting.refused_at < newest),
        )
        .order_by(Package.id)
        .limit(limit)
    )
    if since is not None:
        found = found.where(Package.updated_at >= since)
    return list(connection.execute(found).scalars())


def overdue(connection: Connection, *, now: datetime, limit: int) -> list[str]:
    """Packages out for signature whose time is over, and that nobody has looked at since: they may have expired.

    Whether expiry moves `updated`, so that the list would show it, nobody says.
    """
    looked = or_(Package.read_at > Package.due_at, Sighting.seen_at > Package.due_at)
    found = (
        select(Package.id)
        .outerjoin(Sighting, Sighting.package_id == Package.id)
        .where(
            Package.status == "SENT",
            Package.due_at < now,
            Package.trashed.is_(False),
            Package.deleted.is_(False),
            or_(looked.is_(None), looked.is_(False)),
            or_(Sighting.refused_at.is_(None), Sighting.refused_at < Package.due_at),
        )
        .order_by(Package.due_at)
        .limit(limit)
    )
    return list(connection.execute(found).scalars())


_NOTE = text(
    """INSERT INTO sightings (package_id, walk, seen_at, key) VALUES (:id, :walk, :at, :key)
    ON CONFLICT (package_id) DO UPDATE SET walk = excluded.walk, seen_at = excluded.seen_at, key = excluded.key,
    refused_at = NULL"""
).bindparams(bindparam("at", type_=Sighting.seen_at.type))
_REFUSED = text(
    """INSERT INTO sightings (package_id, refused_at) VALUES (:id, :now)
    ON CONFLICT (package_id) DO UPDATE SET refused_at = excluded.refused_at"""
).bindparams(bindparam("now", type_=Sighting.refused_at.type))
