"""The actions of users, for the pages and the API. Each action records who requested it.

The record is in the package's history, in the row of the reconcile run, or in the test callback. Each action is also
a log line, with the user as `by`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

import structlog

from app.errors import MoreThanExpected, OneSpanNotConfigured, TooManyRuns
from app.onespan.callbacks import is_id
from app.onespan.list_scan import EARLIEST
from app.store import dispatches, fetches, packages, queries, replay_filter
from app.store.db import Database, take_write_lock
from app.store.intake import journal_entry
from app.store.journal import Entry, RereadCallback
from app.store.packages import Cause, NewChange
from app.store.queries import RunDetail
from app.store.replay_filter import ReplayFilter
from app.web.api.answers import FetchQueued, ReplayCount
from app.web.api.endpoints import ResourceNotFound
from app.web.api.parameters import MAX_ID, BadParameter, ReconcileRequest

log = structlog.get_logger()

FETCH_REASON = "requested by a user"
# Event name and package id of a test callback. The name is not in the catalogue, so the event claims nothing.
TEST_CALLBACK = ("RECEIVER_TEST", "test-callback")
TEST_KEY_LABEL = "test callback"  # differs from the labels of real callback keys, which have no spaces
MAX_REPLAYED = 10_000  # maximum number of dispatches that one request can replay
REPLAY_BATCH = 500  # maximum number of ids in one statement: statements with thousands of ids are slow


class BeginReconcile(Protocol):
    """A function that begins a reconcile run and returns the id of the run.

    If a run is in progress, that run continues without delay and the result is None. Raises `ReconcileRunning` if the
    request names a window or an option, which the run in progress may not cover.
    """

    def __call__(self, *, since: datetime | None, backfill: bool, fires: bool, by: str) -> int | None:
        """Begin a reconcile run that the user `by` requested."""
        ...


class ReplayAll(Protocol):
    """A function that makes all chosen dispatches due and returns their number."""

    def __call__(self, chosen: ReplayFilter, *, by: str) -> int:
        """Replay the dispatches that the user `by` chose."""
        ...


class Reread(Protocol):
    """A function that reads unreadable callbacks again: all, or `only` the one with this journal id."""

    def __call__(self, *, only: int | None, by: str) -> list[RereadCallback]:
        """Read callbacks again for the user `by`. Those that can now be read become pending."""
        ...


@dataclass(frozen=True, slots=True)
class Actions:
    """The actions that users can perform.

    `wake` signals that a dispatch is due, `wake_digest` that the journal has a new entry. Actions that need
    the REST API raise `OneSpanNotConfigured` unless `is_connected()`.
    """

    database: Database
    clock: Callable[[], datetime]
    wake: Callable[[], None]
    begin: BeginReconcile
    is_connected: Callable[[], bool]
    make_due: ReplayAll
    keep: Callable[[Entry], int | None]
    wake_digest: Callable[[], None]
    reread: Reread

    def request_fetch(self, package_id: str, *, by: str) -> FetchQueued:
        """Enqueue a fetch of this package, whether it is in the status store or not."""
        if not self.is_connected():
            raise OneSpanNotConfigured
        if not is_id(package_id):
            raise ResourceNotFound(f"no package {package_id!r}")
        now = self.clock()
        change = NewChange(package_id, "package", "read", None, "wanted", now, Cause("person", by))
        with self.database.write() as connection:
            take_write_lock(connection)
            fetches.enqueue(connection, {package_id: FETCH_REASON}, now=now)
            is_known = package_id in packages.load_claims(connection, [package_id])
            packages.record_changes(connection, [change] if is_known else [], now=now)
        log.info("package.fetch_requested", package_id=package_id)
        return FetchQueued(package_id, now, is_known)

    def send_test_callback(self, *, by: str) -> None:
        """Store a test callback as the receiver does. The event of the callback changes no package."""
        now = self.clock()
        name, package_id = TEST_CALLBACK
        callback = {"name": name, "packageId": package_id, "sessionUser": by, "createdDate": now.isoformat()}
        entry = journal_entry(json.dumps(callback).encode(), received_at=now, key=TEST_KEY_LABEL)
        self.keep(entry)
        self.wake_digest()
        log.info("callback.test_sent")

    def read_again(self, journal_id: int | None, *, by: str) -> list[RereadCallback]:
        """Read an unreadable callback again, or all without a `journal_id`; those that can be read are digested."""
        found = self.reread(only=journal_id and min(journal_id, MAX_ID), by=by)
        self.wake_digest()
        return found

    def replay(self, dispatch_id: int, *, by: str) -> None:
        """Make a dispatch due now, with all its attempts again. Raises `DispatchRunning` while the dispatch runs."""
        now = self.clock()
        with self.database.write() as connection:
            changes = dispatches.replay(connection, dispatch_id, by=by, now=now) if dispatch_id <= MAX_ID else None
            if changes is None:
                raise ResourceNotFound(f"no dispatch {dispatch_id}")
            packages.record_changes(connection, changes, now=now)
        log.info("dispatch.replayed", dispatch_id=dispatch_id)
        self.wake()

    def count(self, chosen: ReplayFilter) -> ReplayCount:
        """Count the chosen dispatches, up to `MAX_REPLAYED`."""
        with self.database.read() as connection:
            return _capped(replay_filter.count(connection, chosen, at_most=MAX_REPLAYED + 1))

    def replay_all(self, chosen: ReplayFilter, *, expect: int | None, by: str) -> ReplayCount:
        """Make all dispatches due that match the filter at the time of the call.

        Raises `MoreThanExpected` for more than `expect` dispatches, and `TooManyRuns` for more than `MAX_REPLAYED`. If
        an error is raised, no dispatch becomes due.
        """
        with self.database.read() as connection:
            ids = replay_filter.ids(connection, chosen, at_most=MAX_REPLAYED + 1)
        counted = _capped(len(ids))
        if expect is not None and counted.count > expect:
            raise MoreThanExpected(f"{counted.count}, not {expect}; count again")
        if counted.more:
            raise TooManyRuns(f"more than {MAX_REPLAYED}; narrow it with `since` and `until`, or use `flask replay`")
        batches = [ids[start : start + REPLAY_BATCH] for start in range(0, len(ids), REPLAY_BATCH)]
        replayed = sum(self.make_due(replace(chosen, among=batch), by=by) for batch in batches)
        log.info("dispatches.replayed", dispatches=replayed)
        return ReplayCount(replayed, more=False)

    def reconcile(self, request: ReconcileRequest, *, by: str) -> RunDetail:
        """Begin a reconcile run, or return the run in progress. Raises `ReconcileRunning` as `BeginReconcile` does."""
        if not self.is_connected():
            raise OneSpanNotConfigured
        if request.since is not None and not EARLIEST <= request.since <= self.clock():
            raise BadParameter(f"since: must be between {EARLIEST:%Y-%m-%d} and now")
        run_id = self.begin(since=request.since, backfill=request.backfill, fires=request.fire, by=by)
        log.info("reconcile.requested", run=run_id)
        with self.database.read() as connection:
            run = queries.run(connection, run_id) if run_id else queries.run_page(connection, limit=1, before=None)[0]
        assert run
        return run


def _capped(found: int) -> ReplayCount:
    return ReplayCount(min(found, MAX_REPLAYED), found > MAX_REPLAYED)
