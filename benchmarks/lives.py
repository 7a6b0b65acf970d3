"""How many requests of OneSpan a package costs in all its life, while callbacks come; and what polling would cost."""

import heapq
import logging
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

import structlog
from flask import request
from flask.testing import FlaskClient

from app import EXTENSION, Service, create_app
from app.simulator import drafts, histories, wire
from app.simulator.account import Account
from app.simulator.packages import Act
from app.simulator.server import answering, api
from app.work.dispatch import Handlers
from benchmarks.account import API_KEY, SEED
from benchmarks.callbacks import KEY, START
from benchmarks.places import Databases
from benchmarks.progress import Progress
from config import Settings

AIM = 2  # requests for each package
LOST = (0.0, 0.05)
A_DAY = 50  # packages that begin
AT_ONCE = 0.5  # of the packages are sent as soon as they are made, by a program
AT_HAND, LATER = timedelta(minutes=10), timedelta(hours=1)  # the mean until a draft is sent by hand; between other acts
SOON = timedelta(seconds=3)  # until packages are read that surprised us
POLL, DAY = timedelta(minutes=15), timedelta(days=1)
LAST = timedelta(hours=7)  # after all is over, for what is still to be found
OPEN = ("DRAFT", "SENT")
TURNS = 10_000  # more than there ever are between two acts


def run(databases: Databases, *, many: int) -> bool:
    """Let so many packages live, with all callbacks delivered and with some lost. Returns whether the aim was met."""
    print(f"\nRequests for a package's life: {many} packages, {A_DAY} a day, half of them sent when made")
    print(
        f"  {'callbacks lost':<15}{'days':>6}{'callbacks':>11}{'reads':>7}{'lists':>7}{'for each':>10}"
        "   beside polling every 15 min"
    )
    met = []
    for lost in LOST:
        with databases.fresh("sqlite") as url:
            life = _live(url, many, lost=lost)
        each = life.asked.total() / many
        met.append(each <= AIM)
        print(
            f"  {f'{lost:.0%}':<15}{(life.now - START) / DAY:>6.1f}{life.callbacks:>11}{life.asked['reads']:>7}"
            f"{life.asked['lists']:>7}{each:>10.2f}   {life.polled / many:.1f} of each open package, "
            f"{life.listed / many:.1f} of the list (aim {AIM}: {'met' if met[-1] else 'MISSED'})"
        )
    return all(met)


@dataclass
class Life:
    """An account and its clock. `asked` was asked of it; `polled` and `listed`: what polling would have asked."""

    account: Account
    now: datetime = START
    asked: Counter[str] = field(default_factory=Counter)
    callbacks: int = 0
    polled: int = 0
    listed: int = 0

    def clock(self) -> datetime:
        """The time it is."""
        return self.now

    def forward(self, to: datetime) -> None:
        """Let time pass, in which one would have polled."""
        ticks = (to - START) // POLL - (self.now - START) // POLL
        self.now = to
        if ticks > 0:
            self.listed += ticks
            self.polled += ticks * sum(
                one.status in OPEN and not (one.trashed or one.deleted) for one in self.account.packages()
            )


def _live(url: str, many: int, *, lost: float) -> Life:
    life, dice, progress = Life(Account(SEED, packages=0)), Random(SEED), Progress()
    onespan = api(life.account, api_key=API_KEY, clock=life.clock)

    @onespan.before_request
    def count() -> None:
        life.asked["lists" if request.path == "/api/packages" else "reads"] += 1

    with answering(onespan, port=0) as address:
        settings = Settings(
            database_url=url, onespan_url=address, onespan_api_key=API_KEY, onespan_callback_keys=f"benchmarks={KEY}"
        )
        app = create_app(settings, handlers=Handlers(), clock=life.clock)
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
        service = app.extensions[EXTENSION]
        _work(service)  # the first import, of an account with nothing in it
        life.asked.clear()
        for at, package_id, act in _acts(life.account, many):
            if at > life.now + SOON:
                life.forward(life.now + SOON)
                _work(service)
            life.forward(max(at, life.now))
            _act(life, app.test_client(), package_id, act, lost=lost, dice=dice)
            service.digest.turn()
            progress.show(f"{len(life.account.packages())} of {many} packages, {life.callbacks} callbacks")
        for _ in range(LAST // POLL):
            life.forward(life.now + POLL)
            _work(service)
        service.database.close()
    progress.end()
    return life


def _acts(account: Account, many: int) -> Iterator[tuple[datetime, str, Act]]:
    """What is done to the packages, in the order of time."""
    dice = Random(SEED)
    due = [(START + DAY * dice.uniform(0, many / A_DAY), number, "", deque()) for number in range(many)]
    heapq.heapify(due)
    while due:
        at, number, package_id, plan = heapq.heappop(due)
        if not package_id:
            package = drafts.draft(dice, account.people, now=at)
            account.hold([package])
            package_id, plan = package.id, deque(histories.life(dice, package))
        act = plan.popleft()
        yield at, package_id, act
        if plan:
            heapq.heappush(due, (at + _pause(dice, act, plan[0]), number, package_id, plan))


def _pause(dice: Random, before: Act, after: Act) -> timedelta:
    if (before.verb, after.verb) != ("create", "activate"):
        return LATER * dice.expovariate(1)
    return timedelta(seconds=1) if dice.random() < AT_ONCE else AT_HAND * dice.expovariate(1)


def _act(life: Life, client: FlaskClient, package_id: str, act: Act, *, lost: float, dice: Random) -> None:
    """It is done, and the callbacks that tell of it come, but for those that are lost."""
    for event in life.account.act(package_id, act, now=life.now):
        if dice.random() >= lost:
            answer = client.post("/onespan/callback", data=wire.body(event), headers={"Authorization": f"Basic {KEY}"})
            assert answer.status_code == 200, answer.text
            life.callbacks += 1


def _work(service: Service) -> None:
    """Take turns until there is nothing left to do now."""
    for _ in range(TURNS):
        if not any([service.digest.turn(), service.refresh.turn(), service.reconcile.turn()]):
            return
    raise TimeoutError("there is always more to do")
