"""The benchmarks: `python -m benchmarks [--quick | --full] [--only receiver|digest|latency|reconcile|pages]`.

Each benchmark compares alternatives on this machine in one run, so the ratios say more than the absolute figures.
All traffic stays on the loopback interface. All files are in temporary folders.
"""

import argparse
import logging
import os
import platform
import sqlite3
import statistics
import tempfile
import time

import psycopg
import structlog

from benchmarks import digest, latency, pages, receiver, reconcile
from benchmarks.servers import Databases, temporary_databases

RECONCILE_SIZES = (1_000, 10_000, 100_000)  # packages in the account; the last size needs --full
# The number of packages in the small and in the large dataset of the benchmark `pages`.
DATASET_SIZES = {"sqlite": (1_000, 10_000), "postgresql": (1_000, 10_000)}
QUICK_DATASET_SIZES = {"sqlite": (300, 1_000), "postgresql": (300, 1_000)}
FULL_DATASET_SIZES = {"sqlite": (10_000, 100_000), "postgresql": (10_000, 1_000_000)}


def main() -> None:
    """Run the benchmarks, print their results and say whether all aims were met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="short and rough: check that every benchmark still runs")
    length.add_argument(
        "--full",
        action="store_true",
        help="also reconcile 100,000 packages and read from 1,000,000: needs another hour and 30 GB of disk",
    )
    parser.add_argument("--only", choices=["receiver", "digest", "latency", "reconcile", "pages"])
    options = parser.parse_args()
    started = time.monotonic()
    logging.disable(logging.INFO)
    with temporary_databases() as databases:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
        print(_machine(databases))
        met = _run_benchmarks(databases, quick=options.quick, full=options.full, only=options.only)
    print(f"\n{'All aims met.' if met else 'Some aims MISSED.'} Duration: {time.monotonic() - started:.0f} s.")


def _run_benchmarks(databases: Databases, *, quick: bool, full: bool, only: str | None) -> bool:
    benchmarks = {
        "receiver": lambda: receiver.run(databases, seconds=1.5 if quick else 4, rounds=1 if quick else 3),
        "digest": lambda: digest.run(databases, callbacks=2_000 if quick else 20_000),
        "latency": lambda: latency.run(databases, seconds=3 if quick else 10),
        "reconcile": lambda: reconcile.run(
            databases, sizes=(200, 1_000) if quick else RECONCILE_SIZES if full else RECONCILE_SIZES[:-1]
        ),
        "pages": lambda: pages.run(
            databases,
            sizes=QUICK_DATASET_SIZES if quick else FULL_DATASET_SIZES if full else DATASET_SIZES,
            repeats=30 if full else 8,
        ),
    }
    met = [benchmark() for name, benchmark in benchmarks.items() if only in (None, name)]
    return all(met)


def _machine(databases: Databases) -> str:
    """Describe the hardware and the versions that the figures depend on."""
    with databases.fresh("postgresql") as url, psycopg.connect(url.replace("+psycopg", "")) as connection:
        settings = ("server_version", "fsync", "synchronous_commit")
        version, fsync, commit = (connection.execute(f"SHOW {name}").fetchone()[0] for name in settings)
    load = " ".join(f"{average:.1f}" for average in os.getloadavg())
    return (
        f"Machine: {os.cpu_count()} cores, load {load}, {platform.system()} {platform.machine()}; "
        f"one write and fsync takes {_median_fsync_ms():.2f} ms (median)\n"
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version} (WAL, synchronous=FULL), "
        f"PostgreSQL {version} (fsync={fsync}, synchronous_commit={commit})\n"
        "gunicorn: 2 workers of the service, 16 threads; server, database and client share these cores"
    )


def _median_fsync_ms() -> float:
    durations = []
    with tempfile.TemporaryFile() as file:
        for number in range(200):
            started = time.perf_counter()
            os.pwrite(file.fileno(), b"x" * 4096, number * 4096)
            os.fsync(file.fileno())
            durations.append(time.perf_counter() - started)
    return statistics.median(durations) * 1000


if __name__ == "__main__":
    main()
