"""The worker: woken at once, stopped with grace, and not ended by a turn that fails."""

# ruff: noqa: PLR0917  (fixtures come by their names)

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
from tests.laws.test_law_2_spool import away
from tests.support.processes import Process, Site, Web, until

pytestmark = pytest.mark.own_database

PATIENCE = 10  # seconds a test waits for a thread
HANDLERS = '''
import pathlib
import time


@handlers.on("PACKAGE_COMPLETE")
def file_it(event, package):
    """Takes as long as nobody has made the file `release`, but 20 s at most."""
    note("begun", os.getpid(), event.package_id)
    for _ in range(1000):
        if pathlib.Path(os.environ["WITNESS"]).with_name("release").exists():
            break
        time.sleep(0.02)
    note("ended", os.getpid(), event.package_id)


@handlers.on("PACKAGE_ACTIVATE")
def look(event, package):
    """Say when."""
    note("looked", time.time())
'''


@pytest.fixture
def working(service: Service) -> Iterator[Service]:
    """The service with its worker running."""
    service.worker.start()
    yield service
    service.worker.stop(grace=5)


@pytest.fixture
def runs(service: Service) -> Callable[[], list[Any]]:
    """The rows of the ledger."""

    def runs() -> list[Any]:
        with service.database.read() as connection:
            return list(connection.execute(select(*Dispatch.__table__.c).order_by(Dispatch.id)))

    return runs


def test_a_callback_wakes_the_worker_at_once(handlers, working, tell):
    """In one process nobody waits for the next look: half of all handlers begin well before it."""
    begun: list[float] = []
    rung = threading.Event()

    @handlers.on("PACKAGE_ACTIVATE")
    def look(event: Event, package: Package) -> None:
        begun.append(time.monotonic())
        rung.set()

    waited = []
    for number in range(9):
        assert working.dispatcher.idle.wait(PATIENCE)
        threading.Event().wait(0.1)  # let it fall asleep, so that it has to be woken
        told = time.monotonic()
        tell("PACKAGE_ACTIVATE", package=f"pkg-{number}")
        assert rung.wait(PATIENCE)
        rung.clear()
        waited.append(begun[-1] - told)

    assert statistics.median(waited) < 0.2


def test_what_ends_in_time_is_settled(handlers, service, tell, runs):
    """Who is told to stop lets running handlers end."""
    begun, go_on = threading.Event(), threading.Event()

    @handlers.on("PACKAGE_COMPLETE")
    def wait(event: Event, package: Package) -> None:
        begun.set()
        go_on.wait(PATIENCE)

    service.worker.start()
    tell("PACKAGE_COMPLETE")
    assert begun.wait(PATIENCE)
    stopping = threading.Thread(target=service.worker.stop, kwargs={"grace": PATIENCE})
    stopping.start()
    go_on.set()
    stopping.join(PATIENCE)

    assert [(row.state, row.attempts) for row in runs()] == [("done", 1)]


def test_what_does_not_end_is_handed_back(handlers, service, tell, runs, settings: Settings, clock):
    """It is due at once for somebody else and no attempt is counted; the late end changes nothing."""
    begun, go_on = threading.Event(), threading.Event()

    @handlers.on("PACKAGE_COMPLETE")
    def wait(event: Event, package: Package) -> None:
        begun.set()
        go_on.wait(PATIENCE)

    successors = Handlers()

    @successors.on("PACKAGE_COMPLETE")
    def wait(event: Event, package: Package) -> None: ...  # noqa: F811  (the same handler, in another process)

    service.worker.start()
    tell("PACKAGE_COMPLETE")
    assert begun.wait(PATIENCE)
    service.worker.stop(grace=0.1)
    (handed_back,) = runs()
    other = create_app(settings, handlers=successors, clock=clock).extensions[EXTENSION]
    other.worker.start()
    until(lambda: runs()[0].state == "done", what="the other has done it")
    other.worker.stop(grace=5)
    other.database.close()
    go_on.set()

    assert (handed_back.state, handed_back.attempts, handed_back.due_at) == ("due", 0, clock.now)
    assert [(row.state, row.attempts) for row in runs()] == [("done", 1)]


def test_what_ended_at_the_last_moment_is_not_run_again(handlers, service, tell, runs):
    """A run that ended after the last turn is settled as it ended, not handed back."""

    @handlers.on("PACKAGE_COMPLETE")
    def file_it(event: Event, package: Package) -> None: ...

    tell("PACKAGE_COMPLETE")
    service.digest.turn()
    service.bells.dispatching.clear()
    service.dispatcher.turn()
    assert service.bells.dispatching.wait(PATIENCE)
    service.dispatcher.close()
    service.dispatcher.hand_back()

    assert [(row.state, row.attempts) for row in runs()] == [("done", 1)]


def test_a_turn_that_fails_does_not_end_the_worker(database_url, handlers, working, tell, post):
    """The database goes away and comes back: what waited in the spool is journaled and its handler runs."""
    seen: list[str] = []

    @handlers.on("PACKAGE_ACTIVATE")
    def look(event: Event, package: Package) -> None:
        seen.append(event.package_id)

    tell("PACKAGE_ACTIVATE", package="pkg-1")
    until(lambda: seen == ["pkg-1"])
    with away(database_url, working):
        assert post(b'{"name": "PACKAGE_ACTIVATE", "packageId": "pkg-2"}').json == {"callback": None}
        threading.Event().wait(1.2)  # both pumps look at least twice

    until(lambda: seen == ["pkg-1", "pkg-2"], what="the spooled callback caused its run")


def test_a_worker_stops_while_the_database_is_away(database_url, service):
    """It has nothing to hand back and says no more than that."""
    service.worker.start()
    with away(database_url, service):
        service.worker.stop(grace=1)


def test_sigterm_lets_gunicorn_and_worker_end_what_runs(database_url: str, tmp_path: Path):
    """Handlers under way are settled as done, nothing new begins, and the exit code says that all is well."""
    with Site(tmp_path, database_url, handlers=HANDLERS, HANDLER_THREADS="1") as site:
        web = site.gunicorn(workers=1)
        worker = site.worker()
        for number in range(6):
            web.tell("PACKAGE_COMPLETE", package=f"pkg-{number}")
        until(lambda: len(site.witnessed()) == 2, what="each of them works on one")
        for process in (web, worker):
            process.terminate()
        until(lambda: not web.answers(), what="the door is shut")
        (site.folder / "release").touch()
        codes = [web.wait(), worker.wait()]

        begun = [words[1:] for words in site.witnessed() if words[0] == "begun"]
        ended = [words[1:] for words in site.witnessed() if words[0] == "ended"]
        assert codes == [0, 0]
        assert sorted(begun) == sorted(ended)
        assert len({pid for pid, _ in begun}) == 2
        later = site.gunicorn(workers=1)
        until(lambda: _done(later) == 6, what="the rest is done")
        assert sorted(words[2] for words in site.witnessed() if words[0] == "begun") == [f"pkg-{n}" for n in range(6)]


def test_an_external_worker_works_and_gunicorn_does_not(database_url: str, tmp_path: Path):
    """`WORKER=external`: the door only journals; a `flask worker` has it within a second."""
    with Site(tmp_path, database_url, handlers=HANDLERS, WORKER="external") as site:
        web = site.gunicorn(workers=1)
        web.tell("PACKAGE_ACTIVATE", package="pkg-0")
        threading.Event().wait(1.5)  # three times as long as an embedded worker would take to look
        assert web.read("/api/events")["items"] == []

        worker = site.worker()
        until(lambda: len(site.witnessed()) == 1, what="the worker found it")
        waited = []
        for number in range(1, 4):
            told = time.time()
            web.tell("PACKAGE_ACTIVATE", package=f"pkg-{number}")
            until(lambda many=number + 1: len(site.witnessed()) == many, what="the worker found it")
            waited.append(float(site.witnessed()[-1][1]) - told)

        assert min(waited) < 1
        assert _stops(worker) == 0
        assert _stops(web) == 0


def test_ctrl_c_ends_a_worker(database_url: str, tmp_path: Path):
    """As SIGTERM does."""
    with Site(tmp_path, database_url) as site:
        worker = site.worker()
        worker.terminate(number=signal.SIGINT)

        assert worker.wait() == 0
        assert "Traceback" not in worker.said()


@on_sqlite
def test_a_wrong_setting_ends_gunicorn_with_its_reason(database_url: str, tmp_path: Path):
    """It says what is wrong and ends; it does not try again for ever, and shows no traceback."""
    with Site(tmp_path, database_url, RECONCILE_HOURS="7") as site:
        web = site.boot(workers=1)
        until(lambda: web.ended, seconds=15, what="gunicorn gives up")

        assert web.wait() != 0
        assert "RECONCILE_HOURS: Input should be 6, 12 or 24" in web.said()
        assert "Traceback" not in web.said()


def test_nothing_is_left_waiting_when_all_is_done(handlers, working, tell, service):
    """The worker sees to everything that was told."""
    for number in range(20):
        tell("PACKAGE_ACTIVATE", package=f"pkg-{number}")

    def waiting() -> int:
        with service.database.read() as connection:
            return len(connection.execute(select(Journal.id).where(Journal.digested_at.is_(None))).all())

    until(lambda: not waiting(), what="all is digested")


def _done(web: Web) -> int:
    return len(web.read("/api/events?state=done")["items"])


def _stops(process: Process) -> int:
    process.terminate()
    return process.wait()
