"""OneSpan's clock may differ from ours by minutes or hours; every comparison uses the measured offset."""

from collections import Counter
from datetime import datetime, timedelta
from random import Random

import pytest
from sqlalchemy import select

from app.onespan.clock import OffsetRange
from app.simulator.account import Account
from app.store import missed, onespan_clock, outages, queries, reconciles
from app.store.models import Journal, OneSpanClock
from app.work.rebuild import rebuild
from app.work.reconcile import RunRequest
from tests.conftest import HOUR, NOON, TOKEN, in_all, on_both
from tests.support.comparison import observable_facts
from tests.support.simulation import MINUTE, SECOND, Simulation, with_onespan

TEN_MINUTES = 10 * MINUTE
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def settings(settings):
    """Settings with the address of OneSpan."""
    return with_onespan(settings)


@pytest.fixture
def simulation(service, post, handlers, clock):
    """The service and a simulated account that is still empty."""
    return Simulation(service, post, handlers=handlers, clock=clock)


@pytest.fixture
def measured(service, clock):
    """Store a measured offset."""

    def measured(offset: timedelta) -> None:
        with service.database.write() as connection:
            onespan_clock.record(connection, OffsetRange(offset, offset), now=clock.now)

    return measured


def stored_offset(service) -> timedelta | None:
    with service.database.read() as connection:
        return onespan_clock.known_offset(connection)


@on_both
@pytest.mark.parametrize(
    "skew", [-TEN_MINUTES, TEN_MINUTES, *in_all(-40 * MINUTE, 40 * MINUTE, -2 * HOUR, 2 * HOUR, -31 * SECOND)]
)
def test_law_6_every_fact_that_only_reconcile_finds_reaches_its_handler(simulation, service, clock, skew):
    """With clocks minutes or hours apart, handlers run for every fact since the import that no callback reports."""
    simulation.skew = skew
    account = Account(3, packages=0)
    simulation.connect(account)
    simulation.reconcile(RunRequest(backfill=True))
    account._to_create = 8
    simulation.live(drop=1, dice=Random(3))
    clock.forward(HOUR)
    simulation.reconcile(RunRequest())

    for package in account.packages():
        proven = Counter(name for (name, _), times in observable_facts(package).items() for _ in range(times))
        assert proven <= simulation.handled.get(package.id, Counter()), package.id
    assert simulation.differences() == []
    assert abs((stored_offset(service) or timedelta(0)) - skew) <= onespan_clock.PRECISION


@on_both
@pytest.mark.parametrize("skew", [-HOUR, HOUR])
def test_undated_callback_is_dated_on_onespans_clock(measured, send_callback, stored_package, flask, skew):
    """A callback without a date happened at its arrival by OneSpan's clock, and `rebuild` finds the same later."""
    measured(skew)
    send_callback("PACKAGE_ACTIVATE", happened_at=None)

    assert stored_package("pkg-1").status_at == NOON + skew
    measured(3 * skew)
    assert flask("rebuild", "--check").exit_code == 0


@on_both
def test_callback_is_from_the_future_only_by_onespans_clock(measured, send_callback, stored_package, clock, flask):
    """A date is replaced by the arrival if it is 15 minutes after the arrival on OneSpan's clock, not on ours."""
    measured(HOUR)
    send_callback("PACKAGE_ACTIVATE", package="present", happened_at=clock.now + HOUR)
    send_callback("PACKAGE_ACTIVATE", package="future", happened_at=clock.now + HOUR + 16 * MINUTE)

    assert stored_package("present").status_at == clock.now + HOUR
    assert stored_package("future").status_at == clock.now + HOUR
    assert flask("rebuild", "--check").exit_code == 0


@on_both
def test_rebuild_uses_the_offset_of_the_callback_that_counted(service, measured, send_callback, stored_package, clock):
    """If a repeat was digested with another offset, `rebuild` still dates the event by its first callback."""
    measured(HOUR)
    send_callback("PACKAGE_ACTIVATE", happened_at=None)
    first = stored_package("pkg-1").status_at
    measured(2 * HOUR)
    clock.forward(SECOND)
    send_callback("PACKAGE_ACTIVATE", happened_at=None)

    assert stored_package("pkg-1").status_at == first
    assert list(rebuild(service.database, clock=clock, write=False)) == []
    with service.database.read() as connection:
        assert list(connection.execute(select(Journal.clock_offset)).scalars()) == [3600, 7200]


@on_both
def test_offset_is_stored_when_it_changed_or_is_old(service, clock):
    """The stored offset moves only as far as an answer requires, and its time is renewed every hour."""

    def record(lowest: float, highest: float) -> tuple[float, datetime]:
        with service.database.write() as connection:
            onespan_clock.record(connection, OffsetRange(lowest * SECOND, highest * SECOND), now=clock.now)
            return tuple(connection.execute(select(OneSpanClock.offset_seconds, OneSpanClock.measured_at)).one())

    assert record(-601, -599) == (-599, NOON)
    clock.forward(MINUTE)
    assert record(-600, -598) == (-599, NOON)
    assert record(-600.5, -599.5) == (-599, NOON)
    assert record(0, 1) == (0, NOON + MINUTE)
    clock.forward(HOUR)
    assert record(0, 1) == (0, clock.now)


@pytest.mark.parametrize("skew", [-TEN_MINUTES, TEN_MINUTES])
def test_package_past_its_due_date_by_onespans_clock_is_read(simulation, clock, skew):
    """A sent package whose due date has passed at OneSpan is read again, although nothing dates it as updated."""
    simulation.skew = skew
    account = Account(3, packages=1)
    simulation.connect(account)
    while not (account.packages() and account.packages()[0].status == "SENT"):
        simulation.post(*simulation.step())
    simulation.reconcile(RunRequest(backfill=True))
    (package,) = account.packages()
    due = simulation.stored_package(package.id).due_at
    simulation.requests.clear()

    clock.now = due - skew - MINUTE
    simulation.reconcile(RunRequest())
    assert not [path for path in simulation.requests if path.startswith(f"/api/packages/{package.id}")]
    clock.now = due - skew + MINUTE
    simulation.reconcile(RunRequest())
    assert [path for path in simulation.requests if path.startswith(f"/api/packages/{package.id}")]


def test_law_12_outage_explains_an_event_at_onespans_time(simulation, service, clock):
    """The likely cause of a missed event is an outage of our clock that overlaps the event's time at OneSpan."""
    simulation.skew = -2 * HOUR
    account = Account(3, packages=6)
    simulation.connect(account)
    simulation.reconcile(RunRequest(backfill=True))
    began = clock.now
    simulation.live(drop=1, dice=Random(3))
    with service.database.write() as connection:
        outages.record(connection, "down", began_at=began, ended_at=clock.now)
    simulation.reconcile(RunRequest())
    clock.forward(HOUR)

    with service.database.write() as connection:
        assert missed.record(connection, now=clock.now, grace=TEN_MINUTES, limit=100)
    with service.database.read() as connection:
        shown = queries.missed_page(connection, queries.MissedFilter(), limit=100, before=None).items
    assert {event.cause for event in shown} == {"down"}
    assert all(0 <= event.late < 24 * 3600 for event in shown if event.late is not None)


def test_watermark_ahead_of_our_clock_counts(simulation, service, clock):
    """With OneSpan's clock an hour ahead, the next window begins a day before the watermark, as always."""
    simulation.skew = HOUR
    simulation.connect(Account(3, packages=0))
    simulation.reconcile(RunRequest(backfill=True))
    clock.forward(6 * HOUR)
    simulation.reconcile(RunRequest())

    with service.database.read() as connection:
        first, second = reversed(queries.run_page(connection, limit=2, before=None))
        assert clock.now < second.until
        assert second.since == first.until - timedelta(days=1)
        assert reconciles.watermark(connection, now=simulation.onespan_now()) == second.until


@pytest.mark.parametrize(
    ("offset", "text"), [(-10 * MINUTE, "OneSpan's clock is 10 min behind"), (45 * SECOND, "45 s ahead of")]
)
def test_different_clock_is_reported(measured, client, flask, offset, text):
    """A difference of more than 30 seconds is a note of readiness and health, a warning of doctor and a metric."""
    measured(offset)

    assert any(text in note for note in client.get("/readyz").json["notes"])
    health = client.get("/api/health", headers=BEARER).json
    assert any(text in note for note in health["notes"])
    assert health["clock_offset"] == offset.total_seconds()
    assert text in flask("doctor").output
    assert f"onespan_clock_offset_seconds {offset.total_seconds()}" in client.get("/metrics").text


def test_small_difference_is_no_note(measured, client, read):
    """A difference of a few seconds is normal; before the first answer, the offset is null."""
    assert read("/api/health")["clock_offset"] is None
    measured(20 * SECOND)

    assert not any("OneSpan's clock" in note for note in client.get("/readyz").json["notes"])


@on_both
def test_callbacks_and_reads_agree_with_clocks_apart(simulation, clock):
    """With OneSpan's clock ten minutes behind, callbacks of a whole life and the reads after them run nothing twice."""
    simulation.skew = -TEN_MINUTES
    account = Account(5, packages=4)
    simulation.connect(account)
    simulation.reconcile(RunRequest(backfill=True))
    while not account.is_over:
        for body in simulation.step():
            simulation.post(body)
        simulation.settle()
    clock.forward(6 * HOUR)
    simulation.reconcile()

    assert simulation.handled == simulation.happened
    assert simulation.differences() == []
