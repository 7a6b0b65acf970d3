"""`python -m tests.siege`: the real service under real faults, and a check of every promise at the end."""

import argparse
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from tests.siege.hosts import INSIDE, enter

INTERRUPTED, FAILED = 130, 2  # exit codes


def main() -> None:
    """Run the siege. The exit code is 0 if the checker finds no violation, otherwise 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.siege", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="seconds with faults (default: 600)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the faults and callbacks")
    parser.add_argument("--rate", type=float, default=10, help="callbacks per second (default: 10)")
    parser.add_argument("--only", action="append", help="a fault by its name; by default all")
    parser.add_argument("--without", action="append", default=[], help="a fault to leave out")
    parser.add_argument("--keep", type=Path, help="a new folder for logs and records")
    arguments = parser.parse_args()
    if INSIDE not in os.environ:
        enter(sys.argv[1:])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from tests.siege.run import besiege  # noqa: PLC0415  (only inside the namespaces, as it takes seconds)

    try:
        code = besiege(arguments)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception:  # noqa: BLE001  (the process ends without Python's own report)
        traceback.print_exc()
        code = FAILED
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # as the first process, so that the kernel ends and removes everything else


if __name__ == "__main__":
    main()
