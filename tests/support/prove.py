"""Plays random schedules (`tests/laws/test_random_schedules.py`) until the user stops it or a schedule fails.

Run the script with `make prove` or `make prove PROVE_SECONDS=600`. The script plays random seeds, on SQLite and
PostgreSQL in turn. It stores a seed that fails in `tests/laws/seeds/`, and `make test-all` replays the seed from then
on.
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
from tests.support.playground import Playground
from tests.support.schedules import Schedule

SEEDS = Path(__file__).resolve().parent.parent / "laws" / "seeds"
PRINTED_COUNTS = (
    "schedules",
    "steps",
    "turns",
    "faults",
    "crashes",
    "callbacks lost",
    "reconciles",
    "clean reconciles",
)


def play(playground: Playground, *, seed_value: int, schedules: int, steps: int) -> Counter[str]:
    """Play this number of random schedules and return the totals. The same seed plays the same schedules.

    Raises the error of a schedule that fails, with the smallest failing schedule as its notes.
    """

    class Played(Schedule):
        """The state machine of random schedules on one playground."""

    Played.playground, Played.count = playground, Counter()
    profile = settings(
        max_examples=schedules,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    run_state_machine_as_test(seed(seed_value)(Played), settings=profile)
    return Played.count


def store_seed(playground: Playground, failure: Exception, *, folder: Path, **played: int) -> Path:
    """Write a failed seed to a file, from which its schedules can be replayed. Return the file."""
    database = playground.database.engine.dialect.name
    words = " ".join(f"--{name} {value}" for name, value in played.items())
    record = {
        "database": database,
        **played,
        "replay": f"python -m tests.support.prove {words}",
        "failed": f"{type(failure).__name__}: {failure}",
        "smallest": getattr(failure, "__notes__", []),
    }
    folder.mkdir(exist_ok=True)
    file = folder / f"{database}-{played['seed']}.json"
    file.write_text(json.dumps(record, indent=2) + "\n")
    return file


def replay(playground: Playground, file: Path) -> Counter[str]:
    """Play the schedules of a stored seed."""
    record = json.loads(file.read_text())
    return play(playground, seed_value=record["seed"], schedules=record["schedules"], steps=record["steps"])


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this many seconds")
    parser.add_argument("--seed", type=int, help="play only the schedules of this seed")
    parser.add_argument("--schedules", type=int, default=50, help="of each seed")
    parser.add_argument("--steps", type=int, default=15, help="of each schedule, at most")
    parser.add_argument("--folder", type=Path, default=SEEDS, help="where to store seeds that fail")
    return parser.parse_args(arguments)


def main() -> int:
    """Play new seeds until the user stops the script. Returns 1 if a schedule fails."""
    options = parse_arguments()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder, postgresql_server() as postgresql:
        sqlite = f"sqlite:///{Path(folder) / 'prove.db'}"
        migrate(sqlite)
        template = make_url(postgresql).set(database="template").render_as_string(hide_password=False)
        playgrounds = [Playground(sqlite), Playground(template)]
        try:
            return play_in_turn(playgrounds, options)
        except KeyboardInterrupt:
            return 0
        finally:
            for playground in playgrounds:
                playground.close()


def play_in_turn(playgrounds: Sequence[Playground], options: argparse.Namespace) -> int:
    """Play seeds on the playgrounds in turn until the time is over. Returns 1 if a schedule fails."""
    began, total = time.monotonic(), Counter[str]()
    for turn in count():
        seed_value, playground = options.seed, playgrounds[turn % len(playgrounds)]
        if seed_value is None:
            seed_value = secrets.randbits(32)
        try:
            total += play(playground, seed_value=seed_value, schedules=options.schedules, steps=options.steps)
        except Exception as failure:  # noqa: BLE001  (an assertion, or any error of the service)
            _print(f"Seed {seed_value} fails: {type(failure).__name__}: {failure}")
            _print("\n".join(getattr(failure, "__notes__", ())))
            played = {"seed": seed_value, "schedules": options.schedules, "steps": options.steps}
            _print(f"Stored in {store_seed(playground, failure, folder=options.folder, **played)}.")
            return 1
        counts = ", ".join(f"{total[name]} {name}" for name in PRINTED_COUNTS)
        _print(f"{time.monotonic() - began:.0f} s, seed {seed_value}: {counts}, 0 failures")
        if time.monotonic() - began >= options.seconds or (options.seed is not None and playground is playgrounds[-1]):
            break
    return 0


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
