"""Law 12: the service counts events that no callback reported, finds their likely cause, and detects a silence."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from app.simulator.account import Account
from app.simulator.population import populated
from app.store import missed, outages
from app.work.reconcile import RunRequest
from tests.conftest import HOUR, TOKEN
from tests.support.simulation import MINUTE, Simulation, with_onespan

BEFORE = b'{"name": "PACKAGE_CREATE", "packageId": "before", "createdDate": "2026-03-02T12:00:00.000Z"}'
ARCHIVED = b'{"name": "PACKAGE_ARCHIVE", "packageId": "before", "createdDate": "2026-03-02T12:00:01.000Z"}'


@pytest.fixture
def settings(settings):
    """Settings with the address of OneSpan."""
    return with_onespan(settings)


@pytest.fixture
def simulation(service, post, handlers, clock):
    """A service that has imported its packages and has received callbacks."""
    simulation = Simulation(service, post, handlers=handlers, clock=clock)
    simulation.connect(Account(1, packages=0).load(populated(1, 25, now=clock.now - 40 * timedelta(days=1)).packages()))
    simulation.post(BEFORE, ARCHIVED)
    simulation.settle()
    simulation.reconcile()
    clock.forward(HOUR)
    return simulation


def completed(simulation: Simulation) -> list[str]:
    """Return the ids of the packages that can be archived."""
    packages = simulation.account.packages()
    return [package.id for package in packages if package.status == "COMPLETED" and not package.trashed]


@pytest.fixture
def miss(simulation) -> Callable[[int], list[bytes]]:
    """Archive packages without delivering the callbacks, run reconcile, and return the lost callbacks."""
    left = completed(simulation)

    def miss(number: int) -> list[bytes]:
        lost = [body for _ in range(number) for body in simulation.act(left.pop(), "archive")]
        simulation.clock.forward(6 * HOUR)
        simulation.reconcile()
        return lost

    return miss


def test_law_12_an_event_found_by_reconcile_is_missed_after_the_grace_period(simulation, miss, read, clock):
    """An event is not missed before the grace period ends, because its callback may only be late."""
    miss(2)
    simulation.service.housekeeping.turn()
    assert read("/api/missed")["items"] == []

    clock.forward(HOUR)
    simulation.service.housekeeping.turn()
    simulation.service.housekeeping.turn()
    items = read("/api/missed")["items"]

    assert [item["name"] for item in items] == ["PACKAGE_ARCHIVE"] * 2
    assert all(item["late"] > 5 * 3600 for item in items)
    assert {(item["cause"], item["reported_at"]) for item in items} == {("no trace", None)}
    assert read(f"/api/events/{items[0]['id']}")["source"] == "reconcile"


def test_law_12_an_event_reported_in_time_is_not_missed(simulation, miss, read, clock):
    """An event whose callback arrives late, but within the grace period, is not missed."""
    simulation.post(*miss(1))
    simulation.settle()
    clock.forward(2 * HOUR)
    simulation.service.housekeeping.turn()

    assert read("/api/missed")["items"] == []
    assert read("/api/missed/rate")["rate"] == 1


def test_law_12_a_missed_event_reported_later_is_marked(simulation, miss, read, clock):
    """A missed event is marked as reported when a person posts its callback from OneSpan's mail."""
    lost = miss(1)
    clock.forward(2 * HOUR)
    simulation.service.housekeeping.turn()
    assert read("/api/missed/rate")["missed"] == 1
    simulation.post(*lost)
    simulation.settle()

    (item,) = read("/api/missed")["items"]
    assert item["reported_at"]
    assert read("/api/missed", reported="false")["items"] == []
    assert read("/api/missed/rate")["missed"] == 0


def test_the_date_of_a_late_callback_says_when_a_found_event_happened(simulation, miss, read):
    """A snapshot shows only a period; the callback that confirms the event shows the moment."""
    (lost,) = miss(1)
    (found,) = read("/api/events", name="PACKAGE_ARCHIVE", source="reconcile")["items"]
    simulation.post(lost)
    simulation.settle()

    confirmed, happened_at = read(f"/api/events/{found['id']}"), datetime.fromisoformat(json.loads(lost)["createdDate"])
    assert datetime.fromisoformat(found["found_after"]) < happened_at < datetime.fromisoformat(found["found_until"])
    assert datetime.fromisoformat(confirmed["found_until"]) == happened_at
    assert confirmed["found_after"] < confirmed["found_until"]


@pytest.mark.parametrize(
    ("kind", "cause"), [("down", "down"), ("refused", "refused"), ("spooled", "no trace"), (None, "no trace")]
)
def test_law_12_the_likely_cause_is_the_outage_at_that_time(simulation, miss, read, kind, cause):
    """A missed event is explained by an outage of the service, not of the database, as the spool keeps callbacks."""
    began: datetime = simulation.clock.now
    miss(1)
    if kind:
        with simulation.service.database.write() as connection:
            outages.record(connection, kind, began_at=began, ended_at=began + 5 * MINUTE)
    simulation.clock.forward(2 * HOUR)
    simulation.service.housekeeping.turn()

    assert [item["cause"] for item in read("/api/missed")["items"]] == [cause]
    assert read("/api/missed", cause=cause)["items"]


def test_law_12_a_deletion_may_have_happened_at_any_time_since_the_last_snapshot(simulation, read, clock):
    """Any outage since the last snapshot is the likely cause of a missed deletion, and `late` covers that time."""
    began, gone = clock.now, next(iter(completed(simulation)))
    simulation.act(gone, "delete")
    with simulation.service.database.write() as connection:
        outages.record(connection, "down", began_at=began, ended_at=clock.now + 5 * MINUTE)
    clock.forward(6 * HOUR)
    simulation.reconcile(RunRequest(backfill=True))
    clock.forward(2 * HOUR)
    simulation.service.housekeeping.turn()

    (item,) = read("/api/missed")["items"]
    assert (item["name"], item["cause"]) == ("PACKAGE_DELETE", "down")
    assert 6 * 3600 < item["late"] < 8 * 3600


def test_law_12_late_is_unknown_without_an_earlier_snapshot(simulation, read, clock):
    """Without an earlier snapshot, the delay `late` is known for the creation of a package, but not for its sending."""
    simulation.connect(Account(1, packages=1))
    for _ in range(2):
        simulation.step()
    clock.forward(6 * HOUR)
    simulation.reconcile()
    clock.forward(2 * HOUR)
    simulation.service.housekeeping.turn()

    late = {item["name"]: item["late"] for item in read("/api/missed")["items"]}
    assert late.keys() == {"PACKAGE_CREATE", "PACKAGE_ACTIVATE"}
    assert late["PACKAGE_CREATE"] > 6 * 3600
    assert late["PACKAGE_ACTIVATE"] is None
    (event,) = read("/api/events", name="PACKAGE_ACTIVATE")["items"]
    assert event["found_after"] is None


def test_law_9_concurrent_processes_record_a_missed_event_once(simulation, miss, read, clock):
    """Concurrent transactions record each missed event once, and no transaction fails."""
    miss(3)
    clock.forward(2 * HOUR)
    database, recorded = simulation.service.database, []

    def record() -> None:
        with database.write() as connection:
            recorded.append(missed.record(connection, now=clock.now, grace=HOUR, limit=500))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: record(), range(8)))

    assert sorted(recorded) == [*[0] * 7, 3]
    assert len(read("/api/missed")["items"]) == 3


def test_law_12_a_callback_digested_while_its_event_is_recorded_marks_it(simulation, miss, read, clock):
    """A callback that is digested while its event is recorded as missed marks the event as reported."""
    lost = miss(1)
    clock.forward(2 * HOUR)
    simulation.post(*lost)
    digesting = threading.Thread(target=simulation.service.digest.turn)

    with simulation.service.database.write() as connection:
        assert missed.record(connection, now=clock.now, grace=HOUR, limit=500) == 1
        digesting.start()
        digesting.join(0.2)
    digesting.join(10)

    assert read("/api/missed", reported="false")["items"] == []
    assert read("/api/missed", reported="true")["items"]


def test_law_12_an_event_name_without_any_callback_has_its_own_cause(simulation, read, clock):
    """An event that no callback ever reported has the cause `never reported`: it may be disabled in OneSpan."""
    simulation.act(completed(simulation)[0], "trash")
    clock.forward(6 * HOUR)
    simulation.reconcile()
    clock.forward(2 * HOUR)
    simulation.service.housekeeping.turn()

    assert [(item["name"], item["cause"]) for item in read("/api/missed")["items"]] == [
        ("PACKAGE_TRASH", "never reported")
    ]


def test_law_12_events_found_by_the_import_are_not_missed(service, post, handlers, clock, read):
    """Events that the import finds are not missed, because they happened before the service received callbacks."""
    simulation = Simulation(service, post, handlers=handlers, clock=clock)
    simulation.connect(populated(1, 30, now=clock.now))
    simulation.reconcile()
    simulation.post(BEFORE)
    simulation.settle()
    clock.forward(48 * HOUR)
    service.housekeeping.turn()

    assert read("/api/missed")["items"] == []


def test_law_12_a_late_import_finds_events_after_the_first_callback(service, post, handlers, clock, read):
    """An import after the first callback finds missed events, but older events are not missed."""
    simulation = Simulation(service, post, handlers=handlers, clock=clock)
    simulation.connect(Account(1, packages=1))
    simulation.step()
    simulation.post(BEFORE)
    clock.forward(MINUTE)
    old = simulation.account
    simulation.connect(Account(2, packages=1))
    simulation.step()
    simulation.account.load([*old.packages(), *simulation.account.packages()])
    (new,) = [package for package in simulation.account.packages() if package not in old.packages()]
    clock.forward(HOUR)
    simulation.reconcile()
    clock.forward(2 * HOUR)
    service.housekeeping.turn()

    assert dict(simulation.handled[new.id]) == {"PACKAGE_CREATE": 1}
    assert {item["package_id"] for item in read("/api/missed")["items"]} == {new.id}


def test_law_12_without_any_callback_events_since_the_import_are_missed(service, post, handlers, clock, read):
    """Events since the import are missed if no callback ever arrives, as with an unregistered callback URL."""
    simulation = Simulation(service, post, handlers=handlers, clock=clock)
    simulation.connect(Account(1, packages=0).load(populated(1, 60, now=clock.now - 40 * timedelta(days=1)).packages()))
    simulation.reconcile()
    for package_id in completed(simulation)[:3]:
        simulation.act(package_id, "archive")
    clock.forward(6 * HOUR)
    simulation.reconcile()
    clock.forward(2 * HOUR)
    service.housekeeping.turn()

    assert [item["cause"] for item in read("/api/missed")["items"]] == ["never reported"] * 3
    assert read("/api/missed/rate")["silence"]["since"] is None


def test_law_12_the_delivery_rate_is_given_by_day_and_by_name(simulation, miss, read, clock):
    """The delivery rate by day and by event name counts one lost callback of three."""
    simulation.post(*miss(3)[:2])
    simulation.settle()
    clock.forward(2 * HOUR)
    simulation.service.housekeeping.turn()
    rate = read("/api/missed/rate", days=2)

    assert rate["missed"] == 1
    archived = next(entry for entry in rate["by_name"] if entry["of"] == "PACKAGE_ARCHIVE")
    assert archived == {"of": "PACKAGE_ARCHIVE", "reported": 3, "missed": 1, "rate": 0.75}
    assert [entry["of"] for entry in rate["by_day"]] == ["2026-03-01", "2026-03-02"]
    assert sum(entry["missed"] for entry in rate["by_day"]) == 1
    assert rate["causes"] == {"no trace": 1}


def test_law_12_a_silence_is_reported_with_advice(simulation, miss, client, read, clock):
    """A silence is reported when reconcile keeps finding events, but no callbacks arrive."""
    miss(3)
    clock.forward(2 * HOUR)
    simulation.service.housekeeping.turn()

    silence = read("/api/missed/rate")["silence"]
    assert silence["missed"] == 3
    assert "flask callback check" in silence["advice"]
    assert any("No callback has arrived since" in note for note in client.get("/readyz").json["notes"])
    assert "callbacks_silent 1.0" in client.get("/metrics").text
    assert 'callbacks_missed{cause="no trace"} 3.0' in client.get("/metrics").text


def test_law_12_events_missed_while_the_service_was_down_are_no_silence(simulation, miss, read, clock):
    """Events missed during a downtime are no silence, because their cause is known and over."""
    began = clock.now
    miss(3)
    with simulation.service.database.write() as connection:
        outages.record(connection, "down", began_at=began, ended_at=began + 5 * MINUTE)
    clock.forward(2 * HOUR)
    simulation.service.housekeeping.turn()

    assert read("/api/missed/rate")["causes"] == {"down": 3}
    assert read("/api/missed/rate")["silence"] is None


def test_law_12_a_callback_ends_the_silence(simulation, miss, read, clock):
    """Any callback ends a silence."""
    miss(3)
    clock.forward(2 * HOUR)
    simulation.service.housekeeping.turn()
    simulation.post(b'{"name": "PACKAGE_TRASH", "packageId": "before", "createdDate": "2026-03-02T19:00:00.000Z"}')

    assert read("/api/missed/rate")["silence"] is None


def test_law_12_one_missed_event_is_no_silence(simulation, miss, read, clock):
    """A silence needs three consecutive missed events."""
    miss(1)
    clock.forward(2 * HOUR)
    simulation.service.housekeeping.turn()

    assert read("/api/missed/rate")["silence"] is None


@pytest.mark.parametrize(
    ("query", "member"),
    [({"days": "0"}, "days"), ({"days": "x"}, "days"), ({"cause": "fate"}, "cause"), ({"nonsense": "1"}, "nonsense")],
)
def test_a_bad_parameter_is_named_in_the_error(client, query, member):
    """An unknown query parameter or a wrong value is an error and is not ignored."""
    path = "/api/missed/rate" if "days" in query else "/api/missed"
    answer = client.get(path, query_string=query, headers={"Authorization": f"Bearer {TOKEN}"})

    assert answer.status_code == 400
    assert member in answer.json["error"]["message"]
