"""What people may have done, by the pages and by the API; who wanted it is kept with it.

That is in the history of the package, in the row of the reconcile, in the test callback; and in the log where somebody
wants a package read, which we may not know yet.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

import structlog

from app.errors import MoreThanExpected, NoOneSpan, TooMany
from app.onespan.callbacks import is_id
from app.onespan.list_scan import EARLIEST
from app.store import dispatch_filter, dispatches, fetches, packages, queries
from app.store.db import Database, take_pen
from app.store.dispatch_filter import Choice
from app.store.journal import Entry
from app.store.packages import Cause, NewChange
from app.store.queries import RunDetail
from app.web.api.answers import ReadWanted, Replayed
from app.web.api.endpoints import NoSuchThing
from app.web.api.parameters import LAST_ID, BadParameter, ReconcileRequest
from app.web.receiver import read_entry

log = structlog.get_logger()

ASKED = "asked by a person"  # why a package is to be read
TEST = ("RECEIVER_TEST", "test-callback")  # an event that nobody knows claims nothing; of this package
TEST_KEY = "test callback"  # the label of what people send themselves; no callback key's has a space
AT_ONCE = 10_000  # runs that one request makes due at most
AT_A_TIME = 500  # of them are named to the database, for which thousands in one statement are slow


class Begin(Protocol):
    """Lets a run begin, because `by` asks; None where one is under way. Raises `UnderWay` where that is another one."""

    def __call__(self, *, since: datetime | None, backfill: bool, fires: bool, by: str) -> int | None:
        """Begin it, and return its id."""
        ...


class ReplayAll(Protocol):
    """Makes all chosen runs due, because `by` asks."""

    def __call__(self, chosen: Choice, *, by: str) -> int:
        """Do it, and return how many it were."""
        ...


@dataclass(frozen=True, slots=True)
class Acts:
    """`wake` says that a dispatch is due, `digest` that an entry was kept; asking needs a OneSpan `is_connected` to."""

    database: Database
    clock: Callable[[], datetime]
    wake: Callable[[], None]
    begin: Begin
    is_connected: Callable[[], bool]
    make_due: ReplayAll
    keep: Callable[[Entry], int | None]
    digest: Callable[[], None]

    def read(self, package_id: str, *, by: str) -> ReadWanted:
        """Have OneSpan asked for this package now, whether we have heard of it or not."""
        if not self.is_connected():
            raise NoOneSpan
        if not is_id(package_id):
            raise NoSuchThing(f"no package {package_id!r}")
        now = self.clock()
        wanted = NewChange(package_id, "package", "read", None, "wanted", now, Cause("person", by))
        with self.database.write() as connection:
            take_pen(connection)
            fetches.want(connection, {package_id: ASKED}, now=now)
            is_known = package_id in packages.states(connection, [package_id])
            packages.record(connection, [wanted] if is_known else [], now=now)
        log.info("package.wanted", package_id=package_id, by=by)
        return ReadWanted(package_id, now, is_known)

    def take_test(self, *, by: str) -> None:
        """Take in a callback as the door does, of an event that changes nothing."""
        now = self.clock()
        name, package_id = TEST
        said = {"name": name, "packageId": package_id, "sessionUser": by, "createdDate": now.isoformat()}
        entry, _ = read_entry(json.dumps(said).encode(), received_at=now, key=TEST_KEY)
        self.keep(entry)
        self.digest()

    def replay(self, dispatch_id: int, *, by: str) -> None:
        """Make a run due again, with all its attempts before it. Raises `StillRunning`."""
        now = self.clock()
        with self.database.write() as connection:
            changes = dispatches.replay(connection, dispatch_id, by=by, now=now) if dispatch_id <= LAST_ID else None
            if changes is None:
                raise NoSuchThing(f"no dispatch {dispatch_id}")
            packages.record(connection, changes, now=now)
        self.wake()

    def count(self, chosen: Choice) -> Replayed:
        """How many runs these are."""
        with self.database.read() as connection:
            return _counted(dispatch_filter.count(connection, chosen, at_most=AT_ONCE + 1))

    def replay_all(self, chosen: Choice, *, expect: int | None, by: str) -> Replayed:
        """Make these runs due again, and none that comes to fit meanwhile. Raises `MoreThanExpected` and `TooMany`."""
        with self.database.read() as connection:
            found = dispatch_filter.ids(connection, chosen, at_most=AT_ONCE + 1)
        counted = _counted(len(found))
        if expect is not None and counted.count > expect:
            raise MoreThanExpected(f"{counted.count}, not {expect}; count again")
        if counted.more:
            raise TooMany(f"more than {AT_ONCE}; say less by `since` and `until`, or use `flask replay`")
        parts = [found[start : start + AT_A_TIME] for start in range(0, len(found), AT_A_TIME)]
        return Replayed(sum(self.make_due(replace(chosen, among=one), by=by) for one in parts), more=False)

    def reconcile(self, asked: ReconcileRequest, *, by: str) -> RunDetail:
        """Begin a run; where one is under way it is that one. Raises `UnderWay` where more than that is asked."""
        if not self.is_connected():
            raise NoOneSpan
        if asked.since is not None and not EARLIEST <= asked.since <= self.clock():
            raise BadParameter(f"since: must lie between {EARLIEST:%Y-%m-%d} and now")
        begun = self.begin(since=asked.since, backfill=asked.backfill, fires=asked.fire, by=by)
        with self.database.read() as connection:
            found = queries.run(connection, begun) if begun else queries.run_page(connection, limit=1, before=None)[0]
        assert found
        return found


def _counted(found: int) -> Replayed:
    return Replayed(min(found, AT_ONCE), found > AT_ONCE)
