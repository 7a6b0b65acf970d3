"""How many packages there are of each kind, and how callbacks flow in."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import text

from app.store import counters, queries
from app.store.queries import Flow, PackageCount
from tests.conftest import HOUR, NOON, on_both

pytestmark = on_both

MINUTE = timedelta(minutes=1)


@pytest.fixture
def counts(service, work) -> Callable[[], set[PackageCount]]:
    """The numbers of packages, once all is digested."""

    def counts() -> set[PackageCount]:
        work()
        with service.database.read() as connection:
            told = queries.package_counts(connection)
        assert len(told) == len(set(told))
        return set(told)

    return counts


@pytest.fixture
def flow(service, work, clock) -> Callable[[], Flow]:
    """How callbacks flow, once all is digested."""

    def flow() -> Flow:
        work()
        with service.database.read() as connection:
            return queries.flow(connection, now=clock.now)

    return flow


def test_packages_are_counted_by_what_they_are(counts, tell):
    """Type, status and both flags; a package that changes is counted where it is now."""
    assert counts() == set()

    tell("PACKAGE_CREATE", package="one")
    tell("PACKAGE_CREATE", package="two")
    tell("PACKAGE_HATCHED", package="egg")
    assert counts() == {
        PackageCount("PACKAGE", "DRAFT", trashed=False, deleted=False, number=2),
        PackageCount(None, None, trashed=False, deleted=False, number=1),
    }

    tell("PACKAGE_ACTIVATE", package="two", happened_at=NOON + MINUTE)
    tell("PACKAGE_TRASH", package="two", happened_at=NOON + MINUTE)
    tell("PACKAGE_DELETE", package="egg", happened_at=NOON + MINUTE)
    assert counts() == {
        PackageCount("PACKAGE", "DRAFT", trashed=False, deleted=False, number=1),
        PackageCount("PACKAGE", "SENT", trashed=True, deleted=False, number=1),
        PackageCount(None, None, trashed=False, deleted=True, number=1),
    }


def test_an_empty_flow_shows_every_minute_and_every_hour(flow):
    """The oldest first, the current one last."""
    seen = flow()

    assert [tick.at for tick in seen.minutes] == [NOON - ago * MINUTE for ago in range(59, -1, -1)]
    assert [tick.at for tick in seen.hours] == [NOON - ago * HOUR for ago in range(47, -1, -1)]
    assert {tick.callbacks for tick in [*seen.minutes, *seen.hours]} == {0}


def test_callbacks_flow_in_the_minute_in_which_they_came(flow, tell, post, clock):
    """Repeats are callbacks too; what nobody could read is none."""
    tell("PACKAGE_CREATE")
    tell("PACKAGE_CREATE")
    clock.forward(MINUTE * 2.5)
    tell("PACKAGE_ACTIVATE")
    assert post(b"no callback").status_code == 400

    seen = flow()

    assert [tick.callbacks for tick in seen.minutes[-4:]] == [0, 2, 0, 1]
    assert sum(tick.callbacks for tick in seen.minutes) == 3
    assert [tick.callbacks for tick in seen.hours[-2:]] == [0, 3]
    assert seen.minutes[-1].at == NOON + 2 * MINUTE


def test_callbacks_of_long_ago_are_in_no_tick(flow, tell, clock):
    """After an hour they are in an hour's tick only, after two days in none."""
    tell("PACKAGE_CREATE")

    clock.forward(HOUR)
    assert (sum(tick.callbacks for tick in flow().minutes), flow().hours[-2].callbacks) == (0, 1)
    clock.forward(46 * HOUR)
    assert flow().hours[0].callbacks == 1
    clock.forward(HOUR)
    assert sum(tick.callbacks for tick in flow().hours) == 0


def test_minutes_that_nobody_asks_for_are_forgotten(service, tell, clock, monkeypatch):
    """After three days, some at each turn of the watch; the days of the facts stay."""
    monkeypatch.setattr(counters, "MINUTES_DELETED", 2)

    def kept(table: str) -> int:
        with service.database.read() as connection:
            return connection.scalar(text(f"SELECT count(*) FROM {table}"))

    for number in range(4):
        tell("PACKAGE_CREATE", package=f"p{number}")
        service.digest.turn()
        clock.forward(MINUTE)
    clock.forward(72 * HOUR - MINUTE)

    left = []
    for _ in range(4):
        left.append(kept("callback_counts"))
        service.watch.turn()
    assert left == [4, 2, 1, 1]
    assert kept("event_counts") == 1
