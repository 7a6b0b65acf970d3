"""Packages are fetched again while there is a reason to doubt the last answer or refusal."""

from random import Random
from unittest.mock import ANY

import pytest

from app.simulator import people
from app.simulator.account import Account
from app.simulator.faults import Faults
from app.simulator.quirks import Quirks
from app.store import fetches, outages
from app.work.reconcile import RunRequest
from tests.conftest import HOUR, NOON
from tests.support.simulation import MINUTE, SECOND, Simulation, with_onespan


@pytest.fixture
def settings(settings):
    """Settings with the address of OneSpan."""
    return with_onespan(settings)


@pytest.fixture
def simulation(service, post, handlers, clock):
    """A service that received a callback before its first import."""
    simulation = Simulation(service, post, handlers=handlers, clock=clock)
    simulation.faults = Faults(Random(0))
    simulation.post(b'{"name": "PACKAGE_CREATE", "packageId": "before", "createdDate": "2026-03-02T12:00:00.000Z"}')
    simulation.settle()
    simulation.reconcile()
    return simulation


def sent(simulation, **quirks) -> str:
    """Create a package with the status SENT in OneSpan and in the status store, and return its id."""
    simulation.connect(Account(1, packages=0, quirks=Quirks(**quirks)), simulation.faults)
    simulation.account._to_create = 1
    for _ in range(2):
        simulation.post(*simulation.step())
    simulation.settle()
    (package,) = simulation.account.packages()
    assert (package.status, simulation.differences()) == ("SENT", [])
    return package.id


@pytest.mark.parametrize("reassign_role", ["stays", "signer"])
def test_law_6_a_reassignment_is_dispatched_once_even_if_the_callback_names_the_role(simulation, reassign_role):
    """A reassignment is dispatched once, although the snapshot shows the person and the callback only the role."""
    package_id = sent(simulation, session_user="role", reassign_role=reassign_role)
    (role, *_) = simulation.account.package(package_id).roles
    new_signer = people.signer(Random(1))
    new_role = role.id if reassign_role == "stays" else new_signer.id
    lost = simulation.act(package_id, "reassign in place", text=new_role, person=new_signer)
    simulation.reconcile(RunRequest())
    assert simulation.handled == {**simulation.happened, "before": ANY}

    simulation.post(*lost)
    simulation.settle()

    assert simulation.handled == {**simulation.happened, "before": ANY}


def test_law_5_a_callback_for_what_a_snapshot_already_showed_enqueues_a_fetch(simulation):
    """A callback from the same second as a snapshot enqueues a fetch, because either of the two may be newer."""
    package_id = sent(simulation, system_user="system", list_items="summary")
    lost = simulation.act(package_id, "bounce", text="BOUNCE")
    simulation.service.reconcile.begin(RunRequest())
    for _ in range(4):
        simulation.service.reconcile.turn()
    assert simulation.service.fetcher.turn()
    simulation.reconcile()

    simulation.post(*lost)
    simulation.settle()

    assert simulation.differences() == []


def test_law_10_a_listed_package_that_is_refused_is_fetched_again(simulation):
    """A listed package is fetched again after a refusal, because the refusal may be a mistake."""
    package_id = sent(simulation, list_items="summary")
    simulation.act(package_id, "rename", text="Another name")
    simulation.service.reconcile.begin(RunRequest())
    for _ in range(4):
        simulation.service.reconcile.turn()
    simulation.faults.outage = "403"
    assert simulation.service.fetcher.turn()
    simulation.faults.outage = None
    simulation.reconcile()
    simulation.clock.forward(MINUTE)
    simulation.settle()

    assert simulation.differences() == []


def test_a_fetch_requested_again_by_a_process_with_another_clock_stays_queued(service):
    """A fetch that is requested again while it runs stays queued, even if the clocks differ by a second."""
    with service.database.write() as connection:
        fetches.enqueue(connection, {"pkg-1": "unknown"}, now=NOON)
        taken = fetches.take(connection, "pkg-1", now=NOON, lease=HOUR, process="this")
        fetches.enqueue(connection, {"pkg-1": "structure"}, now=NOON - SECOND)
        fetches.settle(connection, taken, again_at=NOON + MINUTE)

        assert fetches.due(connection, now=NOON + MINUTE, limit=1, process="this") == [
            ("pkg-1", fetches.AFTER_CALLBACK)
        ]


def test_law_9_fetch_of_a_dead_process_is_due_after_those_of_callbacks(service):
    """A fetch whose process stopped is due at once, but does not come before what a callback requested."""
    with service.database.write() as connection:
        outages.beat(connection, "dead", takes_callbacks=False, started_at=NOON, now=NOON)
        fetches.enqueue(connection, {"pkg-1": "drift"}, now=NOON, rank=fetches.FOR_RECONCILE)
        assert fetches.take(connection, "pkg-1", now=NOON, lease=HOUR, process="dead")
        fetches.enqueue(connection, {"pkg-2": "unknown"}, now=NOON)
        while_alive = fetches.due(connection, now=NOON, limit=9, process="this")
        outages.record_stop(connection, "dead", now=NOON)

        due = fetches.due(connection, now=NOON, limit=9, process="this")

    assert while_alive == [("pkg-2", fetches.AFTER_CALLBACK)]
    assert due == [("pkg-2", fetches.AFTER_CALLBACK), ("pkg-1", fetches.FOR_RECONCILE)]
