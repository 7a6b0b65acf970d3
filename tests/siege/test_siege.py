"""A short siege, and the end of an interrupted one. `make siege` is longer."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.siege.hosts import children
from tests.support.deployment import is_alive
from tests.support.processes import ROOT, until

PATH = f"{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/sbin"
PROGRAMS = ("nginx", "pgbouncer", "ip", "nft", "unshare", "setpriv", "openssl")
MISSING = [name for name in PROGRAMS if not shutil.which(name, path=PATH)]
MISSING += [] if list(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")) else ["libfaketime"]
INSTALL = "apt-get install nginx-light pgbouncer libfaketime iproute2 nftables openssl"
REQUIRED = os.environ.get("SIEGE") == "required"  # as in CI: what is missing is a failure
NAMESPACES = subprocess.run(
    ["unshare", "--mount", "--net", "--pid", "--fork", "true"], capture_output=True, check=False
)

pytestmark = [
    pytest.mark.all,
    pytest.mark.timeout(900),
    pytest.mark.skipif(NAMESPACES.returncode != 0 and not REQUIRED, reason=f"namespaces: {NAMESPACES.stderr.decode()}"),
    pytest.mark.skipif(bool(MISSING) and not REQUIRED, reason=f"missing programs: {', '.join(MISSING)}; {INSTALL}"),
]


@contextmanager
def siege(output: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a siege, and kill it at the end of the block."""
    command = [sys.executable, "-m", "tests.siege", *options]
    env = os.environ | {"PATH": PATH, "PYTHONPATH": str(ROOT)}
    with output.open("wb") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=file, stderr=file, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait(20)


def descendants(pid: int) -> list[int]:
    """The ids of a process and of all that it started, directly or not."""
    return [pid, *(found for child in children(pid) for found in descendants(child))]


def test_law_1_to_9_hold_in_a_siege(tmp_path: Path):
    """No acknowledged callback is lost, and no event or run is doubled without a cause, whatever fails."""
    with siege(tmp_path / "output", "--seconds", "40") as process:
        code = process.wait(800)

    assert code == 0, (tmp_path / "output").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_siege_leaves_nothing(number: int, tmp_path: Path):
    """All processes, networks and mounts of a siege are gone when it is interrupted or killed."""
    mounts = Path("/proc/mounts").read_text()
    with siege(tmp_path / "output", "--seconds", "60") as process:
        until(lambda: "The service runs" in (tmp_path / "output").read_text(), seconds=200, what="the siege runs")
        started = descendants(process.pid)
        os.killpg(process.pid, number)
        process.wait(60)

        until(lambda: not any(map(is_alive, started)), seconds=30, what="all processes have ended")
    assert len(started) > 20
    assert Path("/proc/mounts").read_text() == mounts
    assert not Path("/run/netns/db-a").exists()
