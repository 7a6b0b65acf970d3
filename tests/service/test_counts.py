"""The number of packages of each kind, and the number of callbacks per minute and hour."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import text

from app.store import counters, queries
from app.store.queries import CallbackRates, PackageCount
from tests.conftest import HOUR, NOON, on_both

pytestmark = on_both

MINUTE = timedelta(minutes=1)


@pytest.fixture
def counts(service, work) -> Callable[[], set[PackageCount]]:
    """Digest all callbacks, then read the numbers of packages."""

    def counts() -> set[PackageCount]:
        work()
        with service.database.read() as connection:
            found = queries.package_counts(connection)
        assert len(found) == len(set(found))
        return set(found)

    return counts


@pytest.fixture
def flow(service, work, clock) -> Callable[[], CallbackRates]:
    """Digest all callbacks, then read the callback rates."""

    def flow() -> CallbackRates:
        work()
        with service.database.read() as connection:
            return queries.callback_rates(connection, now=clock.now)

    return flow


def test_packages_are_counted_by_type_status_and_flags(counts, send_callback):
    """A package that changes is counted under its present type, status and flags."""
    assert counts() == set()

    send_callback("PACKAGE_CREATE", package="first")
    send_callback("PACKAGE_CREATE", package="second")
    send_callback("PACKAGE_HATCHED", package="egg")
    assert counts() == {
        PackageCount("PACKAGE", "DRAFT", trashed=False, deleted=False, number=2),
        PackageCount(None, None, trashed=False, deleted=False, number=1),
    }

    send_callback("PACKAGE_ACTIVATE", package="second", happened_at=NOON + MINUTE)
    send_callback("PACKAGE_TRASH", package="second", happened_at=NOON + MINUTE)
    send_callback("PACKAGE_DELETE", package="egg", happened_at=NOON + MINUTE)
    assert counts() == {
        PackageCount("PACKAGE", "DRAFT", trashed=False, deleted=False, number=1),
        PackageCount("PACKAGE", "SENT", trashed=True, deleted=False, number=1),
        PackageCount(None, None, trashed=False, deleted=True, number=1),
    }


def test_deleted_package_that_lives_again_is_listed_and_counted(counts, send_callback, read):
    """A later event of a living package moves a deleted package back to the lists, filters and counts of the others."""
    send_callback("PACKAGE_CREATE", happened_at=NOON - 3 * MINUTE)
    send_callback("PACKAGE_DELETE", happened_at=NOON - 2 * MINUTE)
    assert counts() == {PackageCount("PACKAGE", "DRAFT", trashed=False, deleted=True, number=1)}

    send_callback("PACKAGE_ACTIVATE", happened_at=NOON - MINUTE)

    assert counts() == {PackageCount("PACKAGE", "SENT", trashed=False, deleted=False, number=1)}
    assert [package["id"] for package in read("/api/packages", deleted="false", status="SENT")["items"]] == ["pkg-1"]
    assert read("/api/packages", deleted="true")["items"] == []
    changes = read("/api/packages/pkg-1/history")["items"]
    assert sorted((change["old"], change["new"]) for change in changes if change["attribute"] == "deleted") == [
        (False, True),
        (True, False),
    ]


def test_rates_without_callbacks_have_every_minute_and_every_hour(flow):
    """Callback rates list the last 60 minutes and 48 hours, the oldest first, even without callbacks."""
    rates = flow()

    assert [tick.at for tick in rates.minutes] == [NOON - ago * MINUTE for ago in range(59, -1, -1)]
    assert [tick.at for tick in rates.hours] == [NOON - ago * HOUR for ago in range(47, -1, -1)]
    assert {tick.callbacks for tick in [*rates.minutes, *rates.hours]} == {0}


def test_callbacks_count_in_the_minute_of_their_arrival(flow, send_callback, post, clock):
    """Repeated callbacks count in the minute of their arrival; unreadable callbacks do not count."""
    send_callback("PACKAGE_CREATE")
    send_callback("PACKAGE_CREATE")
    clock.forward(MINUTE * 2.5)
    send_callback("PACKAGE_ACTIVATE")
    assert post(b"no callback").status_code == 400

    rates = flow()

    assert [tick.callbacks for tick in rates.minutes[-4:]] == [0, 2, 0, 1]
    assert sum(tick.callbacks for tick in rates.minutes) == 3
    assert [tick.callbacks for tick in rates.hours[-2:]] == [0, 3]
    assert rates.minutes[-1].at == NOON + 2 * MINUTE


def test_old_callbacks_leave_the_rates(flow, send_callback, clock):
    """A callback appears in the rates by minute for an hour, and in the rates by hour for two days."""
    send_callback("PACKAGE_CREATE")

    clock.forward(HOUR)
    assert (sum(tick.callbacks for tick in flow().minutes), flow().hours[-2].callbacks) == (0, 1)
    clock.forward(46 * HOUR)
    assert flow().hours[0].callbacks == 1
    clock.forward(HOUR)
    assert sum(tick.callbacks for tick in flow().hours) == 0


def test_counters_of_old_minutes_are_deleted(service, send_callback, clock, monkeypatch):
    """Housekeeping deletes per-minute counters after three days, one batch per turn, but keeps daily counters."""
    monkeypatch.setattr(counters, "MINUTES_DELETED", 2)

    def number_of_rows(table: str) -> int:
        with service.database.read() as connection:
            return connection.scalar(text(f"SELECT count(*) FROM {table}"))

    for number in range(4):
        send_callback("PACKAGE_CREATE", package=f"p{number}")
        service.digest.turn()
        clock.forward(MINUTE)
    clock.forward(72 * HOUR - MINUTE)

    left = []
    for _ in range(4):
        left.append(number_of_rows("callback_counts"))
        service.housekeeping.turn()
    assert left == [4, 2, 1, 1]
    assert number_of_rows("event_counts") == 1
