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
    """How many packages there are of each kind. The counters are updated with the packages, so they are exact."""
    return [
        PackageCount(kind.type, kind.status, kind.trashed, kind.deleted, number)
        for kind, number in counters.count_packages(connection).items()
        if number > 0
    ]
