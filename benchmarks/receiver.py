"""The door under load, beside a view that does nothing and beside the tutorial's way."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from benchmarks.servers import Databases, count, load, served
from config import ROOT

CLIENTS = 16
OURS = str(ROOT / "gunicorn.conf.py")
AIM_NOTHING, AIM_TUTORIAL, AIM_P99 = 0.35, 2.5, 0.5
KINDS = ("sqlite", "postgresql")


@dataclass(frozen=True)
class Way:
    """One way to take callbacks. `table` has a row for each callback that it kept."""

    name: str
    app: str
    path: str = "/callback"
    table: str = ""
    owner: str = "ours"
    worker: str = ""
    configuration: str | None = None

    def measure(self, databases: Databases, kind: str, *, seconds: float) -> "Measure":
        """Start it on a fresh database, load it, and count what it kept."""
        if not self.table:
            with served(self.app) as server:
                return Measure(load(server, self.path, clients=CLIENTS, warm_up=1, seconds=seconds), kept=None)
        with databases.fresh(kind, owner=self.owner) as url:
            environment = {"DATABASE_URL": url, "WORKER": self.worker}
            with served(self.app, environment=environment, configuration=self.configuration) as server:
                answers = load(server, self.path, clients=CLIENTS, warm_up=1, seconds=seconds)
            return Measure(answers, kept=count(url, self.table))


@dataclass(frozen=True)
class Measure:
    """What the client saw, and how many rows were kept."""

    answers: dict
    kept: int | None

    @property
    def accepted(self) -> int:
        """2xx, those of the warm-up too."""
        return sum(many for status, many in self.answers["statuses"].items() if status.startswith("2"))

    @property
    def refused(self) -> int:
        """All else."""
        return sum(self.answers["statuses"].values()) - self.accepted

    @property
    def all_kept(self) -> bool:
        """A row for every 2xx."""
        return self.kept is None or self.kept == self.accepted


NOTHING = Way("no-op", "benchmarks.baselines:nothing()")
TUTORIAL = Way("tutorial", "benchmarks.baselines:tutorial()", table="events", owner="tutorial")
DOOR = Way("door", "wsgi:app", "/onespan/callback", "journal", worker="external", configuration=OURS)
EMBEDDED = Way("door, working", "wsgi:app", "/onespan/callback", "journal", worker="embedded", configuration=OURS)

Measures = dict[tuple[str, str], list[Measure]]


def run(databases: Databases, *, seconds: float, rounds: int) -> bool:
    """Measure every way in turn, several times over, and print medians. Returns whether the aims were met."""
    print(f"\nThe door: {CLIENTS} clients, {rounds} rounds of {seconds:g} s after 1 s of warm-up, medians")
    print(
        "  door: WORKER=external, like for like; door, working: WORKER=embedded, also digests and runs app/handlers.py"
    )
    measures: Measures = {}
    for _ in range(rounds):
        measures.setdefault(("", NOTHING.name), []).append(NOTHING.measure(databases, "", seconds=seconds))
        for kind in KINDS:
            for way in (TUTORIAL, DOOR, EMBEDDED):
                measures.setdefault((kind, way.name), []).append(way.measure(databases, kind, seconds=seconds))
    print(f"  {'':<12}{'':<15}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'cpu ms':>9}{'non-2xx':>9}   rows kept = 2xx")
    for (kind, name), all_ in measures.items():
        print(f"  {kind:<12}{name:<15}{_row(all_)}")
    met = [_judge(kind, measures) for kind in KINDS]
    return all(met)


def _row(all_: Iterable[Measure]) -> str:
    all_ = list(all_)
    refused = sum(one.refused for one in all_)
    kept = "" if all_[0].kept is None else "yes" if all(one.all_kept for one in all_) else "NO"
    seen = f"{_of(all_, 'per_second'):>9.0f}{_of(all_, 'p50'):>9.1f}{_of(all_, 'p99'):>9.1f}{_of(all_, 'cpu'):>9.2f}"
    return f"{seen}{refused:>9}   {kept}"


def _of(all_: Iterable[Measure], what: str) -> float:
    return median(one.answers[what] for one in all_)


def _judge(kind: str, measures: Measures) -> bool:
    nothing, tutorial = measures["", NOTHING.name], measures[kind, TUTORIAL.name]
    met = []
    for way in (DOOR, EMBEDDED):
        ours = measures[kind, way.name]
        floor = _of(ours, "per_second") / _of(nothing, "per_second")
        speed = _of(ours, "per_second") / _of(tutorial, "per_second")
        late = _of(ours, "p99") / _of(tutorial, "p99")
        kept = all(one.all_kept and not one.refused for one in ours)
        aims = (floor >= AIM_NOTHING, speed >= AIM_TUTORIAL, late <= AIM_P99, kept)
        marks = ["met" if aim else "MISSED" for aim in aims]
        print(
            f"  {kind:<12}{way.name:<15}"
            f"{floor:.2f} of no-op (aim {AIM_NOTHING}: {marks[0]}), "
            f"{speed:.2f} x tutorial (aim {AIM_TUTORIAL}: {marks[1]}), "
            f"p99 {late:.2f} of tutorial's (aim {AIM_P99}: {marks[2]}), all kept: {marks[3]}"
        )
        met += aims if way is DOOR else [kept]
    return all(met)
