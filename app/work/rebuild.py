"""Derive the picture again from the journal, to check it or to mend it."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace

from sqlalchemy.engine import Connection

from app.onespan import claims
from app.onespan.claims import State
from app.onespan.projection import derive
from app.onespan.values import Package
from app.store import counters, journal, packages, queries
from app.store.counters import PackageKind
from app.store.db import Database, take_pen
from app.store.packages import Cause, NewChange
from app.work.attempt import Clock
from app.work.parsing import read

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

    Goes by chunks of packages, so memory stays bounded and the digest is held up for a moment at a time only; then
    looks whether as many packages of each kind are counted as there are.
    `progress` is told how many packages each chunk had. What still waits to be digested is left to the digest.
    """
    last = ""
    while True:
        with database.write() if write else database.read() as connection:
            if write:
                take_pen(connection)
            ids = _ids_after(connection, last)
            found = list(_chunk(connection, ids, clock=clock, write=write))
            if not ids:
                yield from _counted(connection, write=write)
                return
        yield from found
        progress(len(ids))
        last = ids[-1]


def _counted(connection: Connection, *, write: bool) -> Iterator[Difference]:
    stored, derived = counters.count_packages(connection), packages.count_kinds(connection)
    if write and stored != derived:
        counters.replace_packages(connection, derived)
    for kind in {**stored, **derived}:
        if stored[kind] != derived[kind]:
            yield Difference("all", _name(kind), "number", stored[kind], derived[kind])


def _name(kind: PackageKind) -> str:
    flags = [name for name, is_set in (("trashed", kind.trashed), ("deleted", kind.deleted)) if is_set]
    return " ".join(filter(None, (*flags, kind.type, kind.status))) or "unknown"


def _ids_after(connection: Connection, last: str) -> list[str]:
    """The next ids of packages that the journal speaks of, or that are stored."""
    told = journal.packages_after(connection, last, limit=CHUNK)
    stored = packages.packages_after(connection, last, limit=CHUNK)
    return sorted({*told, *stored}, key=str.encode)[:CHUNK]  # as the databases sort them: by their bytes


def _chunk(connection: Connection, ids: list[str], *, clock: Clock, write: bool) -> Iterator[Difference]:
    states = _states(connection, ids)
    derived = {one: derive(one, state) for one, state in states.items() if state}
    stored = {one: _without_parked(package) for one, package in queries.packages(connection, ids).items()}
    now = clock()
    changes = [
        change
        for one, package in derived.items()
        for change in packages.differences(stored.get(one), package, happened_at=now, cause=Cause("rebuild", "journal"))
    ]
    claimed = packages.states(connection, ids)
    of_no_cause = stored.keys() - derived.keys()
    told_otherwise = {one for one in derived if _plain(claimed.get(one)) != _plain(states[one])}
    entries = packages.list_entries(connection, ids)
    misplaced = {one for one, package in derived.items() if entries.get(one) != packages.list_entry(package)}
    differing = told_otherwise | misplaced | {one for one, package in derived.items() if stored.get(one) != package}
    if write:
        packages.paint(connection, {one: (states[one], derived[one]) for one in differing}, stored)
        packages.record(connection, changes, now=now)
        packages.erase(connection, sorted(of_no_cause))
    yield from map(_difference, changes)
    for one in sorted(differing - {change.package_id for change in changes}):
        yield Difference(one, "package", *_details(stored.get(one), derived[one], is_misplaced=one in misplaced))
    for one in sorted(of_no_cause):
        yield Difference(one, "package", "row", "stored", "of no cause")


def _states(connection: Connection, ids: Iterable[str]) -> dict[str, State]:
    """What the journal's digested rows claim of these packages, each fact once."""
    states: dict[str, State] = {}
    seen: set[int] = set()
    for row in journal.of_packages(connection, ids):
        told = read(row)
        if row.event_id is not None:
            if row.event_id in seen:
                continue
            seen.add(row.event_id)
            if row.source == "callback":  # commits may have passed each other
                told = replace(told, received_at=row.first_received_at)
        states[told.package_id] = claims.merge(states.get(told.package_id, {}), told.claims)
    return states


def _without_parked(package: Package) -> Package:
    kept = tuple(reason for reason in package.attention if reason.reason != "PARKED_HANDLER")
    return replace(package, attention=kept)


def _difference(change: NewChange) -> Difference:
    return Difference(change.package_id, change.subject, change.attribute, change.old, change.new)


def _plain(state: State | None) -> str:
    return json.dumps(state, sort_keys=True)


def _details(stored: Package | None, derived: Package, *, is_misplaced: bool) -> tuple[str, str, str]:
    """What differs, as it is stored and as it is derived; persons only by the field's name."""
    if stored == derived and is_misplaced:
        return "place in lists", "as stored", "as the package has it"
    if stored == derived:
        return "claims", "as stored", "as the journal has them"
    names = [one.name for one in fields(Package) if getattr(stored, one.name, None) != getattr(derived, one.name)]
    was, is_ = (
        " ".join(name if name in PERSONAL else f"{name}={getattr(package, name, None)}" for name in names)
        for package in (stored, derived)
    )
    return "details", was, is_
