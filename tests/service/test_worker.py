"""The worker wakes at once, stops gracefully, and survives failed turns."""

# ruff: noqa: PLR0917  (pytest passes fixtures by name)

import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app import EXTENSION, Service, create_app
from app.handling import Event, Handlers, Package
from app.store.models import Dispatch, Journal
from config import Settings
from tests.conftest import on_sqlite
from tests.support.broken_storage import unavailable
from tests.support.processes import Process, Site, Web, until

pytestmark = pytest.mark.own_database

THREAD_SECONDS = 10  # seconds that a test waits for a thread, at most
HANDLERS = '''
import pathlib
import time


@handlers.on("PACKAGE_COMPLETE")
def file_it(event, package):
    """Wait until the file `release` exists, at most 20 s."""
    note("begun", os.getpid(), event.package_id)
    for _ in range(1000):
        if pathlib.Path(os.environ["HANDLER_LOG"]).with_name("release").exists():
            break
        time.sleep(0.02)
    note("ended", os.getpid(), event.package_id)


@handlers.on("PACKAGE_ACTIVATE")
def look(event, package):
    """Note the time."""
    note("looked", time.time())
'''


@pytest.fixture
def working(service: Service) -> Iterator[Service]:
    """A service whose worker is running."""
    service.worker.start()
    yield service
    service.worker.stop(grace=5)


@pytest.fixture
def runs(service: Service) -> Callable[[], list[Any]]:
    """Return the rows of the table `dispatches`."""

    def runs() -> list[Any]:
        with service.database.read() as connection:
            return list(connection.execute(select(*Dispatch.__table__.c).order_by(Dispatch.id)))

    return runs


def test_a_callback_wakes_the_worker_at_once(handlers, working, send_callback):
    """A callback wakes the worker in the same process, so that handlers do not wait for the next poll."""
    begun: list[float] = []
    called = threading.Event()

    @handlers.on("PACKAGE_ACTIVATE")
    def look(event: Event, package: Package) -> None:
        begun.append(time.monotonic())
        called.set()

    delays = []
    for number in range(9):
        assert working.dispatcher.idle.wait(THREAD_SECONDS)
        threading.Event().wait(0.1)  # lets the worker become idle, so that the callback must wake it
        sent = time.monotonic()
        send_callback("PACKAGE_ACTIVATE", package=f"pkg-{number}")
        assert called.wait(THREAD_SECONDS)
        called.clear()
        delays.append(begun[-1] - sent)

    assert statistics.median(delays) < 0.2


def test_a_run_that_ends_before_the_deadline_is_settled(handlers, service, send_callback, runs):
    """A stopping worker waits for running handlers and stores their results."""
    begun, go_on = threading.Event(), threading.Event()

    @handlers.on("PACKAGE_COMPLETE")
    def wait(event: Event, package: Package) -> None:
        begun.set()
        go_on.wait(THREAD_SECONDS)

    service.worker.start()
    send_callback("PACKAGE_COMPLETE")
    assert begun.wait(THREAD_SECONDS)
    stopping = threading.Thread(target=service.worker.stop, kwargs={"grace": THREAD_SECONDS})
    stopping.start()
    go_on.set()
    stopping.join(THREAD_SECONDS)

    assert [(row.state, row.attempts) for row in runs()] == [("done", 1)]


def test_an_unfinished_run_is_handed_back(handlers, service, send_callback, runs, settings: Settings, clock):
    """An unfinished run of a stopping worker is due at once, counts no attempt, and ignores the late result."""
    begun, go_on = threading.Event(), threading.Event()

    @handlers.on("PACKAGE_COMPLETE")
    def wait(event: Event, package: Package) -> None:
        begun.set()
        go_on.wait(THREAD_SECONDS)

    successors = Handlers()

    @successors.on("PACKAGE_COMPLETE")
    def wait(event: Event, package: Package) -> None: ...  # noqa: F811  (the same handler, in another process)

    service.worker.start()
    send_callback("PACKAGE_COMPLETE")
    assert begun.wait(THREAD_SECONDS)
    service.worker.stop(grace=0.1)
    (handed_back,) = runs()
    other = create_app(settings, handlers=successors, clock=clock).extensions[EXTENSION]
    other.worker.start()
    until(lambda: runs()[0].state == "done", what="the other process has done it")
    other.worker.stop(grace=5)
    other.database.close()
    go_on.set()

    assert (handed_back.state, handed_back.attempts, handed_back.due_at) == ("due", 0, clock.now)
    assert [(row.state, row.attempts) for row in runs()] == [("done", 1)]


def test_a_run_that_ended_after_the_last_turn_is_not_run_again(handlers, service, send_callback, runs):
    """A run that ended after the worker's last turn is settled with its result and is not handed back."""

    @handlers.on("PACKAGE_COMPLETE")
    def file_it(event: Event, package: Package) -> None: ...

    send_callback("PACKAGE_COMPLETE")
    service.digest.turn()
    service.wakeups.dispatching.clear()
    service.dispatcher.turn()
    assert service.wakeups.dispatching.wait(THREAD_SECONDS)
    service.dispatcher.close()
    service.dispatcher.hand_back()

    assert [(row.state, row.attempts) for row in runs()] == [("done", 1)]


@pytest.mark.all
def test_a_turn_that_fails_does_not_end_the_worker(database_url, handlers, working, send_callback, post):
    """After an outage of the database, spooled callbacks are journaled and their handlers run."""
    seen: list[str] = []

    @handlers.on("PACKAGE_ACTIVATE")
    def look(event: Event, package: Package) -> None:
        seen.append(event.package_id)

    send_callback("PACKAGE_ACTIVATE", package="pkg-1")
    until(lambda: seen == ["pkg-1"])
    with unavailable(database_url, working):
        assert post(b'{"name": "PACKAGE_ACTIVATE", "packageId": "pkg-2"}').json == {"callback": None}
        threading.Event().wait(1.2)  # each thread of the worker takes at least two turns

    until(lambda: seen == ["pkg-1", "pkg-2"], what="the handler of the spooled callback has run")


def test_a_worker_stops_while_the_database_is_away(database_url, service):
    """A worker stops without an error while the database is unavailable."""
    service.worker.start()
    with unavailable(database_url, service):
        service.worker.stop(grace=1)


def test_gunicorn_and_worker_finish_running_handlers_on_sigterm(database_url: str, tmp_path: Path):
    """On SIGTERM, gunicorn and the worker finish running handlers, start no new run, and exit with 0."""
    with Site(tmp_path, database_url, handlers=HANDLERS, HANDLER_THREADS="1") as site:
        web = site.gunicorn(workers=1)
        worker = site.worker()
        for number in range(6):
            web.send_callback("PACKAGE_COMPLETE", package=f"pkg-{number}")
        until(lambda: len(site.handler_lines()) == 2, what="each process runs a handler")
        for process in (web, worker):
            process.terminate()
        until(lambda: not web.answers(), what="gunicorn accepts no requests")
        (site.folder / "release").touch()
        codes = [web.wait(), worker.wait()]

        begun = [words[1:] for words in site.handler_lines() if words[0] == "begun"]
        ended = [words[1:] for words in site.handler_lines() if words[0] == "ended"]
        assert codes == [0, 0]
        assert sorted(begun) == sorted(ended)
        assert len({pid for pid, _ in begun}) == 2
        later = site.gunicorn(workers=1)
        until(lambda: _done(later) == 6, what="the other runs are done")
        assert sorted(words[2] for words in site.handler_lines() if words[0] == "begun") == [
            f"pkg-{n}" for n in range(6)
        ]


def test_with_worker_external_only_the_worker_runs_handlers(database_url: str, tmp_path: Path):
    """With `WORKER=external`, gunicorn only stores callbacks, and `flask worker` runs handlers within a second."""
    with Site(tmp_path, database_url, handlers=HANDLERS, WORKER="external") as site:
        web = site.gunicorn(workers=1)
        web.send_callback("PACKAGE_ACTIVATE", package="pkg-0")
        threading.Event().wait(1.5)  # three times the poll interval of an embedded worker
        assert web.read("/api/events")["items"] == []

        worker = site.worker()
        until(lambda: len(site.handler_lines()) == 1, what="the handler ran")
        delays = []
        for number in range(1, 4):
            sent = time.time()
            web.send_callback("PACKAGE_ACTIVATE", package=f"pkg-{number}")
            until(lambda many=number + 1: len(site.handler_lines()) == many, what="the handler ran")
            delays.append(float(site.handler_lines()[-1][1]) - sent)

        assert min(delays) < 1
        assert _stops(worker) == 0
        assert _stops(web) == 0


def test_ctrl_c_ends_a_worker(database_url: str, tmp_path: Path):
    """Ctrl-C ends a worker without a traceback and with exit code 0, like SIGTERM."""
    with Site(tmp_path, database_url) as site:
        worker = site.worker()
        worker.terminate(number=signal.SIGINT)

        assert worker.wait() == 0
        assert "Traceback" not in worker.output()


@on_sqlite
def test_a_wrong_setting_stops_gunicorn(database_url: str, tmp_path: Path):
    """A wrong setting ends gunicorn with an error, without a traceback and without endless restarts."""
    with Site(tmp_path, database_url, RECONCILE_HOURS="7") as site:
        web = site.boot(workers=1)
        until(lambda: web.ended, seconds=15, what="gunicorn has ended")

        assert web.wait() != 0
        assert "RECONCILE_HOURS: Input should be 6, 12 or 24" in web.output()
        assert "Traceback" not in web.output()


def test_the_worker_digests_every_callback(handlers, working, send_callback, service):
    """The worker digests every callback, so that no journal row stays pending."""
    for number in range(20):
        send_callback("PACKAGE_ACTIVATE", package=f"pkg-{number}")

    def pending() -> int:
        with service.database.read() as connection:
            return len(connection.execute(select(Journal.id).where(Journal.digested_at.is_(None))).all())

    until(lambda: not pending(), what="all rows are digested")


def _done(web: Web) -> int:
    return len(web.read("/api/events?state=done")["items"])


def _stops(process: Process) -> int:
    process.terminate()
    return process.wait()


KILLS = '''
import signal

@handlers.on("PACKAGE_COMPLETE")
def kill(event, package):
    """Kill the whole process once, as a fault in a C library would."""
    note(os.getpid(), event.package_id)
    if len(open(os.environ["HANDLER_LOG"]).readlines()) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
'''


@on_sqlite
def test_handlers_run_beside_the_processes_that_receive(database_url: str, tmp_path: Path):
    """Gunicorn runs handlers in a process of its own: when a handler kills it, those that receive live on."""
    with Site(tmp_path, database_url, handlers=KILLS, HANDLER_LEASE_SECONDS="1") as site:
        web = site.gunicorn(workers=2)
        before = until(lambda: len(web.children) == 3 and set(web.children), what="all processes run")
        web.send_callback("PACKAGE_COMPLETE", package="pkg-1")
        until(lambda: len(site.handler_lines()) == 2, what="the handler ran again")
        killed, again = (int(pid) for pid, _ in site.handler_lines())

        assert killed in before
        assert again not in before
        assert set(web.children) == before - {killed} | {again}


@on_sqlite
@pytest.mark.parametrize("number", [signal.SIGTTIN, signal.SIGTTOU], ids=lambda number: number.name)
def test_handlers_still_run_after_a_change_of_the_number_of_processes(
    database_url: str, tmp_path: Path, number: signal.Signals
):
    """SIGTTIN and SIGTTOU change how many processes receive; one more still runs handlers."""
    with Site(tmp_path, database_url, handlers=HANDLERS) as site:
        (site.folder / "release").touch()
        web = site.gunicorn(workers=2)
        until(lambda: len(web.children) == 3, what="all processes run")
        web.terminate(number=number)
        expected = 4 if number == signal.SIGTTIN else 2
        until(lambda: len(web.children) == expected, what="the number has changed")
        web.send_callback("PACKAGE_COMPLETE", package="pkg-1")

        until(lambda: _done(web) == 1, what="the handler ran")
