"""The parts that all random schedules share: one database, one simulated OneSpan, one clock.

Creating these parts takes longer than a schedule. Between two schedules the tables are emptied, and OneSpan gets
another account.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from random import Random
from typing import Any

import structlog
from sqlalchemy import delete, engine
from werkzeug.test import run_wsgi_app

from app.handling import Event, Handlers, Package
from app.onespan.auth import ApiConnection, ApiKey
from app.onespan.client import OneSpan
from app.simulator import people
from app.simulator.account import Account
from app.simulator.faults import Faults
from app.simulator.inprocess import InProcess
from app.simulator.quirks import Quirks
from app.simulator.server import api
from app.store.db import Database
from app.store.models import Base
from app.store.request_budget import Budget
from app.work.digest import Digest
from app.work.dispatch import Dispatcher
from app.work.fetch import Fetcher
from app.work.housekeeping import Heartbeat
from app.work.reconcile import Reconciler
from app.work.upgrade import Upgrader
from tests.conftest import NOON, Clock
from tests.support.shared_apps import commit_at_once
from tests.support.simulation import Proxy

ADDRESS, API_KEY = "http://onespan.test", "the-api-key"
RECONCILE_EVERY = timedelta(hours=6)
HANDLER_LEASE = timedelta(minutes=5)
ZERO = timedelta(0)


class Crash(BaseException):
    """The simulated death of a process."""


class CrashingDatabase(Database):
    """A database whose writer dies right before or right after a chosen commit."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.commits_left: int | None = None  # commits until a writer dies, or None if no writer dies
        self.crash_after_commit = False
        commit_at_once(self)

    @contextmanager
    def write(self) -> Iterator[engine.Connection]:
        """Open a transaction. Raises `Crash` at the chosen commit."""
        crashes = False
        with super().write() as connection:
            yield connection
            if self.commits_left is not None:
                self.commits_left -= 1
                crashes = self.commits_left <= 0
            if crashes:
                self.commits_left = None
                if not self.crash_after_commit:
                    raise Crash
        if crashes:
            raise Crash


class Process:
    """One process of the service, with its turns wired as in `create_app`. Handlers run in threads of the process."""

    def __init__(self, database: Database, handlers: Handlers, clock: Callable[[], datetime], *, budget: int) -> None:
        requests = Budget(budget)
        heartbeat = Heartbeat(database, clock=clock)
        self.beat = heartbeat.beat
        self.digest = Digest(database, handlers, clock=clock, can_fetch=True)
        self.fetcher = Fetcher(database, handlers.onespan, clock=clock, budget=requests, process=lambda: heartbeat.name)
        self.dispatcher = Dispatcher(database, handlers, clock=clock, threads=4, lease=HANDLER_LEASE)
        self.reconcile = Reconciler(
            database,
            handlers.onespan,
            clock=clock,
            every=RECONCILE_EVERY,
            budget=requests,
            process=lambda: heartbeat.name,
        )
        self.turns: Mapping[str, Callable[[], bool]] = {
            "digest": self.digest.turn,
            "dispatch": self.dispatch,
            "fetch": self.fetcher.turn,
            "reconcile": self.reconcile.turn,
            "upgrade": Upgrader(database, clock=clock).turn,
        }

    def dispatch(self) -> bool:
        """Run the dispatcher's turns until all runs that the dispatcher began have ended and are settled."""
        worked = False
        while self.dispatcher.turn():
            worked = True
            assert self.dispatcher.handlers_done.wait(10)
        return worked


class Playground:
    """The parts that all random schedules share.

    The catch-all handler calls `on_event`. The next request to OneSpan calls `during_request`.
    """

    def __init__(self, url: str) -> None:
        structlog.configure(processors=[_drop])
        self.clock = Clock()
        self.database = CrashingDatabase(url)
        self.handlers = Handlers()
        self.handlers.onespan = OneSpan(backoff=0)
        self.handlers.onespan.connect(ApiConnection(ADDRESS, ApiKey(API_KEY)), clock=lambda: self.clock.now)
        self.on_event: Callable[[Event, Package], None] = lambda _, __: None
        self.during_request: Callable[[], None] | None = None
        self.dates_answer_late = False
        self.requested_paths: list[str] = []
        self.skew = ZERO
        self._tables = list(reversed(Base.metadata.sorted_tables))
        dice = Random(0)
        self._people = tuple(people.sender(dice) for _ in range(3))
        self._account = Proxy(Account(0, packages=0))
        self._account.set_target(self.account(0, quirks=Quirks()))
        self.faults = Faults(Random(0))
        self._onespan = api(
            self._account, api_key=API_KEY, clock=self.onespan_now, faults=self.faults, sleep=lambda _: None
        )
        self.handlers.onespan._session.mount(ADDRESS, InProcess(self._answer))
        self.handlers.onespan._session.hooks["response"].append(self._set_elapsed)
        self._elapsed = ZERO

        @self.handlers.on("*")
        def see(event: Event, package: Package) -> None:
            self.on_event(event, package)

    def onespan_now(self) -> datetime:
        """The time of OneSpan's clock."""
        return self.clock.now + self.skew

    def account(self, seed: int, *, quirks: Quirks, **more: Any) -> Account:
        """Create another account with the same people as the previous account."""
        account = Account(seed, packages=0, quirks=quirks, **more)
        account.people = self._people
        return account

    def reset(self, account: Account, *, skew: timedelta, dice: Random) -> None:
        """Empty the tables and let the simulated OneSpan use this account."""
        self.clock.now, self.skew = NOON, skew
        self.handlers.onespan._offset = ZERO  # the client of a new process has measured no offset yet
        self._account.set_target(account)
        self.faults.__init__(dice)  # type: ignore[misc]
        self.during_request, self.dates_answer_late, self.database.commits_left = None, False, None
        self.requested_paths.clear()
        with self.database.write() as connection:
            for table in self._tables:
                connection.execute(delete(table))

    def process(self, *, budget: int, drift: timedelta) -> Process:
        """Start a process of the service on a machine whose clock is ahead by `drift`."""
        return Process(self.database, self.handlers, lambda: self.clock.now + drift, budget=budget)

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def _answer(self, environ: Any, start: Any) -> Any:
        """Answer a request. `during_request` runs after OneSpan has read its data and before the answer arrives."""
        self.requested_paths.append(environ["PATH_INFO"])
        began = self.clock.now
        parts, status, headers = run_wsgi_app(self._onespan, environ)
        action, self.during_request = self.during_request, None
        if action:
            action()
            if self.dates_answer_late and "Date" in headers:
                read_at = parsedate_to_datetime(headers["Date"])
                headers["Date"] = format_datetime(read_at + (self.clock.now - began), usegmt=True)
        self._elapsed = self.clock.now - began
        start(status, list(headers.items()))
        return parts

    def _set_elapsed(self, answer: Any, **_: Any) -> Any:
        answer.elapsed = self._elapsed  # the simulated duration of the request, not the real duration
        return answer


def _drop(_: Any, __: str, ___: Any) -> Any:
    raise structlog.DropEvent
