"""What random schedules are played on: one database, one OneSpan, one clock, used again and again.

Setting up costs more than a schedule takes, so that is done once: between two schedules the tables are emptied and
another account takes OneSpan's place.
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
from app.onespan.auth import ApiKey, Connection
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
from app.work.fetch import Refresh
from app.work.housekeeping import Presence
from app.work.reconcile import Reconcile
from tests.conftest import NOON, Clock
from tests.support.shared_apps import commit_at_once
from tests.support.simulation import Standin

ADDRESS, API_KEY = "http://onespan.test", "the-api-key"
EVERY = timedelta(hours=6)
HANDLER_LEASE = timedelta(minutes=5)
UNTOUCHED = timedelta(0)


class Crash(BaseException):
    """The process dies here."""


class Mortal(Database):
    """A database whose writers die at a commit that somebody has chosen: right before it, or right after."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.commits: int | None = None  # until the one at which the writer dies; None: nobody does
        self.after = False
        commit_at_once(self)

    @contextmanager
    def write(self) -> Iterator[engine.Connection]:
        """One transaction."""
        dies = False
        with super().write() as connection:
            yield connection
            if self.commits is not None:
                self.commits -= 1
                dies = self.commits <= 0
            if dies:
                self.commits = None
                if not self.after:
                    raise Crash
        if dies:
            raise Crash


class Process:
    """One process of the service: its turns, as `create_app` puts them together. Its handlers run in their threads."""

    def __init__(self, database: Database, handlers: Handlers, clock: Callable[[], datetime], *, budget: int) -> None:
        requests = Budget(budget)
        presence = Presence(database, clock=clock)
        self.beat = presence.beat
        self.digest = Digest(database, handlers, clock=clock, asks=True)
        self.refresh = Refresh(database, handlers.onespan, clock=clock, budget=requests)
        self.dispatcher = Dispatcher(database, handlers, clock=clock, threads=4, lease=HANDLER_LEASE)
        self.reconcile = Reconcile(
            database, handlers.onespan, clock=clock, every=EVERY, budget=requests, process=presence.name
        )
        self.turns: Mapping[str, Callable[[], bool]] = {
            "digest": self.digest.turn,
            "dispatch": self.dispatch,
            "refresh": self.refresh.turn,
            "reconcile": self.reconcile.turn,
        }

    def dispatch(self) -> bool:
        """The dispatcher's turns, until all that it began has ended and is settled: its own pump goes on at once."""
        worked = False
        while self.dispatcher.turn():
            worked = True
            assert self.dispatcher.quiet.wait(10)
        return worked


class Bench:
    """The pieces. `sees` is told of each run of the handler for all events, `meanwhile` happens during a request."""

    def __init__(self, url: str) -> None:
        structlog.configure(processors=[_drop])
        self.clock = Clock()
        self.database = Mortal(url)
        self.handlers = Handlers()
        self.handlers.onespan = OneSpan(backoff=0)
        self.handlers.onespan.connect(Connection(ADDRESS, ApiKey(API_KEY)), clock=lambda: self.clock.now)
        self.sees: Callable[[Event, Package], None] = lambda _, __: None
        self.meanwhile: Callable[[], None] | None = None
        self.dates_late = False
        self.asked: list[str] = []
        self.skew = UNTOUCHED
        self._tables = list(reversed(Base.metadata.sorted_tables))
        dice = Random(0)
        self._people = tuple(people.sender(dice) for _ in range(3))
        self._account = Standin(Account(0, packages=0))
        self._account.is_now(self.account(0, quirks=Quirks()))
        self.faults = Faults(Random(0))
        self._onespan = api(
            self._account, api_key=API_KEY, clock=self.now_there, faults=self.faults, sleep=lambda _: None
        )
        self.handlers.onespan._session.mount(ADDRESS, InProcess(self._answer))
        self.handlers.onespan._session.hooks["response"].append(self._has_taken)
        self._took = UNTOUCHED

        @self.handlers.on("*")
        def see(event: Event, package: Package) -> None:
            self.sees(event, package)

    def now_there(self) -> datetime:
        """OneSpan's clock."""
        return self.clock.now + self.skew

    def account(self, seed: int, *, quirks: Quirks, **more: Any) -> Account:
        """One more account of these same people."""
        account = Account(seed, packages=0, quirks=quirks, **more)
        account.people = self._people
        return account

    def begin(self, account: Account, *, skew: timedelta, dice: Random) -> None:
        """Forget all that was before: this account is OneSpan from now on."""
        self.clock.now, self.skew = NOON, skew
        self._account.is_now(account)
        self.faults.__init__(dice)  # type: ignore[misc]
        self.meanwhile, self.dates_late, self.database.commits = None, False, None
        self.asked.clear()
        with self.database.write() as connection:
            for table in self._tables:
                connection.execute(delete(table))

    def process(self, *, budget: int, drift: timedelta) -> Process:
        """A process of the service that starts now, on a machine whose clock is ahead by so much."""
        return Process(self.database, self.handlers, lambda: self.clock.now + drift, budget=budget)

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()

    def _answer(self, environ: Any, start: Any) -> Any:
        """OneSpan's answer. What happens meanwhile happens after it has looked, and before we have the answer."""
        self.asked.append(environ["PATH_INFO"])
        began = self.clock.now
        parts, status, headers = run_wsgi_app(self._onespan, environ)
        happens, self.meanwhile = self.meanwhile, None
        if happens:
            happens()
            if self.dates_late and "Date" in headers:
                looked = parsedate_to_datetime(headers["Date"])
                headers["Date"] = format_datetime(looked + (self.clock.now - began), usegmt=True)
        self._took = self.clock.now - began
        start(status, list(headers.items()))
        return parts

    def _has_taken(self, answer: Any, **_: Any) -> Any:
        answer.elapsed = self._took  # and nothing of how long it took in truth
        return answer


def _drop(_: Any, __: str, ___: Any) -> Any:
    raise structlog.DropEvent
