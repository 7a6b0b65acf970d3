"""From the POST to the beginning of the handler, at a steady rate, with the worker embedded."""

import tempfile
import time
from pathlib import Path

from benchmarks.servers import Databases, load, served
from config import ROOT

RATE = 100
AIM_P50, AIM_P99 = 50, 250  # milliseconds
PATIENCE = 15.0  # seconds that handlers may be late at the end


def run(databases: Databases, *, seconds: float) -> bool:
    """Measure both databases. Returns whether the aims were met."""
    print(f"\nFrom POST to handler: {RATE} callbacks/s for {seconds:g} s, two gunicorn workers, WORKER=embedded")
    print(f"  {'':<12}{'':<15}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}{'cpu ms':>9}{'answered':>10}{'handled':>9}")
    met = [_measure(databases, kind, seconds=seconds) for kind in ("sqlite", "postgresql")]
    return all(met)


def _measure(databases: Databases, kind: str, *, seconds: float) -> bool:
    with databases.fresh(kind) as url, tempfile.TemporaryDirectory(prefix="notes") as folder:
        notes = Path(folder) / "notes"
        environment = {"DATABASE_URL": url, "WORKER": "embedded", "BENCHMARK_NOTES": str(notes)}
        app, configuration = "benchmarks.latency_app:create()", str(ROOT / "gunicorn.conf.py")
        with served(app, environment=environment, configuration=configuration) as server:
            answers = load(server, "/onespan/callback", clients=16, warm_up=0, seconds=seconds, rate=RATE)
            answered = answers["statuses"].get("200", 0)
            late = _read(notes, answered)
    p50, p99 = (late[int(len(late) * share)] if late else float("nan") for share in (0.5, 0.99))
    met = p50 <= AIM_P50 and p99 <= AIM_P99 and len(late) == answered == int(RATE * seconds)
    mark = "met" if met else "MISSED"
    print(
        f"  {kind:<12}{'':<15}{p50:>9.1f}{p99:>9.1f}{max(late, default=0):>9.1f}{answers['cpu']:>9.2f}"
        f"{answered:>10}{len(late):>9}   (aim {AIM_P50} and {AIM_P99}, each handled once: {mark})"
    )
    return met


def _read(notes: Path, expected: int) -> list[float]:
    """How late each handler began, in milliseconds and in order; waits until all have."""
    deadline = time.monotonic() + PATIENCE
    while notes.read_bytes().count(b"\n") < expected and time.monotonic() < deadline:
        time.sleep(0.1)
    lines = [line.split() for line in notes.read_text().splitlines()]
    return sorted((float(began) - float(sent)) * 1000 for sent, began in lines)
