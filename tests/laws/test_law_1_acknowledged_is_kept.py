"""Law 1: an acknowledged callback is on the disk, whatever happens a moment later."""

import contextlib
import json
import os
import random
import signal
import threading
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url, select, text

from app.store.db import Database
from app.store.models import Journal
from tests.conftest import on_both, on_postgresql, on_sqlite_first
from tests.support.processes import TRANSPORT, Site, Web, callback, until

pytestmark = [on_both, pytest.mark.own_database]

# The number of kills per database.
# Every fifth kill ends all of gunicorn, and each other kill ends only a worker process.
KILLS = {"quick": 5, "all": 20}
CLIENTS = 4
HANDLERS = '''
@handlers.on("PACKAGE_ACTIVATE")
def file_it(event, package):
    """Write a line."""
    note("file_it", event.package_id)


@handlers.on("*")
def count_it(event, package):
    """Write another line."""
    note("count_it", event.package_id)
'''


class Clients:
    """Clients that post callbacks one after another, and remember the acknowledged callbacks."""

    def __init__(self, web: Web) -> None:
        self.web = web
        self.acknowledged: dict[int, bytes] = {}
        self.spooled: list[bytes] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._post_callbacks, args=(number,)) for number in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def wait_for_more(self, number: int) -> None:
        """Wait until `number` more callbacks are acknowledged."""
        total = len(self.acknowledged) + number
        until(lambda: len(self.acknowledged) >= total, what="load")

    def stop(self) -> None:
        """Stop the clients after the requests in progress."""
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _post_callbacks(self, client: int) -> None:
        for number in range(5000):
            if self._over.wait(0.02):
                return
            body = callback("PACKAGE_ACTIVATE", package=f"pkg-{client}-{number}", message=os.urandom(8).hex())
            with contextlib.suppress(*TRANSPORT):
                self._remember(body, *self.web.post(body))

    def _remember(self, body: bytes, status: int, answer: bytes) -> None:
        if status != 200:
            return
        journal_id = json.loads(answer)["callback"]
        if journal_id is None:
            self.spooled.append(body)
        else:
            self.acknowledged[journal_id] = body


@on_sqlite_first
@pytest.mark.timeout(300)
def test_law_1_acknowledged_callbacks_survive_sigkill(database_url: str, tmp_path: Path, tier: str):
    """Under load and repeated kills, every acknowledged callback is stored and every handler runs for it."""
    dice = random.Random(1)
    with Site(tmp_path, database_url, handlers=HANDLERS, HANDLER_LEASE_SECONDS="1") as site:
        web = site.gunicorn()
        clients = Clients(web)
        try:
            for kill in range(1, KILLS[tier] + 1):
                clients.wait_for_more(dice.randrange(5, 60))
                if kill % 5:
                    os.kill(dice.choice(until(lambda: clients.web.children)), signal.SIGKILL)
                else:
                    clients.web.kill()
                    clients.web = site.gunicorn(port=web.port)
        finally:
            clients.stop()

        sent = {json.loads(body)["packageId"] for body in [*clients.acknowledged.values(), *clients.spooled]}
        until(lambda: sent <= _handled_by(site, "file_it") & _handled_by(site, "count_it"), what="every handler ran")
        assert len(sent) > KILLS[tier] * 5

    assert {
        journal_id: _journal(database_url).get(journal_id) for journal_id in clients.acknowledged
    } == clients.acknowledged
    assert set(clients.spooled) <= set(_journal(database_url).values())


def _handled_by(site: Site, handler: str) -> set[str]:
    return {words[1] for words in site.handler_lines() if words[0] == handler and len(words) == 2}


def _journal(url: str) -> dict[int, bytes]:
    database = Database(url)
    try:
        with database.read() as connection:
            return {row.id: row.body for row in connection.execute(select(Journal.id, Journal.body))}
    finally:
        database.close()


@pytest.fixture
def connections(database_url: str):
    """Twenty connections that are open at the same time, more than the pool keeps."""
    if database_url.startswith("postgresql"):
        _weaken_commits(database_url)
    database = Database(database_url)
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(database.engine.connect()) for _ in range(20)]
    database.close()


def test_law_1_every_connection_waits_for_the_disk(connections):
    """Each connection of the pool waits for the disk, even if the default of the server or library is weaker."""
    kind = connections[0].dialect.name
    statement = {"sqlite": "PRAGMA synchronous", "postgresql": "SHOW synchronous_commit"}[kind]

    answers = {connection.scalar(text(statement)) for connection in connections}

    assert answers == {{"sqlite": 2, "postgresql": "on"}[kind]}  # SQLite's value 2 means FULL
    if kind == "sqlite":
        assert {connection.scalar(text("PRAGMA journal_mode")) for connection in connections} == {"wal"}


@on_postgresql
def test_law_1_stronger_durability_of_the_server_is_kept(database_url: str):
    """If PostgreSQL is set to wait for its replicas at each commit, the service keeps that setting."""
    _alter(database_url, "SET synchronous_commit = remote_apply")
    database = Database(database_url)

    with database.write() as connection:
        assert connection.scalar(text("SHOW synchronous_commit")) == "remote_apply"
    database.close()


def _weaken_commits(url: str) -> None:
    _alter(url, "SET synchronous_commit = off")


def _alter(url: str, change: str) -> None:
    address = make_url(url)
    plain = address.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {address.database} {change}")
