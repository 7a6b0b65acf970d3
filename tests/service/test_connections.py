"""Connections: no client, slow, silent or numerous, keeps callbacks from being taken. All tests run a real gunicorn."""

import contextlib
import errno
import http.client
import json
import os
import resource
import selectors
import shutil
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.web.server import ARRIVAL_SECONDS, MAX_CONNECTIONS, Connection, connection_limit
from tests.support.hostile import CALLBACK, HOSTILE, WITH_KEY, hold, post_callbacks_meanwhile
from tests.support.processes import Site, Web, until

COUNT = 300  # hostile connections at once
P99_SECONDS = 1.0  # the limit of the latency, on a machine that has nothing else to do
# The kinds that are answered in full: the answers fit into the buffers of the system.
ANSWERED = (
    "upgrade to a WebSocket",
    "never reads a file",
    "never reads a page",
    "never reads errors",
    "never reads answers to callbacks",
)
LIMITED = """
import resource

resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))

from service import app
"""
ROUTES = """

from time import sleep

from flask import request


@app.get("/slow")
def slow():
    note("slow begins")
    sleep(2)
    return "done"


@app.get("/stream")
def stream():
    def chunks():
        note("stream begins")
        try:
            while True:
                yield b"x" * 100_000
        finally:
            note("stream ends")

    return app.response_class(chunks())


@app.route("/seen", methods=["GET", "POST"])
def seen():
    names = ("SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "REMOTE_ADDR", "REQUEST_METHOD", "CONTENT_LENGTH")
    names += ("HTTP_X_TWICE", "HTTP_X_UNDER", "HTTP_UPGRADE", "wsgi.url_scheme")
    return {"body": request.get_data(as_text=True)} | {name: request.environ.get(name) for name in names}
"""


@pytest.fixture(scope="module")
def site(migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with some views for these tests."""
    folder = tmp_path_factory.mktemp("connections")
    database = shutil.copy(migrated_sqlite, folder / "status.db")
    with Site(folder, f"sqlite:///{database}", DASHBOARD_PASSWORD="the-full-access-password") as site:
        service = site.folder / "service.py"
        service.write_text(service.read_text() + "from handlers_of_this_test import note" + ROUTES)
        (site.folder / "limited.py").write_text(LIMITED)
        yield site


@pytest.fixture(scope="module")
def shared(site: Site) -> Web:
    """A server with two workers and 250 stored callbacks, so that answers of the API are long."""
    web = site.gunicorn(workers=2)
    assert post_callbacks_meanwhile(web.port, count=250, per_second=1000, seconds=60).taken == 250
    return web


@pytest.fixture
def web(shared: Web) -> Web:
    """The shared server, once it answers without clients of an earlier test."""
    until(shared.answers, what="the server answers")
    return shared


def assert_all_are_taken(web: Web, hostile: Callable[[], contextlib.AbstractContextManager[object]]) -> None:
    """Assert that callbacks are taken in time while hostile connections are held, and that no worker process ends.

    Beside other tests the server has a part of the machine, so its callbacks may take as many times longer.
    """
    workers, load = sorted(web.children), os.getloadavg()[0] / len(os.sched_getaffinity(0))
    load = max(1, load, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))

    with hostile():
        posted = post_callbacks_meanwhile(web.port, seconds=10)

    assert posted.taken == len(posted.statuses), posted.statuses
    assert posted.p99 <= P99_SECONDS * load, (posted.p99, load)
    assert sorted(web.children) == workers


@pytest.mark.all
@pytest.mark.parametrize("kind", HOSTILE)
def test_callbacks_are_taken_while_hostile_connections_are_held(web: Web, kind: str):
    """300 connections of one kind hold no thread that callbacks need."""
    assert_all_are_taken(web, lambda: hold(kind, web.port, COUNT))


def test_callbacks_are_taken_while_all_kinds_are_held(web: Web):
    """300 connections of all kinds together hold no thread that callbacks need."""

    @contextlib.contextmanager
    def all_kinds() -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for kind in HOSTILE:
                stack.enter_context(hold(kind, web.port, COUNT // len(HOSTILE)))
            yield

    assert_all_are_taken(web, all_kinds)


@pytest.mark.all
def test_idle_connections_beyond_the_open_files_keep_nothing_out(site: Site):
    """2,400 idle connections meet processes that may open 1,024 files: the longest idle connections end."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, most), most))
    web = site.gunicorn(workers=2, app="limited:app")

    assert_all_are_taken(web, lambda: hold("silent", web.port, 2400))

    assert "out of system resource" not in web.output()
    web.kill()


@pytest.mark.all
def test_clients_that_let_the_service_wait_are_ended(web: Web):
    """A request must arrive whole within ten seconds, and an answer must be read at some speed."""
    kinds = [kind for kind in HOSTILE if kind not in ANSWERED]
    with contextlib.ExitStack() as stack:
        held = {kind: stack.enter_context(hold(kind, web.port, 2)) for kind in kinds}

        def ended() -> set[str]:
            return {kind for kind, clients in held.items() if clients.opened > 2}

        with contextlib.suppress(AssertionError):
            until(lambda: len(ended()) == len(held), seconds=30)
        missing = set(held) - ended()

    assert not missing, missing


def raw(web: Web, request: bytes, *, until_end: bool = True) -> bytes:
    """Send bytes on a new connection and return all that the server sends until it closes the connection."""
    with socket.create_connection(("127.0.0.1", web.port), timeout=20) as client:
        client.sendall(request)
        if until_end:
            client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.mark.all
def test_late_request_gets_an_answer(web: Web):
    """A client whose request does not arrive in ten seconds reads 408, and the connection ends."""
    started = time.monotonic()

    answer = raw(
        web, f"POST {CALLBACK} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{{".encode(), until_end=False
    )

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert ARRIVAL_SECONDS - 1 <= time.monotonic() - started <= ARRIVAL_SECONDS + 5


def test_requests_reach_the_app_as_before(web: Web):
    """The WSGI environment is that of gunicorn's other workers; no header changes the path or passes for another."""
    headers = {
        "SCRIPT_NAME": "/seen",
        "PATH_INFO": "/login",
        "X_Under": "1",
        "Upgrade": "websocket",
        "X-Twice": "1, 2",
        "X-Forwarded-For": "192.0.2.1",
    }

    _, plain = web.request("GET", "/seen?a=%C3%A9&b", headers=headers)
    chunked = raw(
        web,
        b"POST http://localhost/seen HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    )

    for part in (b'"SCRIPT_NAME":""', b'"PATH_INFO":"/seen"', b'"REMOTE_ADDR":"127.0.0.1"', b'"HTTP_X_UNDER":null'):
        assert part in plain
    assert b'"QUERY_STRING":"a=%C3%A9&b"' in plain
    assert b'"HTTP_X_TWICE":"1, 2"' in plain
    assert b'"body":"abc"' in chunked
    assert b'"PATH_INFO":"/seen"' in chunked


def test_one_connection_carries_many_requests(web: Web):
    """HEAD has no body, an expected 100 comes first, pipelined requests are all answered, HTTP/1.0 closes."""
    head = raw(web, b"HEAD /login HTTP/1.1\r\nHost: x\r\n\r\n")
    expecting = b"POST /seen HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    with socket.create_connection(("127.0.0.1", web.port), timeout=20) as client:
        client.sendall(expecting)
        first = client.recv(65536)
        client.sendall(b"abc")
        second = client.recv(65536)
    pipelined = raw(web, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
    old = raw(web, b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", until_end=False)

    assert head.startswith(b"HTTP/1.1 200 ")
    assert head.endswith(b"\r\n\r\n")
    assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert b'"body":"abc"' in second
    assert pipelined.count(b"HTTP/1.1 200 ") == 20
    assert b"Connection: close" in old


@pytest.mark.parametrize("framing", ["Content-Length: 300000", "Transfer-Encoding: chunked"])
def test_too_large_body_gets_its_answer(web: Web, framing: str):
    """A client that sends more than 64 KiB reads 413, although it still sends."""
    body = b"x" * 300_000 if "Length" in framing else b"%x\r\n%s\r\n0\r\n\r\n" % (300_000, b"x" * 300_000)

    answer = raw(web, f"POST {CALLBACK} HTTP/1.1\r\nHost: x\r\n{WITH_KEY}\r\n{framing}\r\n\r\n".encode() + body)

    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(("size", "status"), [(65_536, 200), (65_537, 413), (65_538, 413)])
def test_largest_body_is_taken_whole_and_no_larger_one(web: Web, size: int, status: int):
    """A body of 64 KiB is kept; one of a byte more is refused, and not taken for an empty one."""
    body = b'{"name":"PACKAGE_CREATE","packageId":"pkg-large","message":"%s"}'
    body %= b"x" * (size - len(body) + 2)

    answer = raw(
        web, f"POST {CALLBACK} HTTP/1.1\r\nHost: x\r\n{WITH_KEY}\r\nContent-Length: {size}\r\n\r\n".encode() + body
    )

    assert answer.startswith(b"HTTP/1.1 %d " % status)


def test_malformed_requests_are_refused_and_logged(site: Site):
    """A request that is malformed, or would keep the event loop busy, gets a 400 and a line with the address."""
    web, head = site.gunicorn(workers=1), f"POST {CALLBACK} HTTP/1.1\r\nHost: x\r\n{WITH_KEY}\r\n".encode()
    many_chunks = b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n"
    two_framings = b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n"
    two_lengths = b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n"

    answers = [raw(web, head + rest) for rest in (many_chunks, two_framings, two_lengths)]
    web.kill()

    assert [answer[:13] for answer in answers] == [b"HTTP/1.1 400 "] * 3
    lines = [json.loads(line) for line in web.output().splitlines()]
    malformed = [line for line in lines if line["event"] == "request.malformed"]
    assert [(line["status"], line["address"]) for line in malformed] == [(400, "127.0.0.1")] * 3


@pytest.mark.all
def test_busy_connections_beyond_the_limit_keep_nothing_out(site: Site):
    """A thousand connections that always wait for an answer are ended for new ones, which may send a callback."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, most), most))
    web = site.gunicorn(workers=1, app="limited:app")
    request = f"POST {CALLBACK} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    stop = threading.Event()

    def keep_busy() -> None:
        with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
            while not stop.is_set():
                while len(selector.get_map()) < 250:
                    client = stack.enter_context(socket.create_connection(("127.0.0.1", web.port), timeout=10))
                    selector.register(client, selectors.EVENT_READ)
                    client.sendall(request)
                for key, _ in selector.select(0.05):
                    answer_or_end(selector, key.fileobj)

    def answer_or_end(selector: selectors.BaseSelector, client: Any) -> None:
        with contextlib.suppress(OSError):
            if client.recv(65536):
                client.sendall(request)
                return
        selector.unregister(client)
        client.close()

    with ThreadPoolExecutor(4) as clients:
        for _ in range(4):
            clients.submit(keep_busy)
        folders = [Path(f"/proc/{worker}/fd") for worker in web.children]
        until(
            lambda: any(len(list(files.iterdir())) > 850 for files in folders), seconds=30, what="the limit is reached"
        )
        posted = post_callbacks_meanwhile(web.port, count=20, per_second=10, seconds=10)
        stop.set()

    assert posted.taken == 20, posted.statuses
    web.kill()


def test_stream_ends_when_its_client_leaves(site: Site, web: Web):
    """A stream without a reader holds no thread, and its generator is closed when the client leaves."""
    clients = [socket.create_connection(("127.0.0.1", web.port)) for _ in range(40)]
    for client in clients:
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    begun = until(lambda: site.handler_lines().count(["stream", "begins"]) >= 12 and site.handler_lines(), what="begin")
    posted = post_callbacks_meanwhile(web.port, count=20)
    for client in clients:
        client.close()

    def count(word: str) -> int:
        return site.handler_lines().count(["stream", word])

    assert begun
    assert posted.taken == 20
    until(lambda: count("begins") == count("ends"), what="each stream is closed")
    assert [web.request("GET", "/login", headers={})[0] for _ in range(30)] == [200] * 30


def open_sockets(web: Web) -> int:
    """Return how many sockets the worker processes have open."""
    files = [file for worker in web.children for file in Path(f"/proc/{worker}/fd").iterdir()]
    with contextlib.suppress(FileNotFoundError):
        return sum(file.readlink().name.startswith("socket:") for file in files)
    return 0  # a file was closed meanwhile


@pytest.mark.all
def test_clients_that_reset_their_connections_leave_nothing_open(site: Site, web: Web):
    """A client that half-closes its connection, and resets it before the answer, does not keep it open."""
    before, begun = until(lambda: open_sockets(web), what="sockets"), site.handler_lines().count(["slow", "begins"])
    clients = [socket.create_connection(("127.0.0.1", web.port)) for _ in range(10)]
    for client in clients:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
    until(lambda: site.handler_lines().count(["slow", "begins"]) == begun + 10, what="the requests run")
    for client in clients:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()

    until(lambda: 0 < open_sockets(web) <= before, what="no socket is left open")


def test_connection_that_its_client_has_reset_is_closed():
    """A socket that cannot be shut down, as its client has reset it, is closed all the same."""

    class ResetTransport:
        aborted = False

        def can_write_eof(self) -> bool:
            return True

        def write_eof(self) -> None:
            raise OSError(errno.ENOTCONN, "not connected")

        def is_closing(self) -> bool:
            return self.aborted

        def abort(self) -> None:
            self.aborted = True

    connection = Connection.__new__(Connection)
    connection.transport, connection._closed = ResetTransport(), False

    connection._close_transport()

    assert connection.transport.aborted


def test_graceful_stop_finishes_requests_and_closes_idle_connections(site: Site):
    """On SIGTERM a running request gets its answer, and an idle connection does not delay the end."""
    web = site.gunicorn(workers=1)
    with (
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", web.port, timeout=20)) as idle,
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", web.port, timeout=20)) as running,
    ):
        idle.request("GET", "/healthz")
        assert idle.getresponse().read()
        running.request("GET", "/slow")
        until(lambda: ["slow", "begins"] in site.handler_lines(), what="the request runs")

        web.terminate(number=signal.SIGTERM)
        answer = running.getresponse()

        assert (answer.status, answer.read()) == (200, b"done")
        assert idle.sock.recv(1) == b"", "an idle connection is closed"
        assert web.wait() == 0


@pytest.mark.parametrize(("open_files", "expected"), [(1024, 832), (1_000_000, MAX_CONNECTIONS), (64, 16)])
def test_connection_limit_follows_the_open_files(open_files: int, expected: int):
    """A process keeps files for its threads, its database connections and its listeners."""
    assert connection_limit(open_files, threads=16) == expected
