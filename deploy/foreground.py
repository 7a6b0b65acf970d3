"""Run a command so that Ctrl-C signals only its outermost process, not its children or the `make` that started it.

A terminal signals a whole process group at once, and each process would print its own message.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(command: list[str]) -> int:
    """Run the command in its own process group, forward signals, restore the terminal. Returns the exit code."""
    on_terminal = os.isatty(0)
    if on_terminal:
        before = os.tcgetpgrp(0)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        if os.getpgrp() != os.getpid():
            os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpgrp())
    process = subprocess.Popen(command, process_group=0)
    for end in SIGNALS:
        signal.signal(end, lambda number, _: process.send_signal(number))
    code = process.wait()
    if on_terminal:
        with suppress(OSError):  # the terminal may be closed
            os.tcsetpgrp(0, before)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
