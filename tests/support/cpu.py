"""Runs a command and says how much computing it took: `python -m tests.support.cpu --limit 330 COMMAND ...`.

It counts user and system time of the command and of everything that it starts: pytest's processes, the service's,
PostgreSQL and Chromium. (Elsewhere than on Linux, only of what the command waits for.) It exits as the command does.
To exceed the limit is no failure, for one machine's second is not another's: it is said, and whoever sees it looks.
"""

import argparse
import ctypes
import os
import resource
import signal
import sys
import time
from contextlib import suppress

PR_SET_CHILD_SUBREAPER = 36  # from <linux/prctl.h>
PATIENCE = 15.0  # seconds that what the command left behind gets to end


def main() -> int:
    """Run it. Returns its exit code."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--limit", type=float, default=float("inf"), help="CPU seconds that it should not exceed")
    asked.add_argument("command", nargs=argparse.REMAINDER)
    given = asked.parse_args()
    _adopt_orphans()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command hears it, too, and ends as it likes
    began = time.monotonic()
    command = os.posix_spawnp(given.command[0], given.command, os.environ, setsigdef=[signal.SIGINT])
    signal.signal(signal.SIGTERM, lambda number, _: os.kill(command, number))
    status = _wait_for(command)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = used.ru_utime + used.ru_stime
    limit = f" of at most {given.limit:.0f} s" if given.limit < float("inf") else ""
    _say(f"CPU: {spent:.0f} s{limit}, user and system; {time.monotonic() - began:.0f} s by the clock")
    if spent > given.limit:
        _say("That is more than it should be: `--durations=20` shows what takes long.")
    return status


def _adopt_orphans() -> None:
    """Processes whose parent has ended become children of this one, so they are counted."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _wait_for(command: int) -> int:
    """Wait for the command, and then for a while for what it left behind."""
    code, deadline = None, float("inf")
    while time.monotonic() < deadline:
        try:
            child, status = os.waitpid(-1, 0 if code is None else os.WNOHANG)
        except ChildProcessError:
            break
        if child == command:
            code, deadline = os.waitstatus_to_exitcode(status), time.monotonic() + PATIENCE
        elif child == 0:
            time.sleep(0.05)
    return code if code is not None and code >= 0 else 1


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
