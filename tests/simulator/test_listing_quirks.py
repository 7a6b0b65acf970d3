"""The simulator: each quirk of the list, and a large account."""

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
    """The packages of `slow_account` in an account with these quirks."""
    return account_of(slow_account().packages(), quirks=Quirks(**quirks))


@cache
def slow_account() -> Account:
    """A small finished account whose stories took days. Read-only."""
    account = Account(5, packages=60)
    for _ in steps(account, pause=HOUR):
        pass
    return account


def updated_between(start, end) -> list[str]:
    """The listed ids of the packages updated in this interval."""
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
    """Under another name they are ignored without an error."""
    account, midday = account_with(list_dates=quirk), NOON + 4 * DAY
    for name in ("lastUpdatedStartDate", "startDate"):
        found = listed_ids(account, **{name: midday.strftime("%Y-%m-%dT%H:%M:%SZ")})
        since = midday.replace(hour=0) if name in honoured else NOON
        assert found == updated_between(since, NOON + 1000 * DAY)
        assert found


def test_dates_can_be_exact():
    """Both ends are included, to the millisecond."""
    account = account_with(list_grain="exact")
    package = slow_account().packages()[20]
    moment = package.updated.isoformat()

    found = listed_ids(account, lastUpdatedStartDate=moment, lastUpdatedEndDate=moment, sort="updated")
    later = listed_ids(account, lastUpdatedStartDate=(package.updated + timedelta(milliseconds=1)).isoformat())

    assert found == [package.id]
    assert package.id not in later


@pytest.mark.parametrize("sort", ["updated", "created"])
def test_dates_select_the_same_packages_in_any_order(sort):
    """Whether or not the list is sorted by date."""
    end = (NOON + 4 * DAY).strftime("%Y-%m-%dZ")

    found = listed_ids(account_with(), sort=sort, endDate=end)
    assert sorted(found) == sorted(updated_between(NOON, (NOON + 5 * DAY).replace(hour=0)))


def test_the_first_item_can_have_the_number_1():
    """`from` and `to` count from 1; 0 is the first item, too."""
    all_ids = listed_ids(account_with())
    account = account_with(list_first=1)

    assert listed_ids(account, **{"from": 1, "to": 3}) == all_ids[:3]
    assert listed_ids(account, **{"from": 0, "to": 3}) == all_ids[:3]
    assert len(read(account, "/api/packages")["results"]) == 10


@pytest.mark.parametrize(("largest", "found"), [(7, 7), (0, None), (30, 30)])
def test_the_maximum_page_size_can_change_or_be_unlimited(largest, found):
    """Even if the request asks for more."""
    account = account_with(list_largest=largest)

    assert len(read(account, "/api/packages", to=999)["results"]) == (found or len(listed_ids(account_with())))


def test_items_can_be_summaries():
    """Without roles, documents and messages; a single package still has them."""
    account = account_with(list_items="summary")
    item = read(account, "/api/packages")["results"][0]

    assert not {"roles", "documents", "messages"} & set(item)
    assert set(read(account, f"/api/packages/{item['id']}")) - set(item) == {"roles", "documents", "messages"}


def test_sort_can_be_ignored_always_or_together_with_dates():
    """The order is then that of creation, ascending."""
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
    """By default it is the drafts folder, which has more packages."""
    drafts = listed_ids(account_with(list_drafts="status"), query="DRAFT")

    account = slow_account()
    assert drafts == [id_ for id_ in listed_ids(account_with()) if account.package(id_).status == "DRAFT"]
    assert 0 < len(drafts) < len(listed_ids(account_with(), query="DRAFT"))


def test_count_can_be_that_of_the_page():
    """OneSpan's documentation does not say what it counts."""
    assert read(account_with(list_count="page"), "/api/packages")["count"] == 10


def test_the_list_can_lag_behind_the_packages():
    """New, changed and deleted packages appear in the list after `list_lag` seconds."""
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
    """An updated index equals a new one."""
    account = Account(8, packages=30)
    for number, _ in enumerate(steps(account)):
        if number % 40 == 0:
            rebuilt = account_of(account.packages())
            assert listed_ids(account, sort=sort) == listed_ids(rebuilt, sort=sort)


def test_a_page_can_miss_a_package_while_packages_change():
    """Paging is by offset: an update between two pages moves the following packages, and one is missed."""
    account = account_of(finished_account(5).packages())
    first = listed_ids(account, **{"sort": "updated", "from": 0, "to": 9})
    moving = next(id_ for id_ in first if account.package(id_).status in ("COMPLETED", "ARCHIVED", "SENT"))
    account.act(moving, Action("trash"), now=NOON + DAY)
    second = listed_ids(account, **{"sort": "updated", "from": 10, "to": 99})

    missed = set(listed_ids(account, sort="updated")) - {*first, *second}
    assert len(missed) == 1


def test_archival_statuses_are_listed_in_the_inbox():
    """They are not drafts."""
    account = Account(2, packages=40, anomalies={"archival": 1.0})
    for _ in steps(account):
        pass

    archival = [package.id for package in account.packages() if package.status in ARCHIVAL_STATUSES]
    assert archival
    assert set(archival) <= {*listed_ids(account, query="inbox", to=99)}


def test_layouts_are_listed_only_by_type():
    """Like templates."""
    account = Account(2, packages=30, anomalies={"layout": 0.4})
    for _ in steps(account):
        pass

    layouts = [package for package in account.packages() if package.type == "LAYOUT"]
    expected = [layout.id for layout in layouts if not layout.deleted and not layout.trashed]
    assert listed_ids(account, type="LAYOUT") == expected != []
    assert not {*expected} & {*listed_ids(account), *listed_ids(account, type="TEMPLATE")}


def test_a_populated_account_has_distinct_plausible_packages():
    """Every story has ended; ids and people are distinct; all dates are within `span`."""
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
