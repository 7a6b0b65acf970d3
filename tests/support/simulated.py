"""Helpers of the simulator's tests: finished accounts, REST requests, servers for callbacks."""

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
PACKAGES = 40  # packages per seed
SECOND = timedelta(seconds=1)
API_KEY = f"the-api-key-{'x' * 64}"  # as long as a present API key of OneSpan
ADDRESS = "https://onespan.test"  # the address of a simulated account, which needs no socket
AUTHORIZED = {"Authorization": f"Basic {API_KEY}"}
ROOT = Path(__file__).resolve().parent.parent.parent


class Step(NamedTuple):
    """The effect of one step of a simulated account on one package."""

    before: Package | None
    after: Package
    events: list[Event]


def steps(account: Account, *, now: datetime = NOON, pause: timedelta = SECOND) -> Iterator[Step]:
    """Play an account to the end, with `pause` between two steps."""
    while not account.is_over:
        now += pause
        before = {package.id: package for package in account.packages()}
        events = account.step(now)
        (after,) = (package for package in account.packages() if before.get(package.id) is not package)
        yield Step(before.get(after.id), after, events)


@cache
def recorded_steps() -> list[Step]:
    """Every step of eight simulated accounts, which are simulated only once per process."""
    recorded = [step for seed in SEEDS for step in steps(Account(seed, packages=PACKAGES))]
    gc.freeze()  # the garbage collector need not scan these long-lived objects again
    return recorded


def documents_to_sign(package: Package, person_id: str) -> list[str]:
    """The ids of the documents that a person must sign."""
    position = role_position(package, person_id)
    return [document.id for n, document in enumerate(package.documents) if package.approvals(position, document=n)]


def role_position(package: Package, person_id: str) -> int:
    """The position of a person's role in the roles of a package."""
    (position,) = (n for n, role in enumerate(package.roles) if role.person and role.person.id == person_id)
    return position


@cache
def finished_account(seed: int) -> Account:
    """A small account after the last step of all its packages, which tests must not change."""
    account = Account(seed, packages=60)
    for _ in steps(account):
        pass
    return account


def account_of(packages: Iterable[Package], **options: Any) -> Account:
    """An account with exactly these packages."""
    return Account(0, packages=0, **options).load(packages)


def client_of(account: Account, *, clock: Callable[[], datetime] | None = None, **options: Any) -> FlaskClient:
    """A test client of the simulated REST API."""
    return api(account, api_key=API_KEY, clock=clock or Clock(), **options).test_client()


def connect(onespan: OneSpan, app: WSGIApplication) -> None:
    """Connect the OneSpan client to a WSGI app that answers at `ADDRESS`."""
    onespan._session.mount(ADDRESS, InProcess(app))


def read(account: Account, path: str, *, status: int = 200, key: str = API_KEY, **query: Any) -> Any:
    """GET JSON from the simulated REST API with an API key."""
    answer = client_of(account).get(path, query_string=query, headers={"Authorization": f"Basic {key}"})
    assert answer.status_code == status, answer.text
    return answer.json


def listed_ids(account: Account, **query: Any) -> list[str]:
    """The ids of the packages on one large page of the package list."""
    return [package["id"] for package in read(account, "/api/packages", **{"to": 99, **query})["results"]]


def run(*arguments: str, env: dict[str, str | None] | None = None) -> Any:
    """Run `flask simulate` at a high rate."""
    return CliRunner().invoke(simulate, ["--rate", "10000", *arguments], env=env)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds; fail after 30 seconds."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the condition did not hold within 30 seconds"
        time.sleep(0.01)


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    """Serve the receiver's app on a free port, and yield the callback URL."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/onespan/callback"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class ReceivedRequest(NamedTuple):
    """One request as the server received it."""

    headers: dict[str, str]
    client: int
    body: bytes


class CallbackServer(NamedTuple):
    """A server that records callbacks."""

    url: str
    requests: list[ReceivedRequest]


@contextmanager
def callback_server(answers: tuple[int | None, ...] | list[int | None] = ()) -> Iterator[CallbackServer]:
    """Record callbacks on a free port. The answers are `answers` in turn, then 200; None closes the connection."""
    requests: list[ReceivedRequest] = []
    statuses = iter(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            requests.append(ReceivedRequest(headers, self.client_address[1], body))
            status = next(statuses, 200)
            if status is None:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield CallbackServer(f"http://127.0.0.1:{server.server_port}/onespan/callback", requests)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
