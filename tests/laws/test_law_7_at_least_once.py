"""Law 7: a handler runs until it succeeds or is parked with a reason; after that it runs only by replay."""

# ruff: noqa: PLR0917  (pytest passes fixtures by name)

import dataclasses
import functools
import json
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient, FlaskCliRunner
from sqlalchemy import select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from app import EXTENSION, Service, create_app
from app.handling import Discard, Event, GiveUp, Handlers, Package, RetryAfter
from app.store import dispatches, queries
from app.store.db import Database
from app.store.dispatches import Outcome
from app.store.models import Dispatch
from config import Settings
from tests.conftest import ADA, BEN, NOON, TOKEN, Clock, on_both, on_sqlite
from tests.support.processes import Site, until

pytestmark = on_both

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
RETRY_WAITS = (10 * SECOND, MINUTE, 10 * MINUTE, 60 * MINUTE, 360 * MINUTE)
LEASE = MINUTE
WAIT_SECONDS = 10  # seconds that a test waits for a thread


class Unreadable(Exception):
    """An exception whose `str` raises an error."""

    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.fixture
def dispatch(read: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """The dispatch of a handler for the newest event, as the API shows it."""

    def dispatch(handler: str = "fail") -> dict[str, Any]:
        event, *_ = read("/api/events")["items"]
        return {run["handler"]: run for run in event["dispatches"]}[handler]

    return dispatch


@pytest.fixture
def replay(client: FlaskClient, dispatch: Callable[..., dict[str, Any]]) -> Callable[..., int]:
    """Ask the API to replay a handler's run, and return the status code."""

    def replay(handler: str = "fail") -> int:
        path = f"/api/dispatches/{dispatch(handler)['id']}/replay"
        return client.post(path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code

    return replay


@pytest.fixture
def hang() -> Iterator[Callable[..., None]]:
    """Make a handler hang until the test is over. `started` counts the runs that hang."""
    over = threading.Event()

    def hang(*_: object) -> None:
        hang.started.release()
        over.wait(WAIT_SECONDS)

    hang.started = threading.Semaphore(0)
    hang.end = over.set
    yield hang
    over.set()


@pytest.fixture
def turn(service: Service) -> Callable[[], None]:
    """Take one turn of the digest and one turn of the dispatcher, without waiting for handlers."""

    def turn() -> None:
        service.digest.turn()
        service.dispatcher.turn()

    return turn


@pytest.fixture
def run_until(
    service: Service, turn: Callable[[], None], dispatch: Callable[..., dict[str, Any]]
) -> Callable[..., Any]:
    """Take turns of the digest and the dispatcher until a handler's run has the given state."""

    def run_until(handler: str, state: str = "done") -> None:
        for _ in range(100):
            turn()
            if dispatch(handler)["state"] == state:
                return
            service.wakeups.dispatching.wait(0.1)
            service.wakeups.dispatching.clear()
        raise AssertionError(f"{handler} is {dispatch(handler)}")

    return run_until


@pytest.fixture
def other(settings: Settings, clock: Clock) -> Iterator[Callable[[Handlers], Service]]:
    """Another process of the same installation, with its own handlers."""
    made: list[Service] = []

    def other(handlers: Handlers) -> Service:
        made.append(create_app(settings, handlers=handlers, clock=clock).extensions[EXTENSION])
        return made[-1]

    yield other
    for service in made:
        service.database.close()


def test_law_7_failing_handler_is_retried_by_the_table_and_then_parked(send_callback, work, handlers, clock, dispatch):
    """A failing handler is retried after 10 s, 1 min, 10 min, 1 h and 6 h, never early, and then parked."""
    runs = []

    @handlers.on("PACKAGE_COMPLETE")
    def fail(event: Event, package: Package) -> None:
        runs.append(clock.now)
        raise ConnectionError(f"the archive is closed, {len(runs)}")

    send_callback("PACKAGE_COMPLETE")
    for attempt, wait in enumerate(RETRY_WAITS, start=1):
        work()
        assert (dispatch()["state"], dispatch()["attempts"], len(runs)) == ("due", attempt, attempt)
        clock.forward(wait - SECOND)
        work()
        assert len(runs) == attempt
        clock.forward(SECOND)
    work()

    assert (dispatch()["state"], dispatch()["attempts"]) == ("parked", 6)
    assert dispatch()["error"].startswith("ConnectionError: the archive is closed, 6\n")
    assert [later - earlier for earlier, later in pairwise(runs)] == list(RETRY_WAITS)

    clock.forward(timedelta(days=365))
    work()
    assert len(runs) == 6


def test_law_7_handler_that_recovers_is_done(send_callback, work, handlers, clock, dispatch):
    """When a retry of a handler succeeds, the run is done, has no error and is not repeated."""
    runs = []

    @handlers.on("PACKAGE_COMPLETE")
    def heal(event: Event, package: Package) -> None:
        runs.append(event.key)
        if len(runs) < 3:
            raise ConnectionError

    send_callback("PACKAGE_COMPLETE")
    for wait in RETRY_WAITS:
        work()
        clock.forward(wait)
    work()

    assert (dispatch("heal")["state"], dispatch("heal")["attempts"], dispatch("heal")["error"]) == ("done", 3, None)
    assert len(runs) == 3


def test_law_7_handler_may_choose_its_next_attempt(send_callback, work, handlers, clock, dispatch):
    """A handler that raises `RetryAfter` is retried after the given time, and the attempt counts."""
    runs = []

    @handlers.on("PACKAGE_COMPLETE")
    def fail(event: Event, package: Package) -> None:
        runs.append(clock.now)
        raise RetryAfter(90)

    send_callback("PACKAGE_COMPLETE")
    for _ in range(7):
        work()
        clock.forward(timedelta(seconds=90))

    assert [later - earlier for earlier, later in pairwise(runs)] == [timedelta(seconds=90)] * 5
    assert (dispatch()["state"], dispatch()["attempts"]) == ("parked", 6)


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (GiveUp("no such contract"), "parked"),
        (Discard("a test package"), "discarded"),
        (SystemExit(3), "due"),
        (KeyboardInterrupt(), "due"),
        (GeneratorExit(), "due"),
        (RetryAfter(0.5), "due"),
        (Unreadable(), "due"),
        (GiveUp("a NUL \0 and half a pair \ud800"), "parked"),
        (Discard("a NUL \0 and half a pair \ud800"), "discarded"),
        (ValueError("a NUL \0 and half a pair \ud800"), "due"),
        (GiveUp(ValueError("not a text")), "parked"),
        (Discard({"not": "a text"}), "discarded"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_law_7_any_exception_ends_only_its_own_run(end, state, send_callback, handlers, run_until, dispatch, clock):
    """Whatever a handler raises, its dispatch records a state and a reason, and other runs go on."""

    @handlers.on("PACKAGE_COMPLETE")
    def fail(event: Event, package: Package) -> None:
        raise end

    @handlers.on("PACKAGE_DECLINE")
    def other(event: Event, package: Package) -> None:
        return

    send_callback("PACKAGE_COMPLETE")
    run_until("fail", state)
    failed = dispatch()
    send_callback("PACKAGE_DECLINE", package="pkg-2", sessionUser=BEN)
    run_until("other")

    assert failed["attempts"] == 1
    assert failed["error"]
    assert (failed["finished_at"] is None) == (state == "due")


def test_law_7_run_that_succeeded_is_not_repeated(send_callback, work, handlers, clock):
    """Neither an equal callback, nor time, nor another event of the package repeats a run that succeeded."""
    runs = []

    @handlers.on("PACKAGE_COMPLETE")
    def file_it(event: Event, package: Package) -> None:
        runs.append(event.id)

    for _ in range(3):
        send_callback("PACKAGE_COMPLETE")
        work()
        clock.forward(timedelta(days=1))
    send_callback("PACKAGE_ARCHIVE", happened_at=clock.now)
    work()

    assert runs == [1]


@pytest.mark.parametrize("by", ["api", "command"])
def test_law_7_replay_starts_over(by, send_callback, work, handlers, clock, dispatch, replay, runner: FlaskCliRunner):
    """A replayed run has all its attempts again, whether the API or the command replays the run."""
    runs = []

    @handlers.on("PACKAGE_COMPLETE")
    def fail(event: Event, package: Package) -> None:
        runs.append(event.key)
        raise GiveUp("no such contract")

    def again() -> None:
        if by == "api":
            assert replay() == 200
        else:
            answer = runner.invoke(args=["replay", "--handler", "fail"])
            assert (answer.exit_code, answer.stdout) == (0, "Due now: 1 run.\n")

    send_callback("PACKAGE_COMPLETE")
    work()
    again()
    replayed = dispatch()
    work()

    assert (replayed["state"], replayed["attempts"], replayed["error"], replayed["finished_at"]) == (
        "due",
        0,
        None,
        None,
    )
    assert (dispatch()["state"], dispatch()["attempts"]) == ("parked", 1)
    assert len(runs) == 2
    assert len(set(runs)) == 1


def test_law_7_a_running_dispatch_cannot_be_replayed(send_callback, turn, handlers, replay, hang, run_until):
    """A replay of a running dispatch is answered 409, because its handler would run twice at the same time."""

    @handlers.on("PACKAGE_COMPLETE")
    def wait(event: Event, package: Package) -> None:
        hang()

    send_callback("PACKAGE_COMPLETE")
    turn()

    assert hang.started.acquire(timeout=WAIT_SECONDS)
    assert replay("wait") == 409
    hang.end()
    run_until("wait")
    assert replay("wait") == 200


def test_law_7_parked_run_shows_on_its_package_and_in_the_feed(
    send_callback, work, handlers, read, replay, clock, dispatch
):
    """A package with a parked run needs attention until a person replays the run, and the feed has both changes."""

    @handlers.on("PACKAGE_COMPLETE")
    def fail(event: Event, package: Package) -> None:
        raise GiveUp("no such contract")

    send_callback("PACKAGE_COMPLETE")
    work()
    known = read("/api/changes", limit=200)["items"]
    (open_reason,) = read("/api/packages/pkg-1")["attention"]
    found = [item["id"] for item in read("/api/packages", attention="PARKED_HANDLER")["items"]]
    clock.forward(MINUTE)
    assert replay() == 200

    assert (open_reason["reason"], open_reason["who"], open_reason["detail"]) == (
        "PARKED_HANDLER",
        "fail",
        "no such contract",
    )
    assert found == ["pkg-1"]
    assert read("/api/packages/pkg-1")["attention"] == []
    closed = read("/api/changes", after=known[-1]["id"])["items"]
    cause = {"kind": "dispatch", "id": dispatch()["id"]}
    assert [
        (change["attribute"], change["old"], change["new"], change["cause"]) for change in [known[-1], *closed]
    ] == [
        ("attention PARKED_HANDLER", None, True, cause),
        ("replay", "parked", "due", {"kind": "person", "id": "api:test"}),
        ("attention PARKED_HANDLER", True, None, cause),
    ]


class CrmSaysNo(GiveUp):
    """An integrator's exception that does not call `GiveUp.__init__`."""

    def __init__(self, deal: int) -> None:
        self.deal = deal


class Later(RetryAfter):
    """An integrator's exception that does not call `RetryAfter.__init__`."""

    def __init__(self) -> None:
        self.seconds = float("nan")


class Deadly(Exception):
    """An exception whose `str` raises `SystemExit`, which ends a thread."""

    def __str__(self) -> str:
        raise SystemExit


async def hold_on(*_: object) -> None:
    """A coroutine that is never awaited."""


def raising(error: BaseException) -> Callable[..., object]:
    """Return a function that raises the given error."""

    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.filterwarnings("ignore:coroutine 'hold_on' was never awaited")
@pytest.mark.parametrize(
    ("handle", "state", "wait", "said"),
    [
        (raising(RetryAfter(Decimal(5))), "due", 5 * SECOND, "The handler asks to be run again later"),
        (raising(RetryAfter(7, "the CRM sleeps")), "due", 7 * SECOND, "the CRM sleeps"),
        (raising(Later()), "due", 10 * SECOND, "Later"),
        (raising(CrmSaysNo(7)), "parked", 0 * SECOND, "7"),
        (raising(GiveUp("")), "parked", 0 * SECOND, "The handler gives up: a retry cannot help"),
        (raising(GiveUp("x" * 5_000_000)), "parked", 0 * SECOND, "x" * 4000),
        (raising(Deadly()), "due", 10 * SECOND, "Deadly: a Deadly that cannot be shown"),
        (raising(SyntaxError("x", ("f", 1, "oops", "text"))), "due", 10 * SECOND, "SyntaxError: x"),
        (lambda *_: hold_on(), "due", 10 * SECOND, "TypeError: the handler is async"),
    ],
)
def test_law_7_every_end_of_a_handler_is_recorded(
    handle, state, wait, said, send_callback, work, handlers, dispatch, clock, capsys
):
    """However a handler ends, its dispatch records the state, the error and the time of the next attempt."""

    @handlers.on("PACKAGE_COMPLETE")
    def fail(event: Event, package: Package) -> object:
        return handle(event, package)

    send_callback("PACKAGE_COMPLETE")
    work()

    assert dispatch()["state"] == state
    assert dispatch()["error"].startswith(said)
    assert len(dispatch()["error"]) < 10_000
    if state == "due":
        assert dispatch()["due_at"] == (clock.now + wait).isoformat().replace("+00:00", "Z")
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("returned", [42, "text", [1], object()])
def test_law_7_return_value_of_a_handler_is_ignored(returned, send_callback, work, handlers, dispatch):
    """A run is done when its handler returns, whatever the handler returns."""

    @handlers.on("PACKAGE_COMPLETE")
    def fail(event: Event, package: Package) -> object:
        return returned

    send_callback("PACKAGE_COMPLETE")
    work()

    assert dispatch()["state"] == "done"


def test_law_7_event_can_be_copied_and_sent(send_callback, work, handlers):
    """A handler can copy, pickle and serialize its event for a queue, a file or another process."""
    copies = []

    @handlers.on("COBROWSE_REQUEST")
    def send(event: Event, package: Package) -> None:
        copies.append((dataclasses.asdict(event), pickle.loads(pickle.dumps(event)) == event, json.dumps(event.extra)))

    send_callback("COBROWSE_REQUEST", phone="1", selectedSupportBusinessHours=["Morning"])
    work()

    ((fields, same, extra),) = copies
    assert fields["extra"] == json.loads(extra) == {"phone": "1", "selectedSupportBusinessHours": ["Morning"]}
    assert same


def test_law_7_change_to_extra_stays_in_one_handler(send_callback, work, handlers):
    """Each handler gets its own copy of the lists in `event.extra`."""
    seen = []

    def add_hours(event: Event, package: Package) -> None:
        hours = event.extra["selectedSupportBusinessHours"]
        hours.append("Evening")
        seen.append(len(hours))

    for name in ("first", "second"):
        handler = functools.partial(add_hours)
        handler.__name__ = name
        handlers.on("COBROWSE_REQUEST")(handler)
    send_callback("COBROWSE_REQUEST", selectedSupportBusinessHours=["Morning"])
    work()

    assert seen == [2, 2]


def test_law_7_run_that_could_not_begin_is_no_attempt(
    send_callback, turn, work, handlers, service, clock, dispatch, monkeypatch
):
    """If the database fails after a run is taken and before its handler starts, no attempt is counted."""
    runs = []

    @handlers.on("PACKAGE_COMPLETE")
    def fail(event: Event, package: Package) -> None:
        runs.append(event.key)

    send_callback("PACKAGE_COMPLETE")
    with monkeypatch.context() as broken:
        broken.setattr(queries, "handler_events", raising(OperationalError("SELECT", {}, Exception("gone"))))
        for _ in range(9):
            with pytest.raises(OperationalError):
                turn()
            service.dispatcher.turn()
            clock.forward(MINUTE)
    work()

    assert (dispatch()["state"], dispatch()["attempts"], len(runs)) == ("done", 1, 1)


def test_law_7_result_is_stored_when_the_database_is_back(
    send_callback, turn, work, handlers, service, dispatch, monkeypatch
):
    """If the database fails while a handler's result is stored, a later turn stores the result."""
    runs = []

    @handlers.on("PACKAGE_COMPLETE")
    def fail(event: Event, package: Package) -> None:
        runs.append(event.key)

    send_callback("PACKAGE_COMPLETE")
    turn()
    service.dispatcher.handlers_done.wait(WAIT_SECONDS)
    with monkeypatch.context() as broken:
        broken.setattr(dispatches, "settle", raising(OperationalError("UPDATE", {}, Exception("gone"))))
        with pytest.raises(OperationalError):
            service.dispatcher.turn()
    work()

    assert (dispatch()["state"], len(runs)) == ("done", 1)


def test_law_7_hanging_suspect_is_not_suspected_for_ever(send_callback, turn, handlers, service, hang, clock, dispatch):
    """If two runs were active when processes died, the second run starts after the first has run for two leases."""

    @handlers.on("PACKAGE_COMPLETE")
    def hung(event: Event, package: Package) -> None:
        hang()

    @handlers.on("PACKAGE_COMPLETE")
    def well(event: Event, package: Package) -> None: ...

    send_callback("PACKAGE_COMPLETE")
    service.digest.turn()
    for _ in range(2):  # two processes in turn take both runs, then die
        with service.database.write() as connection:
            dispatches.take(connection, [1, 2], now=clock.now, lease=LEASE)
        clock.forward(LEASE)
    service.dispatcher.turn()
    assert hang.started.acquire(timeout=WAIT_SECONDS)
    service.dispatcher.turn()
    assert (dispatch("hung")["attempts"], dispatch("well")["attempts"]) == (3, 2)

    clock.forward(LEASE)
    service.dispatcher.renew()
    service.dispatcher.turn()
    assert dispatch("well")["attempts"] == 2
    clock.forward(LEASE)
    service.dispatcher.turn()
    assert dispatch("well")["attempts"] == 3


def test_law_7_the_reason_before_the_last_death_is_kept(send_callback, work, handlers, service, clock, dispatch):
    """If a process dies in the attempt after five failures, the error names the death and the last failure."""

    @handlers.on("PACKAGE_COMPLETE")
    def fail(event: Event, package: Package) -> None:
        raise ConnectionError("the CRM is away")

    send_callback("PACKAGE_COMPLETE")
    for wait in RETRY_WAITS:
        work()
        clock.forward(wait)
    with service.database.write() as connection:
        dispatches.take(connection, [1], now=clock.now, lease=LEASE)
    clock.forward(LEASE)
    work()

    assert dispatch()["state"] == "parked"
    assert dispatch()["error"].startswith("the process died during attempt 6; before that: ConnectionError: the CRM")


def test_law_8_parked_reason_closes_with_the_last_replay(send_callback, work, handlers, read, client):
    """If two runs of one handler for one package are parked, the attention reason closes with the second replay."""

    @handlers.on("*")
    def fail(event: Event, package: Package) -> None:
        raise GiveUp("no")

    for name in ("PACKAGE_COMPLETE", "PACKAGE_ARCHIVE"):
        send_callback(name)
        work()

    def history() -> list[Any]:
        changes = read("/api/packages/pkg-1/history")["items"]
        return [change["new"] for change in changes if change["attribute"] == "attention PARKED_HANDLER"]

    def replay(dispatch: int) -> None:
        client.post(f"/api/dispatches/{dispatch}/replay", headers={"Authorization": f"Bearer {TOKEN}"})

    assert history() == [True]
    replay(1)
    assert history() == [True]
    replay(2)
    assert history() == [True, None]
    work()
    assert history() == [True, None, True]


def test_law_7_handlers_of_one_event_are_retried_separately(send_callback, work, handlers, clock):
    """The handlers of an event are retried separately, each with a key of its own that stays the same."""
    runs: list[tuple[str, str]] = []

    @handlers.on("PACKAGE_COMPLETE")
    def fail(event: Event, package: Package) -> None:
        runs.append(("fail", event.key))
        raise ConnectionError

    @handlers.on("PACKAGE_COMPLETE")
    def file_it(event: Event, package: Package) -> None:
        runs.append(("file_it", event.key))

    send_callback("PACKAGE_COMPLETE")
    for wait in RETRY_WAITS:
        work()
        clock.forward(wait)
    work()

    assert sorted(handler for handler, _ in runs) == ["fail"] * 6 + ["file_it"]
    assert len(set(runs)) == 2
    assert len({key for _, key in runs}) == 2


def test_law_7_handler_gets_frozen_values(send_callback, work, handlers):
    """Events and packages are frozen, so that no handler can change what the next handler sees."""
    tried: list[type[BaseException]] = []

    def try_to(spoil: Callable[[], object]) -> None:
        try:
            spoil()
        except Exception as error:  # noqa: BLE001  (any refusal will do)
            tried.append(type(error))

    @handlers.on("SIGNER_COMPLETE")
    def meddle(event: Event, package: Package) -> None:
        try_to(lambda: setattr(event, "name", "PACKAGE_DELETE"))
        try_to(lambda: setattr(package, "status", "DELETED"))
        try_to(lambda: setattr(package.signers[0], "status", "DECLINED"))
        try_to(lambda: event.extra.update(more=1))
        try_to(lambda: package.signers.append(None))

    send_callback("SIGNER_COMPLETE", sessionUser=ADA, phone="1")
    work()

    assert len(tried) == 5


def test_law_7_hanging_handler_delays_no_other(send_callback, turn, run_until, handlers, hang, dispatch):
    """A handler that hangs delays neither other handlers and packages nor the receiver and the digest."""

    @handlers.on("PACKAGE_COMPLETE")
    def wait(event: Event, package: Package) -> None:
        hang()

    @handlers.on("PACKAGE_COMPLETE", "PACKAGE_DECLINE")
    def file_it(event: Event, package: Package) -> None:
        return

    for number in range(6):
        send_callback("PACKAGE_COMPLETE", package=f"pkg-{number}")
    turn()
    assert all(hang.started.acquire(timeout=WAIT_SECONDS) for _ in range(4))

    send_callback("PACKAGE_COMPLETE", package="pkg-8")
    run_until("file_it")
    send_callback("PACKAGE_DECLINE", package="pkg-9", sessionUser=BEN)
    run_until("file_it")


def test_law_7_run_that_cannot_be_prepared_delays_no_other(send_callback, turn, handlers, read, monkeypatch):
    """A run whose package cannot be read counts as a failed attempt. The runs that were taken with it begin."""
    from_database = queries.packages

    def packages(connection: Connection, package_ids: Iterable[str]) -> dict[str, Package]:
        if "pkg-broken" in (ids := list(package_ids)):
            raise KeyError("an error of this test")
        return from_database(connection, ids)

    monkeypatch.setattr(queries, "packages", packages)

    @handlers.on("PACKAGE_COMPLETE")
    def file_it(event: Event, package: Package) -> None:
        return

    for package_id in ("pkg-broken", "pkg-1"):
        send_callback("PACKAGE_COMPLETE", package=package_id)

    def runs() -> dict[str, dict[str, Any]]:
        turn()
        return {item["state"]: item for item in read("/api/dispatches")["items"]}

    until(lambda: runs().keys() == {"done", "due"} and runs()["due"]["error"], what="both runs are settled")
    assert runs()["due"]["attempts"] == 1
    assert runs()["due"]["error"].startswith("KeyError: ")


def test_law_7_handler_uses_at_most_its_threads(send_callback, turn, run_until, handlers, hang, read):
    """A handler runs for at most `HANDLER_THREADS` events at the same time, and for the other events later."""

    @handlers.on("PACKAGE_COMPLETE")
    def wait(event: Event, package: Package) -> None:
        hang()

    for number in range(7):
        send_callback("PACKAGE_COMPLETE", package=f"pkg-{number}")
    for _ in range(3):
        turn()

    assert all(hang.started.acquire(timeout=WAIT_SECONDS) for _ in range(4))
    assert not hang.started.acquire(blocking=False)
    assert len(read("/api/events", state="running")["items"]) == 4

    hang.end()
    run_until("wait")
    assert len(read("/api/events", state="done")["items"]) == 7


def test_law_7_lost_lease_changes_nothing(send_callback, turn, handlers, service, clock):
    """A late result of a run whose lease another process has taken over changes nothing."""

    @handlers.on("PACKAGE_COMPLETE")
    def file_it(event: Event, package: Package) -> None:
        return

    send_callback("PACKAGE_COMPLETE")
    service.digest.turn()
    with service.database.write() as connection:
        (dead,) = dispatches.take(connection, [1], now=clock.now, lease=LEASE)
        assert dispatches.take(connection, [1], now=clock.now, lease=LEASE) == []
    clock.forward(LEASE)
    with service.database.write() as connection:
        (alive,) = dispatches.take(connection, [1], now=clock.now, lease=LEASE)
        dispatches.renew(connection, [dead], until=NOON + timedelta(days=9))
        dispatches.settle(connection, [Outcome(dead, "parked", clock.now, "late")], now=clock.now)
    row = _row(service.database)
    with service.database.write() as connection:
        dispatches.settle(connection, [Outcome(alive, "done", clock.now)], now=clock.now)
        dispatches.settle(connection, [Outcome(alive, "due", clock.now, "twice")], now=clock.now)

    assert (row.state, row.attempts, row.error, row.due_at) == ("running", 2, None, clock.now + LEASE)
    assert _row(service.database).state == "done"


def test_law_7_run_of_a_dead_process_is_taken_over(send_callback, turn, handlers, hang, clock, other, dispatch):
    """When a lease ends, another process takes the run over, and a late result of the first process is ignored."""
    runs = []

    @handlers.on("PACKAGE_COMPLETE")
    def file_it(event: Event, package: Package) -> None:
        hang()
        raise ConnectionError("too late")

    successors = Handlers()

    @successors.on("PACKAGE_COMPLETE")
    def file_it(event: Event, package: Package) -> None:  # noqa: F811  (the same handler, in another process)
        runs.append(event.key)

    send_callback("PACKAGE_COMPLETE")
    turn()
    assert hang.started.acquire(timeout=WAIT_SECONDS)
    second = other(successors)
    second.dispatcher.turn()
    assert runs == []

    clock.forward(LEASE)
    second.dispatcher.turn()
    until(lambda: second.dispatcher.turn() or second.dispatcher.idle.is_set(), what="the second ends")
    until(lambda: dispatch("file_it")["state"] == "done" or second.dispatcher.turn(), what="it is settled")
    hang.end()
    for _ in range(3):
        turn()

    assert len(runs) == 1
    assert (dispatch("file_it")["state"], dispatch("file_it")["attempts"]) == ("done", 2)


def test_law_7_renewed_lease_is_not_taken_over(send_callback, turn, handlers, hang, clock, other, service, dispatch):
    """While a process renews the lease of a long run, no other process takes the run over."""

    @handlers.on("PACKAGE_COMPLETE")
    def wait(event: Event, package: Package) -> None:
        hang()

    send_callback("PACKAGE_COMPLETE")
    turn()
    assert hang.started.acquire(timeout=WAIT_SECONDS)
    second = other(handlers)
    for _ in range(6):
        clock.forward(LEASE / 2)
        service.dispatcher.renew()
        second.dispatcher.turn()

    assert not hang.started.acquire(blocking=False)
    assert dispatch("wait")["attempts"] == 1


def test_law_7_run_is_not_begun_twice_in_one_process(send_callback, turn, run_until, handlers, hang, clock, dispatch):
    """If a lease ends while the database is away or the machine sleeps, the run goes on and is not started twice."""

    @handlers.on("PACKAGE_COMPLETE")
    def wait(event: Event, package: Package) -> None:
        hang()

    send_callback("PACKAGE_COMPLETE")
    turn()
    assert hang.started.acquire(timeout=WAIT_SECONDS)
    clock.forward(10 * LEASE)
    for _ in range(3):
        turn()

    assert not hang.started.acquire(timeout=0.1)
    hang.end()
    run_until("wait")
    assert dispatch("wait")["attempts"] == 1


def test_law_7_run_that_succeeded_while_its_lease_ended_is_done(
    send_callback, turn, handlers, hang, clock, service, dispatch
):
    """A run whose result comes after the end of its lease is done, unless another process took the run over."""
    runs = []

    @handlers.on("PACKAGE_COMPLETE")
    def file_it(event: Event, package: Package) -> None:
        runs.append(event.key)

    send_callback("PACKAGE_COMPLETE")
    turn()
    assert service.wakeups.dispatching.wait(WAIT_SECONDS)
    until(lambda: runs and service.dispatcher._ended, what="it has ended")
    clock.forward(10 * LEASE)
    for _ in range(3):
        turn()
        until(lambda: service.dispatcher.idle.is_set() or service.dispatcher._ended, what="the dispatcher is idle")

    assert dispatch("file_it")["state"] == "done"
    assert len(runs) == 1


def test_law_7_run_of_a_removed_handler_stays_due(send_callback, work, handlers, other, clock, read):
    """The runs of a deleted or renamed handler stay due, and the runs of other handlers do not wait for them."""
    runs = []

    @handlers.on("PACKAGE_COMPLETE")
    def deleted(event: Event, package: Package) -> None:
        raise ConnectionError

    @handlers.on("PACKAGE_COMPLETE", "PACKAGE_ARCHIVE")
    def file_it(event: Event, package: Package) -> None:
        runs.append(event.name)

    send_callback("PACKAGE_COMPLETE")
    work()
    remaining = Handlers()
    remaining.on("PACKAGE_COMPLETE", "PACKAGE_ARCHIVE")(file_it)
    second = other(remaining)
    clock.forward(timedelta(days=1))
    send_callback("PACKAGE_ARCHIVE")
    second.digest.turn()
    second.dispatcher.turn()
    until(lambda: second.dispatcher.turn() or second.dispatcher.idle.is_set(), what="the dispatcher is idle")

    assert runs == ["PACKAGE_COMPLETE", "PACKAGE_ARCHIVE"]
    _, first = read("/api/events")["items"]
    assert {run["handler"]: run["state"] for run in first["dispatches"]} == {"deleted": "due", "file_it": "done"}


def test_law_7_handler_that_runs_alone_is_blamed_for_a_death(
    send_callback, service, handlers, hang, clock, other, read
):
    """A handler that kills its process each time is parked, with a reason, after the sixth death.

    Other runs in these processes end at each death too, but every other run is done in the end.
    """

    @handlers.on("PACKAGE_COMPLETE")
    def kill(event: Event, package: Package) -> None:
        hang()

    @handlers.on("PACKAGE_COMPLETE", "PACKAGE_ACTIVATE")
    def file_it(event: Event, package: Package) -> None:
        return

    def dies(process: Service) -> bool:
        for _ in range(50):
            worked = process.dispatcher.turn()
            if hang.started.acquire(timeout=0.05):
                return True
            if not worked and process.dispatcher.idle.is_set():
                return False
        raise AssertionError("the work never ends")

    send_callback("PACKAGE_COMPLETE", package="pkg-deadly")
    for number in range(3):
        send_callback("PACKAGE_ACTIVATE", package=f"pkg-{number}")
    service.digest.turn()
    deaths = 0
    for _ in range(20):
        deaths += dies(other(handlers))
        clock.forward(LEASE)

    runs = {
        (event["package_id"], run["handler"]): run
        for event in read("/api/events")["items"]
        for run in event["dispatches"]
    }
    killer = runs.pop(("pkg-deadly", "kill"))
    assert (deaths, killer["state"], killer["attempts"]) == (6, "parked", 6)
    assert killer["error"]
    assert {run["state"] for run in runs.values()} == {"done"}


def finish(process: Service) -> None:
    """Take turns until nothing is left to do for a process."""
    until(
        lambda: not process.digest.turn() + process.dispatcher.turn() and process.dispatcher.idle.is_set(),
        what="all is done",
    )


def let_ten_wait(send_callback: Callable[..., Any], service: Service, hang: Any) -> None:
    """Make all threads of a quick handler hang in runs for `hangs-*`, while ten runs for `waits-*` wait for them."""
    for number in range(60):  # after which the handler counts as quick
        send_callback("PACKAGE_ACTIVATE", package=f"pkg-{number}")
    finish(service)
    for number in range(4):
        send_callback("PACKAGE_ACTIVATE", package=f"hangs-{number}")
    for number in range(10):
        send_callback("PACKAGE_ACTIVATE", package=f"waits-{number}")
    service.digest.turn()
    service.dispatcher.turn()
    for _ in range(4):
        assert hang.started.acquire(timeout=WAIT_SECONDS)


def test_law_7_runs_behind_hung_ones_are_taken_by_another_process(send_callback, service, handlers, hang, other):
    """While all threads of a quick handler hang, the runs that wait for them go to another process, uncounted."""

    @handlers.on("*")
    def file_it(event: Event, package: Package) -> None:
        if event.package_id.startswith("hangs") and not other_runs:
            hang()

    other_runs: list[str] = []
    let_ten_wait(send_callback, service, hang)
    with service.database.read() as connection:
        waiting = select(Dispatch.package_id).where(Dispatch.state == "running", Dispatch.package_id.like("waits-%"))
        assert len(list(connection.execute(waiting))) == 10

    second = other(handlers)
    other_runs.append("from now on nothing hangs")
    until(lambda: service.dispatcher.turn() == 10, what="the runs that wait are given back")
    finish(second)

    with service.database.read() as connection:
        found = select(Dispatch.attempts, Dispatch.state).where(Dispatch.package_id.like("waits-%"))
        assert {tuple(row) for row in connection.execute(found)} == {(1, "done")}


def test_law_7_no_waiting_run_begins_after_the_stop(send_callback, service, handlers, hang):
    """When the process stops, runs that wait for a thread do not begin, and are due again without an attempt."""
    runs = []

    @handlers.on("*")
    def file_it(event: Event, package: Package) -> None:
        runs.append(event.package_id)
        if event.package_id.startswith("hangs"):
            hang()

    let_ten_wait(send_callback, service, hang)
    service.dispatcher.close()
    hang.end()
    assert service.dispatcher.handlers_done.wait(WAIT_SECONDS)
    service.dispatcher.hand_back()

    assert not [package for package in runs if package.startswith("waits")]
    with service.database.read() as connection:
        found = select(Dispatch.attempts, Dispatch.state).where(Dispatch.package_id.like("waits-%"))
        assert [tuple(row) for row in connection.execute(found)] == [(0, "due")] * 10


KILLER = '''
import signal

@handlers.on("PACKAGE_COMPLETE")
def kill(event, package):
    """Kill the whole process, as a fault in a C library would."""
    note("kill", event.package_id)
    os.kill(os.getpid(), signal.SIGKILL)


@handlers.on("PACKAGE_COMPLETE", "PACKAGE_ACTIVATE")
def file_it(event, package):
    """Write a line."""
    note("file_it", event.package_id)
'''


@pytest.mark.own_database
@on_sqlite
def test_law_7_handler_that_kills_its_process_is_parked(
    database_url: str, tmp_path: Path, send_callback, service, handlers, read
):
    """After four deaths a handler kills two more real processes and is parked; gunicorn's third process lives."""

    @handlers.on("PACKAGE_COMPLETE")
    def kill(event: Event, package: Package) -> None: ...

    @handlers.on("PACKAGE_COMPLETE", "PACKAGE_ACTIVATE")
    def file_it(event: Event, package: Package) -> None: ...

    send_callback("PACKAGE_COMPLETE", package="pkg-deadly")
    for number in range(3):
        send_callback("PACKAGE_ACTIVATE", package=f"pkg-{number}")
    service.digest.turn()
    with service.database.write() as connection:
        connection.execute(update(Dispatch).where(Dispatch.handler == "kill").values(attempts=4))

    with Site(tmp_path, database_url, handlers=KILLER, HANDLER_LEASE_SECONDS="1") as site:
        web = site.boot(workers=1)
        until(lambda: len(_ends(read)) == 5, seconds=60, what="all is done or parked")

        assert [words for words in site.handler_lines() if words[0] == "kill"] == [["kill", "pkg-deadly"]] * 2
        assert until(web.answers)
    assert _ends(read).pop("pkg-deadly kill") == "parked"
    assert sorted(_ends(read).values()) == ["done"] * 4 + ["parked"]


def _ends(read: Callable[..., Any]) -> dict[str, str]:
    runs = {
        f"{event['package_id']} {run['handler']}": run["state"]
        for event in read("/api/events")["items"]
        for run in event["dispatches"]
    }
    return {run: state for run, state in runs.items() if state in ("done", "parked")}


def _row(database: Database) -> Any:
    with database.read() as connection:
        return connection.execute(select(*Dispatch.__table__.c)).one()
