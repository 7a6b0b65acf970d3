"""The handlers of the siege, some of which hang, raise, give up or kill their process, and the app with them.

Each writes a line per step, `begin|end|raise|kill event handler pid host seconds`, into one file per host.
"""

import hashlib
import os
import select
import signal
import time
from pathlib import Path

from app import create_app
from app.handling import Event, GiveUp, Handlers, Package

handlers = Handlers()
FOLDER = Path(os.environ["SIEGE_FOLDER"])  # of the whole siege
HOST = os.environ["SIEGE_HOST"]
LEASE_SECONDS = float(os.environ["HANDLER_LEASE_SECONDS"])
KINDS = 40  # of 40 packages one hangs, one raises, one kills, one gives up

# libfaketime 0.9.10 breaks the system call of `time.sleep` when the monotonic clock is true.
time.sleep = lambda seconds: select.select([], [], [], seconds)


def note(step: str, event: Event, handler: str) -> None:
    """Write one line with one write, so that lines of several processes do not mix."""
    line = f"{step} {event.id} {handler} {os.getpid()} {HOST} {time.monotonic():.3f}\n"
    file = os.open(FOLDER / f"handlers-{HOST}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, line.encode())
    os.close(file)


def is_first(event: Event, handler: str) -> bool:
    """Whether this is the first attempt on any host."""
    try:
        (FOLDER / "attempts" / f"{event.id}-{handler}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@handlers.on("*")
def record(event: Event, package: Package) -> None:
    """Run for every event."""
    note("begin", event, "record")
    note("end", event, "record")


@handlers.on("PACKAGE_ACTIVATE")
def act(event: Event, package: Package) -> None:
    """Behave badly for some packages."""
    note("begin", event, "act")
    kind = int(hashlib.sha256(package.id.encode()).hexdigest(), 16) % KINDS
    if kind == 0:
        note("raise", event, "act")
        raise GiveUp("as always for this package")
    if kind in (1, 2, 3) and is_first(event, "act"):
        if kind == 1:
            time.sleep(1.5 * LEASE_SECONDS)
        if kind == 2:
            note("raise", event, "act")
            raise ValueError("the first attempt fails")
        if kind == 3:
            note("kill", event, "act")
            os.kill(os.getpid(), signal.SIGKILL)
    note("end", event, "act")


@handlers.on("PACKAGE_COMPLETE")
def file_documents(event: Event, package: Package) -> None:
    """Take a moment, as a request does."""
    note("begin", event, "file_documents")
    time.sleep(0.3)
    note("end", event, "file_documents")


app = create_app(handlers=handlers)
