"""Law 9 with real processes: three services on one database, many intervals, kills in between: one reconcile each."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import select
from werkzeug.serving import make_server

from app.simulator.account import Account
from app.simulator.population import populated
from app.simulator.quirks import Quirks
from app.simulator.server import api
from app.store.db import Database
from app.store.models import Run
from tests.support.processes import Process, Site, until

pytestmark = pytest.mark.own_database

INTERVALS = {"quick": 3, "all": 7}
HOURS = 6
LATENCY = 0.1  # seconds that OneSpan takes for an answer
SERVICE = """
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from app import create_app
from handlers_of_this_test import handlers


def clock():
    return datetime.now(UTC) + timedelta(seconds=float(Path(os.environ["AHEAD"]).read_text() or 0))


app = create_app(handlers=handlers, clock=clock)
"""


class Ahead:
    """How far the clock of all processes is ahead of ours, in a file they all read."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.file.write_text("0")

    def __call__(self) -> datetime:
        """The time they have."""
        return datetime.now(UTC) + timedelta(seconds=float(self.file.read_text()))

    def forward(self, by: timedelta) -> None:
        """Let time pass, for all at once."""
        new = self.file.with_suffix(".new")
        new.write_text(str(float(self.file.read_text()) + by.total_seconds()))
        new.replace(self.file)


@pytest.fixture
def ahead(tmp_path: Path) -> Ahead:
    """The clock of all processes."""
    return Ahead(tmp_path / "ahead")


@pytest.fixture
def onespan(ahead: Ahead) -> Iterator[str]:
    """OneSpan's address: forty packages, four of them on a page, so that a run takes a while."""
    packages = populated(1, 40, now=ahead() - timedelta(days=2)).packages()
    account = Account(1, packages=0, quirks=Quirks(list_largest=4)).hold(packages)
    app = api(account, api_key="the-api-key", clock=ahead)

    def slowly(environ: Any, start: Any) -> Any:
        time.sleep(LATENCY)  # as the real one does, so that there is a middle of a run
        return app(environ, start)

    server = make_server("127.0.0.1", 0, slowly, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


def runs_of(database: Database) -> list[Any]:
    """The ledger, the oldest run first."""
    with database.read() as connection:
        return list(connection.execute(select(*Run.__table__.c).order_by(Run.id)))


@pytest.mark.timeout(240)
def test_law_9_one_reconcile_per_interval_whatever_is_killed(
    database_url: str, tmp_path: Path, ahead: Ahead, onespan: str, tier: str
):
    """Three workers; one of them is killed in the middle of every second run, and started again."""
    dice, database = Random(7), Database(database_url)
    site = Site(tmp_path, database_url, ONESPAN_URL=onespan, ONESPAN_API_KEY="the-api-key", AHEAD=str(ahead.file))
    (site.folder / "service.py").write_text(SERVICE)
    try:
        workers: list[Process] = [site.worker() for _ in range(3)]
        for interval in range(INTERVALS[tier]):
            if interval:
                ahead.forward(timedelta(hours=HOURS))
            until(lambda number=interval + 1: len(runs_of(database)) == number, what="a run begins")
            if interval % 2:
                until(lambda: runs_of(database)[-1].process or runs_of(database)[-1].state == "done")
                victim = dice.randrange(3)
                workers[victim].kill()
                workers[victim] = site.worker()
                ahead.forward(timedelta(minutes=11))  # what it had taken is free again
            until(lambda: runs_of(database)[-1].state == "done", seconds=60, what=f"run {interval + 1} ends")
            ahead.forward(timedelta(minutes=1))

        runs = runs_of(database)
        assert [one.reason for one in runs] == ["first", *["interval"] * (INTERVALS[tier] - 1)]
        apart = [later.began_at - one.began_at for one, later in pairwise(runs)]
        assert all(timedelta(hours=HOURS) <= one < timedelta(hours=HOURS + 1) for one in apart), apart
    finally:
        for process in site.processes:
            process.kill()
        database.close()
