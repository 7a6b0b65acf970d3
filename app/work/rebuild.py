"""Derive the status store again from the journal, to check or to repair it."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace

from sqlalchemy.engine import Connection

from app.onespan import merge
from app.onespan.merge import State
from app.onespan.projection import derive
from app.onespan.values import AttentionReason, Package
from app.store import counters, journal, packages, queries
from app.store.counters import PackageKind
from app.store.db import Database, take_write_lock
from app.store.packages import Cause, NewChange
from app.store.states import EventSource
from app.types import Clock
from app.work.parsing import parse

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
    to the digest.
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
    states = _states(connection, ids)
    derived = {key: derive(key, state) for key, state in states.items() if state}
    stored = {key: _without_parked(package) for key, package in queries.packages(connection, ids).items()}
    now, cause = clock(), Cause("rebuild", "journal")
    changes = [
        change
        for key, package in derived.items()
        for change in packages.changes_between(stored.get(key), package, happened_at=now, cause=cause)
    ]
    stored_states, entries = packages.load_claims(connection, ids), packages.list_entries(connection, ids)
    surplus = stored.keys() - derived.keys()
    other_claims = {key for key in derived if _plain(stored_states.get(key)) != _plain(states[key])}
    misplaced = {key for key, package in derived.items() if entries.get(key) != packages.list_entry(package)}
    differing = other_claims | misplaced | {key for key, package in derived.items() if stored.get(key) != package}
    if write:
        packages.write_packages(connection, {key: (states[key], derived[key]) for key in differing}, stored)
        packages.record_changes(connection, changes, now=now)
        packages.erase(connection, sorted(surplus))
    yield from map(_difference, changes)
    for key in sorted(differing - {change.package_id for change in changes}):
        yield Difference(key, "package", *_details(stored.get(key), derived[key], is_misplaced=key in misplaced))
    for key in sorted(surplus):
        yield Difference(key, "package", "row", "stored", "not in the journal")


def _states(connection: Connection, ids: Iterable[str]) -> dict[str, State]:
    """Merge the claims of the digested journal rows of these packages, counting each event once."""
    states: dict[str, State] = {}
    seen: set[int] = set()
    for row in journal.of_packages(connection, ids):
        entry = parse(row)
        if row.event_id is not None:
            if row.event_id in seen:
                continue
            seen.add(row.event_id)
            if row.source == EventSource.CALLBACK:  # rows may be committed in another order than received
                entry = replace(entry, received_at=row.first_received_at)
        states[entry.package_id] = merge.merge_claims(states.get(entry.package_id, {}), entry.claims)
    return states


def _without_parked(package: Package) -> Package:
    kept = tuple(reason for reason in package.attention if reason.reason != AttentionReason.PARKED_HANDLER)
    return replace(package, attention=kept)


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
