"""The simulator: `make demo`."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import requests
from flask import Flask

from tests.conftest import KEY, TOKEN
from tests.simulated import ROOT, on_sqlite, serving, wait_until


@on_sqlite
def test_the_demo_shows_packages_and_ends_when_told(database_url: str, tmp_path: Path):
    """`make demo` starts the service and has it called back; Ctrl-C ends both, and that is a success."""
    address = f"127.0.0.1:{free_port()}"
    (tmp_path / "settings.env").write_text(f"ONESPAN_CALLBACK_KEYS=first={KEY}\nAPI_TOKENS=first={TOKEN}\n")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SETTINGS_FILE": str(tmp_path / "settings.env"),
        "DATABASE_URL": database_url,
        "SPOOL_DIR": str(tmp_path / "spool"),
        "DEMO_LOG": str(tmp_path / "demo.log"),
        "DEMO_RATE": "50",
        "BIND": address,
        "WEB_CONCURRENCY": "1",
    }
    output = tmp_path / "output"
    with output.open("w") as file:
        process = subprocess.Popen(["sh", "deploy/demo.sh"], cwd=ROOT, env=environment, stdout=file, stderr=file)
    try:
        wait_until(lambda: packages_known(address) > 2)
        process.send_signal(signal.SIGINT)
        process.wait(30)
    finally:
        process.terminate()

    assert process.returncode == 0
    assert f'curl -s "http://{address}/api/packages' in output.read_text()
    assert re.search(r"(\d+) callbacks: \1 accepted, 0 refused, 0 unreachable\.\n$", output.read_text())
    assert packages_known(address) == 0


def test_the_demo_leaves_alone_what_runs_there_already():
    """It would show somebody else's packages."""
    other = Flask("other")
    other.add_url_rule("/healthz", view_func=lambda: "fine")
    with serving(other) as url:
        answer = subprocess.run(
            ["sh", "deploy/demo.sh"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "BIND": url.split("/")[2]},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert answer.returncode == 1
    assert "BIND=" in answer.stderr


def free_port() -> int:
    """One that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def packages_known(address: str) -> int:
    """How many packages a service shows; 0 where none answers yet."""
    try:
        answer = requests.get(
            f"http://{address}/api/packages", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10
        )
    except requests.ConnectionError:
        return 0
    return len(answer.json()["items"])
