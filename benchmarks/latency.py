"""The benchmark of the time from a callback's POST to its handler's start, at a steady rate with an embedded worker."""

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.servers import Databases, run_load, start_gunicorn
from config import ROOT

IDLE_PER_SECOND, CALLBACKS_PER_SECOND = 5, 100
AIM_OF_IDLE = 2.0  # p50 and p99 at `CALLBACKS_PER_SECOND`, divided by those of a machine that is nearly idle
HANDLER_TIMEOUT_SECONDS = 15.0  # how long the benchmark waits for the last handler runs


def run(databases: Databases, *, seconds: float) -> bool:
    """Measure the latency on both databases and print the results. Returns whether the aims were met."""
    print(f"\nFrom POST to handler, for {seconds:g} s at each rate, two gunicorn workers, WORKER=embedded")
    columns = ("p50 ms", "p99 ms", "max ms", "cpu ms", "answered", "handled")
    print(f"  {'':<12}{'per second':>11}" + "".join(f"{column:>10}" for column in columns))
    met = []
    for kind in ("sqlite", "postgresql"):
        idle = _measure(databases, kind, seconds=seconds, rate=IDLE_PER_SECOND)
        busy = _measure(databases, kind, seconds=seconds, rate=CALLBACKS_PER_SECOND)
        ratios = (busy.p50 / idle.p50, busy.p99 / idle.p99)
        met.append(max(ratios) <= AIM_OF_IDLE and idle.is_complete and busy.is_complete)
        print(
            f"  {kind:<12}p50 {ratios[0]:.2f} and p99 {ratios[1]:.2f} of those at {IDLE_PER_SECOND}/s "
            f"(aim {AIM_OF_IDLE}, each handled once: {'met' if met[-1] else 'MISSED'})"
        )
    return all(met)


class Latencies(NamedTuple):
    """Milliseconds from POST to handler, and whether each callback was handled once."""

    p50: float
    p99: float
    is_complete: bool


def _measure(databases: Databases, kind: str, *, seconds: float, rate: int) -> Latencies:
    with databases.fresh(kind) as url, tempfile.TemporaryDirectory(prefix="handler-starts") as folder:
        log = Path(folder) / "handler-starts"
        environment = {"DATABASE_URL": url, "WORKER": "embedded", "BENCHMARK_LOG": str(log)}
        app, config_file = "benchmarks.latency_app:create()", str(ROOT / "gunicorn.conf.py")
        with start_gunicorn(app, environment=environment, config_file=config_file) as server:
            load = run_load(server, "/onespan/callback", clients=16, warm_up=0, seconds=seconds, rate=rate)
            answered = load["statuses"].get("200", 0)
            found = _read_latencies(log, answered)
    p50, p99 = (found[int(len(found) * fraction)] if found else float("nan") for fraction in (0.5, 0.99))
    print(
        f"  {kind:<12}{rate:>11}{p50:>10.1f}{p99:>10.1f}{max(found, default=0):>10.1f}{load['cpu']:>10.2f}"
        f"{answered:>10}{len(found):>10}"
    )
    return Latencies(p50, p99, len(found) == answered == int(rate * seconds))


def _read_latencies(log: Path, expected: int) -> list[float]:
    """Wait until the expected handler runs have started. Returns their latencies in milliseconds, sorted."""
    deadline = time.monotonic() + HANDLER_TIMEOUT_SECONDS
    while log.read_bytes().count(b"\n") < expected and time.monotonic() < deadline:
        time.sleep(0.1)
    lines = [line.split() for line in log.read_text().splitlines()]
    return sorted((float(started) - float(sent)) * 1000 for sent, started in lines)
