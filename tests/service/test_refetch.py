"""Packages that are fetched again: no answer and no refusal is final while there is a reason to doubt it."""

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
    """Settings with the address of OneSpan."""
    return knowing_onespan(settings)


@pytest.fixture
def world(service, post, handlers, clock):
    """A service that received callbacks before anything else happened."""
    world = World(service, post, handlers=handlers, clock=clock)
    world.faults = Faults(Random(0))
    world.post(b'{"name": "PACKAGE_CREATE", "packageId": "before", "createdDate": "2026-03-02T12:00:00.000Z"}')
    world.settle()
    world.reconcile()
    return world


def sent(world, **quirks) -> str:
    """Create a package that is out for signature, here and in OneSpan, and return its id."""
    world.connect(Account(1, packages=0, quirks=Quirks(**quirks)), world.faults)
    world.account._to_begin = 1
    for _ in range(2):
        world.post(*world.step())
    world.settle()
    (package,) = world.account.packages()
    assert (package.status, world.differences()) == ("SENT", [])
    return package.id


@pytest.mark.parametrize("reassign_role", ["stays", "signer"])
def test_law_6_a_reassignment_is_dispatched_once_even_if_the_callback_names_the_role(world, reassign_role):
    """The snapshot shows the person who left the seat; the callback names only the role."""
    package_id = sent(world, session_user="role", reassign_role=reassign_role)
    (role, *_) = world.account.package(package_id).roles
    new_signer = people.signer(Random(1))
    new_role = role.id if reassign_role == "stays" else new_signer.id
    lost = world.act(package_id, "hand over", text=new_role, person=new_signer)
    world.reconcile(Asked())
    assert world.told == {**world.happened, "before": ANY}

    world.post(*lost)
    world.settle()

    assert world.told == {**world.happened, "before": ANY}


def test_law_5_a_callback_for_what_a_snapshot_already_showed_enqueues_a_fetch(world):
    """It happened in the second in which OneSpan answered, so it is unknown which of the two is newer."""
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


def test_law_10_a_listed_package_that_is_refused_is_fetched_again(world):
    """A refusal may be a mistake. If it were final, later events would stay unknown."""
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


def test_a_fetch_requested_again_by_a_process_with_another_clock_stays_queued(service):
    """The clock of the other machine is a second behind, but its request came after the fetch was taken."""
    with service.database.write() as connection:
        fetches.want(connection, {"pkg-1": "unknown"}, now=NOON)
        taken = fetches.take(connection, "pkg-1", now=NOON, lease=HOUR)
        fetches.want(connection, {"pkg-1": "structure"}, now=NOON - SECOND)
        fetches.settle(connection, taken, again_at=NOON + MINUTE)

        assert fetches.due(connection, now=NOON + MINUTE, limit=1) == [("pkg-1", fetches.SURPRISED)]
