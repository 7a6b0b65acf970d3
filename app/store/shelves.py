"""Shelves: what kind of package one is, in one text, so that lists of any mixture of kinds are read in order."""

from app.onespan.values import Package
from app.store.tallies import key, parts_of

TITLE = 100  # characters of a name that its place in the order depends on; a cursor must fit a URL


def shelf(package: Package) -> str:
    """Where a package stands: its flags, its type and its status."""
    return key(int(package.trashed), int(package.deleted), package.type, package.status)


def kind_on(shelf: str) -> tuple[str | None, str | None, bool, bool]:
    """Type, status, trashed and deleted of all that stand on a shelf."""
    trashed, deleted, type_, status = parts_of(shelf)
    return _text(type_), _text(status), bool(trashed), bool(deleted)


def title(package: Package) -> str:
    """What a package is sorted by among others' names: alike on both databases, whatever the case."""
    return (package.name or "").casefold()[:TITLE]


def _text(part: object) -> str | None:
    return None if part is None else str(part)
