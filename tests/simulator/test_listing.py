"""Tests of the simulator's list of packages with its default behaviour."""

from datetime import timedelta

import pytest

from app.simulator.account import Account
from tests.conftest import HOUR, NOON
from tests.support.onespan_shapes import ERROR_SHAPE
from tests.support.simulated import account_of, finished_account, listed_ids, read, steps


def test_the_list_selects_by_folder_and_status():
    """The list's default folder excludes trashed packages; the drafts folder includes packages that ended unsigned."""
    account = finished_account(5)
    existing = [package for package in account.packages() if not package.deleted and package.type == "PACKAGE"]

    assert listed_ids(account) == [package.id for package in existing if not package.trashed]
    assert listed_ids(account, query="trashed") == [package.id for package in existing if package.trashed]
    for query, statuses in (
        ("drafts", {"DRAFT", "DECLINED", "EXPIRED", "OPTED_OUT"}),
        ("DRAFT", {"DRAFT", "DECLINED", "EXPIRED", "OPTED_OUT"}),
        ("inbox", {"SENT", "COMPLETED", "ARCHIVED"}),
        ("COMPLETED", {"COMPLETED"}),
        ("DECLINED", {"DECLINED"}),
    ):
        expected = [package.id for package in existing if package.status in statuses and not package.trashed]
        assert listed_ids(account, query=query) == expected


def test_templates_are_listed_only_by_type():
    """The list shows templates only on a request for that type, because templates are not packages."""
    account = finished_account(5)

    templates = [package for package in account.packages() if package.type == "TEMPLATE"]
    expected = [template.id for template in templates if not template.deleted and not template.trashed]
    assert listed_ids(account, type="TEMPLATE") == expected != []


def test_pages_start_at_0_and_include_both_ends():
    """In the list, `from` and `to` count from 0 and are included; `count` covers all pages, by default of 10 items."""
    account = finished_account(5)
    all_ids = listed_ids(account)
    page = read(account, "/api/packages", **{"from": 3, "to": 6})

    assert [package["id"] for package in page["results"]] == all_ids[3:7]
    assert page["count"] == len(all_ids)
    assert len(read(account, "/api/packages")["results"]) == 10
    assert read(account, "/api/packages", **{"from": len(all_ids)})["results"] == []
    assert read(account, "/api/packages", fields="id", to=0)["results"] == [{"id": all_ids[0]}]


@pytest.mark.parametrize("sort", ["created", "updated", "name", "status"])
def test_the_list_sorts_in_both_directions(sort):
    """The list can be sorted by a member of the packages, ascending or descending."""
    account = finished_account(5)
    ascending = read(account, "/api/packages", sort=sort, to=99)["results"]
    descending = read(account, "/api/packages", sort=sort, to=99, dir="desc")["results"]

    assert [package[sort] for package in ascending] == sorted(package[sort] for package in ascending)
    assert descending == ascending[::-1]


@pytest.mark.parametrize(("start", "end"), [("lastUpdatedStartDate", "lastUpdatedEndDate"), ("startDate", "endDate")])
@pytest.mark.parametrize("date_format", ["%Y-%m-%dZ", "%Y-%m-%dT%H:%M:%SZ"])
def test_dates_select_whole_days(start, end, date_format):
    """Date parameters select packages by whole days in UTC, and may have either of two pairs of names."""
    account = Account(5, packages=60)
    for _ in steps(account, pause=HOUR):
        pass
    first, last = NOON + timedelta(days=3), NOON + timedelta(days=5)

    found = listed_ids(account, **{start: first.strftime(date_format), end: last.strftime(date_format)})

    days = {package.id: package.updated.date() for package in account.packages()}
    assert found == [id_ for id_ in listed_ids(account) if first.date() <= days[id_] <= last.date()]
    assert 0 < len(found) < len(listed_ids(account))


@pytest.mark.parametrize(
    "query", [{"from": "x"}, {"to": "-1"}, {"sort": "size"}, {"query": "mine"}, {"startDate": "soon"}], ids=str
)
def test_an_invalid_parameter_is_named_in_the_error(query):
    """The list answers an invalid parameter with status 400 and an error that names the parameter."""
    answer = read(account_of([]), "/api/packages", status=400, **query)

    ERROR_SHAPE.validate(answer)
    assert next(iter(query)) in answer["message"]
