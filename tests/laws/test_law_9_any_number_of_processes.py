"""Law 9: any number of processes share one database, and each row is processed once."""

import json
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
from sqlalchemy import select, text
from sqlalchemy.engine import Connection

from app.handling import Event, GiveUp, Package
from app.store import dispatches, packages
from app.store.db import Database
from app.store.models import Change, Dispatch
from tests.conftest import HOUR, TOKEN, on_both, on_postgresql
from tests.support.processes import Site, Web, callback, until

pytestmark = [on_both, pytest.mark.own_database]

FACTS = 150  # callbacks, each of which is sent twice
CLIENTS = 4
HANDLERS = '''
@handlers.on("PACKAGE_ACTIVATE")
def file_it(event, package):
    """Record which process ran for which event."""
    note("file_it", os.getpid(), event.key)


@handlers.on("*")
def count_it(event, package):
    """Record which process ran the second handler for which event."""
    note("count_it", os.getpid(), event.key)
'''


class Reader:
    """A client that follows the feed of changes while other processes write."""

    def __init__(self, web: Web) -> None:
        self.seen: list[int] = []
        self._web = web
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(60)

    def _follow(self) -> None:
        for _ in range(10_000):
            last = self._over.is_set()
            after = self.seen[-1] if self.seen else 0
            items = self._web.read(f"/api/changes?after={after}&limit=7&wait=0.3")["items"]
            self.seen += [item["id"] for item in items]
            if last and not items:
                return


@on_postgresql
def test_law_9_every_row_is_worked_once(database_url: str, tmp_path: Path):
    """With two web processes and two workers, each handler runs once per event, and the feed skips no change."""
    with Site(tmp_path, database_url, handlers=HANDLERS) as site:
        web = site.gunicorn(workers=2)
        workers = [site.worker(), site.worker()]
        with Reader(web) as reader, _sending(web):
            until(lambda: len(site.handler_lines()) >= 2 * FACTS, seconds=40, what="all is done")
        until(lambda: not _in_state(database_url, "due", "running"), what="all is settled")

        runs = Counter((handler, key) for handler, _, key in site.handler_lines())
        pids = {int(pid) for _, pid, _ in site.handler_lines()}

    assert len(runs) == 2 * FACTS
    assert set(runs.values()) == {1}
    assert len({key for _, key in runs}) == 2 * FACTS
    assert len(pids) > 1
    assert not {process.pid for process in workers} & {web.pid}
    assert reader.seen == _changes(database_url)
    assert len(reader.seen) >= FACTS


@on_postgresql
def test_law_9_work_of_a_killed_process_is_taken_over(database_url: str, tmp_path: Path):
    """Another process takes over the runs of a killed process; only runs that had begun may run a second time."""
    slow = HANDLERS.replace('    note("file_it"', '    import time; time.sleep(0.02)\n    note("file_it"')
    with Site(tmp_path, database_url, handlers=slow, HANDLER_LEASE_SECONDS="5", HANDLER_THREADS="3") as site:
        web = site.gunicorn(workers=2, WORKER="external")
        victim, _ = site.worker(), site.worker()
        with _sending(web):
            until(lambda: _runs_of(site, victim.pid) > 10, what="the victim works")
            os.kill(victim.pid, signal.SIGKILL)
        until(lambda: not _in_state(database_url, "due", "running"), seconds=30, what="all is done")

        runs = Counter((handler, key) for handler, _, key in site.handler_lines())
        begun_by_victim = {(handler, key) for handler, pid, key in site.handler_lines() if int(pid) == victim.pid}

    twice = {run for run, times in runs.items() if times > 1}
    assert len(runs) == 2 * FACTS
    assert max(runs.values()) <= 2
    assert twice <= begun_by_victim
    # Each of the two handlers has three threads, so at most six runs were running or had just ended.
    assert len(twice) <= 2 * 3


def test_law_9_each_row_goes_to_exactly_one_taker(service, handlers, send_callback, clock):
    """If eight threads take the same dispatches at the same time, each dispatch goes to exactly one thread."""

    @handlers.on("PACKAGE_COMPLETE")
    def file_it(event: Event, package: Package) -> None: ...

    for number in range(60):
        send_callback("PACKAGE_COMPLETE", package=f"pkg-{number}")
    service.digest.turn()
    start = threading.Barrier(8)

    def take(taker: int) -> list[tuple[int, int]]:
        dice, taken = random.Random(taker), []
        start.wait(10)
        for _ in range(12):
            with service.database.write() as connection:
                ids = dispatches.due(connection, {"file_it": 60}, now=clock.now)
                wanted = dice.sample(ids, k=min(len(ids), 10))
                taken += dispatches.take(connection, wanted, now=clock.now, lease=HOUR)
        return [(dispatch.id, dispatch.fence) for dispatch in taken]

    with ThreadPoolExecutor(8) as pool:
        shares = list(pool.map(take, range(8)))

    assert sorted(dispatch for share in shares for dispatch in share) == [(number, 1) for number in range(1, 61)]


@contextmanager
def _sending(web: Web) -> Iterator[None]:
    """Send every callback twice, from several clients at the same time, during a `with` block."""
    facts = [callback("PACKAGE_ACTIVATE", package=f"pkg-{number}") for number in range(FACTS)] * 2
    random.Random(9).shuffle(facts)
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = [pool.submit(web.post, fact) for fact in facts]
        yield
        results = [answer.result(30) for answer in answers]
    assert {status for status, _ in results} == {200}
    assert all(json.loads(answer)["callback"] for _, answer in results)


def _runs_of(site: Site, pid: int) -> int:
    return [words[1] for words in site.handler_lines()].count(str(pid))


def _in_state(url: str, *states: str) -> list[int]:
    return _select(url, select(Dispatch.id).where(Dispatch.state.in_(states)))


def _changes(url: str) -> list[int]:
    return _select(url, select(Change.id).order_by(Change.id))


def _select(url: str, question) -> list[int]:
    database = Database(url)
    try:
        with database.read() as connection:
            return list(connection.scalars(question))
    finally:
        database.close()


@on_postgresql
def test_law_9_writer_of_history_holds_the_lock(  # noqa: PLR0917
    send_callback, work, service, handlers, client, runner, monkeypatch
):
    """All code that writes the history holds the write lock, so the ids of changes follow the order of commits."""
    written: list[bool] = []
    record, write_packages = packages.record_changes, packages.write_packages
    held = text("SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted")

    def recorded(write: Any) -> Any:
        def write_and_record(connection: Connection, changes: Any, *more: Any, **named: Any) -> None:
            if changes:
                written.append(bool(connection.scalar(held)))
            write(connection, changes, *more, **named)

        return write_and_record

    monkeypatch.setattr(packages, "record_changes", recorded(record))
    monkeypatch.setattr(packages, "write_packages", recorded(write_packages))

    @handlers.on("*")
    def fail(event: Event, package: Package) -> None:
        raise GiveUp("no")

    bearer = {"Authorization": f"Bearer {TOKEN}"}
    ways = {
        "digest, and parking": lambda: send_callback("PACKAGE_ACTIVATE"),
        "replay by the API": lambda: client.post("/api/dispatches/1/replay", headers=bearer),
        "replay by command": lambda: runner.invoke(args=["replay", "--state", "parked"]),
        "rebuild": lambda: (_spoil(service), runner.invoke(args=["rebuild"])),
    }
    for way, go in ways.items():
        before = len(written)
        go()
        work()
        assert len(written) > before, way
    assert all(written)


def _spoil(service: Any) -> None:
    with service.database.write() as connection:
        connection.execute(text("UPDATE packages SET status = 'DRAFT'"))
