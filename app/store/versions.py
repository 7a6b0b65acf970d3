"""The projection versions of packages and processes: which packages another version of this code has derived.

A process of another version writes packages as that version derives them, but some versions do not say so in the row.
While such a process runs, packages are therefore written as outdated.
"""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Integer, Select, bindparam, func, select, union_all
from sqlalchemy.engine import Connection

from app.onespan.projection import PROJECTION_VERSION
from app.store.bulk import any_of
from app.store.models import Package, Process
from app.store.outages import HEARTBEAT_TIMEOUT

OUTDATED = 0  # the version of a package that every version of the code derives again


def other_process(connection: Connection, *, now: datetime) -> str | None:
    """Return the name of a running process whose code has another projection version; None if there is none."""
    return connection.scalar(_OTHER_PROCESS, {"since": now - HEARTBEAT_TIMEOUT})


def version_to_write(connection: Connection, *, now: datetime) -> int:
    """Return the projection version that a package gets when this process writes it now."""
    return OUTDATED if other_process(connection, now=now) else PROJECTION_VERSION


def outdated(connection: Connection, *, limit: int) -> list[str]:
    """Return the ids of some packages that another version has derived."""
    return list(connection.execute(_OUTDATED, {"limit": limit}).scalars())[:limit]


def outdated_among(connection: Connection, package_ids: Iterable[str]) -> list[str]:
    """Return those of the given packages that another version has derived."""
    return list(connection.execute(_OUTDATED_AMONG, {"ids": list(package_ids)}).scalars())


def count_outdated(connection: Connection) -> int:
    """Return the number of packages that another version has derived. The cost grows with this number only."""
    return sum(connection.execute(_COUNTS).one())


# Two ranges, because an index finds the rows of a range, but not those of `!=`.
_RANGES = (Package.projection_version < PROJECTION_VERSION, Package.projection_version > PROJECTION_VERSION)
_OUTDATED = union_all(
    *(
        select(
            select(Package.id)
            .where(versions)
            .order_by(Package.projection_version, Package.id)
            .limit(bindparam("limit", type_=Integer))
            .subquery()
        )
        for versions in _RANGES
    )
)
_COUNTS = select(*(select(func.count(Package.id)).where(versions).scalar_subquery() for versions in _RANGES))
_OUTDATED_AMONG: Select[str] = select(Package.id).where(
    Package.projection_version != PROJECTION_VERSION, any_of(Package.id, "ids")
)
_OTHER_PROCESS: Select[str] = (
    select(Process.name)
    .where(
        Process.seen_at >= bindparam("since", type_=Process.seen_at.type),
        Process.stopped_at.is_(None),
        Process.projection_version != PROJECTION_VERSION,
    )
    .limit(1)
)
