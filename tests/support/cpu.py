"""Runs a command and prints its CPU time: `python -m tests.support.cpu --limit 330 COMMAND ...`.

The script counts the user and system time of the command and of every process that the command starts: pytest, the
service, PostgreSQL and Chromium. On systems other than Linux the script counts only processes that the command waits
for. The script exits with the command's code. Exceeding the limit is printed but is no failure, because machines
differ in speed.
"""

import argparse
import ctypes
import os
import resource
import signal
import sys
import time
from contextlib import suppress

PR_SET_CHILD_SUBREAPER = 36  # the number of this option in <linux/prctl.h>
ORPHAN_WAIT_SECONDS = 15.0  # seconds to wait for processes that outlive the command


def main() -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--limit", type=float, default=float("inf"), help="CPU seconds that the command should not exceed"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    _adopt_orphans()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command gets SIGINT too and ends by itself
    began = time.monotonic()
    command = os.posix_spawnp(options.command[0], options.command, os.environ, setsigdef=[signal.SIGINT])
    signal.signal(signal.SIGTERM, lambda number, _: os.kill(command, number))
    status = _wait_for(command)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = used.ru_utime + used.ru_stime
    limit = f" of at most {options.limit:.0f} s" if options.limit < float("inf") else ""
    _print(f"CPU: {spent:.0f} s{limit}, user and system; {time.monotonic() - began:.0f} s by the clock")
    if spent > options.limit:
        _print("That is over the limit: `--durations=20` shows the slowest tests.")
    return status


def _adopt_orphans() -> None:
    """Become the parent of processes whose parent has ended, so that their CPU time is counted."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _wait_for(command: int) -> int:
    """Wait for the command, then for a limited time for the processes that outlive it."""
    code, deadline = None, float("inf")
    while time.monotonic() < deadline:
        try:
            child, status = os.waitpid(-1, 0 if code is None else os.WNOHANG)
        except ChildProcessError:
            break
        if child == command:
            code, deadline = os.waitstatus_to_exitcode(status), time.monotonic() + ORPHAN_WAIT_SECONDS
        elif child == 0:
            time.sleep(0.05)
    return code if code is not None and code >= 0 else 1


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
