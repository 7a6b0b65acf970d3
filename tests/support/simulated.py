"""What the simulator's tests share: accounts that have lived, a way to ask them, and places to post to."""

import gc
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from wsgiref.types import WSGIApplication

from click.testing import CliRunner
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.serving import make_server

from app.onespan.client import OneSpan
from app.simulator.account import Account
from app.simulator.command import simulate
from app.simulator.inprocess import InProcess
from app.simulator.packages import Event, Package
from app.simulator.server import api
from tests.conftest import NOON, Clock

SEEDS = range(8)
PACKAGES = 40  # of each seed
SECOND = timedelta(seconds=1)
API_KEY = "the-api-key"
ADDRESS = "http://onespan.test"  # where nobody is but a simulated account, without a socket
AUTHORIZED = {"Authorization": f"Basic {API_KEY}"}
ROOT = Path(__file__).resolve().parent.parent.parent


class Step(NamedTuple):
    """What one step did to one package."""

    before: Package | None
    after: Package
    events: list[Event]


def steps(account: Account, *, now: datetime = NOON, pause: timedelta = SECOND) -> Iterator[Step]:
    """Live to the end, a step every `pause`."""
    while not account.is_over:
        now += pause
        before = {one.id: one for one in account.packages()}
        events = account.step(now)
        (after,) = (one for one in account.packages() if before.get(one.id) is not one)
        yield Step(before.get(after.id), after, events)


@cache
def many_steps() -> list[Step]:
    """Many whole lives, lived once."""
    every = [step for seed in SEEDS for step in steps(Account(seed, packages=PACKAGES))]
    gc.freeze()  # they stay, and are many: spare the collector from looking through them again and again
    return every


def asked_of(package: Package, person_id: str) -> list[str]:
    """The documents somebody must sign."""
    mine = place(package, person_id)
    return [one.id for one in package.documents if any(approval.role == mine for approval in one.approvals)]


def place(package: Package, person_id: str) -> int:
    """The place of the role in which somebody sits."""
    (found,) = (n for n, role in enumerate(package.roles) if role.person and role.person.id == person_id)
    return found


@cache
def lived(seed: int) -> Account:
    """A small account after all its histories; only to be read."""
    account = Account(seed, packages=60)
    for _ in steps(account):
        pass
    return account


def account_of(packages: Iterable[Package], **more: Any) -> Account:
    """An account with just these."""
    return Account(0, packages=0, **more).hold(packages)


def client_of(account: Account, *, clock: Callable[[], datetime] | None = None, **more: Any) -> FlaskClient:
    """HTTP without a network to the simulated REST API."""
    return api(account, api_key=API_KEY, clock=clock or Clock(), **more).test_client()


def connect(onespan: OneSpan, app: WSGIApplication) -> None:
    """Let a client that asks `ADDRESS` talk to this."""
    onespan._session.mount(ADDRESS, InProcess(app))


def read(account: Account, path: str, *, status: int = 200, key: str = API_KEY, **query: Any) -> Any:
    """Read JSON from the simulated REST API, with a key."""
    answer = client_of(account).get(path, query_string=query, headers={"Authorization": f"Basic {key}"})
    assert answer.status_code == status, answer.text
    return answer.json


def listed(account: Account, **query: Any) -> list[str]:
    """The ids on a long page."""
    return [one["id"] for one in read(account, "/api/packages", **{"to": 99, **query})["results"]]


def run(*arguments: str, env: dict[str, str | None] | None = None) -> Any:
    """`flask simulate`, quick."""
    return CliRunner().invoke(simulate, ["--rate", "10000", *arguments], env=env)


def wait_until(condition: Callable[[], bool]) -> None:
    """Until another process has got so far, or a deadline."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    """The service on a free port; gives where callbacks go."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/onespan/callback"
    server.shutdown()
    thread.join()
    server.server_close()


class Heard(NamedTuple):
    """One request as it came in."""

    headers: dict[str, str]
    client: int
    body: bytes


class Listening(NamedTuple):
    """Somebody who takes callbacks."""

    url: str
    requests: list[Heard]


@contextmanager
def listening(answers: tuple[int | None, ...] | list[int | None] = ()) -> Iterator[Listening]:
    """Take callbacks on a free port and keep them; answers these statuses in turn, then 200; None hangs up."""
    requests: list[Heard] = []
    given = iter(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            requests.append(Heard({k.lower(): v for k, v in self.headers.items()}, self.client_address[1], body))
            status = next(given, 200)
            if status is None:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield Listening(f"http://127.0.0.1:{server.server_port}/onespan/callback", requests)
    server.shutdown()
    thread.join()
    server.server_close()
