"""Clients that hold connections open, and callbacks that are posted meanwhile.

`hold(kind, port, count)` keeps `count` connections of one kind open, and opens a new one for each that the server ends.
`post_callbacks_meanwhile(port)` posts callbacks at a steady rate and returns their statuses and latencies.
"""

import contextlib
import http.client
import select
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tests.conftest import KEY, TOKEN

HOLD_SECONDS = 0.5  # seconds between two looks at the held connections
DRIP_SECONDS = 1.0  # seconds between two pieces of a request that never ends
CONNECT_SECONDS = 10.0
SMALL_WINDOW = 2048  # bytes that a client takes which never reads
NO_ANSWER = 0  # the status of a callback without an answer


class Hostile(NamedTuple):
    """What a client sends: `opening` at once, then `drip` every second. It never reads."""

    opening: bytes = b""
    drip: bytes = b""
    window: int | None = None  # bytes of its receive buffer; None for the system's


def _post(path: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode() + body


def _get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def _never_reads(request: bytes, times: int) -> Hostile:
    return Hostile(request * times, request, SMALL_WINDOW)


CALLBACK = "/onespan/callback"
WITH_KEY, WITH_TOKEN = f"Authorization: Basic {KEY}", f"Authorization: Bearer {TOKEN}"
LOGIN = _post("/login", "Content-Type: application/x-www-form-urlencoded", "Content-Length: 200", body=b"password=a")
CHUNK = b'10\r\n{"name": "never \r\n'
WEBSOCKET = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    f"Sec-WebSocket-Key: {'A' * 22}==",
)
TLS_HELLO = bytes.fromhex("16030102000100 01fc0303") + bytes(range(32))

HOSTILE: dict[str, Hostile] = {
    "silent": Hostile(),
    "one byte": Hostile(b"P"),
    "half a request line": Hostile(b"POST /onespan"),
    "half a head": Hostile(f"POST {CALLBACK} HTTP/1.1\r\nHost: localhost\r\n{WITH_KEY}\r\nX-".encode()),
    "head by the byte": Hostile(f"POST {CALLBACK} HTTP/1.1\r\nHost: localhost\r\nX-Slow: ".encode(), b"x"),
    "no body, with a key": Hostile(_post(CALLBACK, WITH_KEY, "Content-Length: 500")),
    "no body, without a key": Hostile(_post(CALLBACK, "Content-Length: 500")),
    "no body, 100-continue": Hostile(_post(CALLBACK, WITH_KEY, "Content-Length: 9", "Expect: 100-continue")),
    "body by the byte": Hostile(_post(CALLBACK, WITH_KEY, "Content-Length: 500", body=b"{"), b" "),
    "no body, too large": Hostile(_post(CALLBACK, WITH_KEY, "Content-Length: 99999999", body=b"x" * 9999)),
    "half a chunk": Hostile(_post(CALLBACK, WITH_KEY, "Transfer-Encoding: chunked", body=CHUNK[:9])),
    "chunks without end": Hostile(_post(CALLBACK, WITH_KEY, "Transfer-Encoding: chunked", body=CHUNK), CHUNK),
    "half a login": Hostile(LOGIN),
    "half a body, API": Hostile(_post("/api/dispatches/replay", WITH_TOKEN, "Content-Length: 99", body=b"{")),
    "half a TLS hello": Hostile(TLS_HELLO),
    "upgrade to a WebSocket": Hostile(
        _get("/", *WEBSOCKET)
    ),
    "never reads a file": _never_reads(_get("/static/app.css"), 10),
    "never reads a page": _never_reads(_get("/login"), 20),
    "never reads the API's document": _never_reads(_get("/api/openapi.json"), 10),
    "never reads the API": _never_reads(_get("/api/callbacks?limit=200", WITH_TOKEN), 10),
    "never reads errors": _never_reads(_get("/nowhere"), 50),
    "never reads answers to callbacks": _never_reads(_post(CALLBACK, "Content-Length: 2", body=b"{}"), 50),
}  # fmt: skip


class Held:
    """Connections of one kind. `opened` counts all, `refused` those that could not be opened or were ended at once."""

    def __init__(self, hostile: Hostile, port: int, count: int) -> None:
        self.opened = 0
        self.refused = 0
        self._hostile, self._port, self._count = hostile, port, count
        self._sockets: dict[int, socket.socket] = {}
        self._ended = select.poll()

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._sockets)

    def fill(self) -> None:
        """Open connections until `count` are open, but try no more than `count` times."""
        for _ in range(self._count - len(self._sockets)):
            self._open()

    def drop_ended(self) -> None:
        """Forget the connections that the server has ended."""
        for number, _ in self._ended.poll(0):
            self._forget(number)

    def drip(self) -> None:
        """Send the next piece on each connection."""
        for number, client in list(self._sockets.items()):
            try:
                client.send(self._hostile.drip, socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass  # the server does not read now
            except OSError:
                self._forget(number)

    def close(self) -> None:
        """Close all connections."""
        for number in list(self._sockets):
            self._forget(number)

    def _open(self) -> None:
        client = socket.socket()
        try:
            if self._hostile.window:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._hostile.window)
            client.settimeout(CONNECT_SECONDS)
            client.connect(("127.0.0.1", self._port))
            client.settimeout(0)
            if self._hostile.opening:
                client.send(self._hostile.opening)
        except OSError:
            self.refused += 1
            client.close()
            return
        self.opened += 1
        self._sockets[client.fileno()] = client
        self._ended.register(client, select.POLLRDHUP | select.POLLHUP | select.POLLERR)

    def _forget(self, number: int) -> None:
        self._ended.unregister(number)
        self._sockets.pop(number).close()


@contextlib.contextmanager
def hold(kind: str, port: int, count: int) -> Iterator[Held]:
    """Keep `count` hostile connections of a kind of `HOSTILE` open on a port of this machine, until the block ends."""
    hostile = HOSTILE[kind]
    held, stop = Held(hostile, port, count), threading.Event()
    held.fill()

    def keep() -> None:
        next_drip = time.monotonic() + DRIP_SECONDS
        while not stop.wait(HOLD_SECONDS):
            held.drop_ended()
            if hostile.drip and time.monotonic() >= next_drip:
                held.drip()
                next_drip += DRIP_SECONDS
            held.fill()

    keeper = threading.Thread(target=keep, name=f"hold {kind}")
    keeper.start()
    try:
        yield held
    finally:
        stop.set()
        keeper.join()
        held.close()


class Posted(NamedTuple):
    """The answers to callbacks. A callback without an answer has the status `NO_ANSWER`."""

    statuses: list[int]
    latencies: list[float]

    @property
    def taken(self) -> int:
        """How many callbacks were answered with 200."""
        return self.statuses.count(200)

    @property
    def p99(self) -> float:
        """The latency in seconds within which 99 % of the callbacks were answered."""
        return sorted(self.latencies)[int(len(self.latencies) * 0.99)]


def post_callbacks_meanwhile(
    port: int, *, count: int = 100, per_second: float = 50, host: str = "127.0.0.1", seconds: float = 5
) -> Posted:
    """Post different callbacks at a steady rate, each on a new connection, with a deadline of `seconds` each."""
    first = time.monotonic()

    def post(number: int) -> tuple[int, float]:
        time.sleep(max(0.0, first + number / per_second - time.monotonic()))
        started = time.monotonic()
        status = _post_callback(f"pkg-{port}-{started}-{number}", host, port, seconds)
        return status, time.monotonic() - started

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(post, range(count)))
    return Posted([status for status, _ in answers], [latency for _, latency in answers])


def _post_callback(package: str, host: str, port: int, seconds: float) -> int:
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    body = b'{"name": "PACKAGE_COMPLETE", "packageId": "%s"}' % package.encode()
    try:
        connection.request("POST", CALLBACK, body=body, headers={"Authorization": f"Basic {KEY}"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return NO_ANSWER
    finally:
        connection.close()
