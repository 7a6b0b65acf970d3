"""Reload: at SIGHUP, gunicorn's main process replaces itself by one with the code and settings on disk.

The main process loads the app before it forks workers, so it replaces a worker that dies from memory, whatever lies on
disk. A reload first loads the code and settings on disk in a separate process. If that fails, the log says why and
nothing changes. Otherwise the main process executes itself again. It keeps its process id and its sockets, so no
connection is refused. The old workers end after the new ones serve.
"""

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any, BinaryIO

import structlog
from gunicorn import sock
from gunicorn.arbiter import Arbiter
from gunicorn.workers.workertmp import WorkerTmp

from app.web.work_process import WorkProcess

log = structlog.get_logger()

START_SECONDS = 0.05  # pause after the start of a worker, so that workers that end at once do not use all CPU time
CHECK_SECONDS = 120  # seconds after which code that is still loading counts as broken
MAX_REASON_BYTES = 4000  # at the end of what the check printed
REPLACED = "ONESPAN_RECEIVER_REPLACED"  # environment variable in which a main process leaves its sockets and workers
LOADED = b"All code and settings are loaded.\n"
# Does what a main process does before it opens its port.
CHECK = f"""
import faulthandler, os
faulthandler.dump_traceback_later({CHECK_SECONDS}, exit=True)
from gunicorn.app.wsgiapp import WSGIApplication
from gunicorn.arbiter import Arbiter
Arbiter(WSGIApplication(prog="gunicorn"))
os.write(1, {LOADED!r})
os._exit(0)  # whatever the code does at its end
"""


class MainProcess(Arbiter):  # type: ignore[misc]
    """Gunicorn's main process, which no worker's end and no broken file on disk stops."""

    WORKER_BOOT_ERROR = APP_LOAD_ERROR = -1  # no exit code of a worker stops the main process
    _check: subprocess.Popen[bytes] | None = None
    _output: BinaryIO  # the file in memory to which the check prints
    _replaced = 0  # number of old workers that go on until the new ones serve
    _has_work = False  # whether one of the workers is a `WorkProcess`

    def take_over(self, *, has_work: bool) -> None:
        """Take over the sockets and workers of the replaced main process, if there is one.

        With `has_work`, one worker more than those that serve is a `WorkProcess`.
        """
        self._has_work = has_work
        self.num_workers += has_work
        # Not by path: the folder of `gunicorn` has modules with names of Python's own.
        self.START_CTX["args"] = [sys.executable, "-m", "gunicorn", *sys.argv[1:]]
        replaced = json.loads(os.environ.pop(REPLACED, "null"))
        if replaced is None:
            return
        self.cfg.env_orig.pop(REPLACED, None)  # with which SIGUSR2 starts a second main process
        self.LISTENERS = sock.create_sockets(self.cfg, self.log, replaced["sockets"])
        if replaced["address"] != str(self.address):
            log.warning("reload.address_kept", address=replaced["address"], advice="a new BIND needs a restart")
        for pid, (file, is_ending) in replaced["workers"].items():
            self.WORKERS[int(pid)] = SimpleNamespace(
                age=0, pid=int(pid), app=self.app, tmp=_InheritedTmp(file), aborted=False, is_ending=is_ending
            )
        self._replaced = len(self.WORKERS) - self._ending
        self.num_workers += self._replaced

    def init_signals(self) -> None:
        """Handle signals, also those that arrived during the replacement."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def manage_workers(self) -> None:
        """Keep the number of workers; once all new workers serve, end the old ones."""
        new = [worker for worker in self.WORKERS.values() if worker.age]
        if self._replaced and len(new) >= self.cfg.workers + self._has_work and all(map(_serves, new)):
            self.num_workers -= self._replaced
            self._replaced = 0
        os.umask(umask := os.umask(0o077))
        try:
            for _ in range(self.num_workers - len(self.WORKERS) + self._ending):
                self.spawn_worker()
                time.sleep(START_SECONDS)
            if self._lacks_work_process:  # the number of workers was reduced
                self.spawn_worker()
            super().manage_workers()
        except (OSError, RuntimeError) as error:
            if os.getpid() != self.pid:
                sys.exit(1)  # the new worker, which must not go on as a second main process
            os.umask(umask)  # gunicorn leaves another one
            log.error("worker.not_started", error=type(error).__name__)  # the main loop tries again in a second

    def handle_ttou(self) -> None:
        """Reduce the number of workers by one, but keep one that serves."""
        if self.num_workers > 1 + self._has_work:
            super().handle_ttou()

    def spawn_worker(self) -> int:
        """Start a worker: the `WorkProcess` if it is missing, else one that serves."""
        self.worker_class = WorkProcess if self._lacks_work_process else self.cfg.worker_class
        return int(super().spawn_worker())

    @property
    def _lacks_work_process(self) -> bool:
        running = (worker for worker in self.WORKERS.values() if not _is_ending(worker))
        return self._has_work and not any(isinstance(worker, WorkProcess) for worker in running)

    @property
    def _ending(self) -> int:
        """Number of workers that end, but may take a while. Others take their place."""
        return sum(map(_is_ending, self.WORKERS.values()))

    def kill_worker(self, pid: int, sig: int) -> None:
        """Send a signal to a worker, SIGTERM only once: a second would end one that waits for its handlers."""
        worker = self.WORKERS.get(pid)
        if sig == signal.SIGTERM and worker:
            if _is_ending(worker):
                return
            worker.is_ending = True
        super().kill_worker(pid, sig)

    def handle_hup(self) -> None:
        """Begin a reload: load in a separate process what lies on disk. A reload that is under way begins again."""
        if self._check:
            self._check.kill()
            self._check.wait()
        self._output = os.fdopen(os.memfd_create("reload"), "rb")
        log.info("reload.begun")
        try:
            self._check = subprocess.Popen(  # noqa: S603  (the command that started this process)
                [sys.executable, "-c", CHECK, *sys.argv[1:]],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                cwd=self.START_CTX["cwd"],
                env=self.cfg.env_orig,
            )
        except OSError as error:
            self._refuse(str(error))

    def wait_for_signals(self, timeout: float = 1.0) -> list[int]:
        """When all signals are handled: if the check has ended, replace this process, or log why not."""
        check = self._check
        if check and check.poll() is not None:
            self._check = None
            self._output.seek(0)
            printed = self._output.read()
            self._output.close()
            if printed.endswith(LOADED):
                self._replace()
            else:
                self._refuse(printed[-MAX_REASON_BYTES:].decode(errors="replace").strip())
        return list(super().wait_for_signals(timeout))

    def _refuse(self, reason: str) -> None:
        log.error("reload.refused", reason=reason or "the new code ended its process without a message")

    def _replace(self) -> None:
        """Execute this program again, in the same process. The new one inherits sockets, workers and held signals."""
        for worker in self.WORKERS.values():
            os.set_inheritable(worker.tmp.fileno(), True)  # noqa: FBT003
        replaced = {
            "sockets": [socket.fileno() for socket in self.LISTENERS],
            "address": str(self.address),
            "workers": {pid: (worker.tmp.fileno(), _is_ending(worker)) for pid, worker in self.WORKERS.items()},
        }
        if self.pidfile is not None:
            self.pidfile.unlink()
        log.info("reload.loaded")
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        while not self.SIG_QUEUE.empty():
            os.kill(self.pid, self.SIG_QUEUE.get_nowait())  # held until the new main process handles signals
        try:
            os.chdir(self.START_CTX["cwd"])
            os.execve(  # noqa: S606
                sys.executable,
                self.START_CTX["args"],
                self.cfg.env_orig | {REPLACED: json.dumps(replaced)},
            )
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            self._refuse(str(error))


# Signals that wait while a main process replaces itself; by default they would end it.
_SIGNALS = {*Arbiter.SIGNALS, signal.SIGCHLD}


class _InheritedTmp(WorkerTmp):  # type: ignore[misc]
    """The file by which a worker of the replaced main process shows that it is alive."""

    def __init__(self, file: int) -> None:
        self._tmp = os.fdopen(file, "w+b", 0)


def _is_ending(worker: Any) -> bool:
    return getattr(worker, "is_ending", False)


def _serves(worker: Any) -> bool:
    """Whether a worker has shown that it is alive: until then, its file has the time of day instead of the uptime."""
    return bool(worker.tmp.last_update() <= time.monotonic())
