"""Make runs of the past due again, or due for the first time, many at once."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy.engine import Connection

from app.registry import Handlers
from app.store import dispatch_filter, dispatches, packages
from app.store.db import Database, take_pen
from app.store.dispatch_filter import Choice

CHUNK = 500  # rows in one transaction


class Work(Protocol):
    """A choice of runs that can be counted and made due chunk by chunk."""

    def count(self, connection: Connection) -> int:
        """How many there are."""
        ...

    def chunk(self, connection: Connection, *, after: int, now: datetime) -> tuple[int, int | None]:
        """Make the next ones due: how many, and where to go on; None at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Again(Work):
    """Runs that are in the ledger already; `by` is who wants them again."""

    choice: Choice
    by: str

    def count(self, connection: Connection) -> int:
        """How many there are."""
        return dispatch_filter.count(connection, self.choice)

    def chunk(self, connection: Connection, *, after: int, now: datetime) -> tuple[int, int | None]:
        """Make the next ones due."""
        ids = dispatch_filter.next_chosen(connection, self.choice, after=after, limit=CHUNK)
        made, changes = dispatches.replay_all(connection, ids, by=self.by, now=now)
        packages.record(connection, changes, now=now)
        return made, ids[-1] if ids else None


@dataclass(frozen=True, slots=True)
class Missing(Work):
    """Runs of one handler for events that it was never told of: it is newer than they are."""

    choice: Choice
    handlers: Handlers
    by: str

    def count(self, connection: Connection) -> int:
        """How many there are."""
        return dispatch_filter.count_never_told(connection, self.choice, names=self._names())

    def chunk(self, connection: Connection, *, after: int, now: datetime) -> tuple[int, int | None]:
        """Make the next ones due."""
        handler = self.choice.handler
        assert handler
        take_pen(connection)  # so that of two who look at once one makes them due
        events = dispatch_filter.never_told(connection, self.choice, names=self._names(), after=after, limit=CHUNK)
        dispatches.oblige(connection, ((event, package, handler) for event, package in events), now=now)
        begun = [dispatches.begun(package, handler, old=None, by=self.by, now=now) for _, package in events]
        packages.record(connection, begun, now=now)
        return len(events), events[-1][0] if events else None

    def _names(self) -> list[str] | None:
        assert self.choice.handler
        return self.handlers.names_wanted_by(self.choice.handler)


def replay(database: Database, work: Work, *, now: datetime, progress: Callable[[int], None] = lambda _: None) -> int:
    """Do all of it, in chunks, so that nobody waits long for us. Returns how many runs are due because of it."""
    made, place = 0, 0
    while True:
        with database.write() as connection:
            count, next_place = work.chunk(connection, after=place, now=now)
        if next_place is None:
            return made
        made, place = made + count, next_place
        progress(count)
