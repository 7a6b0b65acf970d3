"""The benchmarks: `python -m benchmarks [--quick | --full] [--only receiver|digest|latency|reconcile|pages]`.

Everything is measured side by side on this machine, so the ratios say more than the figures. Nothing leaves the
loopback, everything lies in folders that go away.
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
from benchmarks.servers import Databases, databases

SIZES = (1_000, 10_000, 100_000)  # packages to reconcile; the last only where all is wanted
# Packages to read from among, few and many.
CROWDS = {"sqlite": (1_000, 10_000), "postgresql": (1_000, 10_000)}
SMALL_CROWDS = {"sqlite": (300, 1_000), "postgresql": (300, 1_000)}
GREAT_CROWDS = {"sqlite": (10_000, 100_000), "postgresql": (10_000, 1_000_000)}


def main() -> None:
    """Measure, print, and say what was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="short and rough: does it all still run?")
    length.add_argument(
        "--full",
        action="store_true",
        help="reconcile 100,000 packages, and read from among 1,000,000: an hour and 30 GB of disk more",
    )
    parser.add_argument("--only", choices=["door", "digest", "latency", "reconcile", "window"])
    wanted = parser.parse_args()
    began = time.monotonic()
    logging.disable(logging.INFO)
    with databases() as made:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
        print(_machine(made))
        met = _measure(made, quick=wanted.quick, full=wanted.full, only=wanted.only)
    print(f"\n{'All aims met.' if met else 'Some aims MISSED.'} It took {time.monotonic() - began:.0f} s.")


def _measure(made: Databases, *, quick: bool, full: bool, only: str | None) -> bool:
    plans = {
        "door": lambda: receiver.run(made, seconds=1.5 if quick else 4, rounds=1 if quick else 3),
        "digest": lambda: digest.run(made, many=2_000 if quick else 20_000),
        "latency": lambda: latency.run(made, seconds=3 if quick else 10),
        "reconcile": lambda: reconcile.run(made, sizes=(200, 1_000) if quick else SIZES if full else SIZES[:-1]),
        "window": lambda: pages.run(
            made,
            sizes=SMALL_CROWDS if quick else GREAT_CROWDS if full else CROWDS,
            asked=30 if full else 8,
        ),
    }
    met = [plan() for name, plan in plans.items() if only in (None, name)]
    return all(met)


def _machine(made: Databases) -> str:
    """What decides the figures, beside the code."""
    with made.fresh("postgresql") as url, psycopg.connect(url.replace("+psycopg", "")) as connection:
        version = connection.execute("SHOW server_version").fetchone()[0]
        kept = [connection.execute(f"SHOW {name}").fetchone()[0] for name in ("fsync", "synchronous_commit")]
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    return (
        f"Machine: {os.cpu_count()} cores, load {load}, {platform.system()} {platform.machine()}; "
        f"one write and fsync takes {_fsync():.2f} ms (the median)\n"
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version} (WAL, synchronous=FULL), "
        f"PostgreSQL {version} (fsync={kept[0]}, synchronous_commit={kept[1]})\n"
        "gunicorn: gthread, 2 workers, 16 threads; server, database and client share these cores"
    )


def _fsync() -> float:
    took = []
    with tempfile.TemporaryFile() as file:
        for number in range(200):
            began = time.perf_counter()
            os.pwrite(file.fileno(), b"x" * 4096, number * 4096)
            os.fsync(file.fileno())
            took.append(time.perf_counter() - began)
    return statistics.median(took) * 1000


if __name__ == "__main__":
    main()
