"""The benchmark of the receiver under load, beside a view that does nothing and a tutorial's implementation."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from benchmarks.servers import Databases, count_rows, run_load, start_gunicorn, wait_until_handled
from config import ROOT

CLIENTS = 16
CONFIG_FILE = str(ROOT / "gunicorn.conf.py")
# Aims: callbacks per second divided by those of the no-op and of the tutorial, and the p99 of the answers in ms.
AIMS = {"receiver": (0.5, 2.0), "receiver+worker": (0.25, 2.0)}
AIM_P99_MS = 100
KINDS = ("sqlite", "postgresql")


@dataclass(frozen=True)
class Variant:
    """An implementation of the callback endpoint. Its `table` has a row for each callback that it stored."""

    name: str
    app: str
    path: str = "/callback"
    table: str = ""
    schema: str = "service"
    worker: str = ""
    config_file: str | None = None

    def measure(self, databases: Databases, kind: str, *, seconds: float) -> "Measurement":
        """Start the server on an empty database, put load on the server, and count the stored callbacks."""
        if not self.table:
            with start_gunicorn(self.app) as server:
                load = run_load(server, self.path, clients=CLIENTS, warm_up=1, seconds=seconds)
            return Measurement(load, stored=None)
        with databases.fresh(kind, schema=self.schema) as url:
            environment = {"DATABASE_URL": url, "WORKER": self.worker}
            with start_gunicorn(self.app, environment=environment, config_file=self.config_file) as server:
                load = run_load(server, self.path, clients=CLIENTS, warm_up=1, seconds=seconds)
                if self.worker == "embedded":  # until then the callbacks are only stored
                    elapsed = wait_until_handled(url) - load["began_at"]
                    load["per_second"] = sum(load["statuses"].values()) / elapsed
            return Measurement(load, stored=count_rows(url, self.table))


@dataclass(frozen=True)
class Measurement:
    """The load generator's results, and the number of stored callbacks."""

    load: dict
    stored: int | None

    @property
    def accepted(self) -> int:
        """The number of 2xx answers, including those to the warm-up."""
        return sum(count for status, count in self.load["statuses"].items() if status.startswith("2"))

    @property
    def refused(self) -> int:
        """The number of answers other than 2xx, and of callbacks without an answer."""
        return sum(self.load["statuses"].values()) - self.accepted

    @property
    def is_complete(self) -> bool:
        """Whether the table has a row for every 2xx answer."""
        return self.stored is None or self.stored == self.accepted


NO_OP = Variant("no-op", "benchmarks.baselines:no_op()")
TUTORIAL = Variant("tutorial", "benchmarks.baselines:tutorial()", table="events", schema="tutorial")
RECEIVER, RECEIVER_WITH_WORKER = (
    Variant(name, "wsgi:app", "/onespan/callback", "journal", worker=worker, config_file=CONFIG_FILE)
    for name, worker in (("receiver", "external"), ("receiver+worker", "embedded"))
)

Measurements = dict[tuple[str, str], list[Measurement]]  # measurements by database kind and variant name


def run(databases: Databases, *, seconds: float, rounds: int) -> bool:
    """Measure the variants in turn, `rounds` times, and print medians. Returns whether the aims were met."""
    print(f"\nReceiver: {CLIENTS} clients, {rounds} rounds of {seconds:g} s after 1 s of warm-up, medians")
    print("  receiver: WORKER=external, does the same work as the tutorial")
    print("  receiver+worker: WORKER=embedded, until all functions of app/handlers.py have run for each callback")
    measurements: Measurements = {}
    for _ in range(rounds):
        measurements.setdefault(("", NO_OP.name), []).append(NO_OP.measure(databases, "", seconds=seconds))
        for kind in KINDS:
            for variant in (TUTORIAL, RECEIVER, RECEIVER_WITH_WORKER):
                measurement = variant.measure(databases, kind, seconds=seconds)
                measurements.setdefault((kind, variant.name), []).append(measurement)
    print(f"  {'':<12}{'':<15}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'cpu ms':>9}{'non-2xx':>9}   rows = 2xx")
    for (kind, name), rounds_measured in measurements.items():
        print(f"  {kind:<12}{name:<15}{_table_row(rounds_measured)}")
    met = [_check_aims(kind, measurements) for kind in KINDS]
    return all(met)


def _table_row(rounds: list[Measurement]) -> str:
    refused = sum(measurement.refused for measurement in rounds)
    stored = (
        "" if rounds[0].stored is None else "yes" if all(measurement.is_complete for measurement in rounds) else "NO"
    )
    per_second, p50, p99, cpu = (_median(rounds, name) for name in ("per_second", "p50", "p99", "cpu"))
    return f"{per_second:>9.0f}{p50:>9.1f}{p99:>9.1f}{cpu:>9.2f}{refused:>9}   {stored}"


def _median(rounds: Iterable[Measurement], name: str) -> float:
    return median(measurement.load[name] for measurement in rounds)


def _check_aims(kind: str, measurements: Measurements) -> bool:
    no_op, tutorial = measurements["", NO_OP.name], measurements[kind, TUTORIAL.name]
    met = []
    for variant in (RECEIVER, RECEIVER_WITH_WORKER):
        rounds = measurements[kind, variant.name]
        of_no_op = _median(rounds, "per_second") / _median(no_op, "per_second")
        of_tutorial = _median(rounds, "per_second") / _median(tutorial, "per_second")
        p99 = _median(rounds, "p99")
        is_complete = all(measurement.is_complete and not measurement.refused for measurement in rounds)
        aim_no_op, aim_tutorial = AIMS[variant.name]
        aims = (of_no_op >= aim_no_op, of_tutorial >= aim_tutorial, p99 <= AIM_P99_MS, is_complete)
        marks = ["met" if aim else "MISSED" for aim in aims]
        print(
            f"  {kind:<12}{variant.name:<15} "
            f"{of_no_op:.2f} of no-op (aim {aim_no_op}: {marks[0]}), "
            f"{of_tutorial:.2f} x tutorial (aim {aim_tutorial}: {marks[1]}), "
            f"p99 {p99:.0f} ms (aim {AIM_P99_MS}: {marks[2]}), all stored: {marks[3]}"
        )
        met += aims
    return all(met)
