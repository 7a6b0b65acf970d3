"""The load generator: one process, one thread, keep-alive connections; lean, so that it is not the bottleneck.

`python -m benchmarks.client '{"port": 8000, "path": "/", "clients": 16, "warm_up": 1, "seconds": 6, "rate": null}'`
prints one JSON object. Without a rate, every client sends its next callback when its previous callback is answered.
With a rate, callbacks are due at fixed times, and their latency counts from those times.
"""

import json
import os
import selectors
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime

from benchmarks.callbacks import KEY, LIFECYCLE, body

HEAD = (
    "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Basic {key}\r\n"
    "Content-Type: application/json; charset=utf-8\r\nContent-Length: {length}\r\n\r\n"
)
ANSWER_TIMEOUT_SECONDS = 15.0  # how long the load generator waits for the last answers
# The first gunicorn worker to wake accepts all waiting connections and keeps them. If connections lasted for the whole
# run, chance would decide whether one worker or both workers answer.
CALLBACKS_PER_CONNECTION = 40
PACKAGE_PLACEHOLDER, SENT_PLACEHOLDER = "#" * 27, "1234567890.123456"
CREATED, CREATED_PLACEHOLDER = datetime(2001, 1, 1, 1, 1, 1, tzinfo=UTC), "2001-01-01T01:01:01.000Z"


@dataclass
class Client:
    """A simulated client: one connection, with at most one unanswered callback."""

    number: int
    port: int
    connection: socket.socket = field(init=False)
    sent_at: float = 0.0
    buffer: bytes = b""
    answers: int = 0
    accepted: bool = False
    packages: int = 0
    step: int = 0

    def __post_init__(self) -> None:
        self.connect()

    def connect(self) -> None:
        """Open a new connection to the server."""
        # Clients start with different counts of answers, so that not all clients reconnect at the same time.
        self.buffer, self.answers = b"", self.number % CALLBACKS_PER_CONNECTION
        self.connection = socket.create_connection(("127.0.0.1", self.port), timeout=ANSWER_TIMEOUT_SECONDS)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def next_callback(self) -> tuple[int, bytes]:
        """Return the step in the lifecycle and the package id of this client's next callback."""
        step = self.step
        package = b"%010d-%015d=" % (self.number, self.packages)
        self.step = (step + 1) % len(LIFECYCLE)
        self.packages += self.step == 0
        return step, package


class Load:
    """A number of clients, and the statuses and latencies of their callbacks."""

    def __init__(self, *, port: int, path: str, clients: int, warm_up: float, seconds: float, rate: float | None):
        self.requests = [_request_template(step, path=path, port=port) for step in range(len(LIFECYCLE))]
        self.clients = [Client(number, port) for number in range(clients)]
        self.selector = selectors.DefaultSelector()
        self.warm_up, self.seconds, self.rate = warm_up, seconds, rate
        self.statuses: dict[str, int] = {}
        self.latencies: list[float] = []
        self.accepted = 0

    def run(self) -> dict[str, object]:
        """Send callbacks until time is up, wait for the last answers, and return the results."""
        for client in self.clients:
            self.selector.register(client.connection, selectors.EVENT_READ, client)
        began_at, started = time.time(), time.perf_counter()
        (self._run_at_rate if self.rate else self._run_at_full_speed)(started)
        latencies = sorted(self.latencies)
        return {
            "began_at": began_at,
            "statuses": self.statuses,
            "per_second": self.accepted / self.seconds,
            "p50": _quantile_ms(latencies, 0.50),
            "p99": _quantile_ms(latencies, 0.99),
        }

    def _run_at_full_speed(self, started: float) -> None:
        warm, end = started + self.warm_up, started + self.warm_up + self.seconds
        for client in self.clients:
            self._send(client, at=time.perf_counter())
        unanswered = len(self.clients)
        while unanswered and time.perf_counter() < end + ANSWER_TIMEOUT_SECONDS:
            for client in self._answered_clients(timeout=1.0):
                now = time.perf_counter()
                if warm <= now < end:
                    self.latencies.append(now - client.sent_at)
                    self.accepted += client.accepted
                if now < end:
                    self._send(client, at=now)
                else:
                    unanswered -= 1
        self.statuses["late"] = self.statuses.get("late", 0) + unanswered

    def _run_at_rate(self, started: float) -> None:
        assert self.rate
        deadline = started + self.seconds + ANSWER_TIMEOUT_SECONDS
        times = deque(started + number / self.rate for number in range(int(self.rate * self.seconds)))
        idle = deque(self.clients)
        while (times or len(idle) < len(self.clients)) and time.perf_counter() < deadline:
            while times and idle and times[0] <= time.perf_counter():
                self._send(idle.popleft(), at=times.popleft())
            pause = max(0.0, times[0] - time.perf_counter()) if times and idle else 1.0
            for client in self._answered_clients(timeout=pause):
                self.latencies.append(time.perf_counter() - client.sent_at)
                idle.append(client)
        self.statuses["late"] = self.statuses.get("late", 0) + len(self.clients) - len(idle) + len(times)

    def _send(self, client: Client, *, at: float) -> None:
        client.sent_at = at
        step, package = client.next_callback()
        sent = time.time() + at - time.perf_counter()
        created = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(sent))}.{int(sent % 1 * 1000):03d}Z".encode()
        client.connection.sendall(self.requests[step] % (package, b"%.6f" % sent, created))

    def _answered_clients(self, *, timeout: float) -> list[Client]:
        return [key.data for key, _ in self.selector.select(timeout) if self._receive(key.data)]

    def _receive(self, client: Client) -> bool:
        """Read from a client's connection. Returns whether the answer is complete or the connection is lost."""
        try:
            received = client.connection.recv(65536)
        except OSError:
            received = b""
        if not received:
            self._count("lost", client)
            self._reconnect(client)
            return True
        client.buffer += received
        head, end, rest = client.buffer.partition(b"\r\n\r\n")
        if not end or len(rest) < _content_length(head):
            return False
        self._count(head[9:12].decode(), client)
        client.buffer = b""
        client.answers += 1
        if client.answers >= CALLBACKS_PER_CONNECTION:
            self._reconnect(client)
        return True

    def _reconnect(self, client: Client) -> None:
        self.selector.unregister(client.connection)
        client.connection.close()
        client.connect()
        self.selector.register(client.connection, selectors.EVENT_READ, client)

    def _count(self, status: str, client: Client) -> None:
        client.accepted = status.startswith("2")
        self.statuses[status] = self.statuses.get(status, 0) + 1


def _request_template(step: int, *, path: str, port: int) -> bytes:
    """Return the HTTP request of a lifecycle step, with `%b` for the package, the send time and `createdDate`."""
    callback = body(*LIFECYCLE[step], package=PACKAGE_PLACEHOLDER, at=CREATED, message=SENT_PLACEHOLDER).decode()
    head = HEAD.format(path=path, port=port, key=KEY, length=len(callback))
    template = (head + callback).replace("%", "%%")
    for placeholder in (PACKAGE_PLACEHOLDER, SENT_PLACEHOLDER, CREATED_PLACEHOLDER):
        template = template.replace(placeholder, "%b")
    return template.encode()


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _quantile_ms(ordered: list[float], fraction: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * fraction))] * 1000 if ordered else float("nan")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(Load(**json.loads(sys.argv[1])).run()) + os.linesep)
