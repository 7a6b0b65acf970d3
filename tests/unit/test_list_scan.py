"""Tests of the list scan, which sees every unchanged package, however OneSpan's list behaves or changes."""

from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InconsistentList, UnreadableAnswer
from app.onespan.list_scan import PAGE_SIZE, ScanState, list_query, next_step, parse_page
from app.types import iso
from tests.conftest import NOON
from tests.support.strategies import examples

SECOND = timedelta(seconds=1)


class FakeList:
    """A fake of OneSpan's list, sorted by update or by creation, which counts all rows or those of a page."""

    def __init__(
        self, size: int, *, first: int = 0, largest: int = 100, newest_first: bool = True, counts_all: bool = True
    ) -> None:
        # Each row is a package id and the time of its last change, in seconds since noon.
        self.rows = [(f"p{number}", number) for number in range(size)]
        self.first, self.largest, self.newest_first, self.counts_all = first, largest, newest_first, counts_all
        self.clock, self.requests = size, 0

    def page(self, query: dict[str, Any]) -> dict[str, Any]:
        """Return the requested page of the list."""
        self.requests += 1
        order = sorted(self.rows, key=lambda row: row[1], reverse=True) if self.newest_first else self.rows
        begin = max(query["from"], self.first) - self.first
        end = min(query["to"] + 1 - self.first, begin + self.largest)
        rows = [
            {"id": name, "updated": iso(NOON + at * SECOND), "created": iso(NOON + int(name[1:]) * SECOND)}
            for name, at in order[begin:end]
        ]
        return {"count": len(order) if self.counts_all else len(rows), "results": rows}

    def change(self, name: str) -> None:
        """Make a package the most recently updated package."""
        self.clock += 1
        self.rows = [(row_id, self.clock if row_id == name else at) for row_id, at in self.rows]

    def create(self) -> None:
        """Add a new package to the list."""
        self.clock += 1
        self.rows.append((f"p{self.clock}", self.clock))

    def remove(self, name: str) -> None:
        """Remove a package from the folder."""
        self.rows = [row for row in self.rows if row[0] != name]


def scan(fake: FakeList, meanwhile: Callable[[], None] = lambda: None, *, since: str | None = None) -> set[str]:
    """Scan the list and return the package ids that it showed; call `meanwhile` after each page."""
    passed: dict[str, int] = {}
    state: ScanState | None = ScanState()
    for _ in range(2_000):
        if state is None:
            return set(passed)
        page = parse_page(fake.page(list_query({}, state, since=None, now=NOON)))
        step = next_step(state, page, passed=passed, since=since)
        passed |= dict.fromkeys(step.seen, state.passes)
        state = step.next_state
        meanwhile()
    raise AssertionError("the scan does not end")


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 250, 1000])
def test_unchanged_list_takes_one_request_per_page(size):
    """A scan requests no page of an unchanged list twice, if the list is ordered and counts all rows."""
    fake = FakeList(size)

    assert scan(fake) == {name for name, _ in fake.rows}
    assert fake.requests <= max(1, -(-size // PAGE_SIZE)) + (0 < size <= PAGE_SIZE or size % PAGE_SIZE == 0)


@settings(max_examples=examples(300))
@given(
    size=st.integers(0, 260),
    first=st.sampled_from([0, 1]),
    largest=st.sampled_from([2, 7, 10, 50, 99, 100, 10**6]),
    variant=st.tuples(st.booleans(), st.booleans()),
    seed=st.integers(0, 10**6),
    activity=st.sampled_from([0, 0.2, 1, 3]),
)
def test_unchanged_packages_are_seen_in_every_variant(size, first, largest, variant, seed, activity):  # noqa: PLR0917
    """A scan sees every unchanged package, even if others are created, changed or removed between pages."""
    (newest_first, counts_all), random = variant, Random(seed)
    fake = FakeList(size, first=first, largest=largest, newest_first=newest_first, counts_all=counts_all)
    unchanged = {name for name, _ in fake.rows}
    left = [60]

    def meanwhile() -> None:
        while left[0] and random.random() * (1 + activity) < activity:
            left[0] -= 1
            if random.random() < 0.3 or not fake.rows:
                fake.create()
                continue
            name, _ = random.choice(fake.rows)
            unchanged.discard(name)
            (fake.change if random.random() < 0.5 else fake.remove)(name)

    try:
        seen = scan(fake, meanwhile)
    except InconsistentList:
        assert activity, "an unchanged list is consistent"
        return
    assert unchanged <= seen


def test_page_smaller_than_earlier_pages_is_the_last():
    """A page of thirty rows is the last page if OneSpan has shown pages of a hundred rows before."""
    fake = FakeList(30)
    page = parse_page(fake.page(list_query({}, ScanState(), since=None, now=NOON)))

    assert next_step(ScanState(largest=100), page, passed={}, since=None).next_state is None
    assert next_step(ScanState(), page, passed={}, since=None).next_state, "this may be a small page of a larger list"


def test_scan_stops_at_the_window_of_a_list_that_ignores_dates():
    """If a list is sorted newest first, a scan stops at the first package that is older than the start time."""
    fake = FakeList(1000)
    fake.change("p3")

    assert scan(fake, since=iso(NOON + 950 * SECOND)) >= {"p3", *(f"p{number}" for number in range(950, 1000))}
    assert fake.requests == 1


def test_law_5_list_that_ignores_dates_and_order_is_scanned_completely():
    """A list that ignores dates and order is scanned completely, even if its first page seems to be ordered."""
    fake = FakeList(300)
    fake.change("p150")
    original = fake.page
    fake.rows.sort(key=lambda row: int(row[0][1:]), reverse=True)
    fake.newest_first = False
    fake.page = lambda query: original({**query})

    assert "p150" in scan(fake, since=iso(NOON + 280 * SECOND))


@pytest.mark.parametrize("count", [300, 1000])
def test_capped_count_does_not_end_the_scan(count):
    """A scan goes on after a full page, even if the list's count says that this page is the last."""
    fake = FakeList(2500)
    original = fake.page
    fake.page = lambda query: original(query) | {"count": count}

    assert len(scan(fake)) == 2500


def test_count_larger_than_the_list_ends_the_scan():
    """A scan ends after three passes without a new package, as the list's count may include invisible packages."""
    fake = FakeList(250)
    original = fake.page
    fake.page = lambda query: original(query) | {"count": 260}

    assert len(scan(fake)) == 250


@pytest.mark.parametrize("seed", range(5))
def test_packages_updated_in_one_instant_are_all_seen(seed):
    """A scan in the stable order of creation sees all packages that were updated at the same instant."""
    fake, random = FakeList(900), Random(seed)

    def page(query: dict[str, Any]) -> dict[str, Any]:
        fake.newest_first = query["sort"] == "updated"
        fake.rows = [(name, int(name[1:]) // 300) for name, _ in fake.rows]
        random.shuffle(fake.rows) if fake.newest_first else fake.rows.sort(key=lambda row: int(row[0][1:]))
        return FakeList.page(fake, query)

    fake.page = page

    assert len(scan(fake)) == 900


@pytest.mark.parametrize("size", [100, 250])
def test_pages_that_do_not_overlap_are_inconsistent(size):
    """A scan gives up on a list whose pages are empty unless they begin at a multiple of 100."""
    fake = FakeList(size, counts_all=False)
    original = fake.page
    fake.page = lambda query: original(query) if query["from"] % PAGE_SIZE == 0 else {"count": 0, "results": []}

    with pytest.raises(InconsistentList):
        scan(fake)
    assert fake.requests < 50


def test_list_without_paging_is_inconsistent():
    """A list that always shows its first page, but counts more packages, is inconsistent."""
    fake = FakeList(250)
    fake.page = lambda query, page=fake.page: page({"from": 0, "to": 99})

    with pytest.raises(InconsistentList):
        scan(fake)


@pytest.mark.parametrize("size", [1, 2, 3, 250])
def test_list_without_paging_is_accepted_if_it_shows_all(size):
    """A list that ignores paging is accepted if it shows all packages on every request."""
    fake = FakeList(size, largest=10**6)
    fake.page = lambda query, page=fake.page: page({"from": 0, "to": 10**6})

    assert scan(fake) == {name for name, _ in fake.rows}


def test_unparsable_rows_do_not_stop_the_scan():
    """A scan counts and skips list rows that it cannot parse."""
    fake = FakeList(150)
    original = fake.page

    def with_invalid_row(query: dict[str, Any]) -> dict[str, Any]:
        page = original(query)
        return {**page, "results": [{} if row["id"] == "p120" else row for row in page["results"]]}

    fake.page = with_invalid_row

    assert scan(fake) == {name for name, _ in fake.rows} - {"p120"}


@pytest.mark.parametrize("answer", [None, [], {}, {"results": None}, {"count": 3, "results": {}}])
def test_answer_without_results_is_rejected(answer):
    """An answer without results is rejected instead of being read as an empty list."""
    with pytest.raises(UnreadableAnswer):
        parse_page(answer)


def test_both_names_of_the_dates_are_sent():
    """A list request sends each date under its old and its new name, because OneSpan ignores unknown names."""
    query = list_query({"query": "trashed"}, ScanState(offset=100), since=NOON, now=NOON)

    assert query["lastUpdatedStartDate"] == query["startDate"] == "2026-03-02T12:00:00Z"
    assert query["lastUpdatedEndDate"] == query["endDate"] == "2026-03-03T12:00:00Z"
    assert (query["from"], query["to"], query["query"]) == (100, 199, "trashed")
    assert (query["sort"], query["dir"]) == ("updated", "desc")
