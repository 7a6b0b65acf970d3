"""One siege: set up, faults by a schedule from the seed, wait until all is quiet, check."""

import json
import threading
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

import psycopg

from tests.siege import checker, report
from tests.siege.callers import Callers, OneSpan, Recorder
from tests.siege.cluster import Cluster
from tests.siege.evidence import collect
from tests.siege.faults import DATABASE_FAULTS, FAULTS, Siege, ready
from tests.siege.front import start_nginx
from tests.siege.hosts import SWITCH, Host, make_switch, run
from tests.siege.service import API_KEY, ONESPAN_PORT, Installation

LEASE_SECONDS = 15.0  # longer than the service waits for a lock (10 s), after which it settles a run again
FREEZE_SECONDS = 1.6 * LEASE_SECONDS
PROGRESS_SECONDS = 10.0
QUIET_SECONDS = 300.0  # seconds within which all work ends after the last fault
RECONCILES = 6  # attempts of the last reconcile
TOGETHER = 0.2  # share of faults that come with another
DISK_MEGABYTES = 250  # of a database, without callbacks
CALLBACKS_PER_MEGABYTE = 50
LONG_RUN_SECONDS = 3000.0  # from which one host is frozen for longer than every lease of the service
LONG_FREEZE_SECONDS = 660.0
UNDONE = """
    SELECT 'journal rows', count(*) FROM journal WHERE state = 'pending'
    UNION ALL SELECT 'handler runs', count(*) FROM dispatches WHERE state IN ('due', 'running')
"""


def besiege(arguments: Namespace) -> int:
    """Run the siege and print its figures. Return 1 if the checker finds a violation, otherwise 0."""
    folder = arguments.keep or Path("/mnt")
    if arguments.keep:
        folder.mkdir()
    else:
        run("mount", "-t", "tmpfs", "tmpfs", "/mnt")  # in this namespace, so it is gone with it
    (folder / "attempts").mkdir()
    say(f"Siege with --seed {arguments.seed}: {arguments.seconds:.0f} s, {arguments.rate:g} callbacks a second")
    make_switch()
    siege = set_up(folder, arguments)
    recorder = Recorder(folder)
    with siege.onespan.serving():
        for site in siege.sites:
            site.start()
        ready(siege)
        start_nginx(folder / "nginx", [site.host for site in siege.sites])
        siege.sites[0].flask("reconcile")  # the first import runs no handlers
        say("The service runs")
        callers = Callers(recorder, siege.onespan, rate=arguments.rate, seed=arguments.seed)
        over = threading.Event()
        threading.Thread(target=show_progress, args=(recorder, over), daemon=True).start()
        play(siege, arguments, folder / "faults")
        callers.stop()
        recorder.close()
        over.set()
        say(f"All faults have ended; {report.counts(recorder.counts)}")
        settle(siege)
        evidence = collect(
            folder, database=siege.cluster.primary.url(), onespan=f"http://{SWITCH}:{ONESPAN_PORT}", key=API_KEY
        )
    violations = checker.violations(evidence)
    if arguments.keep:
        siege.cluster.primary.dump(folder / "dump.sql")
    report.show(evidence, violations, all_faults=sorted(FAULTS))
    return int(bool(violations))


def set_up(folder: Path, arguments: Namespace) -> Siege:
    """Make hosts, databases and the tables."""
    one, two = Host("one", "10.77.0.11", folder), Host("two", "10.77.0.12", folder)
    databases = Host("db-a", "10.77.0.21", folder), Host("db-b", "10.77.0.22", folder)
    megabytes = DISK_MEGABYTES + int(arguments.seconds * arguments.rate / CALLBACKS_PER_MEGABYTE)
    cluster = Cluster(*databases, pooler=two, megabytes=megabytes)
    sites = [
        Installation(one, cluster.url(), lease=LEASE_SECONDS, has_worker=True),
        Installation(two, cluster.pooled_url(), lease=LEASE_SECONDS, has_worker=False),
    ]
    sites[0].flask("db", "upgrade")
    skew = max(30.0, min(180.0, arguments.seconds / 4))  # a run may be due as much later as a clock was ahead
    onespan = OneSpan(folder, seed=arguments.seed)
    return Siege(cluster, sites, onespan, Random(f"{arguments.seed}:faults"), LEASE_SECONDS, FREEZE_SECONDS, skew)


def play(siege: Siege, arguments: Namespace, record: Path) -> None:
    """Let faults happen, mostly one after another, and record when each happened and what it hit."""
    began = time.monotonic()
    end = began + arguments.seconds
    names = [name for name in arguments.only or sorted(FAULTS) if name not in arguments.without]
    pause = max(2.0, arguments.seconds / len(names) / 4)
    if arguments.seconds >= LONG_RUN_SECONDS:
        siege.freeze_seconds = LONG_FREEZE_SECONDS
        together(siege, ["host frozen"], record)
        siege.freeze_seconds = FREEZE_SECONDS
    order = schedule(siege.rng, names)
    time.sleep(min(3.0, pause))
    while time.monotonic() < end:
        chosen = [next(order)]
        if siege.rng.random() < TOGETHER:
            second = next(order)
            if second not in chosen and not {second, *chosen} <= DATABASE_FAULTS:
                chosen = sorted([*chosen, second], key=lambda name: name != "rolling reload")  # whose end comes last
            else:
                together(siege, [second], record)
        together(siege, chosen, record)
        time.sleep(max(0.0, min(siege.rng.uniform(0.5, 1.5) * pause, end - time.monotonic())))


def schedule(rng: Random, names: list[str]) -> Iterator[str]:
    """Yield every fault in random order, again and again."""
    while True:
        yield from rng.sample(names, len(names))


def together(siege: Siege, names: list[str], record: Path) -> None:
    """Begin some faults, hold and end them, and wait until all runs again."""
    lines = []
    with ExitStack() as stack:
        for name in names:
            line = {"name": name, "began": time.monotonic()}
            line["hit"] = stack.enter_context(FAULTS[name][0](siege))
            say(f"begin  {name}: {', '.join(map(str, line['hit'])) or '-'}")
            lines.append(line)
        time.sleep(max(FAULTS[name][1] for name in names))
    say(f"end    {', '.join(names)}")
    ready(siege)
    with record.open("a") as file:
        for line in lines:
            file.write(json.dumps(line | {"ended": time.monotonic()}) + "\n")


def settle(siege: Siege) -> None:
    """Wait until no work is left, reconcile to the end, and wait again."""
    quiet(siege)
    say("All work is done; reconciling")
    for attempt in range(RECONCILES):
        try:
            siege.sites[0].flask("reconcile")
            break
        except RuntimeError as failed:
            say(f"reconcile: {str(failed)[-300:]}")
            if attempt == RECONCILES - 1:
                raise
    quiet(siege)
    say("Checking")
    siege.sites[0].flask("rebuild", "--check")


def quiet(siege: Siege) -> None:
    """Wait until spools are empty, all callbacks digested and all runs over."""

    def undone() -> dict[str, int]:
        counts = {f"spool of {site.host.name}": site.spooled() for site in siege.sites}
        try:
            counts |= dict(siege.cluster.primary.query(UNDONE, database="siege"))
        except psycopg.Error:
            counts["database"] = 1
        return {name: count for name, count in counts.items() if count}

    deadline = time.monotonic() + QUIET_SECONDS
    while left := undone():
        if time.monotonic() > deadline:
            raise TimeoutError(f"still undone after {QUIET_SECONDS:.0f} s: {left}")
        say(f"Waiting for {', '.join(f'{count} {name}' for name, count in left.items())}")
        time.sleep(PROGRESS_SECONDS / 2)


def show_progress(recorder: Recorder, over: threading.Event) -> None:
    """Print the numbers of answers now and then."""
    while not over.wait(PROGRESS_SECONDS):
        say(report.counts(recorder.counts))


def say(text: str) -> None:
    """Print a line with the time since the machine's start, as in all records."""
    print(f"{time.monotonic():9.1f}  {text}", flush=True)
