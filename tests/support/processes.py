"""Real processes of the service, gunicorn and `flask worker`, for tests that stop and kill them.

Every wait has a deadline. Every process is in a group of its own and is gone when its `Site` is closed.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, cast

from tests.conftest import KEY, TOKEN, onespan_time
from tests.conftest import NOON as WHEN
from tests.support.forked import start

ROOT = Path(__file__).resolve().parent.parent.parent
BIN = Path(sys.executable).parent
WORKERS = 2  # worker processes of gunicorn
BOOT_SECONDS = 30.0  # seconds that a process may take to start
TRANSPORT = (OSError, http.client.HTTPException)  # errors which mean that no answer arrived

SERVICE = """
from app import create_app
from handlers_of_this_test import handlers

app = create_app(handlers=handlers)
"""
HANDLER_MODULE = '''
import os

from app.handling import Handlers

handlers = Handlers()


def note(*words):
    """Append one line to the handler log, which several processes write at the same time."""
    line = " ".join(str(word) for word in words) + "\\n"
    file = os.open(os.environ["HANDLER_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, line.encode())
    os.close(file)
'''


def until(condition: Callable[[], Any], *, seconds: float = 20, what: str = "") -> Any:
    """Poll until the condition is true and return its value. Raises `AssertionError` at the deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not true within {seconds} s: {what or condition}")


def free_port() -> int:
    """A free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A process of the service, with all its children."""

    def __init__(self, command: list[str], *, env: dict[str, str], folder: Path, log: Path) -> None:
        self.log = log
        self.log.touch()
        self._process = start(command, env=env, folder=folder, log=log)
        self.pid = cast("int", self._process.pid)

    @property
    def children(self) -> list[int]:
        """The ids of the child processes."""
        file = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(pid) for pid in file.read_text().split()] if file.exists() else []

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.exitcode is not None

    def terminate(self, *, number: int = signal.SIGTERM) -> None:
        """Send a signal to the process, SIGTERM by default."""
        os.kill(self.pid, number)

    def wait(self, *, seconds: float = 40) -> int:
        """Wait for the end of the process and return its exit code."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"still runs after {seconds} s: {self.output()}"
        return self._process.exitcode

    def kill(self) -> None:
        """Kill the process and all its children with SIGKILL, as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join(10)

    def output(self) -> str:
        """What the process wrote to stdout and stderr."""
        return self.log.read_text(errors="replace")


class Web(Process):
    """A gunicorn server. `port` is the port that it listens on."""

    port: int

    def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: dict[str, str], seconds: float = 15
    ) -> tuple[int, bytes]:
        """Send one request on a new connection. Return the status and the body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def post(self, body: bytes) -> tuple[int, bytes]:
        """Post a callback."""
        return self.request("POST", "/onespan/callback", body=body, headers={"Authorization": f"Basic {KEY}"})

    def send_callback(self, name: str, *, package: str, **members: Any) -> int | None:
        """Send a callback as OneSpan does. Return its journal id, or None if it was spooled."""
        status, answer = self.post(callback(name, package=package, **members))
        assert status == 200, answer
        return json.loads(answer)["callback"]

    def read(self, path: str) -> Any:
        """GET from the JSON API, assert 200 and return the JSON."""
        status, answer = self.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"}, seconds=40)
        assert status == 200, answer
        return json.loads(answer)

    def answers(self) -> bool:
        """Whether the server answers requests."""
        with contextlib.suppress(*TRANSPORT):
            return self.request("GET", "/healthz", headers={}, seconds=2)[0] == 200
        return False


class Site:
    """One installation in a folder: its database, its handlers (the text of a module) and its running processes."""

    def __init__(self, folder: Path, database_url: str, *, handlers: str = "", **settings: str) -> None:
        self.folder = folder / "site"
        self.folder.mkdir()
        self.handler_log = self.folder / "handler.log"
        self.processes: list[Process] = []
        (self.folder / "service.py").write_text(SERVICE)
        (self.folder / "handlers_of_this_test.py").write_text(HANDLER_MODULE + handlers)
        self.env = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{self.folder}",
            "FLASK_APP": "service",
            "SETTINGS_FILE": os.devnull,
            "DATABASE_URL": database_url,
            "ONESPAN_CALLBACK_KEYS": f"test={KEY}",
            "API_TOKENS": f"test={TOKEN}",
            "SPOOL_DIR": str(self.folder / "spool"),
            "HANDLER_LOG": str(self.handler_log),
            **settings,
        }

    def gunicorn(self, **how: Any) -> Web:
        """Start gunicorn as `boot` does, and wait until it answers and has all its workers, also that for handlers."""
        web = self.boot(**how)
        workers = how.get("workers", WORKERS) + ({**self.env, **how}.get("WORKER") != "external")
        until(
            lambda: (web.answers() and len(web.children) >= workers) or web.ended,
            seconds=BOOT_SECONDS,
            what="gunicorn answers",
        )
        assert not web.ended, web.output()
        return web

    def boot(
        self,
        *,
        workers: int = WORKERS,
        port: int | None = None,
        app: str = "service:app",
        options: Sequence[str] = (),
        **env: str,
    ) -> Web:
        """Start gunicorn with the project's `gunicorn.conf.py`, without waiting for it."""
        port = port or free_port()
        env |= {"BIND": f"127.0.0.1:{port}", "WEB_CONCURRENCY": str(workers)}
        web = Web(
            ["gunicorn", "-c", str(ROOT / "gunicorn.conf.py"), *options, app],
            env=self.env | env,
            folder=self.folder,
            log=self.folder / f"gunicorn-{port}.log",
        )
        web.port = port
        self.processes.append(web)
        return web

    def worker(self, **env: str) -> Process:
        """Start a `flask worker` and wait until the worker is ready."""
        log = self.folder / f"worker-{len(self.processes)}.log"
        process = Process(["flask", "worker"], env=self.env | env, folder=self.folder, log=log)
        self.processes.append(process)
        until(lambda: "worker.started" in process.output() or process.ended, seconds=BOOT_SECONDS, what="it works")
        assert not process.ended, process.output()
        return process

    def handler_lines(self) -> list[list[str]]:
        """The lines that handlers wrote with `note`, split into words."""
        return [line.split() for line in self.handler_log.read_text().splitlines()] if self.handler_log.exists() else []

    def spooled(self) -> list[Path]:
        """The files in the spool."""
        return sorted((self.folder / "spool").glob("*"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()


def callback(name: str, *, package: str, **members: Any) -> bytes:
    """The body of a callback, as OneSpan writes it."""
    body = {"name": name, "packageId": package, "sessionUser": "cleo-the-sender", "createdDate": onespan_time(WHEN)}
    return json.dumps(body | members).encode()
