"""How many packages there are of each kind."""

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from app.store import counters


@dataclass(frozen=True, slots=True)
class PackageCount:
    """How many packages have this type, this status and these flags."""

    type: str | None
    status: str | None
    trashed: bool
    deleted: bool
    number: int


def package_counts(connection: Connection) -> list[PackageCount]:
    """The numbers of packages, of each kind that there is. They are kept beside the packages, and exact."""
    counted = counters.counted(connection, counters.PACKAGES)
    return [PackageCount(*counters.kind_of(kind), number) for kind, number in counted.items() if number > 0]
