"""Weeks of realistic data: an account in use, and the service that received its callbacks.

Most callbacks arrive, and reconcile runs find the lost events. Most handlers succeed, and some give up.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from random import Random

from flask.testing import FlaskClient

from app import EXTENSION, create_app
from app.handling import Event, GiveUp, Handlers, Package
from app.simulator import callbacks
from app.simulator.account import Account
from app.simulator.actions import Action
from app.simulator.features import SOME
from app.simulator.inprocess import InProcess
from app.simulator.packages import Event as OneSpanEvent
from app.simulator.server import api
from app.store import reconciles
from config import Settings
from tests.conftest import KEY, Clock
from tests.support.simulated import API_KEY

ADDRESS = "http://onespan.test"
SEED = 8
LOST_SHARE = 0.04  # share of callbacks that are lost
OFFICE_HOURS = range(7, 18)  # the hours of a day, in UTC, in which people sign
RECONCILE_EVERY = timedelta(hours=24)  # the time between two reconcile runs


def generate(settings: Settings, *, steps: int, at_once: int, weeks: int, until: datetime) -> Account:
    """Simulate `steps` events within `weeks`, the last event just before `until`. Return the account at OneSpan."""
    dataset = Dataset(settings, at_once=at_once, begin=until - timedelta(weeks=weeks, hours=2))
    for moment in moments(dataset.dice, steps, weeks=weeks, until=until):
        dataset.step(moment)
    dataset.add_problems()
    dataset.post(b"<callback/>")
    dataset.deliver(
        [OneSpanEvent("PACKAGE_NOTARIZED", dataset.account.packages()[0].id, None, dataset.clock.now)], lost=0
    )
    dataset.settle()
    dataset.service.housekeeping.turn()
    dataset.service.database.close()
    return dataset.account


def moments(dice: Random, number: int, *, weeks: int, until: datetime) -> list[datetime]:
    """Choose the times of events: most in office hours, some in the last two days, some in the last hour."""
    first = until - timedelta(weeks=weeks)
    spread = (first + timedelta(weeks=weeks) * dice.random() for _ in range(number * 20))
    in_office_hours = [moment for moment in spread if moment.hour in OFFICE_HOURS and moment.weekday() < 5][
        : number * 8 // 10
    ]
    recent = [until - timedelta(days=2) * dice.random() for _ in range(number // 8)]
    now = [until - timedelta(minutes=1 + 58 * dice.random() ** 1.3) for _ in range(number // 12)]
    return sorted([*in_office_hours, *recent, *now])


def functions() -> Handlers:
    """The handlers of an invented company, some of which fail."""
    handlers = Handlers()

    @handlers.on("PACKAGE_COMPLETE")
    def file_signed_documents(event: Event, package: Package) -> None:
        """Store the signed documents in the contracts archive."""
        if fails_for("archive", event, share=0.2):
            raise GiveUp("The archive answered 507: no room left in contracts/2026")

    @handlers.on("PACKAGE_COMPLETE", "PACKAGE_DECLINE", "PACKAGE_EXPIRE")
    def close_the_deal(event: Event, package: Package) -> None:
        """Report the outcome to the CRM."""
        if fails_for("crm", event, share=0.05):
            raise ConnectionError("crm.example.com: the name could not be resolved")

    @handlers.on("EMAIL_BOUNCE", "SIGNER_LOCKED", "KBA_FAILURE")
    def write_to_sender(event: Event, package: Package) -> None:
        """Write to the sender, who can correct the address or unlock the signer."""
        if event.name == "KBA_FAILURE":
            raise GiveUp("There is no letter about failed identity checks yet")

    return handlers


def fails_for(system: str, event: Event, *, share: float) -> bool:
    """Whether the handler fails for this package. The answer is the same for every call and thread."""
    return Random(f"{system} {event.package_id}").random() < share


class Dataset:
    """A simulated account with `at_once` packages in progress, and the service, on one clock."""

    def __init__(self, settings: Settings, *, at_once: int, begin: datetime) -> None:
        self.dice, self.clock = Random(SEED), Clock(begin)
        self.account = Account(SEED, packages=None, at_once=at_once, features=SOME)
        handlers = functions()
        self.app = create_app(settings.model_copy(update={"onespan_url": ADDRESS}), handlers=handlers, clock=self.clock)
        self.service = self.app.extensions[EXTENSION]
        handlers.onespan._session.mount(ADDRESS, InProcess(api(self.account, api_key=API_KEY, clock=self.clock)))
        self.client: FlaskClient = self.app.test_client()
        self.reconciled_at = begin
        self.reconcile()

    def step(self, moment: datetime) -> None:
        """Expire overdue packages, let the next event happen at the time `moment`, and process the results."""
        self.clock.now = max(self.clock.now, moment)
        for package_id in overdue(self.account, self.clock.now):
            self.deliver(self.account.act(package_id, Action("expire"), now=self.clock.now))
        self.deliver(self.account.step(self.clock.now))
        self.settle()
        if self.clock.now >= self.reconciled_at + RECONCILE_EVERY:
            self.reconciled_at = self.clock.now
            self.reconcile()

    def add_problems(self) -> None:
        """Lock a signer, fail an identity check and bounce an e-mail, each in another package."""
        packages = self.account.packages()
        open_ = [
            package for package in packages if package.status == "SENT" and not package.trashed and not package.deleted
        ]
        sent = [package.id for package in open_ if not package.is_signed(0)]
        for package_id, verb in zip(sent[::2], ("lock", "fail kba", "bounce"), strict=False):
            text = "BOUNCE" if verb == "bounce" else ""
            self.deliver(self.account.act(package_id, Action(verb, 0, text=text), now=self.clock.now), lost=0)
            self.settle()

    def deliver(self, events: Iterable[OneSpanEvent], *, lost: float = LOST_SHARE) -> None:
        """Post the callbacks of these events, except the share `lost`, which never arrives."""
        for event in events:
            if self.dice.random() >= lost:
                self.post(callbacks.body(event))

    def post(self, body: bytes) -> None:
        """Post one callback to the service."""
        answer = self.client.post("/onespan/callback", data=body, headers={"Authorization": f"Basic {KEY}"})
        assert answer.status_code in (200, 400), answer.text

    def settle(self) -> None:
        """Let a moment pass, and run the service's turns until no work is left."""
        self._wait()
        while self.service.digest.turn():
            pass
        while self.service.fetcher.turn():
            while self.service.digest.turn():
                pass
        self._wait()
        while self.service.dispatcher.turn():
            assert self.service.dispatcher.handlers_done.wait(10)

    def reconcile(self) -> None:
        """Reconcile if a run is due, and record missed events."""
        while self.service.reconcile.turn() or self._is_reconciling():
            self.settle()
        self.service.housekeeping.turn()

    def _wait(self) -> None:
        self.clock.forward(timedelta(seconds=self.dice.uniform(0.05, 0.6)))

    def _is_reconciling(self) -> bool:
        with self.service.database.read() as connection:
            return reconciles.running(connection) is not None


def overdue(account: Account, now: datetime) -> Iterator[str]:
    """The ids of packages whose due date has passed."""
    for package in account.packages():
        if (
            package.status == "SENT"
            and not package.trashed
            and not package.deleted
            and package.due
            and package.due <= now
        ):
            yield package.id
