"""Make many dispatches due: again, or for the first time."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy.engine import Connection

from app.registry import Handlers
from app.store import dispatches, packages, replay_filter
from app.store.db import Database, take_write_lock
from app.store.replay_filter import ReplayFilter

CHUNK = 500  # rows in one transaction


class Selection(Protocol):
    """A selection of runs, which can be counted and made due in chunks."""

    def count(self, connection: Connection) -> int:
        """Return the number of selected runs."""
        ...

    def chunk(self, connection: Connection, *, after: int, now: datetime) -> tuple[int, int | None]:
        """Make the next chunk of runs due.

        Returns the number of runs made due, and the id `after` which the next chunk begins (None at the end).
        """
        ...


@dataclass(frozen=True, slots=True)
class ExistingDispatches(Selection):
    """A selection of existing dispatches. `by` is the person who replays them."""

    replay_filter: ReplayFilter
    by: str

    def count(self, connection: Connection) -> int:
        """Return the number of selected dispatches."""
        return replay_filter.count(connection, self.replay_filter)

    def chunk(self, connection: Connection, *, after: int, now: datetime) -> tuple[int, int | None]:
        """Make the next chunk of existing dispatches due again."""
        ids = replay_filter.lock_next(connection, self.replay_filter, after=after, limit=CHUNK)
        made, changes = dispatches.replay_all(connection, ids, by=self.by, now=now)
        packages.record_changes(connection, changes, now=now)
        return made, ids[-1] if ids else None


@dataclass(frozen=True, slots=True)
class MissingDispatches(Selection):
    """The missing dispatches of one handler, for events that are older than the handler."""

    replay_filter: ReplayFilter
    handlers: Handlers
    by: str

    def count(self, connection: Connection) -> int:
        """Return the number of missing dispatches."""
        return replay_filter.count_undispatched_events(connection, self.replay_filter, names=self._names())

    def chunk(self, connection: Connection, *, after: int, now: datetime) -> tuple[int, int | None]:
        """Create the next chunk of missing dispatches, due at once."""
        handler = self.replay_filter.handler
        assert handler
        take_write_lock(connection)  # so that only one of two concurrent replays inserts the dispatches
        events = replay_filter.undispatched_events(
            connection, self.replay_filter, names=self._names(), after=after, limit=CHUNK
        )
        dispatches.enqueue(connection, ((event, package, handler) for event, package in events), now=now)
        begun = [dispatches.replay_change(package, handler, old=None, by=self.by, now=now) for _, package in events]
        packages.record_changes(connection, begun, now=now)
        return len(events), events[-1][0] if events else None

    def _names(self) -> list[str] | None:
        assert self.replay_filter.handler
        return self.handlers.events_of(self.replay_filter.handler)


def replay(
    database: Database, selection: Selection, *, now: datetime, progress: Callable[[int], None] = lambda _: None
) -> int:
    """Make all selected runs due, in one short transaction per chunk. Returns the number of runs made due."""
    made, after = 0, 0
    while True:
        with database.write() as connection:
            count, last = selection.chunk(connection, after=after, now=now)
        if last is None:
            return made
        made, after = made + count, last
        progress(count)
