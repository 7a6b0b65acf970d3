"""Law 9 with real processes: three workers on one database reconcile once per interval, although some are killed."""

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
LATENCY_SECONDS = 0.1  # seconds until the simulated OneSpan answers
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


class SharedClock:
    """A clock that several processes share: a file holds the seconds by which the clock is ahead of real time."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.file.write_text("0")

    def __call__(self) -> datetime:
        """Return the time of the shared clock."""
        return datetime.now(UTC) + timedelta(seconds=float(self.file.read_text()))

    def forward(self, by: timedelta) -> None:
        """Let time pass for all processes at once."""
        new = self.file.with_suffix(".new")
        new.write_text(str(float(self.file.read_text()) + by.total_seconds()))
        new.replace(self.file)


@pytest.fixture
def shared_time(tmp_path: Path) -> SharedClock:
    """The clock that all processes of the test share."""
    return SharedClock(tmp_path / "ahead")


@pytest.fixture
def onespan(shared_time: SharedClock) -> Iterator[str]:
    """The address of a simulated OneSpan with forty packages, four per page, so that a reconcile run takes a while."""
    packages = populated(1, 40, now=shared_time() - timedelta(days=2)).packages()
    account = Account(1, packages=0, quirks=Quirks(list_largest=4)).load(packages)
    app = api(account, api_key="the-api-key", clock=shared_time)

    def slowly(environ: Any, start: Any) -> Any:
        time.sleep(LATENCY_SECONDS)  # as slow as the real OneSpan, so that a reconcile run can be interrupted
        return app(environ, start)

    server = make_server("127.0.0.1", 0, slowly, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


def runs_of(database: Database) -> list[Any]:
    """The reconcile runs, the oldest first."""
    with database.read() as connection:
        return list(connection.execute(select(*Run.__table__.c).order_by(Run.id)))


@pytest.mark.all
@pytest.mark.timeout(240)
def test_law_9_one_reconcile_per_interval_despite_kills(
    database_url: str, tmp_path: Path, shared_time: SharedClock, onespan: str, tier: str
):
    """Three workers reconcile once per interval, although a worker is killed and restarted in every second run."""
    dice, database = Random(7), Database(database_url)
    site = Site(tmp_path, database_url, ONESPAN_URL=onespan, ONESPAN_API_KEY="the-api-key", AHEAD=str(shared_time.file))
    (site.folder / "service.py").write_text(SERVICE)
    try:
        workers: list[Process] = [site.worker() for _ in range(3)]
        for interval in range(INTERVALS[tier]):
            if interval:
                shared_time.forward(timedelta(hours=HOURS))
            until(lambda number=interval + 1: len(runs_of(database)) == number, what="a run begins")
            if interval % 2:
                until(lambda: runs_of(database)[-1].process or runs_of(database)[-1].state == "done")
                victim = dice.randrange(3)
                workers[victim].kill()
                workers[victim] = site.worker()
                shared_time.forward(timedelta(minutes=11))  # the lease of the killed worker ends
            until(lambda: runs_of(database)[-1].state == "done", seconds=60, what=f"run {interval + 1} ends")
            shared_time.forward(timedelta(minutes=1))

        runs = runs_of(database)
        assert [run.reason for run in runs] == ["first", *["interval"] * (INTERVALS[tier] - 1)]
        gaps = [later.began_at - run.began_at for run, later in pairwise(runs)]
        assert all(timedelta(hours=HOURS) <= gap < timedelta(hours=HOURS + 1) for gap in gaps), gaps
    finally:
        for process in site.processes:
            process.kill()
        database.close()
