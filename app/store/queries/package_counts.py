"""The number of packages of each kind: type, status and flags."""

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from app.store import counters


@dataclass(frozen=True, slots=True)
class PackageCount:
    """The number of packages that have the given type, status and flags."""

    type: str | None
    status: str | None
    trashed: bool
    deleted: bool
    number: int


def package_counts(connection: Connection) -> list[PackageCount]:
    """Return the number of packages of each kind. Counters are updated with the packages, so the numbers are exact."""
    return [
        PackageCount(kind.type, kind.status, kind.trashed, kind.deleted, number)
        for kind, number in counters.count_packages(connection).items()
        if number > 0
    ]
