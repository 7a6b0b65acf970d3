"""Tests of `make demo`, which runs the service together with the simulator."""

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from flask import Flask

from tests.conftest import KEY, TOKEN, on_sqlite
from tests.support.simulated import ROOT, serving, wait_until


@on_sqlite
@pytest.mark.own_database
@pytest.mark.all
def test_the_demo_shows_packages_and_ends_with_ctrl_c(database_url: str, tmp_path: Path):
    """`make demo` starts the service and the simulator; Ctrl-C ends both programs, with exit code 0."""
    address = f"127.0.0.1:{free_port()}"
    environment = environment_for(database_url, tmp_path, address)
    output = tmp_path / "output"
    with output.open("w") as file:
        process = subprocess.Popen(["sh", "deploy/demo.sh"], cwd=ROOT, env=environment, stdout=file, stderr=file)
    try:
        wait_until(lambda: package_count(address) > 2)
        process.send_signal(signal.SIGINT)
        process.wait(30)
    finally:
        process.terminate()

    assert process.returncode == 0
    assert f'curl -s "http://{address}/api/packages' in output.read_text()
    assert re.search(r"(\d+) callbacks: \1 accepted, 0 refused, 0 unreachable\.\n", output.read_text())
    assert package_count(address) == 0


@pytest.mark.all
@on_sqlite
@pytest.mark.own_database
def test_ctrl_c_in_a_terminal_ends_the_demo_with_one_line(database_url: str, tmp_path: Path):
    """Ctrl-C in a terminal signals all processes at once, but neither the demo nor `make` prints an error."""
    address = f"127.0.0.1:{free_port()}"
    (tmp_path / "Makefile").write_text(f"demo:\n\t@cd {ROOT} && python deploy/foreground.py sh deploy/demo.sh\n")
    make, terminal = pty.fork()
    if make == 0:
        os.execvpe("make", ["make", "-f", str(tmp_path / "Makefile")], environment_for(database_url, tmp_path, address))
    output: list[str] = []
    reader = threading.Thread(target=read_all, args=(terminal, output))
    reader.start()
    try:
        wait_until(lambda: package_count(address) > 2)
        os.write(terminal, b"\x03")
        reader.join(30)
    finally:
        with suppress(ProcessLookupError):
            os.kill(make, signal.SIGTERM)
        _, status = os.waitpid(make, 0)

    ending = "".join(output).partition("^C")[2]
    assert os.waitstatus_to_exitcode(status) == 0
    assert re.search(r"(\d+) callbacks: \1 accepted, 0 refused, 0 unreachable\.", ending)
    assert not re.search("No answer|Terminated|Interrupt|Error", ending)
    assert package_count(address) == 0


def read_all(terminal: int, into: list[str]) -> None:
    """Read the terminal's output until the last process closes the terminal."""
    with suppress(OSError):
        while part := os.read(terminal, 65536):
            into.append(part.decode(errors="replace"))


def test_the_demo_has_its_own_settings_database_and_spool():
    """The demo has its own settings, database and spool, so it never takes callbacks of the real service."""
    recipe = (ROOT / "Makefile").read_text()

    for name in ("SETTINGS_FILE", "DATABASE_URL", "SPOOL_DIR"):
        assert re.search(rf"^demo: export {name} := .*instance/demo", recipe, re.MULTILINE)


@pytest.mark.parametrize("name", ["run", "demo"])
def test_a_signal_to_make_reaches_the_service(name: str):
    """`make` signals only the shell of the recipe, so the shell must become the service."""
    recipe = re.search(rf"^{name}: \$.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert recipe
    assert recipe[1].splitlines()[-1].startswith("\t@exec ")


def environment_for(database_url: str, folder: Path, address: str) -> dict[str, str]:
    """Return the environment variables of a demo with known settings in `folder`."""
    (folder / "settings.env").write_text(f"ONESPAN_CALLBACK_KEYS=first={KEY}\nAPI_TOKENS=first={TOKEN}\n")
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SETTINGS_FILE": str(folder / "settings.env"),
        "DATABASE_URL": database_url,
        "SPOOL_DIR": str(folder / "spool"),
        "DEMO_LOG": str(folder / "demo.log"),
        "DEMO_RATE": "50",
        "BIND": address,
        "WEB_CONCURRENCY": "1",
    }


def test_the_demo_refuses_an_address_in_use():
    """The demo refuses an address in use, because it would show the packages of another service."""
    other = Flask("other")
    other.add_url_rule("/healthz", view_func=lambda: "fine")
    with serving(other) as url:
        answer = subprocess.run(
            ["sh", "deploy/demo.sh"],
            cwd=ROOT,
            env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "BIND": url.split("/")[2]},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert answer.returncode == 1
    assert "BIND=" in answer.stderr


def free_port() -> int:
    """Return a port without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def package_count(address: str) -> int:
    """Return the number of packages that the service shows, or 0 if the service does not answer."""
    try:
        answer = requests.get(
            f"http://{address}/api/packages", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10
        )
    except requests.ConnectionError:
        return 0
    return len(answer.json()["items"])
