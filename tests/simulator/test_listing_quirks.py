"""Tests of each quirk of the simulator's list of packages, and of a large account."""

from datetime import timedelta
from functools import cache
from itertools import pairwise

import pytest

from app.simulator.account import Account
from app.simulator.packages import ARCHIVAL_STATUSES, Action
from app.simulator.population import populated
from app.simulator.quirks import Quirks
from tests.conftest import HOUR, NOON, Clock, in_all
from tests.support.onespan_shapes import PAGE_SHAPE
from tests.support.simulated import AUTHORIZED, SECOND, account_of, client_of, finished_account, listed_ids, read, steps

DAY = timedelta(days=1)


def account_with(**quirks: int | str) -> Account:
    """Return an account that has the packages of `slow_account` and these quirks."""
    return account_of(slow_account().packages(), quirks=Quirks(**quirks))


@cache
def slow_account() -> Account:
    """Return a small finished account whose stories took days. Tests must not change the account."""
    account = Account(5, packages=60)
    for _ in steps(account, pause=HOUR):
        pass
    return account


def updated_between(start, end) -> list[str]:
    """Return the listed ids of the packages that were updated in this interval."""
    dates = {package.id: package.updated for package in slow_account().packages()}
    return [id_ for id_ in listed_ids(account_with()) if start <= dates[id_] < end]


@pytest.mark.parametrize(
    ("quirk", "honoured"),
    [
        ("both", {"lastUpdatedStartDate", "startDate"}),
        ("lastUpdated", {"lastUpdatedStartDate"}),
        ("start", {"startDate"}),
        ("neither", set()),
    ],
)
def test_dates_have_an_effect_only_under_the_honoured_names(quirk, honoured):
    """A date parameter under a name that the list does not honour is ignored without an error."""
    account, midday = account_with(list_dates=quirk), NOON + 4 * DAY
    for name in ("lastUpdatedStartDate", "startDate"):
        found = listed_ids(account, **{name: midday.strftime("%Y-%m-%dT%H:%M:%SZ")})
        since = midday.replace(hour=0) if name in honoured else NOON
        assert found == updated_between(since, NOON + 1000 * DAY)
        assert found


def test_dates_can_be_exact():
    """A quirk makes the list's dates exact to the millisecond, with both ends included."""
    account = account_with(list_grain="exact")
    package = slow_account().packages()[20]
    moment = package.updated.isoformat()

    found = listed_ids(account, lastUpdatedStartDate=moment, lastUpdatedEndDate=moment, sort="updated")
    later = listed_ids(account, lastUpdatedStartDate=(package.updated + timedelta(milliseconds=1)).isoformat())

    assert found == [package.id]
    assert package.id not in later


@pytest.mark.parametrize("sort", ["updated", "created"])
def test_dates_select_the_same_packages_in_any_order(sort):
    """Dates select the same packages, whether or not the list is sorted by date."""
    end = (NOON + 4 * DAY).strftime("%Y-%m-%dZ")

    found = listed_ids(account_with(), sort=sort, endDate=end)
    assert sorted(found) == sorted(updated_between(NOON, (NOON + 5 * DAY).replace(hour=0)))


def test_the_first_item_can_have_the_number_1():
    """A quirk makes `from` and `to` of the list count from 1; 0 is then the first item, too."""
    all_ids = listed_ids(account_with())
    account = account_with(list_first=1)

    assert listed_ids(account, **{"from": 1, "to": 3}) == all_ids[:3]
    assert listed_ids(account, **{"from": 0, "to": 3}) == all_ids[:3]
    assert len(read(account, "/api/packages")["results"]) == 10


@pytest.mark.parametrize(("largest", "found"), [(7, 7), (0, None), (30, 30)])
def test_the_maximum_page_size_can_change_or_be_unlimited(largest, found):
    """A quirk sets or removes the maximum page size, which limits a request that asks for more."""
    account = account_with(list_largest=largest)

    assert len(read(account, "/api/packages", to=999)["results"]) == (found or len(listed_ids(account_with())))


def test_items_can_be_summaries():
    """A quirk makes list items summaries without roles, documents and messages; a single package has all members."""
    account = account_with(list_items="summary")
    item = read(account, "/api/packages")["results"][0]

    assert not {"roles", "documents", "messages"} & set(item)
    assert set(read(account, f"/api/packages/{item['id']}")) - set(item) == {"roles", "documents", "messages"}


def test_sort_can_be_ignored_always_or_together_with_dates():
    """A quirk ignores the sort order, always or only with dates; the list is then in order of creation."""
    by_creation = listed_ids(account_with())
    sort = {"sort": "name", "dir": "desc"}
    with_dates = {**sort, "startDate": "2020-01-01Z"}
    ignored, partly = account_with(list_sort="ignored"), account_with(list_sort="ignored-with-dates")
    no_dates = account_with(list_sort="ignored-with-dates", list_dates="neither")

    assert listed_ids(ignored, **sort) == by_creation
    assert listed_ids(partly, **with_dates) == by_creation
    assert listed_ids(partly, **sort) == listed_ids(account_with(), **sort) != by_creation
    assert listed_ids(no_dates, **with_dates) != by_creation


def test_query_draft_can_mean_the_status_only():
    """A quirk makes `query=DRAFT` select the status DRAFT only, instead of the larger drafts folder."""
    drafts = listed_ids(account_with(list_drafts="status"), query="DRAFT")

    account = slow_account()
    assert drafts == [id_ for id_ in listed_ids(account_with()) if account.package(id_).status == "DRAFT"]
    assert 0 < len(drafts) < len(listed_ids(account_with(), query="DRAFT"))


def test_count_can_be_that_of_the_page():
    """A quirk makes `count` the number of packages on the page, because OneSpan does not document its meaning."""
    assert read(account_with(list_count="page"), "/api/packages")["count"] == 10


def test_the_list_can_lag_behind_the_packages():
    """With the quirk `list_lag`, the list shows new, changed and deleted packages some seconds late."""
    account, clock = Account(3, packages=1, quirks=Quirks(list_lag=60)), Clock()
    client = client_of(account, clock=clock)

    def listed_statuses() -> list[str]:
        answer = client.get("/api/packages?type=PACKAGE", headers=AUTHORIZED)
        return [package["status"] for package in answer.json["results"]]

    account.step(clock.now)
    (package,) = account.packages()
    assert listed_statuses() == []
    clock.forward(60 * SECOND)
    assert listed_statuses() == ["DRAFT"]
    account.act(package.id, Action("activate"), now=clock.now)
    assert listed_statuses() == ["DRAFT"]
    assert client.get(f"/api/packages/{package.id}", headers=AUTHORIZED).json["status"] == "SENT"
    clock.forward(60 * SECOND)
    assert listed_statuses() == ["SENT"]
    account.act(package.id, Action("delete"), now=clock.now)
    assert listed_statuses() == ["SENT"]
    clock.forward(60 * SECOND)
    assert listed_statuses() == []


@pytest.mark.parametrize("sort", ["updated", "name", *in_all("created", "completed", "due", "status")])
def test_the_order_is_correct_while_packages_change(sort):
    """The order of the list stays correct while packages change: an updated index equals a new index."""
    account = Account(8, packages=30)
    for number, _ in enumerate(steps(account)):
        if number % 40 == 0:
            rebuilt = account_of(account.packages())
            assert listed_ids(account, sort=sort) == listed_ids(rebuilt, sort=sort)


def test_a_page_can_miss_a_package_while_packages_change():
    """If a package is updated between two pages, the following packages move, and a client misses one package."""
    account = account_of(finished_account(5).packages())
    first = listed_ids(account, **{"sort": "updated", "from": 0, "to": 9})
    moving = next(id_ for id_ in first if account.package(id_).status in ("COMPLETED", "ARCHIVED", "SENT"))
    account.act(moving, Action("trash"), now=NOON + DAY)
    second = listed_ids(account, **{"sort": "updated", "from": 10, "to": 99})

    missed = set(listed_ids(account, sort="updated")) - {*first, *second}
    assert len(missed) == 1


def test_archival_statuses_are_listed_in_the_inbox():
    """The list shows packages with an archival status in the inbox, because they are not drafts."""
    account = Account(2, packages=40, anomalies={"archival": 1.0})
    for _ in steps(account):
        pass

    archival = [package.id for package in account.packages() if package.status in ARCHIVAL_STATUSES]
    assert archival
    assert set(archival) <= {*listed_ids(account, query="inbox", to=99)}


def test_layouts_are_listed_only_by_type():
    """The list shows layouts only on a request for that type, like templates."""
    account = Account(2, packages=30, anomalies={"layout": 0.4})
    for _ in steps(account):
        pass

    layouts = [package for package in account.packages() if package.type == "LAYOUT"]
    expected = [layout.id for layout in layouts if not layout.deleted and not layout.trashed]
    assert listed_ids(account, type="LAYOUT") == expected != []
    assert not {*expected} & {*listed_ids(account), *listed_ids(account, type="TEMPLATE")}


def test_a_populated_account_has_distinct_plausible_packages():
    """In a populated account every story has ended, ids and people are distinct, and dates are within `span`."""
    account = populated(1, 5000, now=NOON, span=30 * DAY, senders=5)
    packages = account.packages()

    assert account.is_over
    assert len({package.id for package in packages}) == 5000
    assert len({package.sender.id for package in packages}) == 6
    signers = {role.person.id for package in packages for role in package.roles if role.person and not role.is_sender}
    assert len(signers) > 5000
    assert all(NOON - 30 * DAY <= package.updated <= NOON for package in packages)
    for package in packages[:500]:
        dates = [approval.at for approval in package.approvals() if approval.at]
        first, last = min(dates, default=package.updated), max(dates, default=package.updated)
        assert package.created <= first <= last <= package.updated
        assert not package.completed or package.completed == last or not package.autocomplete
    page = read(account, "/api/packages", sort="updated", dir="desc", to=99)
    PAGE_SHAPE.validate(page)
    assert all(newer["updated"] >= older["updated"] for newer, older in pairwise(page["results"]))
    first, second = ([package.id for package in populated(1, 50, now=NOON).packages()] for _ in range(2))
    assert first == second
