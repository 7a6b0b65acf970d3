"""Law 1: what we said thanks for is on the disk, whatever happens a moment later."""

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
from tests.conftest import on_both, on_postgresql
from tests.support.processes import TRANSPORT, Site, Web, callback, until

pytestmark = [on_both, pytest.mark.own_database]

KILLS = {"quick": 5, "all": 20}  # on each database; every fifth is of the whole group, the others of one worker
CLIENTS = 4
HANDLERS = '''
@handlers.on("PACKAGE_ACTIVATE")
def file_it(event, package):
    """One consequence."""
    note("file_it", event.package_id)


@handlers.on("*")
def count_it(event, package):
    """Another."""
    note("count_it", event.package_id)
'''


class Clients:
    """A few clients that tell the door one callback after the other, and remember what it said thanks for."""

    def __init__(self, web: Web) -> None:
        self.web = web
        self.acknowledged: dict[int, bytes] = {}
        self.spooled: list[bytes] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._tell, args=(number,)) for number in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def tell_more(self, many: int) -> None:
        """Wait until so many more were acknowledged."""
        wanted = len(self.acknowledged) + many
        until(lambda: len(self.acknowledged) >= wanted, what="load")

    def stop(self) -> None:
        """End, after what is under way."""
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _tell(self, client: int) -> None:
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


@pytest.mark.timeout(300)
def test_law_1_what_was_acknowledged_survives_sigkill(database_url: str, tmp_path: Path, tier: str):
    """Under load, killed again and again: every callback we said thanks for is there, and every handler ran."""
    dice = random.Random(1)
    with Site(tmp_path, database_url, handlers=HANDLERS, HANDLER_LEASE_SECONDS="1") as site:
        web = site.gunicorn()
        clients = Clients(web)
        try:
            for kill in range(1, KILLS[tier] + 1):
                clients.tell_more(dice.randrange(5, 60))
                if kill % 5:
                    os.kill(dice.choice(until(lambda: clients.web.children)), signal.SIGKILL)
                else:
                    clients.web.kill()
                    clients.web = site.gunicorn(port=web.port)
        finally:
            clients.stop()

        told = {json.loads(body)["packageId"] for body in [*clients.acknowledged.values(), *clients.spooled]}
        until(lambda: told <= _ran(site, "file_it") & _ran(site, "count_it"), what="every handler ran")
        assert len(told) > KILLS[tier] * 5

    assert {one: _journal(database_url).get(one) for one in clients.acknowledged} == clients.acknowledged
    assert set(clients.spooled) <= set(_journal(database_url).values())


def _ran(site: Site, handler: str) -> set[str]:
    return {words[1] for words in site.witnessed() if words[0] == handler and len(words) == 2}


def _journal(url: str) -> dict[int, bytes]:
    database = Database(url)
    try:
        with database.read() as connection:
            return {row.id: row.body for row in connection.execute(select(Journal.id, Journal.body))}
    finally:
        database.close()


@pytest.fixture
def connections(database_url: str):
    """As many connections at once as the pool gives."""
    if database_url.startswith("postgresql"):
        _let_commits_be_weak(database_url)
    database = Database(database_url)
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(database.engine.connect()) for _ in range(20)]
    database.close()


def test_law_1_every_connection_waits_for_the_disk(connections):
    """A server or a library that defaults to less is told so, on each connection of the pool."""
    kind = connections[0].dialect.name
    asked = {"sqlite": "PRAGMA synchronous", "postgresql": "SHOW synchronous_commit"}[kind]

    answers = {connection.scalar(text(asked)) for connection in connections}

    assert answers == {{"sqlite": 2, "postgresql": "on"}[kind]}  # 2 is FULL
    if kind == "sqlite":
        assert {connection.scalar(text("PRAGMA journal_mode")) for connection in connections} == {"wal"}


@on_postgresql
def test_law_1_a_stronger_promise_of_the_server_stays(database_url: str):
    """Who waits for replicas too goes on doing so."""
    _alter(database_url, "SET synchronous_commit = remote_apply")
    database = Database(database_url)

    with database.write() as connection:
        assert connection.scalar(text("SHOW synchronous_commit")) == "remote_apply"
    database.close()


def _let_commits_be_weak(url: str) -> None:
    _alter(url, "SET synchronous_commit = off")


def _alter(url: str, what: str) -> None:
    address = make_url(url)
    plain = address.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {address.database} {what}")
