"""How many callbacks one worker digests in a second."""

import time
from datetime import UTC, datetime

from app.handlers import handlers as all_handlers
from app.handling import Handlers
from app.store import journal
from app.store.db import Database
from app.store.journal import Entry
from app.work.digest import Digest
from benchmarks.callbacks import START, lives
from benchmarks.servers import Databases, count

AIM = 1500
LOAD = 1000  # callbacks journaled in one transaction
MANY_TURNS = 10_000


def run(databases: Databases, *, many: int) -> bool:
    """Digest `many` callbacks on each database, with the handlers of app/handlers.py and with none."""
    print(f"\nThe digest: {many} callbacks of {many // 9} packages, one worker")
    print(f"  {'':<12}{'':<15}{'events/s':>9}{'cpu ms':>9}{'events':>9}{'dispatches':>12}{'changes':>9}")
    met = []
    for kind in ("sqlite", "postgresql"):
        for name, handlers in (("app/handlers.py", all_handlers), ("no handlers", Handlers())):
            speed, cpu, rows = _measure(databases, kind, handlers, many=many)
            met.append(speed >= AIM)
            mark = "met" if met[-1] else "MISSED"
            print(
                f"  {kind:<12}{name:<15}{speed:>9.0f}{cpu:>9.2f}{rows['events']:>9}"
                f"{rows['dispatches']:>12}{rows['changes']:>9}   (aim {AIM}: {mark})"
            )
    return all(met)


def _measure(databases: Databases, kind: str, handlers: Handlers, *, many: int) -> tuple[float, float, dict[str, int]]:
    """Events in a second, this process's milliseconds of CPU for each, and how many rows there are in the end."""
    with databases.fresh(kind) as url:
        database = Database(url)
        _journal(database, many)
        digest = Digest(database, handlers, clock=lambda: datetime.now(UTC))
        began, used = time.perf_counter(), time.process_time()
        for _ in range(MANY_TURNS):
            if not digest.turn():
                break
        took, used = time.perf_counter() - began, time.process_time() - used
        database.close()
        rows = {table: count(url, table) for table in ("events", "dispatches", "changes")}
    return rows["events"] / took, used * 1000 / rows["events"], rows


def _journal(database: Database, many: int) -> None:
    entries = [Entry("callback", START, body, key="benchmarks", package_id=package) for package, body in lives(many)]
    for place in range(0, many, LOAD):
        with database.write() as connection:
            journal.add(connection, entries[place : place + LOAD])
