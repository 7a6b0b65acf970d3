"""The service on two hosts: gunicorn on both, and an external worker on the first."""

import os
import sys
from pathlib import Path

from tests.conftest import KEY, TOKEN
from tests.siege.hosts import SWITCH, FullDisk, Host, Unit, children, run

ROOT = Path(__file__).resolve().parent.parent.parent
BIN = Path(sys.executable).parent
PORT = 8000
WORKERS = 2  # processes of gunicorn on each host that serve
PROCESSES = WORKERS + 1  # one more runs handlers
ONESPAN_PORT = 8090
API_KEY = f"the-api-key-of-the-siege-{'x' * 60}"
FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), Path("/missing"))


class Installation:
    """The service on one host."""

    def __init__(self, host: Host, database_url: str, *, lease: float, has_worker: bool) -> None:
        self.host = host
        spool = host.mount("spool", size="2m")
        spool.chmod(0o700)
        self.spool, self.spool_disk = spool, FullDisk(spool)
        self._clock = host.folder / "clock"
        self.set_clock(0)
        self.env = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "PYTHONPATH": str(ROOT),
            "FLASK_APP": "tests.siege.handlers",
            "SETTINGS_FILE": os.devnull,
            "DATABASE_URL": database_url,
            "ONESPAN_CALLBACK_KEYS": f"siege={KEY}",
            "API_TOKENS": f"siege={TOKEN}",
            "ONESPAN_URL": f"http://{SWITCH}:{ONESPAN_PORT}",
            "ONESPAN_API_KEY": API_KEY,
            "ONESPAN_REQUESTS_PER_MINUTE": "3000",
            "HANDLER_LEASE_SECONDS": str(lease),
            "SPOOL_DIR": str(spool / "callbacks"),
            "PROXIES": "1",
            "WEB_CONCURRENCY": str(WORKERS),
            "BIND": f"{host.address}:{PORT}",
            "SIEGE_FOLDER": str(host.folder.parent),
            "SIEGE_HOST": host.name,
        }
        self.faked = {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
        self.has_worker = has_worker
        self.units: list[Unit] = []

    def start(self) -> None:
        """Start gunicorn and the worker."""
        gunicorn = [str(BIN / "gunicorn"), "-c", str(ROOT / "gunicorn.conf.py"), "tests.siege.handlers:app"]
        commands = {"gunicorn": gunicorn, "worker": [str(BIN / "flask"), "worker"]}
        for name in ("gunicorn", "worker")[: 1 + self.has_worker]:
            # `env` sets the clock, so that `ip` keeps the true one.
            faked = ["env", *(f"{key}={value}" for key, value in self.faked.items())]
            log = self.host.folder / f"{name}.log"
            self.units.append(Unit(self.host, [*faked, *commands[name]], env=self.env, log=log))

    @property
    def main(self) -> int:
        """The id of gunicorn's main process, or 0."""
        return self.units[0].pid

    @property
    def workers(self) -> list[int]:
        """The ids of gunicorn's workers."""
        return children(self.main) if self.main else []

    def flask(self, *arguments: str) -> str:
        """Run a command of the service on its host and return its output.

        A reconcile may wait for a minute for the lease of each process that was killed.
        """
        return run(*self.host.command(str(BIN / "flask"), *arguments), env=self.env, cwd=ROOT, timeout=900)

    def set_clock(self, seconds: float) -> None:
        """Set the clock of the host's processes ahead, within a second."""
        new = self._clock.with_suffix(".new")
        new.write_text(f"{seconds:+.0f}\n")
        new.rename(self._clock)

    def spooled(self) -> int:
        """How many files are in the spool."""
        folder = self.spool / "callbacks"
        return sum(1 for file in folder.rglob("*") if file.is_file()) if folder.exists() else 0
