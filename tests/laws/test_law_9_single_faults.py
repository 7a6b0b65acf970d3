"""Law 9: a single fault of the database stops no turn for longer than the fault lasts.

The first test does the same work many times. Each time another statement or commit of one kind of turn fails, once.
Then the same process must finish the work within ten seconds, although the leases that it holds end later.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise
from random import Random
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, func, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, OperationalError

from app.simulator.packages import Package as SimulatedPackage
from app.simulator.population import populated
from app.simulator.quirks import Quirks
from app.store import journal
from app.store.db import Database
from app.store.journal import Entry
from app.store.models import Dispatch, Fetch, Journal, OneSpanAccess, Package, Run
from app.store.request_budget import Budget
from app.store.states import DispatchState, JournalState, RunState
from app.work.access import AccessCheck
from app.work.reconcile import RunRequest
from app.work.scheduler import RETRY_INTERVAL, PeriodicTurn
from app.work.worker import ACCESS_POLL_SECONDS, BACKOFF_SECONDS
from tests.conftest import NOON, on_both, onespan_time
from tests.support.databases import plain
from tests.support.playground import Crash, Playground, Process
from tests.support.processes import callback

# A cursor that streams rows stays open if its statement fails. psycopg then warns when it is collected.
pytestmark = [on_both, pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")]

SECOND = timedelta(seconds=1)
MAX_DELAY = 10 * SECOND  # how much later than without a fault the work is done
COMMIT = "COMMIT after"
KINDS = ("digest", "dispatch", "fetch", "reconcile")
PACKAGES = 3
QUICK_SAMPLE = 9  # of the statements, every ninth fails in the quick tier


@dataclass
class Fault:
    """A fault that happens once, at the statement or commit with the number `at` of one kind of turn.

    `way` is `error` (the statement fails, or the commit has no effect), `disconnect` (the connection ends first) or
    `lost` (the commit has its effect, but its answer is lost).
    """

    kind: str
    at: int | None
    way: str = "error"

    def __post_init__(self) -> None:
        self.seen: list[str] = []  # the statements; each commit is named after the statement before it
        self.has_happened = False
        self._is_active = False

    @contextmanager
    def listening(self, database: Database) -> Iterator[None]:
        """See the statements and commits of a database."""
        listeners = [("before_cursor_execute", self.on_statement), ("commit", self.on_commit)]
        for name, listener in listeners:
            event.listen(database.engine, name, listener)
        try:
            yield
        finally:
            for name, listener in listeners:
                event.remove(database.engine, name, listener)

    def different(self) -> dict[str, int]:
        """Each different statement or commit that was seen and can meet this kind of fault, with its number."""
        return {what: at for at, what in enumerate(self.seen) if self.way != "lost" or what.startswith(COMMIT)}

    @contextmanager
    def during_turn(self) -> Iterator[None]:
        """Count and fail the statements of one turn."""
        self._is_active = True
        try:
            yield
        finally:
            self._is_active = False

    def on_statement(self, connection: Connection, _: Any, statement: str, *__: Any) -> None:
        """Fail a statement, if it is the one."""
        self._meet(statement, connection)

    def on_commit(self, connection: Connection) -> None:
        """Fail a commit, if it is the one."""
        if self._is_active:
            self._meet(f"{COMMIT} {self.seen[-1]}", connection)

    def _meet(self, what: str, connection: Connection) -> None:
        if not self._is_active:
            return
        self.seen.append(what)
        if len(self.seen) - 1 != self.at:
            return
        self.has_happened = True
        if self.way == "disconnect":
            end_connection(connection)
            return
        if self.way == "lost":
            connection.connection.driver_connection.commit()
        raise OperationalError("a statement", {}, Exception("a fault of this test"))


def end_connection(connection: Connection) -> None:
    """End a connection as a restart of the server does."""
    driver = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        driver.close()
        return
    with psycopg.connect(plain(connection.engine.url), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", (driver.info.backend_pid,))


@pytest.fixture
def playground(database_url: str) -> Iterator[Playground]:
    """A database and a simulated OneSpan."""
    playground = Playground(database_url)
    yield playground
    playground.close()
    gc.collect()  # while the warnings of open cursors are ignored


class Work:
    """The same work each time: callbacks about packages that are digested, handled and fetched; or a reconcile run."""

    def __init__(self, playground: Playground) -> None:
        self._playground = playground
        self._packages = populated(1, PACKAGES, now=NOON - timedelta(days=2)).packages()

    def play(self, fault: Fault) -> timedelta:
        """Do the work with one process. Return how long it takes with this fault."""
        process = self.begin(fault.kind)
        with fault.listening(self._playground.database):
            return self.finish(process, fault)

    def begin(self, kind: str) -> Process:
        """Prepare the work of one kind of turn, and start a process."""
        playground = self._playground
        account = playground.account(1, quirks=Quirks(list_largest=2, list_items="summary")).load(self._packages)
        playground.reset(account, skew=timedelta(0), dice=Random(1))
        self._runs: list[tuple[str, str]] = []
        playground.on_event = lambda event, package: self._runs.append((package.id, event.key))
        process = playground.process(budget=1000, drift=timedelta(0))
        process.beat()
        if kind == "reconcile":
            process.reconcile.begin(RunRequest())
        else:
            with playground.database.write() as connection:
                journal.add(connection, [_callback_about(package) for package in self._packages])
        return process

    def finish(
        self,
        process: Process,
        fault: Fault,
        *,
        within: timedelta = timedelta(minutes=3),
        tolerated: type[Exception] = DBAPIError,
    ) -> timedelta:
        """Take turns as the threads of a worker do, until the work is done. Return the time."""
        clock = self._playground.clock
        while clock.now - NOON < within:
            worked = [self._turn(process, kind, fault, tolerated) for kind in _kinds_until(fault.kind)]
            if any(worked):
                continue
            if self._is_done(fault.kind):
                return clock.now - NOON
            clock.forward(SECOND)
            process.beat()
        raise AssertionError(f"the work is not done after {within}")

    def _turn(self, process: Process, kind: str, fault: Fault, tolerated: type[Exception]) -> bool:
        try:
            if kind != fault.kind:
                return process.turns[kind]()
            with fault.during_turn():
                return process.turns[kind]()
        except tolerated:
            self._playground.clock.forward(BACKOFF_SECONDS * SECOND)
            return True

    def _is_done(self, kind: str) -> bool:
        unfinished = [
            select(func.count()).select_from(Journal).where(Journal.state != JournalState.DIGESTED),
            select(func.count()).select_from(Dispatch).where(Dispatch.state != DispatchState.DONE),
            select(func.count()).select_from(Fetch),
            select(func.count()).select_from(Run).where(Run.state != RunState.DONE),
        ]
        return not any(_scalar(self._playground, query) for query in unfinished[: len(_kinds_until(kind))])

    def assert_once(self, kind: str) -> None:
        """What the turns did, they did once: events, handler runs, or the packages that they imported."""
        rows = {"digest": Dispatch, "dispatch": Dispatch, "fetch": Package, "reconcile": Package}[kind]
        assert _scalar(self._playground, select(func.count()).select_from(rows)) == PACKAGES
        if kind == "dispatch":
            assert len(self._runs) == len(set(self._runs)) == PACKAGES


def _kinds_until(kind: str) -> tuple[str, ...]:
    return KINDS[: KINDS.index(kind) + 1]


def _scalar(playground: Playground, query: Any) -> Any:
    with playground.database.read() as connection:
        return connection.scalar(query)


def _callback_about(package: SimulatedPackage) -> Entry:
    body = callback("PACKAGE_ACTIVATE", package=package.id, createdDate=onespan_time(package.updated))
    return Entry("callback", NOON, body, "test", package.id)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", ["error", "disconnect", "lost"])
@pytest.mark.parametrize("kind", KINDS)
def test_law_9_any_statement_may_fail_once(playground: Playground, kind: str, way: str, tier: str):
    """Whichever statement of a turn fails, the process goes on within ten seconds, and does all work once."""
    work, clean = Work(playground), Fault(kind, None, way)
    usual = work.play(clean)
    work.assert_once(kind)
    different = list(clean.different().items())
    late = {}

    for what, at in different[:: QUICK_SAMPLE if tier == "quick" else 1]:
        fault = replace(clean, at=at)
        took = work.play(fault)
        assert fault.has_happened, what
        work.assert_once(kind)
        if took > usual + MAX_DELAY:
            late[what] = took - usual

    assert different
    assert not late


@pytest.mark.parametrize("way", ["error", "disconnect", "lost"])
def test_law_9_any_statement_of_the_access_check_may_fail_once(playground: Playground, way: str):
    """Whichever statement of the access check fails, OneSpan's answer is recorded within ten seconds."""

    def play(fault: Fault) -> timedelta:
        playground.reset(playground.account(1, quirks=Quirks()), skew=timedelta(0), dice=Random(1))
        onespan, clock = playground.handlers.onespan, playground.clock
        check = AccessCheck(playground.database, onespan, clock=clock, budget=Budget(1000))
        onespan.report = check.report
        while not _scalar(playground, select(OneSpanAccess.checked_at)):
            assert clock.now - NOON < timedelta(minutes=2)
            try:
                with fault.listening(playground.database), fault.during_turn():
                    check.turn()
                clock.forward(ACCESS_POLL_SECONDS * SECOND)
            except DBAPIError:
                clock.forward(BACKOFF_SECONDS * SECOND)
        return clock.now - NOON

    clean = Fault("access", None, way)
    usual = play(clean)
    delays = {what: play(replace(clean, at=at)) - usual for what, at in clean.different().items()}

    assert len(delays) >= 3
    assert max(delays.values()) <= MAX_DELAY


@pytest.mark.parametrize("kind", ["fetch", "reconcile"])
def test_law_9_work_of_a_killed_process_goes_on_after_a_minute(playground: Playground, kind: str):
    """A process that died during a request loses its lease when its last heartbeat is a minute old."""
    work = Work(playground)
    dead = work.begin(kind)

    def die() -> None:
        raise Crash

    for _ in range(10):
        playground.during_request = die
        with suppress(Crash):
            for name in KINDS:
                dead.turns[name]()
            playground.clock.forward(SECOND)
            continue
        break
    else:
        raise AssertionError("no request was sent")
    playground.during_request = None
    playground.clock.forward(61 * SECOND)
    began = playground.clock.now
    other = playground.process(budget=1000, drift=timedelta(0))
    other.beat()

    work.finish(other, Fault(kind, None))

    assert playground.clock.now - began <= MAX_DELAY
    work.assert_once(kind)


@pytest.mark.parametrize("kind", ["fetch", "reconcile"])
def test_law_9_turn_goes_on_after_an_error_of_the_service(playground: Playground, kind: str, monkeypatch):
    """After a first error of any kind a turn goes on at once. If it fails again, it waits longer each time."""
    work = Work(playground)
    process, onespan = work.begin(kind), playground.handlers.onespan
    asked: list[tuple[Any, timedelta]] = []
    errors = [KeyError("an error of this test")] * 4

    def answer(request: Callable[..., Any]) -> Callable[..., Any]:
        def fail_first(*words: Any, **query: Any) -> Any:
            asked.append((words, playground.clock.now - NOON))
            if errors and words == asked[0][0]:
                raise errors.pop()
            return request(*words, **query)

        return fail_first

    monkeypatch.setattr(onespan, "package", answer(onespan.package))
    monkeypatch.setattr(onespan, "packages", answer(onespan.packages))

    work.finish(process, Fault(kind, None), within=timedelta(minutes=10), tolerated=KeyError)

    delays = [later - earlier for earlier, later in pairwise(at for words, at in asked if words == asked[0][0])]
    assert delays[0] <= MAX_DELAY
    assert delays[2] >= timedelta(minutes=1)
    work.assert_once(kind)


def test_law_9_periodic_turn_that_failed_is_taken_again_soon():
    """A turn that is due every minute is taken again after five seconds if it failed, and then once a minute."""
    taken: list[int] = []
    offers = 0

    def fail_first() -> None:
        taken.append(offers)
        if len(taken) == 1:
            raise OperationalError("a statement", {}, Exception("a fault of this test"))

    turn = PeriodicTurn.every(timedelta(minutes=1), fail_first)
    for offers in range(1, 37):  # noqa: B007  (`fail_first` reads it)
        with suppress(DBAPIError):
            turn.offer()

    assert turn.tick == RETRY_INTERVAL == 5 * SECOND
    assert taken == [12, 13, 24, 36]
