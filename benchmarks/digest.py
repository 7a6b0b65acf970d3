"""The benchmark of the digest: how fast one worker digests callbacks, beside only inserting the rows that result."""

import time
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select

from app.handlers import handlers
from app.store import journal
from app.store.db import Database
from app.store.journal import Entry
from app.store.models import Base, Change, Dispatch, Event, Journal
from app.work.digest import Digest
from benchmarks.callbacks import LIFECYCLE, START, generate
from benchmarks.servers import Databases

AIM_OF_INSERTS = 0.5  # speed of the digest divided by that of inserting the same rows by `executemany`
INSERTED = (Event, Journal, Change, Dispatch)
JOURNAL_BATCH = 1000  # callbacks added to the journal in one transaction
MAX_TURNS = 10_000


def run(databases: Databases, *, callbacks: int) -> bool:
    """Digest this many callbacks on each database, then insert the resulting rows into another.

    Returns whether the aims were met.
    """
    print(f"\nDigest: {callbacks} callbacks of {callbacks // len(LIFECYCLE)} packages, one worker")
    print(f"  {'':<12}{'events/s':>9}{'cpu ms':>9}{'events':>9}{'dispatches':>12}{'changes':>9}{'inserts alone':>15}")
    met = []
    for kind in ("sqlite", "postgresql"):
        speed, cpu, rows = _measure_digest(databases, kind, callbacks=callbacks)
        counts = {table.__tablename__: len(found) for table, found in rows.items()}
        inserts_speed = callbacks / _measure_inserts(databases, kind, rows)
        met.append(speed / inserts_speed >= AIM_OF_INSERTS)
        print(
            f"  {kind:<12}{speed:>9.0f}{cpu:>9.2f}{counts['events']:>9}{counts['dispatches']:>12}{counts['changes']:>9}"
            f"{inserts_speed:>15.0f}   {speed / inserts_speed:.2f} of inserts "
            f"(aim {AIM_OF_INSERTS}: {'met' if met[-1] else 'MISSED'})"
        )
    return all(met)


Rows = dict[type[Base], list[dict[str, Any]]]


def _measure_digest(databases: Databases, kind: str, *, callbacks: int) -> tuple[float, float, Rows]:
    """Return events per second, milliseconds of CPU per event, and the rows of the tables `INSERTED`."""
    with databases.fresh(kind) as url:
        database = Database(url)
        _fill_journal(database, callbacks)
        digest = Digest(database, handlers, clock=lambda: datetime.now(UTC))
        started, cpu_before = time.perf_counter(), time.process_time()
        for _ in range(MAX_TURNS):
            if not digest.turn():
                break
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_before
        with database.read() as connection:
            rows = {
                table: [dict(row) for row in connection.execute(select(table.__table__)).mappings()]
                for table in INSERTED
            }
        database.close()
    return callbacks / seconds, cpu * 1000 / callbacks, rows


def _measure_inserts(databases: Databases, kind: str, rows: Rows) -> float:
    """Return the seconds that it takes to insert these rows in one transaction."""
    with databases.fresh(kind) as url:
        database = Database(url)
        with database.write():
            pass  # open the connection
        started = time.perf_counter()
        with database.write() as connection:
            for table, of_table in rows.items():
                connection.execute(insert(table.__table__), of_table)
        seconds = time.perf_counter() - started
        database.close()
    return seconds


def _fill_journal(database: Database, callbacks: int) -> None:
    entries = [
        Entry("callback", START, body, key="benchmarks", package_id=package) for package, body in generate(callbacks)
    ]
    for start in range(0, callbacks, JOURNAL_BATCH):
        with database.write() as connection:
            journal.add(connection, entries[start : start + JOURNAL_BATCH])
