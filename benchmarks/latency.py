"""The benchmark of the time from a callback's POST to its handler's start, at a steady rate with an embedded worker."""

import tempfile
import time
from pathlib import Path

from benchmarks.servers import Databases, run_load, start_gunicorn
from config import ROOT

CALLBACKS_PER_SECOND = 100
AIM_P50_MS, AIM_P99_MS = 50, 250
HANDLER_TIMEOUT_SECONDS = 15.0  # how long the benchmark waits for the last handler runs


def run(databases: Databases, *, seconds: float) -> bool:
    """Measure the latency on both databases and print the results. Returns whether the aims were met."""
    print(
        f"\nFrom POST to handler: {CALLBACKS_PER_SECOND} callbacks/s for {seconds:g} s, "
        "two gunicorn workers, WORKER=embedded"
    )
    print(f"  {'':<12}{'':<15}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}{'cpu ms':>9}{'answered':>10}{'handled':>9}")
    met = [_measure(databases, kind, seconds=seconds) for kind in ("sqlite", "postgresql")]
    return all(met)


def _measure(databases: Databases, kind: str, *, seconds: float) -> bool:
    with databases.fresh(kind) as url, tempfile.TemporaryDirectory(prefix="handler-starts") as folder:
        log = Path(folder) / "handler-starts"
        environment = {"DATABASE_URL": url, "WORKER": "embedded", "BENCHMARK_LOG": str(log)}
        app, config_file = "benchmarks.latency_app:create()", str(ROOT / "gunicorn.conf.py")
        with start_gunicorn(app, environment=environment, config_file=config_file) as server:
            load = run_load(
                server, "/onespan/callback", clients=16, warm_up=0, seconds=seconds, rate=CALLBACKS_PER_SECOND
            )
            answered = load["statuses"].get("200", 0)
            latencies = _read_latencies(log, answered)
    p50, p99 = (latencies[int(len(latencies) * fraction)] if latencies else float("nan") for fraction in (0.5, 0.99))
    is_complete = len(latencies) == answered == int(CALLBACKS_PER_SECOND * seconds)
    met = p50 <= AIM_P50_MS and p99 <= AIM_P99_MS and is_complete
    mark = "met" if met else "MISSED"
    print(
        f"  {kind:<12}{'':<15}{p50:>9.1f}{p99:>9.1f}{max(latencies, default=0):>9.1f}{load['cpu']:>9.2f}"
        f"{answered:>10}{len(latencies):>9}   (aim {AIM_P50_MS} and {AIM_P99_MS}, each handled once: {mark})"
    )
    return met


def _read_latencies(log: Path, expected: int) -> list[float]:
    """Wait until the expected handler runs have started. Returns their latencies in milliseconds, sorted."""
    deadline = time.monotonic() + HANDLER_TIMEOUT_SECONDS
    while log.read_bytes().count(b"\n") < expected and time.monotonic() < deadline:
        time.sleep(0.1)
    lines = [line.split() for line in log.read_text().splitlines()]
    return sorted((float(started) - float(sent)) * 1000 for sent, started in lines)
