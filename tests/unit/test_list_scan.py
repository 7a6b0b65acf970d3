"""A walk through the list sees every package that stood still, however the list behaves and moves meanwhile."""

from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import UnreadableAnswer, UnsteadyList
from app.onespan.list_scan import PAGE, Place, onward, question, read_page
from app.types import iso
from tests.conftest import NOON
from tests.support.strategies import examples

SECOND = timedelta(seconds=1)


class List:
    """OneSpan's list, with its freedoms: newest first or in order of creation, counting all or the page."""

    def __init__(
        self, size: int, *, first: int = 0, largest: int = 100, falls: bool = True, counts: bool = True
    ) -> None:
        self.rows = [(f"p{number}", number) for number in range(size)]  # id, seconds since noon of its last change
        self.first, self.largest, self.falls, self.counts = first, largest, falls, counts
        self.clock, self.asked = size, 0

    def page(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The page that is asked for."""
        self.asked += 1
        order = sorted(self.rows, key=lambda row: row[1], reverse=True) if self.falls else self.rows
        begin = max(asked["from"], self.first) - self.first
        end = min(asked["to"] + 1 - self.first, begin + self.largest)
        rows = [
            {"id": name, "updated": iso(NOON + at * SECOND), "created": iso(NOON + int(name[1:]) * SECOND)}
            for name, at in order[begin:end]
        ]
        return {"count": len(order) if self.counts else len(rows), "results": rows}

    def change(self, name: str) -> None:
        """It is updated."""
        self.clock += 1
        self.rows = [(one, self.clock if one == name else at) for one, at in self.rows]

    def create(self) -> None:
        """There is one more."""
        self.clock += 1
        self.rows.append((f"p{self.clock}", self.clock))

    def remove(self, name: str) -> None:
        """It is in the folder no more."""
        self.rows = [row for row in self.rows if row[0] != name]


def walk(shown: List, meanwhile: Callable[[], None] = lambda: None, *, since: str | None = None) -> set[str]:
    """Go through it and return whom it showed; something happens between two pages."""
    passed: dict[str, int] = {}
    place: Place | None = Place()
    for _ in range(2_000):
        if place is None:
            return set(passed)
        page = read_page(shown.page(question({}, place, since=None, now=NOON)))
        step = onward(place, page, passed=passed, since=since)
        passed |= dict.fromkeys(step.shown, place.passes)
        place = step.to
        meanwhile()
    raise AssertionError("the walk has no end")


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 250, 1000])
def test_a_list_that_stands_still_costs_a_request_per_page(size):
    """Nothing is asked twice where the list counts and is in order."""
    shown = List(size)

    assert walk(shown) == {name for name, _ in shown.rows}
    assert shown.asked <= max(1, -(-size // PAGE)) + (0 < size <= PAGE or size % PAGE == 0)


@settings(max_examples=examples(300))
@given(
    size=st.integers(0, 260),
    first=st.sampled_from([0, 1]),
    largest=st.sampled_from([2, 7, 10, 50, 99, 100, 10**6]),
    habits=st.tuples(st.booleans(), st.booleans()),
    seed=st.integers(0, 10**6),
    busy=st.sampled_from([0, 0.2, 1, 3]),
)
def test_whatever_the_list_leaves_open_who_stands_still_is_seen(size, first, largest, habits, seed, busy):  # noqa: PLR0917
    """Packages are created, changed and removed between two pages; every one that nothing happened to is shown."""
    (falls, counts), dice = habits, Random(seed)
    shown = List(size, first=first, largest=largest, falls=falls, counts=counts)
    still = {name for name, _ in shown.rows}
    left = [60]

    def meanwhile() -> None:
        while left[0] and dice.random() * (1 + busy) < busy:
            left[0] -= 1
            if dice.random() < 0.3 or not shown.rows:
                shown.create()
                continue
            name, _ = dice.choice(shown.rows)
            still.discard(name)
            (shown.change if dice.random() < 0.5 else shown.remove)(name)

    try:
        seen = walk(shown, meanwhile)
    except UnsteadyList:
        assert busy, "a list that stands still adds up"
        return
    assert still <= seen


def test_a_page_that_is_smaller_than_others_were_is_the_last():
    """This OneSpan has shown a hundred at once before, so that it shows thirty means that there are thirty."""
    shown = List(30)
    page = read_page(shown.page(question({}, Place(), since=None, now=NOON)))

    assert onward(Place(largest=100), page, passed={}, since=None).to is None
    assert onward(Place(), page, passed={}, since=None).to, "it may be a small page of a larger list"


def test_a_list_that_ignores_the_dates_is_left_where_the_window_ends():
    """The newest come first, so what comes after an older one is older still."""
    shown = List(1000)
    shown.change("p3")

    assert walk(shown, since=iso(NOON + 950 * SECOND)) >= {"p3", *(f"p{number}" for number in range(950, 1000))}
    assert shown.asked == 1


def test_law_5_a_list_that_ignores_dates_and_order_is_looked_through():
    """The newest were created first and never touched again, so nothing on the first page tells that it is no order."""
    shown = List(300)
    shown.change("p150")
    order = shown.page
    shown.rows.sort(key=lambda row: int(row[0][1:]), reverse=True)
    shown.falls = False
    shown.page = lambda asked: order({**asked})

    assert "p150" in walk(shown, since=iso(NOON + 280 * SECOND))


@pytest.mark.parametrize("count", [300, 1000])
def test_a_count_that_is_capped_is_not_the_end(count):
    """A full page may not be the last, whatever it counts."""
    shown = List(2500)
    whole = shown.page
    shown.page = lambda asked: whole(asked) | {"count": count}

    assert len(walk(shown)) == 2500


def test_a_count_of_more_than_is_shown_is_not_waited_for_without_end():
    """Nobody new is seen three times in a row, so it counts what we may not see."""
    shown = List(250)
    whole = shown.page
    shown.page = lambda asked: whole(asked) | {"count": 260}

    assert len(walk(shown)) == 250


@pytest.mark.parametrize("seed", range(5))
def test_of_those_updated_in_one_instant_nobody_is_skipped(seed):
    """Each page orders them as it likes; by when they were created they come in order."""
    shown, dice = List(900), Random(seed)

    def page(asked: dict[str, Any]) -> dict[str, Any]:
        shown.falls = asked["sort"] == "updated"
        shown.rows = [(name, int(name[1:]) // 300) for name, _ in shown.rows]
        dice.shuffle(shown.rows) if shown.falls else shown.rows.sort(key=lambda row: int(row[0][1:]))
        return List.page(shown, asked)

    shown.page = page

    assert len(walk(shown)) == 900


@pytest.mark.parametrize("size", [100, 250])
def test_a_list_whose_pages_do_not_fit_together_is_not_believed(size):
    """It has nothing where a page does not begin at a hundred; nobody goes back and forth in it for ever."""
    shown = List(size, counts=False)
    whole = shown.page
    shown.page = lambda asked: whole(asked) if asked["from"] % PAGE == 0 else {"count": 0, "results": []}

    with pytest.raises(UnsteadyList):
        walk(shown)
    assert shown.asked < 50


def test_a_list_that_does_not_page_is_not_believed():
    """It shows its first page whatever is asked for, and counts more."""
    shown = List(250)
    shown.page = lambda asked, page=shown.page: page({"from": 0, "to": 99})

    with pytest.raises(UnsteadyList):
        walk(shown)


@pytest.mark.parametrize("size", [1, 2, 3, 250])
def test_a_list_that_knows_no_pages_is_believed_where_it_shows_all_that_it_counts(size):
    """Whatever is asked for, it shows everything."""
    shown = List(size, largest=10**6)
    shown.page = lambda asked, page=shown.page: page({"from": 0, "to": 10**6})

    assert walk(shown) == {name for name, _ in shown.rows}


def test_rows_that_are_no_packages_do_not_hold_up_the_walk():
    """They are counted, and left out."""
    shown = List(150)
    whole = shown.page

    def spoilt(asked: dict[str, Any]) -> dict[str, Any]:
        page = whole(asked)
        return {**page, "results": [{} if row["id"] == "p120" else row for row in page["results"]]}

    shown.page = spoilt

    assert walk(shown) == {name for name, _ in shown.rows} - {"p120"}


@pytest.mark.parametrize("answer", [None, [], {}, {"results": None}, {"count": 3, "results": {}}])
def test_what_is_no_list_is_refused(answer):
    """An answer without results is no empty list."""
    with pytest.raises(UnreadableAnswer):
        read_page(answer)


def test_both_names_of_the_dates_are_sent():
    """Which of them the platform knows has changed, and it ignores the other."""
    asked = question({"query": "trashed"}, Place(offset=100), since=NOON, now=NOON)

    assert asked["lastUpdatedStartDate"] == asked["startDate"] == "2026-03-02T12:00:00Z"
    assert asked["lastUpdatedEndDate"] == asked["endDate"] == "2026-03-03T12:00:00Z"
    assert (asked["from"], asked["to"], asked["query"]) == (100, 199, "trashed")
    assert (asked["sort"], asked["dir"]) == ("updated", "desc")
