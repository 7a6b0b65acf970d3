"""The examples for nginx and HAProxy, in front of a real gunicorn: no callback is lost, and no rule is evaded."""

import http.client
import itertools
import os
import re
import signal
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import pytest

from tests.conftest import KEY, TOKEN, in_all, on_sqlite
from tests.support.hostile import hold, post_callbacks_meanwhile
from tests.support.processes import ROOT, Site, Web, callback, until
from tests.support.proxies import (
    EXAMPLES,
    HOST,
    INSIDE,
    MISSING,
    OUTSIDE,
    PROXIES_MISSING,
    PROXIES_REQUIRED,
    Proxy,
    running,
)

pytestmark = [
    on_sqlite,
    pytest.mark.own_database,
    pytest.mark.skipif(bool(MISSING) and not PROXIES_REQUIRED, reason=PROXIES_MISSING),
]
BEARER = {"Authorization": f"Bearer {TOKEN}"}
# Paths that the service or a proxy might read as another one, with the path that is closed to the outside.
WAYS_AROUND = [
    *("/api/packages", "//api/packages", "/api//packages", "/%61pi/packages", "/api%2fpackages", "/x/../api/packages"),
    *("/static/../api/packages", "/static/%2e%2e/api/packages", "/./api/packages", "/api/packages/a/../../../login"),
    *("/api/packages/a/%2e%2e/%2E%2e/x", "/api/packages/..%2f..%2f..%2flogin", "/api/packages/.", "/api/packages/%2e"),
    *("/metrics", "/metrics/../metrics", "//metrics", "/%6detrics", "/login/../metrics", "/metrics%0a"),
    *("/readyz", "/x/..%2freadyz", "/readyz?x=/../login", "/%72eadyz", "/healthz/.", "http://elsewhere/metrics"),
]

# Slow clients: they send too little, too slowly or without end, or do not read.
KINDS = (
    *("silent", "one byte", "half a head", "head by the byte", "no body, with a key", "no body, without a key"),
    *("body by the byte", "chunks without end", "half a login", "half a TLS hello", "never reads a page"),
)
MAX_CONNECTIONS = 100  # of a proxy to the service: 64 of people, 16 idle ones, and callbacks


@pytest.fixture(params=["nginx", pytest.param("haproxy", marks=pytest.mark.all)])
def name(request: pytest.FixtureRequest) -> str:
    """The name of a proxy."""
    return request.param


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Iterator[Site]:
    """An installation behind one proxy."""
    with Site(
        tmp_path, database_url, WORKER="external", PROXIES="1", DASHBOARD_PASSWORD="the-long-test-password"
    ) as site:
        yield site


@pytest.fixture
def behind(name: str, site: Site, tmp_path: Path) -> Iterator[Callable[..., tuple[Proxy, Web]]]:
    """Return a function that starts gunicorn with some options, and the proxy in front of it."""
    proxies = []

    def behind(*options: str, workers: int = 2) -> tuple[Proxy, Web]:
        web = site.gunicorn(workers=workers, options=options)
        proxies.append(running(name, tmp_path / name, upstream=web.port))
        return proxies[0].__enter__(), web

    yield behind
    for proxy in proxies:
        proxy.__exit__(None, None, None)


class Callers:
    """Clients that post callbacks through a proxy until the block ends, each with a pause after each callback."""

    def __init__(self, proxy: Proxy, *, clients: int, pause: Callable[[int], float]) -> None:
        self.answers: Counter[int | str] = Counter()
        self._proxy, self._clients, self._pause = proxy, clients, pause
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(self._clients)
        self._running = [self._pool.submit(self._post, client) for client in range(self._clients)]
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()
        for client in self._running:
            client.result()

    def go_on(self, count: int) -> None:
        """Wait until more callbacks are answered."""
        enough = self.answers.total() + count
        until(lambda: self.answers.total() >= enough, seconds=60, what="callbacks are answered")

    def _post(self, client: int) -> None:
        for number in range(100_000):
            if self._over.wait(self._pause(number)):
                return
            self.answers[post(self._proxy, f"pkg-{client}-{number}")] += 1


def post(proxy: Proxy, package: str) -> int | str:
    """Post a callback through the proxy. Return the status of the answer, or the error."""
    body, headers = callback("PACKAGE_COMPLETE", package=package), {"Authorization": f"Basic {KEY}"}
    try:
        return proxy.request("POST", "/onespan/callback", body=body, headers=headers)[0]
    except (OSError, http.client.HTTPException) as error:
        return repr(error)


def connections(port: int) -> int:
    """How many connections a server on a port of this machine has."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "01" for line in lines)


class Answers(BaseHTTPRequestHandler):
    """Answers each callback with a status."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer."""
        self.answer(200)

    def answer(self, status: int) -> None:
        """Read the callback and send an empty answer."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class ClosesIdleConnections(Answers):
    """Answers the first request of a connection, and closes the connection when the second arrives."""

    is_answered = False

    def do_POST(self) -> None:
        """Answer, or close the connection as a server does that has just found it idle for too long."""
        if self.is_answered:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.answer(200)
        self.is_answered = True


class CannotStoreEverySecond(Answers):
    """Answers 503 and 200 in turn, as two hosts of which one is full."""

    statuses = itertools.cycle((503, 200))

    def do_POST(self) -> None:
        """Answer."""
        self.answer(next(self.statuses))


@pytest.mark.parametrize("service", [ClosesIdleConnections, CannotStoreEverySecond])
def test_law_1_a_callback_is_sent_again(service, name, tmp_path):
    """A callback that meets the end of an idle connection, or a host that cannot store it, is sent again."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), service)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        with running(name, tmp_path / name, upstream=server.server_port) as proxy:
            statuses = Counter(post(proxy, f"pkg-{number}") for number in range(40))
    finally:
        server.shutdown()
        serving.join()
        server.server_close()

    assert statuses == {200: 40}


@pytest.mark.parametrize("stops", ["refuses", *in_all("freezes")])
def test_law_1_no_callback_is_lost_with_one_of_two_servers(stops, name, tmp_path):
    """A callback whose server refuses connections, or takes them but never answers, goes to the other server."""
    serving = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    frozen = socket.create_server(("127.0.0.1", 0))
    port = frozen.getsockname()[1]
    if stops == "refuses":
        frozen.close()
    try:
        proxies = running(name, tmp_path / name, upstream=port, second=serving.server_port)
        with proxies as proxy, ThreadPoolExecutor(20) as pool:
            statuses = Counter(pool.map(lambda number: post(proxy, f"pkg-{number}"), range(20)))
    finally:
        frozen.close()
        serving.shutdown()
        thread.join()
        serving.server_close()

    assert statuses == {200: 20}


@pytest.mark.all
def test_law_1_no_callback_is_lost_while_workers_die(behind, name):
    """Callbacks that are being answered by a worker that is killed are sent again, and taken."""
    proxy, web = behind()

    with Callers(proxy, clients=8, pause=lambda _: 0.0) as callers:
        for _ in range(6):
            callers.go_on(40)
            os.kill(web.children[0], signal.SIGKILL)
            until(lambda: len(web.children) == 2, what="the worker is replaced")
        callers.go_on(40)

    assert set(callers.answers) == {200}, callers.answers


@pytest.mark.all
def test_law_1_no_callback_is_lost_on_reload(behind, name):
    """Callbacks that arrive while gunicorn reloads are taken."""
    proxy, web = behind()

    with Callers(proxy, clients=8, pause=lambda _: 0.01) as callers:
        for _ in range(2):
            callers.go_on(40)
            old = set(web.children)
            web.terminate(number=signal.SIGHUP)
            until(lambda old=old: not old & set(web.children), seconds=100, what=f"replaced: {web.output()}")
        callers.go_on(40)

    assert set(callers.answers) == {200}, callers.answers


def test_only_your_own_systems_reach_the_api_and_the_probes(behind):
    """From outside, no way of writing a path reaches the API or a probe; from inside both answer."""
    proxy, _ = behind(workers=1)

    answers = {path: proxy.request("GET", path, source=OUTSIDE, headers=BEARER) for path in WAYS_AROUND}
    reached = {
        path: (status, body[:60])
        for path, (status, _, body) in answers.items()
        if status not in (400, 403, 404) or b'"code"' in body
    }

    assert not reached, reached
    for path in ("/api/packages", "/readyz", "/healthz", "/metrics"):
        assert proxy.request("GET", path, source=INSIDE, headers=BEARER)[0] == 200
    assert proxy.request("GET", "/login", source=OUTSIDE)[0] == 200
    assert proxy.request("GET", "/static/app.css", source=OUTSIDE)[0] == 200
    assert proxy.request("GET", "/onespan/callback", source=OUTSIDE)[0] in (403, 405)


def test_callbacks_and_tls(behind, tmp_path, name):
    """A callback is taken over TLS, to near addresses too, up to the receiver's limit, and with its key only."""
    proxy, _ = behind(workers=1)
    context = ssl.create_default_context(cafile=str(tmp_path / name / "certificate.pem"))
    context.check_hostname = False  # the address is that of this machine
    key = {"Authorization": f"Basic {KEY}"}
    body = callback("PACKAGE_COMPLETE", package="pkg-1")

    def send(path: str, body: bytes, headers: dict[str, str]) -> int:
        return proxy.request("POST", path, body=body, headers=headers, port=proxy.tls_port, context=context)[0]

    assert send("/onespan/callback", body, key) == 200
    assert send("/Onespan/callback/", body, key) == 200
    assert send("/onespan/callback", body + b" " * (65_536 - len(body)), key) == 200
    assert send("/onespan/callback", body + b" " * (65_537 - len(body)), key) == 413
    assert send("/onespan/callback", body, {}) == 401


def test_redirects_name_the_configured_host(behind):
    """A client's Host header is in no redirect, neither of the proxy nor of the service."""
    proxy, _ = behind(workers=1)

    for host in ("evil.example.net", f"{HOST}.evil.example.net", HOST):
        status, headers, _ = proxy.request("GET", "/login?next=x", headers={"Host": host}, port=proxy.plain_port)
        assert (status, headers["location"]) == (301, f"https://{HOST}/login?next=x")
        status, headers, _ = proxy.request("GET", "/", headers={"Host": host, "Accept": "text/html"})
        assert status == 302
        assert headers["location"].startswith(("/login", f"http://{HOST}/login"))


def test_gunicorn_keeps_an_idle_connection_longer_than_the_proxy():
    """The proxy closes an idle connection first, so that it never sends a request on one that gunicorn closes."""
    kept = re.search(r"^keepalive = (\d+)", (ROOT / "gunicorn.conf.py").read_text(), re.MULTILINE)
    assert kept

    in_nginx = [int(seconds) for seconds in re.findall(r"keepalive_timeout (\d+)s;", EXAMPLES["nginx"].read_text())]

    assert len(in_nginx) == 1
    assert max(in_nginx) < int(kept[1])


@pytest.mark.all
def test_law_2_slow_clients_keep_no_callback_out(behind):
    """300 slow clients of each kind occupy the proxy, not the service, and callbacks are taken as fast as without."""
    proxy, web = behind()
    usual = post_callbacks_meanwhile(proxy.port).p99

    wrong = {}
    for kind in KINDS:
        with hold(kind, proxy.port, 300):
            posted = post_callbacks_meanwhile(proxy.port, count=60)
            in_service = connections(web.port)
        if posted.taken < len(posted.statuses) or posted.p99 > usual + 1 or in_service > MAX_CONNECTIONS:
            wrong[kind] = (posted.taken, posted.p99, in_service)

    assert not wrong, (usual, wrong)
