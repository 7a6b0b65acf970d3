"""Weeks of an account that is used, and the service that heard of them: data that look like life.

Most callbacks arrive, some are lost and found by asking; most functions do what they owe, some give up.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from random import Random

from flask.testing import FlaskClient

from app import EXTENSION, create_app
from app.handling import Event, GiveUp, Handlers, Package
from app.simulator import callbacks
from app.simulator.account import Account
from app.simulator.actions import Act
from app.simulator.inprocess import InProcess
from app.simulator.packages import Event as Told
from app.simulator.server import api
from app.store import reconciles
from config import Settings
from tests.conftest import KEY, Clock

ADDRESS, API_KEY = "http://onespan.test", "the-api-key"
SEED = 8
LOST = 0.04  # of all callbacks
OFFICE = range(7, 18)  # UTC, the hours in which people sign
EVERY = timedelta(hours=24)  # between two times of asking OneSpan


def live(settings: Settings, *, steps: int, crowd: int, weeks: int, until: datetime) -> Account:
    """Let so much happen in these weeks, the last of it a moment before `until`; returns what OneSpan has then."""
    busy = Busy(settings, crowd=crowd, begin=until - timedelta(weeks=weeks, hours=2))
    for moment in moments(busy.dice, steps, weeks=weeks, until=until):
        busy.step(moment)
    busy.trouble()
    busy.post(b"<callback/>")
    busy.tell([Told("PACKAGE_NOTARIZED", busy.account.packages()[0].id, None, busy.clock.now)], lost=0)
    busy.settle()
    busy.service.watch.turn()
    busy.service.database.close()
    return busy.account


def moments(dice: Random, many: int, *, weeks: int, until: datetime) -> list[datetime]:
    """When something happens: in office hours, a tenth of it in the last two days, some in the last hour."""
    first = until - timedelta(weeks=weeks)
    spread = (first + timedelta(weeks=weeks) * dice.random() for _ in range(many * 20))
    office = [one for one in spread if one.hour in OFFICE and one.weekday() < 5][: many * 8 // 10]
    lately = [until - timedelta(days=2) * dice.random() for _ in range(many // 8)]
    now = [until - timedelta(minutes=1 + 58 * dice.random() ** 1.3) for _ in range(many // 12)]
    return sorted([*office, *lately, *now])


def functions() -> Handlers:
    """What a company might have written, with what may go wrong in it."""
    handlers = Handlers()

    @handlers.on("PACKAGE_COMPLETE")
    def file_signed_documents(event: Event, package: Package) -> None:
        """Put them where the contracts team looks for them."""
        if unlucky("archive", event, share=0.2):
            raise GiveUp("The archive answered 507: no room left in contracts/2026")

    @handlers.on("PACKAGE_COMPLETE", "PACKAGE_DECLINE", "PACKAGE_EXPIRE")
    def close_the_deal(event: Event, package: Package) -> None:
        """Tell the CRM how it ended."""
        if unlucky("crm", event, share=0.05):
            raise ConnectionError("crm.example.com: the name could not be resolved")

    @handlers.on("EMAIL_BOUNCE", "SIGNER_LOCKED", "KBA_FAILURE")
    def write_to_the_sender(event: Event, package: Package) -> None:
        """They can do something about it."""
        if event.name == "KBA_FAILURE":
            raise GiveUp("There is no letter about failed identity checks yet")

    return handlers


def unlucky(what: str, event: Event, *, share: float) -> bool:
    """Whether this fails for this transaction; always the same, whichever thread asks first."""
    return Random(f"{what} {event.package_id}").random() < share


class Busy:
    """An account, of which `crowd` packages are under way at the same time, and the service, on one clock."""

    def __init__(self, settings: Settings, *, crowd: int, begin: datetime) -> None:
        self.dice, self.clock = Random(SEED), Clock(begin)
        self.account = Account(SEED, packages=None, crowd=crowd)
        handlers = functions()
        self.app = create_app(settings.model_copy(update={"onespan_url": ADDRESS}), handlers=handlers, clock=self.clock)
        self.service = self.app.extensions[EXTENSION]
        handlers.onespan._session.mount(ADDRESS, InProcess(api(self.account, api_key=API_KEY, clock=self.clock)))
        self.client: FlaskClient = self.app.test_client()
        self.asked_at = begin
        self.reconcile()

    def step(self, moment: datetime) -> None:
        """Let something happen then, after what was due before; and what follows from it here."""
        self.clock.now = max(self.clock.now, moment)
        for one in overdue(self.account, self.clock.now):
            self.tell(self.account.act(one, Act("expire"), now=self.clock.now))
        self.tell(self.account.step(self.clock.now))
        self.settle()
        if self.clock.now >= self.asked_at + EVERY:
            self.asked_at = self.clock.now
            self.reconcile()

    def trouble(self) -> None:
        """Let the signers of some that are under way come to nothing, each in a way of their own."""
        open_ = (one for one in self.account.packages() if one.status == "SENT" and not one.trashed and not one.deleted)
        sent = [one.id for one in open_ if not one.is_signed(0)]
        for package_id, verb in zip(sent[::2], ("lock", "fail kba", "bounce"), strict=False):
            self.tell(self.account.act(package_id, Act(verb, 0, text="BOUNCE"), now=self.clock.now), lost=0)
            self.settle()

    def tell(self, events: Iterable[Told], *, lost: float = LOST) -> None:
        """Call the service back, now and then in vain."""
        for event in events:
            if self.dice.random() >= lost:
                self.post(callbacks.body(event))

    def post(self, body: bytes) -> None:
        """This comes in."""
        answer = self.client.post("/onespan/callback", data=body, headers={"Authorization": f"Basic {KEY}"})
        assert answer.status_code in (200, 400), answer.text

    def settle(self) -> None:
        """Let the service do what is due, some moments later."""
        self._pass()
        while self.service.digest.turn():
            pass
        while self.service.refresh.turn():
            while self.service.digest.turn():
                pass
        self._pass()
        while self.service.dispatcher.turn():
            assert self.service.dispatcher.quiet.wait(10)

    def reconcile(self) -> None:
        """Let it ask OneSpan, when that is due; and find out what callbacks never told."""
        while self.service.reconcile.turn() or self._is_under_way():
            self.settle()
        self.service.watch.turn()

    def _pass(self) -> None:
        self.clock.forward(timedelta(seconds=self.dice.uniform(0.05, 0.6)))

    def _is_under_way(self) -> bool:
        with self.service.database.read() as connection:
            return reconciles.running(connection) is not None


def overdue(account: Account, now: datetime) -> Iterator[str]:
    """Whose time is over."""
    for one in account.packages():
        if one.status == "SENT" and not one.trashed and not one.deleted and one.due and one.due <= now:
            yield one.id
