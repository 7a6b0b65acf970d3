"""The service in a process of its own, which takes its turns itself: its memory is nobody else's.

`python -m benchmarks.reconcile_service '{"database": url, "onespan": address, "name": "sqlite, 1000"}'` says that it is
ready; told `{"run": "first import", "backfill": true}` it lets a run begin and says what that cost.
"""

import gc
import json
import logging
import resource
import sys
import time
from pathlib import Path

import structlog
from sqlalchemy import select

from app import EXTENSION, Service, create_app
from app.handlers import handlers
from app.store import reconciles
from app.store.models import Run
from app.work.reconcile import Asked
from benchmarks.account import API_KEY
from benchmarks.progress import Progress
from config import Settings

AT_ONCE = 5  # pages that wait for the digest: as many rows as it takes in one batch
LOOK = 0.01  # seconds until we look again at a run that waits
PATIENCE = 1800.0  # seconds a run may take


def main() -> None:
    """Run what is asked for until there is nothing more to be told."""
    given = json.loads(sys.argv[1])
    settings = Settings(
        database_url=given["database"],
        onespan_url=given["onespan"],
        onespan_api_key=API_KEY,
        onespan_requests_per_minute=100_000,
    )
    service: Service = create_app(settings, handlers=handlers).extensions[EXTENSION]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    gc.freeze()  # as gunicorn's workers do
    _say()
    for line in sys.stdin:
        wanted = json.loads(line)
        _say(**_measure(service, Asked(backfill=wanted["backfill"]), name=f"{given['name']}, {wanted['run']}"))


def _measure(service: Service, asked: Asked, *, name: str) -> dict[str, float]:
    began, used = time.perf_counter(), time.process_time()
    shown = _run(service, asked, name=name)
    return {
        "shown": shown,
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - used,
        "peak": _peak(),
    }


def _run(service: Service, asked: Asked, *, name: str) -> int:
    """From its beginning to its end, in one thread. Returns how many rows the list showed."""
    run = service.reconcile.begin(asked)
    progress, deadline, pages = Progress(), time.monotonic() + PATIENCE, 0
    while time.monotonic() < deadline:
        walks = service.reconcile.turn()
        pages += walks
        if pages % AT_ONCE == 0 or not walks:
            while service.digest.turn() or service.refresh.turn():
                pass
        progress.show(f"{name}: page {pages}")
        if not walks:
            with service.database.read() as connection:
                if reconciles.running(connection) is None:
                    progress.end()
                    return _shown(service, run)
            time.sleep(LOOK)
    raise TimeoutError(name)


def _shown(service: Service, run: int | None) -> int:
    with service.database.read() as connection:
        return connection.scalar(select(Run.shown).where(Run.id == run)) or 0


def _peak() -> float:
    """The most memory this process ever had, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # what `getrusage` says there counts the parent's, too
        (line,) = (one for one in status.read_text().splitlines() if one.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _say(**what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
