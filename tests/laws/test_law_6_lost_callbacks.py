"""Law 6 over whole lives: callbacks are lost, late and out of order, and packages are read in between."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from app import Service
from app.handling import Event, Handlers, Package
from app.simulator import callbacks
from app.simulator.account import Account
from app.simulator.inprocess import InProcess
from app.simulator.server import api
from app.store import queries
from tests.conftest import HOUR, Clock, in_all
from tests.support.simulation import ADDRESS, API_KEY, knowing_onespan

MINUTE = timedelta(minutes=1)
LIVES = 12  # in each test, each with its own losses


class World:
    """An account of one package at a time, the service, and the post between them, which loses some."""

    def __init__(self, service: Service, post: Callable[[bytes], Any], *, handlers: Handlers, clock: Clock) -> None:
        self.service, self.clock, self.handlers = service, clock, handlers
        self.told: dict[str, Counter[str]] = {}
        self._post = post

    def live(self, seed: int, *, drop: float, read: float, late: bool) -> Account:
        """One whole life. Of its callbacks this share is lost, or comes in the end where they are only `late`."""
        account, dice = Account(seed, packages=1), Random(seed)
        app = api(account, api_key=API_KEY, clock=self.clock)
        self.handlers.onespan._session.mount(ADDRESS, InProcess(app))
        self.clock.forward(HOUR)
        lost, self.life = [], Counter[str]()
        while not account.is_over:
            self.clock.forward(MINUTE)
            for event in account.step(self.clock.now):
                self.life[event.name] += 1
                if dice.random() < drop:
                    lost.append(callbacks.body(event))
                else:
                    self._post(callbacks.body(event))
            if dice.random() < read:
                self.settle()
        self.settle()
        dice.shuffle(lost)
        for body in lost if late else ():
            self._post(body)
        self.settle()
        return account

    def settle(self) -> None:
        """Digest, run handlers and read what is wanted, until there is nothing left to do."""
        for _ in range(100):
            self.clock.forward(timedelta(seconds=5))
            worked = [self.service.digest.turn(), self.service.dispatcher.turn(), self.service.refresh.turn()]
            if not any(worked) and self.service.dispatcher.quiet.wait(10) and not self.service.dispatcher.turn():
                return
        raise AssertionError("there is always more to do")

    def picture(self, package_id: str) -> Package:
        """What is believed of it."""
        with self.service.database.read() as connection:
            return queries.packages(connection, [package_id])[package_id]


@pytest.fixture
def settings(settings):
    """The service knows where OneSpan is."""
    return knowing_onespan(settings)


@pytest.fixture
def world(service, post, handlers, clock) -> Iterator[World]:
    """A service that has listened since before any of these lives began."""
    world = World(service, post, handlers=handlers, clock=clock)

    @handlers.on("*")
    def see(event: Event, package: Package) -> None:
        world.told.setdefault(event.package_id, Counter())[event.name] += 1

    post({"name": "PACKAGE_CREATE", "packageId": "before"})
    world.settle()
    return world


@pytest.mark.parametrize(("drop", "read"), [(0.5, 0.5), (0.9, 0.1), *in_all((0.2, 0.1), (0.5, 0.0))])
def test_law_6_every_fact_reaches_every_handler_once_however_late(world, runner, drop, read):
    """Found by a reading, told by a callback, or first one and then the other."""
    for seed in range(LIVES):
        (package,) = world.live(seed, drop=drop, read=read, late=True).packages()
        believed = world.picture(package.id)

        assert world.told[package.id] == world.life, seed
        assert (believed.status, believed.trashed) == (package.status, package.trashed), seed
        assert believed.deleted == package.deleted, seed
    assert runner.invoke(args=["rebuild", "--check"]).exit_code == 0


@pytest.mark.parametrize(("drop", "read"), [(0.2, 0.5), *in_all((0.5, 0.1), (0.9, 0.5))])
def test_law_6_nothing_is_told_that_did_not_happen(world, drop, read):
    """What stays lost is found or not, but nothing is invented and nothing told twice."""
    for seed in range(LIVES, 2 * LIVES):
        (package,) = world.live(seed, drop=drop, read=read, late=False).packages()

        assert world.told.get(package.id, Counter()) <= world.life, seed
