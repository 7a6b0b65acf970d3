"""What it takes to read: each page for people, and each list of the API in every order and with every filter.

Of lists the first and the 1,000th page; of searches rare, common and absent words.
Asked of the Flask app itself, in this process: no server, no network. Beside each figure is what the same takes with
fewer packages.
"""

import gc
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from flask.testing import FlaskClient

from app import EXTENSION, create_app
from app.store.db import Database
from app.work.dispatch import Handlers
from benchmarks import crowd, plan
from benchmarks.asks import Ask, asks
from benchmarks.places import Databases
from benchmarks.progress import Progress
from config import Settings

AIM, RATIO = 50, 2  # milliseconds; times what it takes with fewer packages
ALIKE = 0.8  # of its bytes an answer must have to be compared with another
WARM_UP = 12  # times before: PostgreSQL plans a statement anew a few times
SLOWEST = 5  # whose plans are kept
TOKEN, PASSWORD = "the-token-of-the-benchmarks", "the-password-of-the-benchmarks"


def run(databases: Databases, *, sizes: Mapping[str, tuple[int, int]], asked: int, keeps_plans: bool) -> bool:
    """Measure on each kind of database with few and with many packages. Returns whether all aims were met."""
    met = [_compare(databases, kind, *both, asked=asked, keeps_plans=keeps_plans) for kind, both in sizes.items()]
    return all(met)


def _compare(databases: Databases, kind: str, few: int, many: int, *, asked: int, keeps_plans: bool) -> bool:
    print(f"\nReading, {kind}: {few:,} packages beside {many:,}; each asked {asked} times, in milliseconds")
    with ExitStack() as stack:
        urls = []
        for size in (few, many):
            url, began = stack.enter_context(databases.fresh(kind)), time.perf_counter()
            crowd.fill(url, size)
            print(f"  {size:,} packages written in {time.perf_counter() - began:.0f} s")
            urls.append((url, size))
        met, slowest = show(measure(*urls, asked=asked))
        if keeps_plans:
            keep_plans(*urls[1], slowest)
    return met


@dataclass(frozen=True, slots=True)
class Took:
    """Milliseconds of each answer with few and with many packages, and how many bytes the last of each had."""

    few: list[float]
    many: list[float]
    bytes: tuple[int, int]

    @property
    def is_alike(self) -> bool:
        """Whether there is as much in both answers; few packages that fit do not fill a page, so they take less."""
        return self.bytes[0] >= ALIKE * self.bytes[1]

    @property
    def ratio(self) -> float:
        """How many times as long it takes with many."""
        return quantile(self.many, 0.95) / quantile(self.few, 0.95)

    @property
    def is_met(self) -> bool:
        """Whether the aims are."""
        return quantile(self.many, 0.95) <= AIM and (self.ratio <= RATIO or not self.is_alike)


def measure(few: tuple[str, int], many: tuple[str, int], *, asked: int) -> dict[str, Took]:
    """How long each answer takes, by what was asked; both are asked in turns, so that what disturbs disturbs both."""
    progress, took = Progress(), {}
    with visiting(*few) as (small, of_few), visiting(*many) as (large, of_many):
        gc.freeze()  # as gunicorn's workers do
        for name, ask in of_many.items():
            progress.show(name)
            answers = [(_answered(small, of_few[name]), _answered(large, ask)) for _ in range(WARM_UP + asked)]
            quick, slow = zip(*answers[WARM_UP:], strict=True)
            took[name] = Took([one[0] for one in quick], [one[0] for one in slow], (quick[-1][1], slow[-1][1]))
        gc.unfreeze()
    progress.end()
    return took


def show(took: dict[str, Took]) -> tuple[bool, list[str]]:
    """Print the table. Returns whether all aims were met, and what took longest."""
    print(f"  {'':<44}{'p50':>7}{'p95':>7}{'p50':>9}{'p95':>7}{'ratio':>7}")
    for name, one in took.items():
        few, many = ((quantile(times, 0.5), quantile(times, 0.95)) for times in (one.few, one.many))
        print(
            f"  {name:<44}{few[0]:>7.1f}{few[1]:>7.1f}{many[0]:>9.1f}{many[1]:>7.1f}{one.ratio:>7.2f}"
            f"{'' if one.is_alike else ' *'}{'' if one.is_met else '   MISSED'}"
        )
    missed = sum(not one.is_met for one in took.values())
    more = [one.ratio for one in took.values() if not one.is_alike]
    print(f"  (aim: a p95 of {AIM} ms, and {RATIO} times that of few, at most: {missed} of {len(took)} missed)")
    if more:
        print(
            f"  (*: with few packages there is less to show, so no ratio is aimed at; of these {len(more)} asks"
            f" {sum(ratio > RATIO for ratio in more)} take more than {RATIO} times as long, {max(more):.1f} at most)"
        )
    return not missed, sorted(took, key=lambda name: -quantile(took[name].many, 0.5))[:SLOWEST]


def keep_plans(url: str, many: int, names: Sequence[str]) -> None:
    """Keep the plans of these."""
    with visiting(url, many) as (client, asked):
        for name in names:
            with plan.kept(client.application.extensions[EXTENSION].database, f"{name}, {many:,} packages"):
                _answered(client, asked[name])


def quantile(values: Sequence[float], share: float) -> float:
    """The value that so large a share of them does not exceed."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


@contextmanager
def visiting(url: str, many: int) -> Iterator[tuple[FlaskClient, dict[str, Ask]]]:
    """Somebody who has logged in to the service on this database of so many packages, and what they will ask."""
    settings = Settings(database_url=url, api_tokens=f"benchmarks={TOKEN}", dashboard_password=PASSWORD)
    app = create_app(settings, handlers=Handlers(), clock=lambda: crowd.NOW)
    database: Database = app.extensions[EXTENSION].database
    client = app.test_client()
    _log_in(client)
    yield client, {ask.name: ask for ask in asks(database, many)}
    database.close()


def _answered(client: FlaskClient, ask: Ask) -> tuple[float, int]:
    """How many milliseconds the answer took, and how many bytes it has."""
    began = time.perf_counter()
    headers = {"Authorization": f"Bearer {TOKEN}"} if ask.path.startswith("/api/") else {}
    answer = client.get(ask.path, query_string=ask.query, headers=headers)
    took = (time.perf_counter() - began) * 1000
    assert answer.status_code == 200, (ask, answer.text[:500])
    return took, len(answer.data)


def _log_in(client: FlaskClient) -> None:
    form = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/login").text)
    answer = client.post("/login", data={"csrf_token": form[1] if form else "", "password": PASSWORD})
    assert answer.status_code == 303, answer.text[:500]
