"""One history: an account at OneSpan and its callbacks, the service's processes and their deaths, and what came of it.

What happens is for somebody else to choose; here it is done, and noted down.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any

from hypothesis import note

from app.handling import Event, Package
from app.onespan.callbacks import read_callback
from app.onespan.catalogue import wire_name
from app.simulator import callbacks, ids, people
from app.simulator.actions import ANYWHERE, VERBS
from app.simulator.anomalies import BAD_DAY
from app.simulator.packages import ARCHIVAL, Act, Impossible
from app.simulator.packages import Event as TrueEvent
from app.simulator.packages import Package as Truth
from app.simulator.quirks import Quirks
from app.store import journal, queries, reconciles
from app.store.journal import Entry
from app.store.states import RunKind
from app.work.reconcile import Asked
from tests.conftest import HOUR, NOON
from tests.support.comparison import Fact
from tests.support.playground import Bench, Crash

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
TURNS = ("digest", "dispatch", "refresh", "reconcile")
FATES = ("told", "lost", "twice")  # what becomes of a callback; a lost one may come later
BEFORE = NOON - HOUR  # when the account was imported, with nothing in it
ENOUGH = 150  # rounds of turns; more than any history needs, so that none goes on for ever
# Verbs that are done to a package, and need no role.
OF_PACKAGE = frozenset(
    {"activate", "deactivate", "complete", "expire", "extend", "archive", "unarchive", "archival", "trash", "restore"}
    | {"delete", "retain", "redate", "rename"}
)


class History:
    """Begins with an empty account; where it was `imported` the service has listened since before.

    OneSpan's clock is ahead of ours by `skew`, that of the second process by `drift`.

    `told` counts for each package and fact the runs of the handler by the event's key, `happened` and `delivered` the
    facts that OneSpan told of and those whose callbacks came; `withheld` are the others. `count` counts what befell.
    """

    def __init__(
        self,
        bench: Bench,
        count: Counter[str],
        *,
        seed: int,
        quirks: Quirks,
        imported: bool,
        odd: bool,
        skew: timedelta,
        drift: timedelta,
        budget: int,
    ) -> None:
        self.bench, self.count, self.imported = bench, count, imported
        self.dice = Random(seed)
        rates = {**BAD_DAY, "layout": 0.0} if odd else {}
        self.account = bench.account(seed, quirks=quirks, odd=rates)
        bench.begin(self.account, skew=skew, dice=Random(seed))
        bench.sees = self._see
        self._budget, self._drifts = budget, (timedelta(0), drift)
        self.processes = [bench.process(budget=budget, drift=one) for one in self._drifts]
        self.told: dict[str, dict[Fact, Counter[str]]] = {}
        self.happened: dict[str, Counter[Fact]] = {}
        self.delivered: dict[str, Counter[Fact]] = {}
        self.withheld: list[bytes] = []
        self.came: list[bytes] = []
        self.has_crashed = False
        if imported:
            self._import()

    def _import(self) -> None:
        with self.bench.database.write() as connection:
            reconciles.begin(connection, kind=RunKind.BACKFILL, reason="first", since=None, fires=False, now=BEFORE)
            run = reconciles.take(connection, now=BEFORE, lease=HOUR, process="before")
            assert run
            reconciles.finish(connection, run, now=BEFORE, until=BEFORE + self.bench.skew - HOUR, unreadable=0)

    # At OneSpan.

    def step(self, fate: str) -> None:
        """The next thing happens in somebody's life."""
        self._tell(self.account.step(self.bench.now_there()), fate)

    def act(self, which: int, what: int, fate: str) -> None:
        """Somebody does by hand, to one of the packages, one of the things that are possible."""
        packages = [one for one in self.account.packages() if not one.deleted]
        possible = list(self._possible(packages[which % len(packages)])) if packages else []
        if not possible:
            return
        package, act = packages[which % len(packages)], possible[what % len(possible)]
        note(f"    {act.verb}, role {act.role}, document {act.document}, of {package.id}")
        try:
            self._tell(self.account.act(package.id, act, now=self.bench.now_there()), fate)
        except Impossible:
            note("    which is impossible")

    def _possible(self, package: Truth) -> Iterator[Act]:
        quirks = self.account.quirks
        texts = {
            "unarchive": "" if quirks.unarchive_event == "none" else quirks.unarchive_event,
            "retain": "" if quirks.retention_event == "none" else quirks.retention_event,
            "archival": self.dice.choice(ARCHIVAL),
            "rename": f"{package.name} II",
            "bounce": "BOUNCE",
        }
        asked = [place for place, role in enumerate(package.roles) if role.person and package.approvals(place)]
        for verb, (statuses, _) in VERBS.items():
            in_place = package.trashed == (verb == "restore") or verb in ANYWHERE
            too_early = verb == "complete" and not package.is_signed()
            if package.status not in statuses or not in_place or too_early or verb == "create":
                continue
            if verb in OF_PACKAGE:
                yield Act(verb, text=texts.get(verb, ""))
                continue
            for place in asked:
                yield from self._possible_for(package, verb, place, texts.get(verb, "because"))

    def _possible_for(self, package: Truth, verb: str, place: int, text: str) -> Iterator[Act]:
        """What somebody in a role can do, or what can be done to them."""
        role, stays = package.roles[place], self.account.quirks.reassign_role
        todo = [
            number
            for number in range(len(package.documents))
            if package.approvals(place, document=number) and not package.is_signed(place, document=number)
        ]
        match verb:
            case "sign" | "view" if todo:
                yield Act(verb, place, todo[0])
            case "reassign" if stays == "changes" and todo and not role.is_sender:
                yield Act(verb, place, text=ids.uuid(self.dice), person=people.signer(self.dice))
            case "hand over" if stays != "changes" and todo and not role.is_sender:
                person = people.signer(self.dice)
                yield Act(verb, place, text=person.id if stays == "signer" else role.id, person=person)
            case "add signer" if place == 0 and not package.is_signed():
                yield Act(verb, text=ids.uuid(self.dice), person=people.signer(self.dice))
            case "upload" if role.attachment and not role.attachment.uploaded:
                yield Act(verb, place)
            case "lock" | "unlock" if role.locked == (verb == "unlock") and not role.is_sender:
                yield Act(verb, place)
            case "readdress" if not role.is_sender:
                yield Act(verb, place, text=people.mailbox(self.dice))
            case "fail kba" | "bounce" | "cobrowse" | "decline" | "opt out" if todo:
                yield Act(verb, place, text=text)

    # In between.

    def _tell(self, events: Iterable[TrueEvent], fate: str) -> None:
        for event in events:
            about = event.document_id or _attached(event.name, event.message)
            self.happened.setdefault(event.package_id, Counter())[wire_name(event.name), about] += 1
            body = callbacks.body(event, quirks=self.account.quirks)
            if fate == "lost":
                self.withheld.append(body)
                self.count["callbacks lost"] += 1
                continue
            self.deliver(body)
            if fate == "twice":
                self.deliver(callbacks.by_hand(body))

    def deliver(self, body: bytes) -> None:
        """A callback comes in at the door, which writes it down; where the door dies before that, it is lost."""
        callback = read_callback(body)
        entry = Entry("callback", self.bench.clock.now, body, key="test", package_id=callback.package_id)
        try:
            with self.bench.database.write() as connection:
                journal.add(connection, [entry])
        except Crash:
            self.count["crashes"] += 1
            if not self.bench.database.after:
                self.withheld.append(body)
                return
        if callbacks.by_hand(body) not in self.came:
            about = callback.document_id or _attached(callback.name, callback.message)
            self.delivered.setdefault(callback.package_id, Counter())[callback.name, about] += 1
            self.came += [body, callbacks.by_hand(body)]

    # In the service.

    def turn(self, name: str, process: int = 0) -> bool:
        """One turn of one process. Returns whether there was work."""
        self.count["turns"] += 1
        return bool(self.guarded(self.processes[process].turns[name], process))

    def guarded(self, turn: Callable[[], Any], process: int) -> Any:
        """What it returns; True where the process dies of it, and another takes its place."""
        try:
            return turn()
        except Crash:
            note(f"    process {process} dies")
            self.count["crashes"] += 1
            self.has_crashed, self.bench.meanwhile = True, None
            self.processes[process] = self.bench.process(budget=self._budget, drift=self._drifts[process])
            return True

    def work(self, process: int = 0) -> None:
        """Digest, run handlers and read what is wanted, until there is nothing left to do."""
        for _ in range(ENOUGH):
            self.bench.clock.forward(3 * SECOND)
            worked = [self.turn(name, process) for name in ("digest", "dispatch", "refresh")]
            if not any(worked):
                return
        raise AssertionError("there is always more to do")

    def calm_down(self) -> None:
        """Nobody disturbs any more, all that waits has its time, and what was begun is ended."""
        self.count["faults"] += self.bench.faults.met.total()
        self.bench.faults.met.clear()
        self.bench.faults.rates, self.bench.meanwhile, self.bench.database.commits = {}, None, None
        self.bench.clock.forward(31 * MINUTE)
        self.work()
        if self._under_way():
            self._to_the_end()

    def reconcile(self) -> None:
        """A run from its beginning to its end, because it is due or because somebody asks."""
        if not self.turn("reconcile"):
            self.processes[0].reconcile.begin(Asked())
        self._to_the_end()

    def _to_the_end(self) -> None:
        for _ in range(ENOUGH):
            while (run := self._under_way()) and self.turn("reconcile"):
                pass
            self.work()
            if run is None:
                return
            self.bench.clock.forward(MINUTE)
        raise AssertionError("the run never ends")

    def _under_way(self) -> int | None:
        with self.bench.database.read() as connection:
            return reconciles.running(connection)

    def _see(self, event: Event, _: Package) -> None:
        """The handler of all events."""
        fact = (event.name, event.document_id or _attached(event.name, event.message))
        self.told.setdefault(event.package_id, {}).setdefault(fact, Counter())[event.key] += 1

    # What came of it.

    def believed(self) -> dict[str, Package]:
        """The picture."""
        with self.bench.database.read() as connection:
            return queries.packages(connection, [one.id for one in self.account.packages()])

    def watermark(self) -> datetime | None:
        """Up to when all is known."""
        with self.bench.database.read() as connection:
            return reconciles.watermark(connection, now=self.bench.clock.now)

    def facts_told(self, package_id: str) -> Counter[Fact]:
        """How many events of each fact the handler was told."""
        return Counter({fact: len(keys) for fact, keys in self.told.get(package_id, {}).items()})

    def runs_of_handlers(self) -> Counter[str]:
        """How often the handler ran, by the event's key."""
        return sum((keys for facts in self.told.values() for keys in facts.values()), Counter())


def _attached(name: str, message: str | None) -> str | None:
    return message if name == "PACKAGE_ATTACHMENT" else None
