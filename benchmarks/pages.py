"""What it takes to read: each page for people, and each list of the API in every order and with every filter.

Of lists the first and the 1,000th page; of searches rare, common and absent words. Asked of the Flask app itself, in
this process: no server, no network. Beside each figure is what the same takes with fewer packages.
"""

import gc
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from flask.testing import FlaskClient

from app import EXTENSION, create_app
from app.handling import Handlers
from app.store.db import Database
from app.store.search import words_of
from benchmarks import dataset
from benchmarks.page_requests import Ask, asks
from benchmarks.progress import Progress
from benchmarks.servers import Databases
from config import Settings

# Milliseconds that a list, a search for words of three letters or more, and one for a shorter word may take.
LIST, SEARCH, SHORT_SEARCH = 50, {"postgresql": 100, "sqlite": 150}, 1_000
TRIGRAM = 3  # letters
WARM_UP = 3  # times before: caches fill
TOKEN, PASSWORD = "the-token-of-the-benchmarks", "the-password-of-the-benchmarks"


def run(databases: Databases, *, sizes: Mapping[str, tuple[int, int]], asked: int) -> bool:
    """Measure on each kind of database with few and with many packages. Returns whether all aims were met."""
    met = [_compare(databases, kind, *both, asked=asked) for kind, both in sizes.items()]
    return all(met)


def _compare(databases: Databases, kind: str, few: int, many: int, *, asked: int) -> bool:
    print(f"\nReading, {kind}: {few:,} packages beside {many:,}; each asked {asked} times, in milliseconds")
    with ExitStack() as stack:
        urls = []
        for size in (few, many):
            url, began = stack.enter_context(databases.fresh(kind)), time.perf_counter()
            dataset.fill(url, size)
            print(f"  {size:,} packages written in {time.perf_counter() - began:.0f} s")
            urls.append((url, size))
        return measure(*urls, kind=kind, asked=asked)


def measure(few: tuple[str, int], many: tuple[str, int], *, kind: str, asked: int) -> bool:
    """Ask both in turns, so that what disturbs disturbs both, and print how long each answer took."""
    progress, missed = Progress(), 0
    print(f"  {'':<44}{'p50':>7}{'p95':>7}{'p50':>9}{'p95':>7}{'ratio':>7}{'at most':>9}")
    with visiting(*few) as (small, of_few), visiting(*many) as (large, of_many):
        gc.freeze()  # as gunicorn's workers do
        for name, ask in of_many.items():
            progress.show(name)
            times = [(_answered(small, of_few[name]), _answered(large, ask)) for _ in range(WARM_UP + asked)]
            quick, slow = (sorted(column) for column in zip(*times[WARM_UP:], strict=True))
            progress.end()
            missed += not _show(name, quick, slow, aim=aim(ask, kind))
        gc.unfreeze()
    print(f"  {missed} of {len(of_many)} took longer than they may")
    return not missed


def aim(ask: Ask, kind: str) -> int:
    """Milliseconds that an answer may take, 19 times of 20."""
    words = words_of(ask.query.get("q", ""))
    if not words:
        return LIST
    return SEARCH[kind] if max(map(len, words)) >= TRIGRAM else SHORT_SEARCH


def _show(name: str, few: Sequence[float], many: Sequence[float], *, aim: int) -> bool:
    middle, late = quantile(many, 0.5), quantile(many, 0.95)
    ratio = middle / quantile(few, 0.5)
    print(
        f"  {name:<44}{quantile(few, 0.5):>7.1f}{quantile(few, 0.95):>7.1f}{middle:>9.1f}{late:>7.1f}{ratio:>7.2f}"
        f"{aim:>9}{'' if late <= aim else '   MISSED'}",
        flush=True,
    )
    return late <= aim


def quantile(values: Sequence[float], share: float) -> float:
    """The value that so large a share of them does not exceed."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


@contextmanager
def visiting(url: str, many: int) -> Iterator[tuple[FlaskClient, dict[str, Ask]]]:
    """Somebody who has logged in to the service on this database of so many packages, and what they will ask."""
    settings = Settings(database_url=url, api_tokens=f"benchmarks={TOKEN}", dashboard_password=PASSWORD)
    app = create_app(settings, handlers=Handlers(), clock=lambda: dataset.NOW)
    database: Database = app.extensions[EXTENSION].database
    client = app.test_client()
    _log_in(client)
    yield client, {ask.name: ask for ask in asks(database, many)}
    database.close()


def _answered(client: FlaskClient, ask: Ask) -> float:
    """How many milliseconds the answer took."""
    headers = {"Authorization": f"Bearer {TOKEN}"} if ask.path.startswith("/api/") else {}
    began = time.perf_counter()
    answer = client.get(ask.path, query_string=ask.query, headers=headers)
    took = (time.perf_counter() - began) * 1000
    assert answer.status_code == 200, (ask, answer.text[:500])
    return took


def _log_in(client: FlaskClient) -> None:
    form = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/login").text)
    answer = client.post("/login", data={"csrf_token": form[1] if form else "", "password": PASSWORD})
    assert answer.status_code == 303, answer.text[:500]
