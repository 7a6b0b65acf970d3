"""Run a command of which Ctrl-C ends only the outermost process: not what it started, nor the `make` around it.

A terminal sends its signals to all of a group at once; each would end in its own way, and say so.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(command: list[str]) -> int:
    """Run it in a group of its own, hand on what ends us, and give the terminal back. Returns its exit code."""
    on_terminal = os.isatty(0)
    if on_terminal:
        before = os.tcgetpgrp(0)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        if os.getpgrp() != os.getpid():
            os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpgrp())
    process = subprocess.Popen(command, process_group=0)
    for one in ENDS:
        signal.signal(one, lambda number, _: process.send_signal(number))
    code = process.wait()
    if on_terminal:
        with suppress(OSError):  # it may be gone
            os.tcsetpgrp(0, before)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
