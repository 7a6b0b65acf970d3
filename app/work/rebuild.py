"""Derive the picture again from the journal, to check it or to mend it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace

from sqlalchemy.engine import Connection

from app.onespan import claims
from app.onespan.claims import State
from app.onespan.picture import derive
from app.onespan.values import Package
from app.store import journal, picture, queries
from app.store.db import Database, take_pen
from app.store.events import Facts
from app.store.picture import Cause, NewChange
from app.work.digest import read
from app.work.dispatch import Clock

PERSONAL = ("sender", "signers")
CHUNK = 200  # packages in one transaction


@dataclass(frozen=True, slots=True)
class Difference:
    """One attribute of the stored picture that is not what the journal says."""

    package_id: str
    subject: str
    attribute: str
    stored: object
    derived: object


def rebuild(
    database: Database, *, clock: Clock, write: bool, progress: Callable[[int], None] = lambda _: None
) -> Iterator[Difference]:
    """Derive every package anew and tell where the stored picture differs; with `write` mend it too.

    Goes by chunks of packages, so memory stays bounded and the digest is held up for a moment at a time only.
    `progress` is told how many packages each chunk had. What still waits to be digested is left to the digest.
    """
    last = ""
    while True:
        with database.write() if write else database.read() as connection:
            if write:
                take_pen(connection)
            ids = journal.packages_after(connection, last, limit=CHUNK)
            found = list(_chunk(connection, ids, clock=clock, write=write))
        if not ids:
            return
        yield from found
        progress(len(ids))
        last = ids[-1]


def _chunk(connection: Connection, ids: list[str], *, clock: Clock, write: bool) -> Iterator[Difference]:
    states = _states(connection, ids)
    derived = {one: derive(one, state) for one, state in states.items() if state}
    stored = {one: _without_parked(package) for one, package in queries.packages(connection, ids).items()}
    now = clock()
    changes = [
        change
        for one, package in derived.items()
        for change in picture.differences(stored.get(one), package, happened_at=now, cause=Cause("rebuild", "journal"))
    ]
    differing = {one for one, package in derived.items() if stored.get(one) != package}
    if write and differing:
        picture.paint(connection, {one: (states[one], derived[one]) for one in differing}, stored)
        picture.record(connection, changes, now=now)
    yield from map(_difference, changes)
    for one in sorted(differing - {change.package_id for change in changes}):
        yield Difference(one, "package", "details", *_details(stored.get(one), derived[one]))


def _states(connection: Connection, ids: Iterable[str]) -> dict[str, State]:
    """What the journal's digested rows claim of these packages, each fact once."""
    states: dict[str, State] = {}
    facts = Facts()
    for row in journal.of_packages(connection, ids):
        told = read(row)
        if told.callback and facts.recognise(told.callback, received_at=told.received_at)[1]:
            continue
        states[told.package_id] = claims.merge(states.get(told.package_id, {}), told.claims)
    return states


def _without_parked(package: Package) -> Package:
    kept = tuple(reason for reason in package.attention if reason.reason != "PARKED_HANDLER")
    return replace(package, attention=kept)


def _difference(change: NewChange) -> Difference:
    return Difference(change.package_id, change.subject, change.attribute, change.old, change.new)


def _details(stored: Package | None, derived: Package) -> tuple[str, str]:
    """The fields that differ, as they are stored and as they are derived; persons only by the field's name."""
    names = [one.name for one in fields(Package) if getattr(stored, one.name, None) != getattr(derived, one.name)]
    return tuple(
        " ".join(name if name in PERSONAL else f"{name}={getattr(package, name, None)}" for name in names)
        for package in (stored, derived)
    )  # type: ignore[return-value]
