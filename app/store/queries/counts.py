"""How many packages there are of each kind."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from app.store.models import Package


@dataclass(frozen=True, slots=True)
class PackageCount:
    """How many packages have this type, this status and these flags."""

    type: str | None
    status: str | None
    trashed: bool
    deleted: bool
    number: int


def package_counts(connection: Connection) -> list[PackageCount]:
    """The numbers of packages, of each kind that there is."""
    kind = (Package.type, Package.status, Package.trashed, Package.deleted)
    return [PackageCount(*row) for row in connection.execute(select(*kind, func.count()).group_by(*kind))]
