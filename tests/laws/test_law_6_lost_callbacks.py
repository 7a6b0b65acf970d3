"""Law 6 from a package's creation to its end, with lost, late and unordered callbacks and fetches in between."""

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
from tests.support.simulation import ADDRESS, API_KEY, with_onespan

MINUTE = timedelta(minutes=1)
LIVES = 12  # simulated packages per test, each with other lost callbacks


class LossySimulation:
    """The service and a simulated account that has one package at a time and loses some callbacks."""

    def __init__(self, service: Service, post: Callable[[bytes], Any], *, handlers: Handlers, clock: Clock) -> None:
        self.service, self.clock, self.handlers = service, clock, handlers
        self.handled: dict[str, Counter[str]] = {}
        self._post = post

    def live(self, seed: int, *, drop: float, read: float, late: bool) -> Account:
        """Simulate one package. The share `drop` of its callbacks is lost or, if `late`, arrives at the end."""
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
        """Digest, run handlers and fetch packages until no work is left."""
        for _ in range(100):
            self.clock.forward(timedelta(seconds=5))
            worked = [self.service.digest.turn(), self.service.dispatcher.turn(), self.service.fetcher.turn()]
            if (
                not any(worked)
                and self.service.dispatcher.handlers_done.wait(10)
                and not self.service.dispatcher.turn()
            ):
                return
        raise AssertionError("the work never ends")

    def stored_package(self, package_id: str) -> Package:
        """The package with this id in the status store."""
        with self.service.database.read() as connection:
            return queries.packages(connection, [package_id])[package_id]


@pytest.fixture
def settings(settings):
    """Settings with the address of the simulated OneSpan."""
    return with_onespan(settings)


@pytest.fixture
def simulation(service, post, handlers, clock) -> Iterator[LossySimulation]:
    """A simulation whose service received its first callback before the simulated packages are created."""
    simulation = LossySimulation(service, post, handlers=handlers, clock=clock)

    @handlers.on("*")
    def count(event: Event, package: Package) -> None:
        simulation.handled.setdefault(event.package_id, Counter())[event.name] += 1

    post({"name": "PACKAGE_CREATE", "packageId": "before"})
    simulation.settle()
    return simulation


@pytest.mark.parametrize(("drop", "read"), [(0.5, 0.5), *in_all((0.9, 0.1), (0.2, 0.1), (0.5, 0.0))])
def test_law_6_every_fact_reaches_every_handler_once_however_late(simulation, runner, drop, read):
    """A handler runs once for each fact, whether a snapshot or a callback reports the fact first."""
    for seed in range(LIVES):
        (package,) = simulation.live(seed, drop=drop, read=read, late=True).packages()
        stored = simulation.stored_package(package.id)

        assert simulation.handled[package.id] == simulation.life, seed
        assert (stored.status, stored.trashed) == (package.status, package.trashed), seed
        assert stored.deleted == package.deleted, seed
    assert runner.invoke(args=["rebuild", "--check"]).exit_code == 0


@pytest.mark.parametrize(("drop", "read"), [(0.2, 0.5), *in_all((0.5, 0.1), (0.9, 0.5))])
def test_law_6_only_facts_that_happened_reach_a_handler(simulation, drop, read):
    """If callbacks are lost, a handler still runs only for facts that happened, and at most once for each fact."""
    for seed in range(LIVES, 2 * LIVES):
        (package,) = simulation.live(seed, drop=drop, read=read, late=False).packages()

        assert simulation.handled.get(package.id, Counter()) <= simulation.life, seed
