"""The simulator: each quirk of the list, one by one, and a list of 100,000."""

from datetime import timedelta
from functools import cache
from itertools import pairwise

import pytest

from app.simulator.account import Account
from app.simulator.packages import ARCHIVAL, Act
from app.simulator.population import populated
from app.simulator.quirks import Quirks
from tests.conftest import HOUR, NOON, Clock, in_all
from tests.support.onespan_shapes import PAGE_SHAPE
from tests.support.simulated import AUTHORIZED, SECOND, account_of, client_of, listed, lived, read, steps

DAY = timedelta(days=1)


def quirky(**quirks: int | str) -> Account:
    """The packages of a small account, in one with these quirks."""
    return account_of(slowly().packages(), quirks=Quirks(**quirks))


@cache
def slowly() -> Account:
    """An account whose packages took days; only to be read."""
    account = Account(5, packages=60)
    for _ in steps(account, pause=HOUR):
        pass
    return account


def updated_between(first, last) -> list[str]:
    """Which of the listed ones were."""
    dates = {one.id: one.updated for one in slowly().packages()}
    return [one for one in listed(quirky()) if first <= dates[one] < last]


@pytest.mark.parametrize(
    ("quirk", "honoured"),
    [
        ("both", {"lastUpdatedStartDate", "startDate"}),
        ("lastUpdated", {"lastUpdatedStartDate"}),
        ("start", {"startDate"}),
        ("neither", set()),
    ],
)
def test_dates_do_something_only_under_the_names_it_honours(quirk, honoured):
    """Under another name they do nothing, and nobody says so."""
    account, midday = quirky(list_dates=quirk), NOON + 4 * DAY
    for name in ("lastUpdatedStartDate", "startDate"):
        found = listed(account, **{name: midday.strftime("%Y-%m-%dT%H:%M:%SZ")})
        since = midday.replace(hour=0) if name in honoured else NOON
        assert found == updated_between(since, NOON + 1000 * DAY)
        assert found


def test_dates_can_be_exact():
    """Both ends are included, to the millisecond."""
    account = quirky(list_grain="exact")
    one = slowly().packages()[20]
    moment = one.updated.isoformat()

    found = listed(account, lastUpdatedStartDate=moment, lastUpdatedEndDate=moment, sort="updated")
    later = listed(account, lastUpdatedStartDate=(one.updated + timedelta(milliseconds=1)).isoformat())

    assert found == [one.id]
    assert one.id not in later


@pytest.mark.parametrize("sort", ["updated", "created"])
def test_dates_find_the_same_in_any_order(sort):
    """Whether or not the list is sorted by what they are about."""
    end = (NOON + 4 * DAY).strftime("%Y-%m-%dZ")

    assert sorted(listed(quirky(), sort=sort, endDate=end)) == sorted(
        updated_between(NOON, (NOON + 5 * DAY).replace(hour=0))
    )


def test_the_first_item_can_have_number_one():
    """`from` and `to` count from there; 0 means the first, too."""
    every = listed(quirky())
    account = quirky(list_first=1)

    assert listed(account, **{"from": 1, "to": 3}) == every[:3]
    assert listed(account, **{"from": 0, "to": 3}) == every[:3]
    assert len(read(account, "/api/packages")["results"]) == 10


@pytest.mark.parametrize(("largest", "found"), [(7, 7), (0, None), (30, 30)])
def test_the_largest_page_can_be_another_or_none(largest, found):
    """Whatever is asked for."""
    account = quirky(list_largest=largest)

    assert len(read(account, "/api/packages", to=999)["results"]) == (found or len(listed(quirky())))


def test_items_can_be_summaries():
    """Without their parts; a single package is whole all the same."""
    account = quirky(list_items="summary")
    one = read(account, "/api/packages")["results"][0]

    assert not {"roles", "documents", "messages"} & set(one)
    assert set(read(account, f"/api/packages/{one['id']}")) - set(one) == {"roles", "documents", "messages"}


def test_sort_can_do_nothing_or_nothing_beside_dates():
    """Then the order is that of creation, upwards."""
    made = listed(quirky())
    wanted = {"sort": "name", "dir": "desc"}
    dated = {**wanted, "startDate": "2020-01-01Z"}

    assert listed(quirky(list_sort="ignored"), **wanted) == made
    assert listed(quirky(list_sort="ignored-with-dates"), **dated) == made
    assert listed(quirky(list_sort="ignored-with-dates"), **wanted) == listed(quirky(), **wanted) != made
    assert listed(quirky(list_sort="ignored-with-dates", list_dates="neither"), **dated) != made


def test_draft_can_mean_the_status_alone():
    """By default it is the drafts folder, which has more in it."""
    drafts = listed(quirky(list_drafts="status"), query="DRAFT")

    assert drafts == [one for one in listed(quirky()) if slowly().package(one).status == "DRAFT"]
    assert 0 < len(drafts) < len(listed(quirky(), query="DRAFT"))


def test_count_can_be_of_the_page():
    """Nobody says what it counts."""
    assert read(quirky(list_count="page"), "/api/packages")["count"] == 10


def test_the_list_can_be_late_while_the_package_is_not():
    """A change is seen in the list when it has settled: new ones, changed ones, deleted ones."""
    account, clock = Account(3, packages=1, quirks=Quirks(list_lag=60)), Clock()
    client = client_of(account, clock=clock)

    def shown() -> list[str]:
        answer = client.get("/api/packages?type=PACKAGE", headers=AUTHORIZED)
        return [one["status"] for one in answer.json["results"]]

    account.step(clock.now)
    (one,) = account.packages()
    assert shown() == []
    clock.forward(60 * SECOND)
    assert shown() == ["DRAFT"]
    account.act(one.id, Act("activate"), now=clock.now)
    assert shown() == ["DRAFT"]
    assert client.get(f"/api/packages/{one.id}", headers=AUTHORIZED).json["status"] == "SENT"
    clock.forward(60 * SECOND)
    assert shown() == ["SENT"]
    account.act(one.id, Act("delete"), now=clock.now)
    assert shown() == ["SENT"]
    clock.forward(60 * SECOND)
    assert shown() == []


@pytest.mark.parametrize("sort", ["updated", "name", *in_all("created", "completed", "due", "status")])
def test_the_order_holds_while_packages_move(sort):
    """An index that is kept up says what sorting again would."""
    account = Account(8, packages=30)
    for number, _ in enumerate(steps(account)):
        if number % 40 == 0:
            ids = listed(account, sort=sort)
            again = listed(account_of(account.packages()), sort=sort)
            assert ids == again


def test_pages_slip_while_packages_move():
    """Paging is by offset: what is updated between two pages shifts the rest, and one is missed."""
    account = account_of(lived(5).packages())
    first = listed(account, **{"sort": "updated", "from": 0, "to": 9})
    sent = next(one for one in first if account.package(one).status in ("COMPLETED", "ARCHIVED", "SENT"))
    account.act(sent, Act("trash"), now=NOON + DAY)
    second = listed(account, **{"sort": "updated", "from": 10, "to": 99})

    missed = set(listed(account, sort="updated")) - {*first, *second}
    assert len(missed) == 1


def test_newer_statuses_are_listed_with_the_inbox():
    """They are no drafts."""
    account = Account(2, packages=40, odd={"archival": 1.0})
    for _ in steps(account):
        pass

    newer = [one.id for one in account.packages() if one.status in ARCHIVAL]
    assert newer
    assert set(newer) <= {*listed(account, query="inbox", to=99)}


def test_layouts_are_listed_where_asked_to():
    """As templates are."""
    account = Account(2, packages=30, odd={"layout": 0.4})
    for _ in steps(account):
        pass

    there = [one.id for one in account.packages() if one.type == "LAYOUT" and not one.deleted and not one.trashed]
    assert listed(account, type="LAYOUT") == there != []
    assert not {*there} & {*listed(account), *listed(account, type="TEMPLATE")}


def test_a_great_account_is_made_at_once_and_listed_quickly():
    """Every package at the end of its life, with ids of its own, in the time that was said."""
    account = populated(1, 5000, now=NOON, span=30 * DAY, senders=5)
    packages = account.packages()

    assert account.is_over
    assert len({one.id for one in packages}) == 5000
    assert len({one.sender.id for one in packages}) == 6
    assert len({role.person.id for one in packages for role in one.roles if role.person and not role.is_sender}) > 5000
    assert all(NOON - 30 * DAY <= one.updated <= NOON for one in packages)
    for one in packages[:500]:
        dates = [approval.at for approval in one.approvals() if approval.at]
        assert one.created <= min(dates, default=one.updated) <= max(dates, default=one.updated) <= one.updated
        assert not one.completed or one.completed == max(dates) or not one.autocomplete
    page = read(account, "/api/packages", sort="updated", dir="desc", to=99)
    PAGE_SHAPE.validate(page)
    assert all(one["updated"] >= other["updated"] for one, other in pairwise(page["results"]))
    assert [one.id for one in populated(1, 50, now=NOON).packages()] == [
        one.id for one in populated(1, 50, now=NOON).packages()
    ]
