"""The simulator: the list of packages, with every quirk it may have."""

from datetime import timedelta

import pytest

from app.simulator.account import Account
from tests.conftest import HOUR, NOON
from tests.support.onespan_shapes import ERROR_SHAPE
from tests.support.simulated import account_of, listed, lived, read, steps


def test_rest_lists_by_folder_and_status():
    """The default folder leaves out what was trashed; drafts are also what ended without a signature."""
    account = lived(5)
    there = [one for one in account.packages() if not one.deleted and one.type == "PACKAGE"]

    assert listed(account) == [one.id for one in there if not one.trashed]
    assert listed(account, query="trashed") == [one.id for one in there if one.trashed]
    for query, statuses in (
        ("drafts", {"DRAFT", "DECLINED", "EXPIRED", "OPTED_OUT"}),
        ("DRAFT", {"DRAFT", "DECLINED", "EXPIRED", "OPTED_OUT"}),
        ("inbox", {"SENT", "COMPLETED", "ARCHIVED"}),
        ("COMPLETED", {"COMPLETED"}),
        ("DECLINED", {"DECLINED"}),
    ):
        assert listed(account, query=query) == [one.id for one in there if one.status in statuses and not one.trashed]


def test_rest_lists_templates_where_asked_to():
    """They are no packages."""
    account = lived(5)

    assert listed(account, type="TEMPLATE") == [
        one.id for one in account.packages() if one.type == "TEMPLATE" and not one.deleted and not one.trashed
    ]
    assert listed(account, type="TEMPLATE")


def test_rest_pages_from_nought_with_both_ends_included():
    """`count` is of all pages; without `to` a page has ten, and none has more than a hundred."""
    account = lived(5)
    every = listed(account)
    page = read(account, "/api/packages", **{"from": 3, "to": 6})

    assert [one["id"] for one in page["results"]] == every[3:7]
    assert page["count"] == len(every)
    assert len(read(account, "/api/packages")["results"]) == 10
    assert read(account, "/api/packages", **{"from": len(every)})["results"] == []
    assert read(account, "/api/packages", fields="id", to=0)["results"] == [{"id": every[0]}]


@pytest.mark.parametrize("sort", ["created", "updated", "name", "status"])
def test_rest_sorts_both_ways(sort):
    """By what it shows."""
    account = lived(5)
    up = read(account, "/api/packages", sort=sort, to=99)["results"]
    down = read(account, "/api/packages", sort=sort, to=99, dir="desc")["results"]

    assert [one[sort] for one in up] == sorted(one[sort] for one in up)
    assert down == up[::-1]


@pytest.mark.parametrize(("start", "end"), [("lastUpdatedStartDate", "lastUpdatedEndDate"), ("startDate", "endDate")])
@pytest.mark.parametrize("form", ["%Y-%m-%dZ", "%Y-%m-%dT%H:%M:%SZ"])
def test_rest_lists_what_was_updated_on_whole_days(start, end, form):
    """From the beginning of the first day to the end of the last, in UTC, under either pair of names."""
    account = Account(5, packages=60)
    for _ in steps(account, pause=HOUR):
        pass
    first, last = NOON + timedelta(days=3), NOON + timedelta(days=5)

    found = listed(account, **{start: first.strftime(form), end: last.strftime(form)})

    days = {one.id: one.updated.date() for one in account.packages()}
    assert found == [one for one in listed(account) if first.date() <= days[one] <= last.date()]
    assert 0 < len(found) < len(listed(account))


@pytest.mark.parametrize(
    "query", [{"from": "x"}, {"to": "-1"}, {"sort": "size"}, {"query": "mine"}, {"startDate": "soon"}], ids=str
)
def test_rest_says_which_parameter_is_wrong(query):
    """And does not guess."""
    answer = read(account_of([]), "/api/packages", status=400, **query)

    ERROR_SHAPE.validate(answer)
    assert next(iter(query)) in answer["message"]
