"""Law 12: what no callback told is counted, with its likely cause; and a silence is noticed."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from app.simulator.account import Account
from app.simulator.population import populated
from app.store import missed, outages
from app.work.reconcile import Asked
from tests.conftest import HOUR, TOKEN
from tests.support.simulation import MINUTE, World, knowing_onespan

BEFORE = b'{"name": "PACKAGE_CREATE", "packageId": "before", "createdDate": "2026-03-02T12:00:00.000Z"}'
ARCHIVED = b'{"name": "PACKAGE_ARCHIVE", "packageId": "before", "createdDate": "2026-03-02T12:00:01.000Z"}'


@pytest.fixture
def settings(settings):
    """The service knows where OneSpan is."""
    return knowing_onespan(settings)


@pytest.fixture
def world(service, post, handlers, clock):
    """Packages that are known, and a service that was told of something once."""
    world = World(service, post, handlers=handlers, clock=clock)
    world.connect(Account(1, packages=0).hold(populated(1, 60, now=clock.now - 40 * timedelta(days=1)).packages()))
    world.post(BEFORE, ARCHIVED)
    world.settle()
    world.reconcile()
    clock.forward(HOUR)
    return world


@pytest.fixture
def miss(world) -> Callable[[int], list[bytes]]:
    """So many packages are archived, and nobody tells us; returns the callbacks that did not come."""
    left = [one.id for one in world.account.packages() if one.status == "COMPLETED" and not one.trashed]

    def miss(number: int) -> list[bytes]:
        lost = [body for _ in range(number) for body in world.act(left.pop(), "archive")]
        world.clock.forward(6 * HOUR)
        world.reconcile()
        return lost

    return miss


def test_law_12_what_was_found_counts_as_missed_once_the_grace_is_over(world, miss, read, clock):
    """Until then its callback may only be late."""
    miss(2)
    world.service.watch.turn()
    assert read("/api/missed")["items"] == []

    clock.forward(HOUR)
    world.service.watch.turn()
    world.service.watch.turn()
    items = read("/api/missed")["items"]

    assert [one["name"] for one in items] == ["PACKAGE_ARCHIVE"] * 2
    assert all(one["late"] > 5 * 3600 and one["cause"] == "no trace" and one["reported_at"] is None for one in items)
    assert read(f"/api/events/{items[0]['id']}")["source"] == "reconcile"


def test_law_12_a_fact_that_is_told_in_time_is_not_missed(world, miss, read, clock):
    """It was late, and no later than the grace."""
    world.post(*miss(1))
    world.settle()
    clock.forward(2 * HOUR)
    world.service.watch.turn()

    assert read("/api/missed")["items"] == []
    assert read("/api/missed/rate")["rate"] == 1


def test_law_12_one_that_is_told_after_all_is_marked_so(world, miss, read, clock):
    """Somebody posted it again by hand, from OneSpan's mail."""
    lost = miss(1)
    clock.forward(2 * HOUR)
    world.service.watch.turn()
    assert read("/api/missed/rate")["missed"] == 1
    world.post(*lost)
    world.settle()

    (item,) = read("/api/missed")["items"]
    assert item["reported_at"]
    assert read("/api/missed", reported="false")["items"] == []
    assert read("/api/missed/rate")["missed"] == 0


@pytest.mark.parametrize(
    ("kind", "cause"), [("down", "down"), ("refused", "refused"), ("spooled", "no trace"), (None, "no trace")]
)
def test_law_12_the_likely_cause_is_what_went_on_then(world, miss, read, kind, cause):
    """We were down, or answered 503; that the database was away for a while explains nothing."""
    began: datetime = world.clock.now
    miss(1)
    if kind:
        with world.service.database.write() as connection:
            outages.note(connection, kind, began_at=began, ended_at=began + 5 * MINUTE)
    world.clock.forward(2 * HOUR)
    world.service.watch.turn()

    assert [one["cause"] for one in read("/api/missed")["items"]] == [cause]
    assert read("/api/missed", cause=cause)["items"]


def test_law_12_a_deletion_may_have_happened_at_any_time_since_the_last_reading(world, read, clock):
    """No reading shows when; so an outage in all that time is its likely cause, and it is late by so much at most."""
    began, gone = clock.now, next(one.id for one in world.account.packages() if one.status == "COMPLETED")
    world.act(gone, "delete")
    with world.service.database.write() as connection:
        outages.note(connection, "down", began_at=began, ended_at=clock.now + 5 * MINUTE)
    clock.forward(6 * HOUR)
    world.reconcile(Asked(backfill=True))
    clock.forward(2 * HOUR)
    world.service.watch.turn()

    (item,) = read("/api/missed")["items"]
    assert (item["name"], item["cause"]) == ("PACKAGE_DELETE", "down")
    assert 6 * 3600 < item["late"] < 8 * 3600


def test_law_12_where_nothing_says_since_when_a_fact_may_be_nobody_knows_how_late_it_is(world, read, clock):
    """A package that was never read before, made and sent without a word."""
    world.connect(Account(1, packages=1))
    for _ in range(2):
        world.step()
    clock.forward(6 * HOUR)
    world.reconcile()
    clock.forward(2 * HOUR)
    world.service.watch.turn()

    late = {one["name"]: one["late"] for one in read("/api/missed")["items"]}
    assert late.keys() == {"PACKAGE_CREATE", "PACKAGE_ACTIVATE"}
    assert late["PACKAGE_CREATE"] > 6 * 3600
    assert late["PACKAGE_ACTIVATE"] is None
    (event,) = read("/api/events", name="PACKAGE_ACTIVATE")["items"]
    assert event["found_after"] is None


def test_law_9_two_who_note_what_was_missed_note_it_once(world, miss, read, clock):
    """And neither fails."""
    miss(3)
    clock.forward(2 * HOUR)
    database, notes = world.service.database, []

    def note() -> None:
        with database.write() as connection:
            notes.append(missed.note(connection, now=clock.now, grace=HOUR, limit=500))

    with ThreadPoolExecutor(4) as many:
        list(many.map(lambda _: note(), range(8)))

    assert sorted(notes) == [*[0] * 7, 3]
    assert len(read("/api/missed")["items"]) == 3


def test_law_12_what_is_told_while_it_is_noted_is_marked_so(world, miss, read, clock):
    """The digest that confirms it comes before or after the note, not in between."""
    lost = miss(1)
    clock.forward(2 * HOUR)
    world.post(*lost)
    digesting = threading.Thread(target=world.service.digest.turn)

    with world.service.database.write() as connection:
        assert missed.note(connection, now=clock.now, grace=HOUR, limit=500) == 1
        digesting.start()
        digesting.join(0.2)
    digesting.join(10)

    assert read("/api/missed", reported="false")["items"] == []
    assert read("/api/missed", reported="true")["items"]


def test_law_12_an_event_that_nobody_ever_told_is_perhaps_not_switched_on(world, read, clock):
    """Reading finds that packages were trashed, and no callback ever said so of any."""
    packages = [one.id for one in world.account.packages() if one.status == "COMPLETED" and not one.trashed]
    world.act(packages[0], "trash")
    clock.forward(6 * HOUR)
    world.reconcile()
    clock.forward(2 * HOUR)
    world.service.watch.turn()

    assert [(one["name"], one["cause"]) for one in read("/api/missed")["items"]] == [
        ("PACKAGE_TRASH", "never reported")
    ]


def test_law_12_what_the_import_found_is_not_missed(service, post, handlers, clock, read):
    """Nobody was to tell us."""
    world = World(service, post, handlers=handlers, clock=clock)
    world.connect(populated(1, 30, now=clock.now))
    world.reconcile()
    world.post(BEFORE)
    world.settle()
    clock.forward(48 * HOUR)
    service.watch.turn()

    assert read("/api/missed")["items"] == []


def test_law_12_what_was_made_after_the_first_callback_is_found_by_a_late_import(service, post, handlers, clock, read):
    """OneSpan called us already, so we listened; what is older is nobody's to tell."""
    world = World(service, post, handlers=handlers, clock=clock)
    world.connect(Account(1, packages=1))
    world.step()
    world.post(BEFORE)
    clock.forward(MINUTE)
    old = world.account
    world.connect(Account(2, packages=1))
    world.step()
    world.account.hold([*old.packages(), *world.account.packages()])
    (new,) = [one for one in world.account.packages() if one not in old.packages()]
    clock.forward(HOUR)
    world.reconcile()
    clock.forward(2 * HOUR)
    service.watch.turn()

    assert dict(world.told[new.id]) == {"PACKAGE_CREATE": 1}
    assert {one["package_id"] for one in read("/api/missed")["items"]} == {new.id}


def test_law_12_where_no_callback_ever_came_what_happened_since_the_import_is_missed(
    service, post, handlers, clock, read
):
    """It was never registered, or the way to us is shut."""
    world = World(service, post, handlers=handlers, clock=clock)
    world.connect(Account(1, packages=0).hold(populated(1, 60, now=clock.now - 40 * timedelta(days=1)).packages()))
    world.reconcile()
    for one in [one.id for one in world.account.packages() if one.status == "COMPLETED" and not one.trashed][:3]:
        world.act(one, "archive")
    clock.forward(6 * HOUR)
    world.reconcile()
    clock.forward(2 * HOUR)
    service.watch.turn()

    assert [one["cause"] for one in read("/api/missed")["items"]] == ["never reported"] * 3
    assert read("/api/missed/rate")["silence"]["since"] is None


def test_law_12_the_rate_is_told_by_day_and_by_name(world, miss, read, clock):
    """Two of three archivings came."""
    world.post(*miss(3)[:2])
    world.settle()
    clock.forward(2 * HOUR)
    world.service.watch.turn()
    rate = read("/api/missed/rate", days=2)

    assert rate["missed"] == 1
    archived = next(one for one in rate["by_name"] if one["of"] == "PACKAGE_ARCHIVE")
    assert archived == {"of": "PACKAGE_ARCHIVE", "reported": 3, "missed": 1, "rate": 0.75}
    assert [one["of"] for one in rate["by_day"]] == ["2026-03-01", "2026-03-02"]
    assert sum(one["missed"] for one in rate["by_day"]) == 1
    assert rate["causes"] == {"no trace": 1}


def test_law_12_a_silence_is_said_with_what_to_check(world, miss, client, read, clock):
    """Reading keeps finding facts, and no callback comes any more."""
    miss(3)
    clock.forward(2 * HOUR)
    world.service.watch.turn()

    silence = read("/api/missed/rate")["silence"]
    assert silence["missed"] == 3
    assert "flask callback check" in silence["advice"]
    assert any("No callback has arrived since" in note for note in client.get("/readyz").json["notes"])
    assert "callbacks_silent 1.0" in client.get("/metrics").text
    assert 'callbacks_missed{cause="no trace"} 3.0' in client.get("/metrics").text


def test_law_12_what_we_were_down_for_makes_no_silence(world, miss, read, clock):
    """That it was not told is explained, and repaired."""
    began = clock.now
    miss(3)
    with world.service.database.write() as connection:
        outages.note(connection, "down", began_at=began, ended_at=began + 5 * MINUTE)
    clock.forward(2 * HOUR)
    world.service.watch.turn()

    assert read("/api/missed/rate")["causes"] == {"down": 3}
    assert read("/api/missed/rate")["silence"] is None


def test_law_12_a_callback_ends_the_silence(world, miss, read, clock):
    """Whatever it tells."""
    miss(3)
    clock.forward(2 * HOUR)
    world.service.watch.turn()
    world.post(b'{"name": "PACKAGE_TRASH", "packageId": "before", "createdDate": "2026-03-02T19:00:00.000Z"}')

    assert read("/api/missed/rate")["silence"] is None


def test_law_12_a_sparse_account_is_not_called_silent(world, miss, read, clock):
    """One fact missed is no pattern."""
    miss(1)
    clock.forward(2 * HOUR)
    world.service.watch.turn()

    assert read("/api/missed/rate")["silence"] is None


@pytest.mark.parametrize(
    ("query", "named"),
    [({"days": "0"}, "days"), ({"days": "x"}, "days"), ({"cause": "fate"}, "cause"), ({"nonsense": "1"}, "nonsense")],
)
def test_bad_parameters_are_named(client, query, named):
    """Nothing is guessed."""
    path = "/api/missed/rate" if "days" in query else "/api/missed"
    answer = client.get(path, query_string=query, headers={"Authorization": f"Bearer {TOKEN}"})

    assert answer.status_code == 400
    assert named in answer.json["error"]["message"]
