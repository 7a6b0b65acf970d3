"""Hosts in network namespaces, which are gone when the siege's first process ends, however it ends.

`enter` runs a program as the first process of new namespaces for processes, mounts and networks. When it ends, the
kernel kills all that it started, and unmounts and deletes all that it made. A switch (10.77.0.1) connects the hosts.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

SWITCH = "10.77.0.1"  # the address of nginx, callers and OneSpan
RESTART_SECONDS = 2.0  # pause before a program that ended starts again, as in the systemd units
INSIDE = "SIEGE_INSIDE"  # environment variable that marks the process inside the namespaces


def enter(arguments: Sequence[str]) -> NoReturn:
    """Become `python -m tests.siege` with these arguments inside new namespaces."""
    unshare = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    os.environ |= {INSIDE: "1", "PYTHONWARNINGS": "ignore:XDG_RUNTIME_DIR"}
    os.execvp(unshare[0], [*unshare, sys.executable, "-m", "tests.siege", *arguments])


def children(pid: int) -> list[int]:
    """The ids of the child processes of a process."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, thread.read_text().split())
    return found


def with_all(action: Callable[[int], Any], pids: Sequence[int]) -> None:
    """Do something with processes, of which some may have ended."""
    for pid in pids:
        try:
            action(pid)
        except ProcessLookupError:
            continue


def run(*command: str, timeout: float = 120, **options: Any) -> str:
    """Run a command and return its output. Raises if it fails, or does not end within `timeout` seconds."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def make_switch() -> None:
    """Make the network that connects the hosts, in the namespace of this process."""
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    Path("/run/netns").mkdir()
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "switch", "type", "bridge")
    run("ip", "address", "add", f"{SWITCH}/24", "dev", "switch")
    run("ip", "link", "set", "switch", "up")


def wait_for(condition: Callable[[], Any], *, seconds: float, what: str) -> Any:
    """Poll until the condition is true and return its value. Raises `TimeoutError` at the deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise TimeoutError(f"not within {seconds:.0f} s: {what}")


class Host:
    """A machine: a network namespace with an address, and disks in memory."""

    def __init__(self, name: str, address: str, folder: Path) -> None:
        self.name, self.address, self.folder = name, address, folder / name
        self.folder.mkdir()
        self.folder.chmod(0o755)
        run("ip", "netns", "add", name)
        run("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "link", "set", f"to-{name}", "master", "switch", "up")
        self._run("ip", "address", "add", f"{address}/24", "dev", "eth0")
        self._run("ip", "link", "set", "eth0", "up")
        self._run("ip", "link", "set", "lo", "up")
        self._run("nft", "add table ip siege; add chain ip siege in { type filter hook input priority 0; }")

    def _run(self, *command: str) -> str:
        return run("ip", "netns", "exec", self.name, *command)

    def mount(self, name: str, *, size: str) -> Path:
        """Mount a small disk and return its path."""
        path = self.folder / name
        path.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(path))
        return path

    def command(self, *command: str) -> list[str]:
        """The command line that runs a command on this host."""
        return ["ip", "netns", "exec", self.name, *command]

    def pids(self) -> list[int]:
        """The ids of all processes on this host."""
        return [int(pid) for pid in run("ip", "netns", "pids", self.name).split()]

    def signal(self, number: int) -> list[int]:
        """Send a signal to all processes of the host and return their ids."""
        pids = self.pids()
        with_all(lambda pid: os.kill(pid, number), pids)
        return pids

    def cut(self) -> None:
        """Cut the host's cable: packets vanish."""
        run("ip", "link", "set", f"to-{self.name}", "down")

    def join(self) -> None:
        """Connect the host again."""
        run("ip", "link", "set", f"to-{self.name}", "up")

    def ignore(self, other: str) -> None:
        """Drop all packets that come from an address."""
        self._run("nft", f"add rule ip siege in ip saddr {other} drop")

    def hear_all(self) -> None:
        """Drop no more packets."""
        self._run("nft", "flush chain ip siege in")


class Unit:
    """A program that is started again when it ends, as systemd does, until `stop`."""

    def __init__(self, host: Host, command: Sequence[str], *, env: Mapping[str, str], log: Path) -> None:
        self.host, self.log = host, log
        self._command, self._env = host.command(*command), dict(env)
        self._wanted = threading.Event()
        self._over = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        threading.Thread(target=self._supervise, name=log.stem, daemon=True).start()

    @property
    def pid(self) -> int:
        """The id of the running process, or 0."""
        return self._process.pid if self._process and self._process.poll() is None else 0

    def start(self) -> None:
        """Start the program, if it does not run."""
        self._wanted.set()

    def stop(self, number: int = 15, *, seconds: float = 90) -> None:
        """End the program and keep it from starting."""
        self._wanted.clear()
        if self.pid:
            with_all(lambda pid: os.kill(pid, number), [self.pid])
            wait_for(lambda: not self.pid, seconds=seconds, what=f"{self.log.stem} ends")

    def _supervise(self) -> None:
        while self._wanted.wait():
            with self.log.open("ab") as output:
                self._process = subprocess.Popen(
                    self._command, env=self._env, stdout=output, stderr=output, start_new_session=True
                )
            self._process.wait()
            if self._wanted.is_set():
                time.sleep(RESTART_SECONDS)


class FullDisk:
    """A file that fills the disk of a folder."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "filler"

    def fill(self) -> None:
        """Write until the disk is full."""
        with suppress(OSError), self._file.open("wb", buffering=0) as file:
            while file.write(b"\0" * 4096):
                pass

    def free(self) -> None:
        """Free the space."""
        self._file.unlink(missing_ok=True)
