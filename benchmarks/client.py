"""The client: one process, one thread, keep-alive sockets; lean, so that it is not what is measured.

`python -m benchmarks.client '{"port": 8000, "path": "/", "clients": 16, "warm_up": 1, "seconds": 6, "rate": null}'`
prints one JSON object. Without a rate every client sends its next callback when the last one is answered; with a
rate callbacks are sent at their times, and their age counts from then on.
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

from benchmarks.callbacks import KEY, LIFE, body

HEAD = (
    "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Basic {key}\r\n"
    "Content-Type: application/json; charset=utf-8\r\nContent-Length: {length}\r\n\r\n"
)
PATIENCE = 15.0  # seconds that answers may be late at the end
# Callbacks on one connection. Whichever worker of gunicorn wakes first takes all that connect at once, and keeps them:
# with connections that last, chance would decide in every run whether one process answers all or both do.
ON_ONE_CONNECTION = 40
PLACE, TIME = "#" * 27, datetime(2001, 1, 1, 1, 1, 1, tzinfo=UTC)
SECOND = "2001-01-01T01:01:01.000Z"


@dataclass
class Client:
    """One connection, which waits for one answer at a time."""

    number: int
    port: int
    line: socket.socket = field(init=False)
    sent_at: float = 0.0
    answer: bytes = b""
    answers: int = 0
    accepted: bool = False
    packages: int = 0
    step: int = 0

    def __post_init__(self) -> None:
        self.connect()

    def connect(self) -> None:
        """Open it, or open it anew."""
        self.answer, self.answers = b"", self.number % ON_ONE_CONNECTION  # so they do not all renew at once
        self.line = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        self.line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def next_place(self) -> tuple[int, bytes]:
        """The next step of this client's packages: which, and of which package."""
        step = self.step
        place = b"%010d-%015d=" % (self.number, self.packages)
        self.step = (step + 1) % len(LIFE)
        self.packages += self.step == 0
        return step, place


class Load:
    """Some clients, and what became of their callbacks."""

    def __init__(self, *, port: int, path: str, clients: int, warm_up: float, seconds: float, rate: float | None):
        self.requests = [_request(place, path=path, port=port) for place in range(len(LIFE))]
        self.clients = [Client(number, port) for number in range(clients)]
        self.ready = selectors.DefaultSelector()
        self.warm_up, self.seconds, self.rate = warm_up, seconds, rate
        self.statuses: dict[str, int] = {}
        self.ages: list[float] = []
        self.accepted = 0

    def run(self) -> dict[str, object]:
        """Send until time is up, wait for the last answers, say how it went."""
        for client in self.clients:
            self.ready.register(client.line, selectors.EVENT_READ, client)
        began = time.perf_counter()
        (self._paced if self.rate else self._as_fast_as_answered)(began)
        counted = sorted(self.ages)
        return {
            "statuses": self.statuses,
            "per_second": self.accepted / self.seconds,
            "p50": _quantile(counted, 0.50),
            "p99": _quantile(counted, 0.99),
        }

    def _as_fast_as_answered(self, began: float) -> None:
        counts_from, ends = began + self.warm_up, began + self.warm_up + self.seconds
        for client in self.clients:
            self._send(client, at=time.perf_counter())
        waiting = len(self.clients)
        while waiting and time.perf_counter() < ends + PATIENCE:
            for client in self._answered(timeout=1.0):
                now = time.perf_counter()
                if counts_from <= now < ends:
                    self.ages.append(now - client.sent_at)
                    self.accepted += client.accepted
                if now < ends:
                    self._send(client, at=now)
                else:
                    waiting -= 1
        self.statuses["late"] = self.statuses.get("late", 0) + waiting

    def _paced(self, began: float) -> None:
        assert self.rate
        times = deque(began + number / self.rate for number in range(int(self.rate * self.seconds)))
        free = deque(self.clients)
        while (times or len(free) < len(self.clients)) and time.perf_counter() < began + self.seconds + PATIENCE:
            while times and free and times[0] <= time.perf_counter():
                self._send(free.popleft(), at=times.popleft())
            pause = max(0.0, times[0] - time.perf_counter()) if times and free else 1.0
            for client in self._answered(timeout=pause):
                self.ages.append(time.perf_counter() - client.sent_at)
                free.append(client)
        self.statuses["late"] = self.statuses.get("late", 0) + len(self.clients) - len(free) + len(times)

    def _send(self, client: Client, *, at: float) -> None:
        client.sent_at = at
        step, package = client.next_place()
        wall = time.time() + at - time.perf_counter()
        happened = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(wall))}.{int(wall % 1 * 1000):03d}Z".encode()
        client.line.sendall(self.requests[step] % (package, b"%.6f" % wall, happened))

    def _answered(self, *, timeout: float) -> list[Client]:
        return [key.data for key, _ in self.ready.select(timeout) if self._receive(key.data)]

    def _receive(self, client: Client) -> bool:
        """Whether the answer is whole, or will never be."""
        try:
            more = client.line.recv(65536)
        except OSError:
            more = b""
        if not more:
            self._count("lost", client)
            self._renew(client)
            return True
        client.answer += more
        head, end, rest = client.answer.partition(b"\r\n\r\n")
        if not end or len(rest) < _length(head):
            return False
        self._count(head[9:12].decode(), client)
        client.answer = b""
        client.answers += 1
        if client.answers >= ON_ONE_CONNECTION:
            self._renew(client)
        return True

    def _renew(self, client: Client) -> None:
        self.ready.unregister(client.line)
        client.line.close()
        client.connect()
        self.ready.register(client.line, selectors.EVENT_READ, client)

    def _count(self, status: str, client: Client) -> None:
        client.accepted = status.startswith("2")
        self.statuses[status] = self.statuses.get(status, 0) + 1


def _request(step: int, *, path: str, port: int) -> bytes:
    """The request of one step in a package's life, with places for the package, the send time and `createdDate`."""
    said = body(*LIFE[step], package=PLACE, at=TIME, message="1234567890.123456").decode()
    head = HEAD.format(path=path, port=port, key=KEY, length=len(said))
    text = (head + said).replace("%", "%%")
    return text.replace(PLACE, "%b").replace("1234567890.123456", "%b").replace(SECOND, "%b").encode()


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _quantile(ordered: list[float], share: float) -> float:
    """In milliseconds."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else float("nan")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(Load(**json.loads(sys.argv[1])).run()) + os.linesep)
