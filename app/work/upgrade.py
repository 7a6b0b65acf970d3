"""Derive packages again from the journal after an upgrade that changes the projection.

No handler runs and no event is added: the journal rows have been digested before.
"""

from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import datetime

import structlog
from sqlalchemy.engine import Connection

from app.logs import error_fields
from app.onespan import merge
from app.onespan.merge import State
from app.onespan.projection import PROJECTION_VERSION, derive
from app.onespan.values import AttentionReason, Package
from app.store import journal, packages, queries, versions
from app.store.db import Database, is_row_error, take_write_lock
from app.store.packages import Cause
from app.store.states import EventSource
from app.types import Clock
from app.work.parsing import parse

log = structlog.get_logger()

CHUNK = 25  # packages that one turn derives again; the digest waits for one chunk at most


def claims_of_journal(connection: Connection, package_ids: Iterable[str]) -> dict[str, State]:
    """Merge the claims of the digested journal rows of these packages, counting each event once."""
    states: dict[str, State] = {}
    seen: set[int] = set()
    with closing(journal.of_packages(connection, package_ids)) as rows:
        for row in rows:
            entry = parse(row)
            if row.event_id is not None:
                # Rows may be committed in another order than received; the row that was digested first made the event.
                is_later = row.source == EventSource.CALLBACK and row.received_at != row.first_received_at
                if is_later or row.event_id in seen:
                    continue
                seen.add(row.event_id)
            states[entry.package_id] = merge.merge_claims(states.get(entry.package_id, {}), entry.claims)
    return states


def stored_packages(connection: Connection, package_ids: Collection[str]) -> dict[str, Package]:
    """Return the stored packages, without the attention reasons that do not come from the journal."""
    found = queries.packages(connection, package_ids)
    return {package_id: _derivable(package) for package_id, package in found.items()}


def current_claims(connection: Connection, package_ids: Collection[str]) -> dict[str, State]:
    """Return the merged claims of the given packages as this version of the code makes them, without writing them."""
    outdated = versions.outdated_among(connection, package_ids)
    return packages.load_claims(connection, package_ids) | claims_of_journal(connection, outdated)


def load_current(
    connection: Connection, package_ids: Collection[str], *, now: datetime
) -> dict[str, packages.StoredPackage]:
    """Return the given packages after deriving those again that are outdated. The caller holds the write lock."""
    stored = packages.load(connection, package_ids)
    outdated = [package_id for package_id, package in stored.items() if package.version != PROJECTION_VERSION]
    if not outdated:
        return stored
    version = versions.version_to_write(connection, now=now)
    _write(connection, outdated, claims_of_journal(connection, outdated), version=version, now=now)
    return packages.load(connection, package_ids)


def _write(
    connection: Connection, package_ids: Collection[str], states: Mapping[str, State], *, version: int, now: datetime
) -> None:
    stored = stored_packages(connection, package_ids)
    new = {key: (states[key], derive(key, states[key])) for key in package_ids if key in states}
    cause = Cause("rebuild", "upgrade")
    changes = [
        change
        for key, (_, package) in new.items()
        for change in packages.changes_between(stored.get(key), package, happened_at=now, cause=cause)
    ]
    entries = packages.list_entries(connection, new)
    packages.write_packages(connection, new, stored, entries=entries, version=version)
    packages.record_changes(connection, changes, now=now)
    packages.set_version(connection, [key for key in package_ids if key not in new], version)


class Upgrader:
    """Derives outdated packages again, a chunk per turn. Any number of processes may run it.

    The upgrader waits while a process of another version runs, because both would write the same packages.
    """

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._failed: set[str] = set()  # packages that this process tries again after a restart

    def turn(self) -> bool:
        """Derive one chunk of packages again. Returns whether there was work."""
        with self._database.read() as connection:
            found = versions.outdated(connection, limit=CHUNK + len(self._failed))
            is_mixed = found and versions.other_process(connection, now=self._clock())
        chunk = [package_id for package_id in found if package_id not in self._failed][:CHUNK]
        if not chunk or is_mixed:
            return False
        self._derive(chunk)
        return True

    def _derive(self, package_ids: Collection[str]) -> None:
        """Derive these packages again; if that fails, derive each alone, so that only the bad one is left out."""
        try:
            self._derive_together(package_ids)
        except Exception as error:
            if not is_row_error(error):
                raise
            if len(package_ids) > 1:
                for package_id in package_ids:
                    self._derive([package_id])
                return
            self._failed.update(package_ids)
            log.error("package.not_derived", package_id=next(iter(package_ids)), **error_fields(error))

    def _derive_together(self, package_ids: Collection[str]) -> None:
        """Read the journal before taking the write lock, so that the digest waits only for the writing.

        A package that is still outdated afterwards was not digested meanwhile, as the digest would have updated it.
        """
        with self._database.read() as connection:
            states = claims_of_journal(connection, package_ids)
        now = self._clock()
        with self._database.write() as connection:
            take_write_lock(connection)
            version = versions.version_to_write(connection, now=now)
            if version == versions.OUTDATED:  # the digest then leaves packages outdated that it has digested
                return
            left = versions.outdated_among(connection, package_ids)
            _write(connection, left, states, version=version, now=now)
        log.info("packages.derived", packages=len(left))


def _derivable(package: Package) -> Package:
    """Return the package without what the journal does not tell: parked handlers, and why it cannot be verified."""
    kept = tuple(reason for reason in package.attention if reason.reason != AttentionReason.PARKED_HANDLER)
    return replace(package, attention=kept, unverified=None)
