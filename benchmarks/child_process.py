"""Child processes that exchange JSON messages with the benchmark: one message per line."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from config import ROOT


class ChildProcess:
    """A running child process. It sends a message when it is ready, and a reply to each request."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.ready_message = self._read_message()

    def request(self, **members: object) -> dict:
        """Send a message to the child and return its reply. Raises `RuntimeError` if the child has ended."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(members) + "\n")
        self._process.stdin.flush()
        return self._read_message()

    def _read_message(self) -> dict:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} has ended")
        return json.loads(line)


@contextmanager
def start_child(module: str, **options: object) -> Iterator[ChildProcess]:
    """Run `python -m module OPTIONS` as a child process during the `with` block."""
    command = [sys.executable, "-m", module, json.dumps(options)]
    with subprocess.Popen(
        command, cwd=ROOT, env=clean_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield ChildProcess(process)
        finally:
            assert process.stdin
            process.stdin.close()
            process.terminate()


def write_message(**members: object) -> None:
    """Send a message from the child to the benchmark."""
    print(json.dumps(members), flush=True)


def clean_environment() -> dict[str, str]:
    """Environment variables without any setting that this machine has for the service."""
    return {
        **{name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ},
        "SETTINGS_FILE": os.devnull,
    }
