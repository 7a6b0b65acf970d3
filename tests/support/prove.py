"""Plays random schedules (`tests/laws/test_random_schedules.py`) until stopped, or until one fails.

`make prove`, or `make prove PROVE_SECONDS=600`. Seeds are random, and are played on SQLite and PostgreSQL in turn. One
that fails is kept as a file in `tests/laws/seeds/`, which `make test-all` plays again from then on.
"""

import argparse
import json
import logging
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import make_url

from tests.support.databases import migrate, postgresql_server
from tests.support.playground import Bench
from tests.support.schedules import Schedule

SEEDS = Path(__file__).resolve().parent.parent / "laws" / "seeds"
SHOWN = ("schedules", "steps", "turns", "faults", "crashes", "callbacks lost", "reconciles", "clean reconciles")


def play(bench: Bench, *, seeded: int, schedules: int, steps: int) -> Counter[str]:
    """So many schedules, the same ones for the same seed; what befell them.

    Raises what contradicts the theorem, with the smallest schedule that does as its notes.
    """

    class Played(Schedule):
        """On this bench."""

    Played.bench, Played.count = bench, Counter()
    wanted = settings(
        max_examples=schedules,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    run_state_machine_as_test(seed(seeded)(Played), settings=wanted)
    return Played.count


def keep(bench: Bench, contradiction: Exception, *, folder: Path, **played: int) -> Path:
    """Write down what was played, so that it can be played again; returns the file."""
    database = bench.database.engine.dialect.name
    words = " ".join(f"--{name} {value}" for name, value in played.items())
    told = {
        "database": database,
        **played,
        "replay": f"python -m tests.support.prove {words}",
        "failed": f"{type(contradiction).__name__}: {contradiction}",
        "smallest": getattr(contradiction, "__notes__", []),
    }
    folder.mkdir(exist_ok=True)
    file = folder / f"{database}-{played['seed']}.json"
    file.write_text(json.dumps(told, indent=2) + "\n")
    return file


def replay(bench: Bench, file: Path) -> Counter[str]:
    """Play what was kept in a file."""
    told = json.loads(file.read_text())
    return play(bench, seeded=told["seed"], schedules=told["schedules"], steps=told["steps"])


def asked(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What was said on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--seed", type=int, help="play only this one's schedules")
    parser.add_argument("--schedules", type=int, default=50, help="of each seed")
    parser.add_argument("--steps", type=int, default=15, help="of each schedule, at most")
    parser.add_argument("--folder", type=Path, default=SEEDS, help="where seeds that fail are kept")
    return parser.parse_args(arguments)


def main() -> int:
    """Play in ever new seeds. Returns 1 where a schedule contradicts the theorem."""
    given = asked()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder, postgresql_server() as postgresql:
        sqlite = f"sqlite:///{Path(folder) / 'prove.db'}"
        migrate(sqlite)
        template = make_url(postgresql).set(database="template").render_as_string(hide_password=False)
        benches = [Bench(sqlite), Bench(template)]
        try:
            return play_on(benches, given)
        except KeyboardInterrupt:
            return 0
        finally:
            for bench in benches:
                bench.close()


def play_on(benches: Sequence[Bench], given: argparse.Namespace) -> int:
    """Play on these in turn, as `main` does."""
    began, total = time.monotonic(), Counter[str]()
    for turn in count():
        seeded, bench = given.seed, benches[turn % len(benches)]
        if seeded is None:
            seeded = secrets.randbits(32)
        try:
            total += play(bench, seeded=seeded, schedules=given.schedules, steps=given.steps)
        except Exception as contradiction:  # noqa: BLE001  (an assertion, or whatever the service raised)
            _say(f"A counterexample, of seed {seeded}: {type(contradiction).__name__}: {contradiction}")
            _say("\n".join(getattr(contradiction, "__notes__", ())))
            played = {"seed": seeded, "schedules": given.schedules, "steps": given.steps}
            _say(f"Kept in {keep(bench, contradiction, folder=given.folder, **played)}.")
            return 1
        counted = ", ".join(f"{total[one]} {one}" for one in SHOWN)
        _say(f"{time.monotonic() - began:.0f} s, seed {seeded}: {counted}, 0 counterexamples")
        if time.monotonic() - began >= given.seconds or (given.seed is not None and bench is benches[-1]):
            break
    return 0


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
