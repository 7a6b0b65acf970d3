"""The simulator: a whole bad day in one process, by a clock that is moved, without sockets and without waiting."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random

import pytest
import requests

from app.onespan.catalogue import CATALOGUE, SPELLINGS
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
    """An account with all that goes wrong around it, and a session that asks it."""

    seed: int
    quirks: Quirks = field(default_factory=Quirks)

    def __post_init__(self) -> None:
        """Build it."""
        self.clock = Clock()
        self.account = Account(self.seed, packages=15, quirks=self.quirks, odd=anomalies.BAD_DAY)
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
            tell=lambda events: self.outbox.put(events, now=self.clock.now),
        )
        self.session.mount(ONESPAN, InProcess(app))

    def callbacks(self) -> Iterator[bytes]:
        """Live to the end; each callback when it arrives."""
        for _ in range(5000):
            self.clock.forward(timedelta(seconds=1))
            self.outbox.put(self.account.step(self.clock.now), now=self.clock.now)
            yield from self.outbox.due(self.clock.now)
            if self.account.is_over and not len(self.outbox):
                return
        raise AssertionError("it never ends")

    def everything(self) -> dict[str, dict]:
        """All that the list shows, asked as often as it takes."""
        shown = {}
        for query in ("", "trashed"):
            for kind in ("PACKAGE", "TEMPLATE", "LAYOUT"):
                page = self.asked(query=query, type=kind, sort="updated", to=99)
                shown |= {one["id"]: one for one in page["results"]}
        return shown

    def asked(self, **query) -> dict:
        """One good answer."""
        for _ in range(100):
            try:
                shown = self.session.get(f"{ONESPAN}/api/packages", params=query).json()
            except requests.RequestException:  # cut, or no JSON
                continue
            if isinstance(shown, dict) and all("id" in one for one in shown.get("results", [{}])):
                return shown
        raise AssertionError("never a good answer")


@pytest.mark.parametrize("seed", range(3))
def test_a_bad_day_tells_less_and_more_than_the_truth_and_the_list_tells_the_truth(seed):
    """What a reader is up against: callbacks lost and doubled, and a list that shows what is."""
    day = Day(seed)
    bodies = list(day.callbacks())
    names = {json.loads(body)["name"] for body in bodies}
    day.faults.rates = {}
    there = {one.id: one for one in day.account.packages() if not one.deleted}

    assert names <= {*CATALOGUE, *SPELLINGS}
    assert min(day.outbox.befallen[mishap] for mishap in ("dropped", "repeated", "delayed", "reordered")) > 0
    assert {one: shown["status"] for one, shown in day.everything().items()} == {
        one: package.status for one, package in there.items()
    }


def test_the_same_seed_brings_the_same_bad_day():
    """Bodies, order, faults, oddities: all from the dice."""
    first, again = Day(4), Day(4)

    assert list(first.callbacks()) == list(again.callbacks())
    assert [first.faults.draw() for _ in range(100)] == [again.faults.draw() for _ in range(100)]


def test_nothing_good_comes_through_an_outage():
    """And all is as before when it is over; what was missed meanwhile was lived all the same."""
    day = Day(5)
    day.faults.rates = {}
    list(day.callbacks())
    day.faults.outage = "500"
    with pytest.raises(AssertionError, match="never a good answer"):
        day.asked(to=99)
    day.faults.outage = None

    assert day.asked(to=99)["count"] > 0


def test_faults_are_met_while_one_asks():
    """The rates of a bad day are enough to meet most of them, and not too many to get through."""
    day = Day(6)
    list(day.callbacks())
    for _ in range(30):
        day.everything()

    assert len(day.faults.met) > 8
    assert day.faults.met["slow"] == 0 or day.clock.now > Clock().now


def test_acts_by_hand_are_told_like_all_others():
    """With the mishaps of the day."""
    day = Day(7)
    day.faults.rates = {}
    list(day.callbacks())
    one = next(
        one for one in day.account.packages() if one.status == "COMPLETED" and not one.trashed and not one.deleted
    )
    address, wanted = f"{ONESPAN}/api/packages/{one.id}", [{"trashed": True}, {"trashed": False}] * 20
    answers = [day.session.put(address, json=body).status_code for body in wanted]
    before = len(day.outbox)
    day.clock.forward(timedelta(hours=1))
    names = [json.loads(body)["name"] for body in day.outbox.due(day.clock.now)]

    assert answers == [200] * 40
    assert len(names) == before
    assert set(names) == {"PACKAGE_TRASH", "PACKAGE_RESTORE"}


def test_the_presets_name_what_there_is():
    """A bad day is everything, moderately, but for the lie that no reader can see through."""
    assert set(faults.BAD_DAY) == set(faults.FAULTS) - {"404"}
    assert 0 < sum(faults.BAD_DAY.values()) < 0.5
    assert set(anomalies.BAD_DAY) == set(anomalies.ODDITIES)
    assert all(0 < getattr(outbox.BAD_DAY, name) <= 0.2 for name in ("drop", "repeat", "delay", "reorder", "undated"))
