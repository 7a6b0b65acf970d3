"""The service in its own process without a worker, so that its memory and CPU can be measured separately.

`python -m benchmarks.reconcile_service '{"database": url, "onespan": address, "label": "sqlite, 1000 packages"}'`
prints `{}` when it is ready. For each line `{"run": "first import", "backfill": true}` on standard input, the process
makes one reconcile run and prints what the run cost.
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
from app.work.reconcile import RunRequest
from benchmarks.account import API_KEY
from benchmarks.child_process import write_message
from benchmarks.progress import Progress
from config import Settings

PAGES_PER_DIGEST = 5  # pages that are read before each digest, which takes as many rows in one batch
POLL_SECONDS = 0.01  # pause before the next turn while the reconcile run waits
RUN_TIMEOUT_SECONDS = 1800.0


def main() -> None:
    """Make the requested reconcile runs until standard input ends."""
    options = json.loads(sys.argv[1])
    settings = Settings(
        database_url=options["database"],
        onespan_url=options["onespan"],
        onespan_api_key=API_KEY,
        onespan_requests_per_minute=100_000,
    )
    service: Service = create_app(settings, handlers=handlers).extensions[EXTENSION]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    gc.freeze()  # exclude loaded objects from garbage collection, as gunicorn's workers do
    write_message()
    for line in sys.stdin:
        message = json.loads(line)
        label = f"{options['label']}, {message['run']}"
        write_message(**_measure(service, RunRequest(backfill=message["backfill"]), label=label))


def _measure(service: Service, request: RunRequest, *, label: str) -> dict[str, float]:
    started, cpu_before = time.perf_counter(), time.process_time()
    listed = _run(service, request, label=label)
    return {
        "listed": listed,
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - cpu_before,
        "peak_mb": _peak_memory_mb(),
    }


def _run(service: Service, request: RunRequest, *, label: str) -> int:
    """Make one reconcile run in this thread and return how many packages the list returned.

    Raises `TimeoutError` after `RUN_TIMEOUT_SECONDS`.
    """
    run = service.reconcile.begin(request)
    progress, deadline, pages = Progress(), time.monotonic() + RUN_TIMEOUT_SECONDS, 0
    while time.monotonic() < deadline:
        has_read_page = service.reconcile.turn()
        pages += has_read_page
        if pages % PAGES_PER_DIGEST == 0 or not has_read_page:
            while service.digest.turn() or service.fetcher.turn():
                pass
        progress.show(f"{label}: page {pages}")
        if not has_read_page:
            with service.database.read() as connection:
                if reconciles.running(connection) is None:
                    progress.end()
                    return _listed_rows(service, run)
            time.sleep(POLL_SECONDS)
    raise TimeoutError(label)


def _listed_rows(service: Service, run: int | None) -> int:
    with service.database.read() as connection:
        return connection.scalar(select(Run.shown).where(Run.id == run)) or 0


def _peak_memory_mb() -> float:
    """Return the highest memory use of this process so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, `getrusage` counts the parent's memory, too
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    units_per_mb = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / units_per_mb


if __name__ == "__main__":
    main()
