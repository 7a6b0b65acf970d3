"""The benchmark of reading: each page of the dashboard, and each API list in every order and with every filter.

Lists are measured on the first and on the 1,000th page; searches with rare, common and absent words. The requests go to
the Flask app in this process, without server and network. A small dataset is measured beside a large dataset.
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
from benchmarks.page_requests import PageRequest, build_requests
from benchmarks.progress import Progress
from benchmarks.servers import Databases
from config import Settings

# Aims for the p95 in milliseconds: for a list, a search with a word of three letters or more, and any other search.
AIM_LIST_MS, AIM_SEARCH_MS, AIM_SHORT_SEARCH_MS = 50, {"postgresql": 100, "sqlite": 150}, 1_000
TRIGRAM_LETTERS = 3
WARM_UP_REQUESTS = 3  # requests that fill the caches and are not measured
TOKEN, PASSWORD = "the-token-of-the-benchmarks", "the-password-of-the-benchmarks"


def run(databases: Databases, *, sizes: Mapping[str, tuple[int, int]], repeats: int) -> bool:
    """Measure each kind of database with a small and a large dataset. Returns whether all aims were met."""
    met = [_run_kind(databases, kind, *pair, repeats=repeats) for kind, pair in sizes.items()]
    return all(met)


def _run_kind(databases: Databases, kind: str, small: int, large: int, *, repeats: int) -> bool:
    print(f"\nPages, {kind}: {small:,} and {large:,} packages; {repeats} requests each, in milliseconds")
    with ExitStack() as stack:
        datasets = []
        for size in (small, large):
            url, started = stack.enter_context(databases.fresh(kind)), time.perf_counter()
            dataset.fill(url, size)
            print(f"  {size:,} packages written in {time.perf_counter() - started:.0f} s")
            datasets.append((url, size))
        return measure(*datasets, kind=kind, repeats=repeats)


def measure(small: tuple[str, int], large: tuple[str, int], *, kind: str, repeats: int) -> bool:
    """Measure two datasets, given as (URL, packages), and print the results. Returns whether all aims were met.

    The requests alternate between the two datasets, so that a disturbance affects both datasets.
    """
    progress, missed = Progress(), 0
    print(f"  {'':<44}{'p50':>7}{'p95':>7}{'p50':>9}{'p95':>7}{'ratio':>7}{'aim':>9}")
    with (
        logged_in_client(*small) as (small_client, small_requests),
        logged_in_client(*large) as (large_client, large_requests),
    ):
        gc.freeze()  # exclude loaded objects from garbage collection, as gunicorn's workers do
        for name, request in large_requests.items():
            progress.show(name)
            times = [
                (_time_request(small_client, small_requests[name]), _time_request(large_client, request))
                for _ in range(WARM_UP_REQUESTS + repeats)
            ]
            small_times, large_times = zip(*times[WARM_UP_REQUESTS:], strict=True)
            progress.end()
            missed += not _print_row(name, small_times, large_times, aim=aim_ms(request, kind))
        gc.unfreeze()
    print(f"  {missed} of {len(large_requests)} missed their aim")
    return not missed


def aim_ms(request: PageRequest, kind: str) -> int:
    """Return the aim for the p95 of a request, in milliseconds."""
    words = words_of(request.query.get("q", ""))
    if not words:
        return AIM_LIST_MS
    return AIM_SEARCH_MS[kind] if max(map(len, words)) >= TRIGRAM_LETTERS else AIM_SHORT_SEARCH_MS


def _print_row(name: str, small: Sequence[float], large: Sequence[float], *, aim: int) -> bool:
    (small_p50, small_p95), (p50, p95) = ((quantile(times, 0.5), quantile(times, 0.95)) for times in (small, large))
    print(
        f"  {name:<44}{small_p50:>7.1f}{small_p95:>7.1f}{p50:>9.1f}{p95:>7.1f}{p50 / small_p50:>7.2f}"
        f"{aim:>9}{'' if p95 <= aim else '   MISSED'}",
        flush=True,
    )
    return p95 <= aim


def quantile(values: Sequence[float], fraction: float) -> float:
    """Return the value below which the given fraction of the values lies."""
    return sorted(values)[min(int(fraction * len(values)), len(values) - 1)]


@contextmanager
def logged_in_client(url: str, size: int) -> Iterator[tuple[FlaskClient, dict[str, PageRequest]]]:
    """Yield a client that is logged in to a service on this dataset, and the requests to measure by their names."""
    settings = Settings(database_url=url, api_tokens=f"benchmarks={TOKEN}", dashboard_password=PASSWORD)
    app = create_app(settings, handlers=Handlers(), clock=lambda: dataset.NOW)
    database: Database = app.extensions[EXTENSION].database
    client = app.test_client()
    _log_in(client)
    yield client, {request.name: request for request in build_requests(database, size)}
    database.close()


def _time_request(client: FlaskClient, request: PageRequest) -> float:
    """Send a request and return the milliseconds until its answer."""
    headers = {"Authorization": f"Bearer {TOKEN}"} if request.path.startswith("/api/") else {}
    started = time.perf_counter()
    answer = client.get(request.path, query_string=request.query, headers=headers)
    milliseconds = (time.perf_counter() - started) * 1000
    assert answer.status_code == 200, (request, answer.text[:500])
    return milliseconds


def _log_in(client: FlaskClient) -> None:
    form = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/login").text)
    answer = client.post("/login", data={"csrf_token": form[1] if form else "", "password": PASSWORD})
    assert answer.status_code == 303, answer.text[:500]
