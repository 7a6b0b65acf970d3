"""Derive the status store again from the journal, to check or to repair it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

from sqlalchemy.engine import Connection

from app.onespan.merge import State
from app.onespan.projection import derive
from app.onespan.values import Package
from app.store import counters, journal, packages, versions
from app.store.counters import PackageKind
from app.store.db import Database, take_write_lock
from app.store.packages import Cause, NewChange
from app.types import Clock
from app.work.upgrade import claims_of_journal, stored_packages

PERSONAL = ("sender", "signers")  # attributes whose values name persons
CHUNK = 200  # packages in one transaction


@dataclass(frozen=True, slots=True)
class Difference:
    """One stored attribute that differs from the value derived from the journal."""

    package_id: str
    subject: str
    attribute: str
    stored: object
    derived: object


def rebuild(
    database: Database, *, clock: Clock, write: bool, progress: Callable[[int], None] = lambda _: None
) -> Iterator[Difference]:
    """Derive every package from the journal and yield what differs from the status store; with `write`, repair it.

    The rebuild works in chunks of packages, so memory is bounded and the digest waits only briefly. At the end, the
    package counters are checked. `progress` gets the number of packages of each chunk. Pending journal rows are left
    to the digest. Without `write`, outdated packages are left out, because the worker derives them again.
    """
    last = ""
    while True:
        with database.write() if write else database.read() as connection:
            if write:
                take_write_lock(connection)
            ids = _ids_after(connection, last)
            found = list(_rebuild_chunk(connection, ids, clock=clock, write=write))
            if not ids:
                yield from _check_counters(connection, write=write)
                return
        yield from found
        progress(len(ids))
        last = ids[-1]


def _check_counters(connection: Connection, *, write: bool) -> Iterator[Difference]:
    stored, derived = counters.count_packages(connection), packages.count_kinds(connection)
    if write and stored != derived:
        counters.replace_packages(connection, derived)
    for kind in sorted({*stored, *derived}, key=_name):
        if stored[kind] != derived[kind]:
            yield Difference("all", _name(kind), "number", stored[kind], derived[kind])


def _name(kind: PackageKind) -> str:
    flags = [name for name, is_set in (("trashed", kind.trashed), ("deleted", kind.deleted)) if is_set]
    return " ".join(filter(None, (*flags, kind.type, kind.status))) or "unknown"


def _ids_after(connection: Connection, last: str) -> list[str]:
    """Return the next package ids after `last`, from the journal and the status store."""
    journaled = journal.packages_after(connection, last, limit=CHUNK)
    stored = packages.packages_after(connection, last, limit=CHUNK)
    return sorted({*journaled, *stored}, key=str.encode)[:CHUNK]  # the databases sort ids by their bytes


def _rebuild_chunk(connection: Connection, ids: list[str], *, clock: Clock, write: bool) -> Iterator[Difference]:
    outdated = set(versions.outdated_among(connection, ids))
    if not write:
        ids = [key for key in ids if key not in outdated]
    states = claims_of_journal(connection, ids)
    derived = {key: derive(key, state) for key, state in states.items() if state}
    stored = stored_packages(connection, ids)
    now, cause = clock(), Cause("rebuild", "journal")
    changes = [
        change
        for key, package in derived.items()
        for change in packages.changes_between(stored.get(key), package, happened_at=now, cause=cause)
    ]
    loaded = packages.load(connection, ids)
    stored_states = {key: package.claims for key, package in loaded.items()}
    entries = {key: package.entry for key, package in loaded.items()}
    surplus = stored.keys() - derived.keys()
    other_claims = {key for key in derived if _plain(stored_states.get(key)) != _plain(states[key])}
    misplaced = {key for key, package in derived.items() if entries.get(key) != packages.list_entry(package)}
    differing = other_claims | misplaced | {key for key, package in derived.items() if stored.get(key) != package}
    if write:
        new = {key: (states[key], derived[key]) for key in differing | (outdated & derived.keys())}
        version = versions.version_to_write(connection, now=now)
        packages.write_packages(connection, new, stored, entries=entries, version=version)
        packages.record_changes(connection, changes, now=now)
        packages.erase(connection, sorted(surplus))
    yield from map(_difference, changes)
    for key in sorted(differing - {change.package_id for change in changes}):
        yield Difference(key, "package", *_details(stored.get(key), derived[key], is_misplaced=key in misplaced))
    for key in sorted(surplus):
        yield Difference(key, "package", "row", "stored", "not in the journal")


def _difference(change: NewChange) -> Difference:
    return Difference(change.package_id, change.subject, change.attribute, change.old, change.new)


def _plain(state: State | None) -> str:
    return json.dumps(state, sort_keys=True)


def _details(stored: Package | None, derived: Package, *, is_misplaced: bool) -> tuple[str, str, str]:
    """Describe what differs: the attributes, their stored and derived values, but no values that name persons."""
    if stored == derived and is_misplaced:
        return "list entry", "as stored", "as derived"
    if stored == derived:
        return "claims", "as stored", "as derived"
    names = [item.name for item in fields(Package) if getattr(stored, item.name, None) != getattr(derived, item.name)]
    was, is_ = (
        " ".join(name if name in PERSONAL else f"{name}={getattr(package, name, None)}" for name in names)
        for package in (stored, derived)
    )
    return "details", was, is_
