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


def measure(few: tuple[str, int], many: tuple[str, int], *, asked: int) -> dict[str, tuple[list[float], list[float]]]:
    """Milliseconds of each answer, by what was asked; both are asked in turns, so that what disturbs disturbs both."""
    progress, took = Progress(), {}
    with visiting(*few) as (small, of_few), visiting(*many) as (large, of_many):
        gc.freeze()  # as gunicorn's workers do
        for name, ask in of_many.items():
            progress.show(name)
            pairs = [(_answered(small, of_few[name]), _answered(large, ask)) for _ in range(WARM_UP + asked)][WARM_UP:]
            took[name] = tuple(map(list, zip(*pairs, strict=True)))
        gc.unfreeze()
    progress.end()
    return took


def show(took: dict[str, tuple[list[float], list[float]]]) -> tuple[bool, list[str]]:
    """Print the table. Returns whether all aims were met, and what took longest."""
    print(f"  {'':<44}{'p50':>7}{'p95':>7}{'p50':>9}{'p95':>7}{'ratio':>7}")
    missed = 0
    for name, (few, many) in took.items():
        small, large = quantile(few, 0.95), quantile(many, 0.95)
        is_met = large <= AIM and large <= RATIO * small
        missed += not is_met
        print(
            f"  {name:<44}{quantile(few, 0.5):>7.1f}{small:>7.1f}{quantile(many, 0.5):>9.1f}{large:>7.1f}"
            f"{large / small:>7.2f}{'' if is_met else '   MISSED'}"
        )
    print(f"  (aim: a p95 of {AIM} ms, and {RATIO} times that of few, at most: {missed} of {len(took)} missed)")
    return not missed, sorted(took, key=lambda name: -quantile(took[name][1], 0.5))[:SLOWEST]


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


def _answered(client: FlaskClient, ask: Ask) -> float:
    began = time.perf_counter()
    headers = {"Authorization": f"Bearer {TOKEN}"} if ask.path.startswith("/api/") else {}
    answer = client.get(ask.path, query_string=ask.query, headers=headers)
    took = (time.perf_counter() - began) * 1000
    assert answer.status_code == 200, (ask, answer.text[:500])
    return took


def _log_in(client: FlaskClient) -> None:
    form = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/login").text)
    answer = client.post("/login", data={"csrf_token": form[1] if form else "", "password": PASSWORD})
    assert answer.status_code == 303, answer.text[:500]
