"""Callers that post callbacks through nginx at a steady rate, and record what they sent and the answers.

Half of the callbacks are of packages that only the callers know, half of the simulated OneSpan. As OneSpan, callers
never send a refused callback again. Each line of `callbacks` is one POST; `facts` has what happened in OneSpan.
"""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from werkzeug.serving import WSGIRequestHandler, make_server

from app.simulator.account import Account
from app.simulator.faults import Faults
from app.simulator.outbox import BAD_DAY, Outbox
from app.simulator.server import api
from tests.conftest import KEY
from tests.siege.front import FRONT_PORT
from tests.siege.hosts import SWITCH
from tests.siege.service import API_KEY, ONESPAN_PORT

ANSWER_SECONDS = 70.0  # longer than nginx tries both hosts
THREADS = 200  # callbacks under way at once
AT_ONCE = 20  # packages of the callers that are in progress
MISHAPS = replace(BAD_DAY, undated=0.0)  # a late callback without a date may report a fact once more
REPEATS = 0.05  # share of callbacks that are sent twice
ENDS = ("PACKAGE_COMPLETE", "PACKAGE_COMPLETE", "PACKAGE_DECLINE", "PACKAGE_EXPIRE")


class Recorder:
    """Posts callbacks and appends one line for each to a file."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / "callbacks").open("a", buffering=1)
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(THREADS)
        self.counts: Counter[str] = Counter()
        self.slowest = 0.0

    def post(self, body: bytes, *, caller: str) -> None:
        """Post a callback without waiting for its answer."""
        self._pool.submit(self._post, body, caller)

    def _post(self, body: bytes, caller: str) -> None:
        began = time.monotonic()
        line: dict[str, object] = {"caller": caller, "began": began, "status": None, "id": None, "body": body.decode()}
        connection = http.client.HTTPConnection(SWITCH, FRONT_PORT, timeout=ANSWER_SECONDS)
        try:
            headers = {"Authorization": f"Basic {KEY}", "Content-Type": "application/json"}
            connection.request("POST", "/onespan/callback", body=body, headers=headers)
            answer = connection.getresponse()
            line["status"], text = answer.status, answer.read()
            if answer.status == http.client.OK:
                line["id"] = json.loads(text)["callback"]
        except (OSError, http.client.HTTPException, ValueError) as error:
            line["reason"] = repr(error)
        finally:
            connection.close()
        line["ended"] = time.monotonic()
        with self._lock:
            self._file.write(f"{json.dumps(line)}\n")
            self.counts[str(line["status"] or "no answer")] += 1
            self.slowest = max(self.slowest, line["ended"] - began)

    def close(self) -> None:
        """Wait for all answers."""
        self._pool.shutdown()
        self._file.close()


def lifecycles(rng: Random) -> Iterator[bytes]:
    """Yield the callbacks of packages that only the callers know, each package's in order and dated differently."""
    packages: list[tuple[str, list[str]]] = []
    number, last = 0, datetime.now(UTC)
    while True:
        if len(packages) < AT_ONCE:
            number += 1
            steps = ["PACKAGE_CREATE", "PACKAGE_ACTIVATE", "DOCUMENT_VIEWED", "DOCUMENT_SIGNED", "SIGNER_COMPLETE"]
            end = rng.choice(ENDS)
            packages.append((f"own-{rng.randrange(10**9):09}-{number}", [*steps[: rng.randint(2, 5)], end]))
        package, steps = rng.choice(packages)
        name = steps.pop(0)
        if not steps:
            packages.remove((package, steps))
        last = max(last + timedelta(milliseconds=1), datetime.now(UTC))
        members = {"name": name, "packageId": package, "sessionUser": "ada", "createdDate": f"{last:%Y-%m-%dT%H:%M:%S}"}
        members["createdDate"] += f".{last.microsecond // 1000:03}Z"
        if name.startswith("DOCUMENT"):
            members["documentId"] = "lease"
        yield json.dumps(members).encode()


class OneSpan:
    """A simulated account on a bad day. `faults.rates` and `faults.outage` are those of its REST API."""

    def __init__(self, folder: Path, *, seed: int) -> None:
        self._account = Account(seed, packages=None, at_once=15)
        self._outbox = Outbox(Random(f"{seed}:post"), mishaps=MISHAPS)
        self.faults = Faults(Random(f"{seed}:faults"))
        self._facts = (folder / "facts").open("a", buffering=1)

    def step(self) -> list[bytes]:
        """Let something happen, and return the callbacks that are sent now."""
        now = datetime.now(UTC)
        events = self._account.step(now)
        for event in events:
            fact = [event.name, event.package_id, event.session_user, event.document_id]
            self._facts.write(f"{json.dumps(fact)}\n")
        self._outbox.put(events, now=now)
        return self._outbox.take_due(now)

    def rest(self) -> list[bytes]:
        """Return the callbacks that are still to be sent."""
        return self._outbox.take_due(datetime.now(UTC) + timedelta(hours=1))

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Answer REST requests."""
        app = api(self._account, api_key=API_KEY, clock=lambda: datetime.now(UTC), faults=self.faults)
        server = make_server(SWITCH, ONESPAN_PORT, app, threaded=True, request_handler=_Quiet)
        threading.Thread(target=server.serve_forever, name="onespan", daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def send_response(self, code: int, message: str | None = None) -> None:
        self.send_response_only(code, message)  # the app sets `Date`

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Log nothing."""


class Callers:
    """The thread that sends callbacks at a steady rate until `stop`."""

    def __init__(self, recorder: Recorder, onespan: OneSpan, *, rate: float, seed: int) -> None:
        self._recorder, self._onespan, self._rate = recorder, onespan, rate
        self._rng = Random(f"{seed}:callers")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send, name="callers", daemon=True)
        self._thread.start()

    def _send(self) -> None:
        own = lifecycles(self._rng)
        due, waiting = time.monotonic(), []
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due += 1 / self._rate
            if self._rng.random() < 0.5:
                body = next(own)
                self._recorder.post(body, caller="own")
                if self._rng.random() < REPEATS:
                    self._recorder.post(body, caller="own")
                continue
            if not waiting:
                waiting += self._onespan.step()
            if waiting:
                self._recorder.post(waiting.pop(0), caller="onespan")
        for body in waiting + self._onespan.rest():
            self._recorder.post(body, caller="onespan")

    def stop(self) -> None:
        """Send what is in transit and end."""
        self._over.set()
        self._thread.join()
