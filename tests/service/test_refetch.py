"""Packages that are asked for again: no answer and no refusal is the last word while there is reason to doubt it."""

from random import Random
from unittest.mock import ANY

import pytest

from app.simulator import people
from app.simulator.account import Account
from app.simulator.faults import Faults
from app.simulator.quirks import Quirks
from app.store import fetches
from app.work.reconcile import Asked
from tests.conftest import HOUR, NOON
from tests.support.simulation import MINUTE, SECOND, World, knowing_onespan


@pytest.fixture
def settings(settings):
    """The service knows where OneSpan is."""
    return knowing_onespan(settings)


@pytest.fixture
def world(service, post, handlers, clock):
    """A service that has listened since before anything happened."""
    world = World(service, post, handlers=handlers, clock=clock)
    world.faults = Faults(Random(0))
    world.post(b'{"name": "PACKAGE_CREATE", "packageId": "before", "createdDate": "2026-03-02T12:00:00.000Z"}')
    world.settle()
    world.reconcile()
    return world


def sent(world, **quirks) -> str:
    """A package that is out for signature, as everybody knows."""
    world.connect(Account(1, packages=0, quirks=Quirks(**quirks)), world.faults)
    world.account._to_begin = 1
    for _ in range(2):
        world.post(*world.step())
    world.settle()
    (package,) = world.account.packages()
    assert (package.status, world.differences()) == ("SENT", [])
    return package.id


@pytest.mark.parametrize("reassign_role", ["stays", "signer"])
def test_law_6_a_seat_that_was_handed_over_is_told_once_though_the_callback_names_the_role(world, reassign_role):
    """Who sat in it stands in the reading; the callback says only in which role."""
    package_id = sent(world, session_user="role", reassign_role=reassign_role)
    (role, *_) = world.account.package(package_id).roles
    somebody = people.signer(Random(1))
    new = role.id if reassign_role == "stays" else somebody.id
    lost = world.act(package_id, "hand over", text=new, person=somebody)
    world.reconcile(Asked())
    assert world.told == {**world.happened, "before": ANY}

    world.post(*lost)
    world.settle()

    assert world.told == {**world.happened, "before": ANY}


def test_law_5_a_callback_of_what_a_reading_had_shown_already_makes_us_read_again(world):
    """It happened in the second in which OneSpan answered, so nobody can tell which of the two is newer."""
    package_id = sent(world, system_user="system", list_items="summary")
    lost = world.act(package_id, "bounce", text="BOUNCE")
    world.service.reconcile.begin(Asked())
    for _ in range(4):
        world.service.reconcile.turn()
    assert world.service.refresh.turn()
    world.reconcile()

    world.post(*lost)
    world.settle()

    assert world.differences() == []


def test_law_10_what_was_seen_and_is_denied_is_asked_for_again(world):
    """A refusal may be a mistake; whoever believed it at once would never learn what happened since."""
    package_id = sent(world, list_items="summary")
    world.act(package_id, "rename", text="Another name")
    world.service.reconcile.begin(Asked())
    for _ in range(4):
        world.service.reconcile.turn()
    world.faults.outage = "403"
    assert world.service.refresh.turn()
    world.faults.outage = None
    world.reconcile()
    world.clock.forward(MINUTE)
    world.settle()

    assert world.differences() == []


def test_a_read_that_is_wanted_anew_by_another_clock_is_not_over(service):
    """The other machine is a second behind; its reason came after we had taken the read all the same."""
    with service.database.write() as connection:
        fetches.want(connection, {"pkg-1": "unknown"}, now=NOON)
        taken = fetches.take(connection, "pkg-1", now=NOON, lease=HOUR)
        fetches.want(connection, {"pkg-1": "structure"}, now=NOON - SECOND)
        fetches.settle(connection, taken, again_at=NOON + MINUTE)

        assert fetches.due(connection, now=NOON + MINUTE, limit=1) == [("pkg-1", fetches.SURPRISED)]
