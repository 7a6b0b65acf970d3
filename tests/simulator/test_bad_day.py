"""Tests of the simulator on a bad day: in one process, with a manual clock, without sockets or waiting."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random

import pytest
import requests

from app.onespan.event_catalogue import CATALOGUE, SPELLINGS
from app.simulator import anomalies, faults, outbox
from app.simulator.account import Account
from app.simulator.faults import Faults
from app.simulator.inprocess import InProcess
from app.simulator.outbox import Mishaps, Outbox
from app.simulator.quirks import Quirks
from app.simulator.server import api
from tests.conftest import Clock
from tests.support.simulated import API_KEY, AUTHORIZED

ONESPAN = "http://onespan.test"
MISHAPS = Mishaps(drop=0.1, repeat=0.2, delay=0.2, reorder=0.2, undated=0.05, delay_by=600)


@dataclass
class Day:
    """A simulated account with mishaps, faults and anomalies, and a session that reads the account."""

    seed: int
    quirks: Quirks = field(default_factory=Quirks)

    def __post_init__(self) -> None:
        """Build the clock, the account, the faults, the outbox and the session of the day."""
        self.clock = Clock()
        self.account = Account(self.seed, packages=15, quirks=self.quirks, anomalies=anomalies.BAD_DAY)
        self.faults = Faults(Random(f"{self.seed}:faults"), faults.BAD_DAY)
        self.outbox = Outbox(Random(f"{self.seed}:post"), mishaps=MISHAPS, quirks=self.quirks)
        self.session = requests.Session()
        self.session.headers.update(AUTHORIZED)
        app = api(
            self.account,
            api_key=API_KEY,
            clock=self.clock,
            faults=self.faults,
            sleep=lambda seconds: self.clock.forward(timedelta(seconds=seconds)),
            notify=lambda events: self.outbox.put(events, now=self.clock.now),
        )
        self.session.mount(ONESPAN, InProcess(app))

    def callbacks(self) -> Iterator[bytes]:
        """Play all stories to their end, and yield each callback when it arrives."""
        for _ in range(5000):
            self.clock.forward(timedelta(seconds=1))
            self.outbox.put(self.account.step(self.clock.now), now=self.clock.now)
            yield from self.outbox.take_due(self.clock.now)
            if self.account.is_over and not len(self.outbox):
                return
        raise AssertionError("the day never ends")

    def all_listed(self) -> dict[str, dict]:
        """Return every package that the list shows, by its id."""
        listed = {}
        for query in ("", "trashed"):
            for kind in ("PACKAGE", "TEMPLATE", "LAYOUT"):
                page = self.read_list(query=query, type=kind, sort="updated", to=99)
                listed |= {package["id"]: package for package in page["results"]}
        return listed

    def read_list(self, **query) -> dict:
        """Return a valid page of the list, after as many attempts as necessary."""
        for _ in range(100):
            try:
                page = self.session.get(f"{ONESPAN}/api/packages", params=query).json()
            except requests.RequestException:  # the connection was cut, or the JSON is invalid
                continue
            if isinstance(page, dict) and all("id" in package for package in page.get("results", [{}])):
                return page
        raise AssertionError("no valid answer in 100 attempts")


@pytest.mark.parametrize("seed", range(3))
def test_the_list_shows_the_truth_even_if_callbacks_do_not(seed):
    """The package list shows the present state, even if callbacks are lost, repeated or delayed."""
    day = Day(seed)
    bodies = list(day.callbacks())
    names = {json.loads(body)["name"] for body in bodies}
    day.faults.rates = {}
    existing = {package.id: package for package in day.account.packages() if not package.deleted}

    assert names <= {*CATALOGUE, *SPELLINGS}
    assert min(day.outbox.mishap_counts[mishap] for mishap in ("dropped", "repeated", "delayed", "reordered")) > 0
    statuses = {package_id: package["status"] for package_id, package in day.all_listed().items()}
    assert statuses == {package_id: package.status for package_id, package in existing.items()}


def test_the_same_seed_replays_the_same_bad_day():
    """The same seed gives the same callbacks, faults and anomalies in the same order."""
    first, again = Day(4), Day(4)

    assert list(first.callbacks()) == list(again.callbacks())
    assert [first.faults.draw() for _ in range(100)] == [again.faults.draw() for _ in range(100)]


def test_no_request_succeeds_during_an_outage():
    """Every request fails during an outage; requests succeed again afterwards."""
    day = Day(5)
    day.faults.rates = {}
    list(day.callbacks())
    day.faults.outage = "500"
    with pytest.raises(AssertionError, match="no valid answer"):
        day.read_list(to=99)
    day.faults.outage = None

    assert day.read_list(to=99)["count"] > 0


def test_many_kinds_of_faults_occur_on_a_bad_day():
    """Many kinds of faults occur on a bad day, but rarely enough for a client to get answers."""
    day = Day(6)
    list(day.callbacks())
    for _ in range(30):
        day.all_listed()

    assert len(day.faults.counts) > 8
    assert day.faults.counts["slow"] == 0 or day.clock.now > Clock().now


def test_actions_over_rest_send_callbacks():
    """Actions over the REST API send callbacks, which meet the mishaps of the bad day."""
    day = Day(7)
    day.faults.rates = {}
    list(day.callbacks())
    package = next(
        package
        for package in day.account.packages()
        if package.status == "COMPLETED" and not package.trashed and not package.deleted
    )
    address, bodies = f"{ONESPAN}/api/packages/{package.id}", [{"trashed": True}, {"trashed": False}] * 20
    answers = [day.session.put(address, json=body).status_code for body in bodies]
    before = len(day.outbox)
    day.clock.forward(timedelta(hours=1))
    names = [json.loads(body)["name"] for body in day.outbox.take_due(day.clock.now)]

    assert answers == [200] * 40
    assert len(names) == before
    assert set(names) == {"PACKAGE_TRASH", "PACKAGE_RESTORE"}


def test_a_bad_day_has_every_kind_of_trouble_at_a_moderate_rate():
    """A bad day has every kind of trouble at a moderate rate, except a false 404, which no client can detect."""
    assert set(faults.BAD_DAY) == set(faults.FAULTS) - {"404"}
    assert 0 < sum(faults.BAD_DAY.values()) < 0.5
    assert set(anomalies.BAD_DAY) == set(anomalies.ANOMALIES)
    assert all(0 < getattr(outbox.BAD_DAY, name) <= 0.2 for name in ("drop", "repeat", "delay", "reorder", "undated"))
