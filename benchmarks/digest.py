"""The benchmark of the digest: how many callbacks one worker digests per second."""

import time
from datetime import UTC, datetime

from app.handlers import handlers as all_handlers
from app.handling import Handlers
from app.store import journal
from app.store.db import Database
from app.store.journal import Entry
from app.work.digest import Digest
from benchmarks.callbacks import LIFECYCLE, START, generate
from benchmarks.servers import Databases, count_rows

AIM_EVENTS_PER_SECOND = 1500
JOURNAL_BATCH = 1000  # callbacks added to the journal in one transaction
MAX_TURNS = 10_000


def run(databases: Databases, *, callbacks: int) -> bool:
    """Digest this many callbacks on each database, with and without the handlers of app/handlers.py.

    Returns whether the aims were met.
    """
    print(f"\nDigest: {callbacks} callbacks of {callbacks // len(LIFECYCLE)} packages, one worker")
    print(f"  {'':<12}{'':<15}{'events/s':>9}{'cpu ms':>9}{'events':>9}{'dispatches':>12}{'changes':>9}")
    met = []
    for kind in ("sqlite", "postgresql"):
        for name, handlers in (("app/handlers.py", all_handlers), ("no handlers", Handlers())):
            speed, cpu, rows = _measure(databases, kind, handlers, callbacks=callbacks)
            met.append(speed >= AIM_EVENTS_PER_SECOND)
            mark = "met" if met[-1] else "MISSED"
            print(
                f"  {kind:<12}{name:<15}{speed:>9.0f}{cpu:>9.2f}{rows['events']:>9}"
                f"{rows['dispatches']:>12}{rows['changes']:>9}   (aim {AIM_EVENTS_PER_SECOND}: {mark})"
            )
    return all(met)


def _measure(
    databases: Databases, kind: str, handlers: Handlers, *, callbacks: int
) -> tuple[float, float, dict[str, int]]:
    """Return events per second, milliseconds of CPU per event, and the final number of rows in each table."""
    with databases.fresh(kind) as url:
        database = Database(url)
        _fill_journal(database, callbacks)
        digest = Digest(database, handlers, clock=lambda: datetime.now(UTC))
        started, cpu_before = time.perf_counter(), time.process_time()
        for _ in range(MAX_TURNS):
            if not digest.turn():
                break
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_before
        database.close()
        rows = {table: count_rows(url, table) for table in ("events", "dispatches", "changes")}
    return rows["events"] / seconds, cpu * 1000 / rows["events"], rows


def _fill_journal(database: Database, callbacks: int) -> None:
    entries = [
        Entry("callback", START, body, key="benchmarks", package_id=package) for package, body in generate(callbacks)
    ]
    for start in range(0, callbacks, JOURNAL_BATCH):
        with database.write() as connection:
            journal.add(connection, entries[start : start + JOURNAL_BATCH])
