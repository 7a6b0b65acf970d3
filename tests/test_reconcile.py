"""Reconcile: what callbacks missed is found, at the price of a few pages, once per interval, by one process."""

from random import Random

import pytest
from pydantic import SecretStr

from app.onespan.client import OneSpan
from app.simulator.account import Account
from tests.conftest import HOUR
from tests.world import ADDRESS, API_KEY, World


@pytest.fixture
def settings(settings, handlers):
    """The service knows where OneSpan is."""
    handlers.onespan = OneSpan(backoff=0)
    return settings.model_copy(
        update={
            "onespan_url": ADDRESS,
            "onespan_api_key": SecretStr(API_KEY),
            "onespan_requests_per_minute": 10_000,
        }
    )


@pytest.fixture
def world(service, post, handlers, clock):
    """A service that has listened since before anything happened, and has imported an account with nothing in it."""
    world = World(service, post, handlers=handlers, clock=clock)
    world.post(b'{"name": "PACKAGE_CREATE", "packageId": "before", "createdDate": "2026-03-02T12:00:00.000Z"}')
    world.settle()
    world.reconcile()
    return world


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("drop", [0.3, 1.0])
def test_law_5_after_a_reconcile_the_picture_is_the_truth(world, runner, drop, seed):
    """Whatever was lost of twelve whole lives, all of it at the worst."""
    world.connect(Account(seed, packages=12))
    world.live(drop=drop, dice=Random(seed))
    world.settle()
    world.clock.forward(6 * HOUR)
    world.reconcile()

    assert world.differences() == []
    assert runner.invoke(args=["rebuild", "--check"]).exit_code == 0


def test_law_6_who_imported_an_empty_account_has_listened_since(service, post, handlers, clock):
    """Though no callback has ever come: the first one may be the one that was lost."""
    world = World(service, post, handlers=handlers, clock=clock)
    world.reconcile()
    world.connect(Account(0, packages=1))
    world.step()
    world.clock.forward(6 * HOUR)
    world.reconcile()

    assert world.told == world.happened
