"""One random scenario: an account at OneSpan, its callbacks, the service's processes and their crashes.

A schedule chooses what happens. The scenario carries out the schedule's choices and records the results.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

from hypothesis import note

from app.handling import Event, Package
from app.onespan.callbacks import parse_callback
from app.onespan.claims import MAX_CLOCK_AHEAD
from app.onespan.clock import OffsetRange
from app.onespan.confirmation import REPEAT_WINDOW
from app.onespan.event_catalogue import wire_name
from app.onespan.fetch_rules import LAG_DELAYS
from app.simulator import callbacks, ids, odd_callbacks, people
from app.simulator.actions import IN_AND_OUT_OF_TRASH, VERBS
from app.simulator.anomalies import BAD_DAY
from app.simulator.features import SOME
from app.simulator.packages import ARCHIVAL_STATUSES, Action, ImpossibleAction
from app.simulator.packages import Event as OneSpanEvent
from app.simulator.packages import Package as SimulatedPackage
from app.simulator.quirks import Quirks
from app.store import journal, onespan_clock, queries, reconciles
from app.store.journal import Entry
from app.store.states import RunKind
from app.work.reconcile import RunRequest
from tests.conftest import HOUR, NOON
from tests.support import old_database
from tests.support.comparison import Fact
from tests.support.playground import Crash, Playground

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
TURNS = ("digest", "dispatch", "fetch", "reconcile", "upgrade")
FATES = ("delivered", "lost", "twice")  # what happens to a callback; a lost callback may be delivered later
IMPORTED_AT = NOON - HOUR  # when the empty account was imported
UNDATED_SHARE = 0.5  # share of callbacks without a date, in schedules that have some
MAX_ROUNDS = 150  # rounds of turns: more than any scenario needs, so that every loop ends
# Verbs of actions on a package that need no role.
PACKAGE_VERBS = frozenset(
    {"activate", "deactivate", "complete", "expire", "extend", "archive", "unarchive", "archival", "trash", "restore"}
    | {"delete", "retain", "redate", "rename"}
)
SIGNING_VERBS = frozenset({"sign", "view", "begin", "disable", "enable", "finish", "upload"})


class Scenario:
    """A random scenario that starts with an empty account.

    If `imported`, the service has imported the empty account and has received callbacks from the beginning. OneSpan's
    clock is `skew` ahead of the service's clock, and the clock of the second process is `drift` ahead.

    `handled` counts the handler runs of each package and fact, by the event's key. `happened` counts the facts at
    OneSpan, and `delivered` counts the facts whose callbacks arrived. `withheld` holds the callbacks that did not
    arrive. `count` holds the totals of all scenarios.
    """

    def __init__(
        self,
        playground: Playground,
        count: Counter[str],
        *,
        seed: int,
        quirks: Quirks,
        imported: bool,
        anomalies: bool,
        features: bool = False,
        undated: bool = False,
        lies: bool = False,
        skew: timedelta,
        drift: timedelta,
        budget: int,
    ) -> None:
        self.playground, self.count, self.imported = playground, count, imported
        self.dice = Random(f"scenario {seed}")  # the account draws from `seed`, so these dice draw other ids
        rates = {**BAD_DAY, "layout": 0.0} if anomalies else {}
        some = {**SOME, "signing-member": 0.3} if features else {}
        self.account = playground.account(seed, quirks=quirks, anomalies=rates, features=some)
        self.lies = lies
        self._undated = undated and not skew and not drift
        playground.reset(self.account, skew=skew, dice=Random(seed))
        playground.on_event = self._see
        self._budget, self._drifts = budget, (timedelta(0), drift)
        self.processes = [playground.process(budget=budget, drift=ahead) for ahead in self._drifts]
        self.handled: dict[str, dict[Fact, Counter[str]]] = {}
        self.happened: dict[str, Counter[Fact]] = {}
        self.delivered: dict[str, Counter[Fact]] = {}
        self._faults_met: Counter[str] = Counter()
        self.lied_about: dict[str, Counter[str]] = {}  # the names of each package's false callbacks
        self._lies: set[bytes] = set()
        self.unreported: dict[str, Counter[Fact]] = {}  # facts whose undated callbacks were lost, or count as repeats
        self.silently_deleted = Counter[str]()  # how often a package was deleted without a callback
        self.brought_back = Counter[str]()  # how often a deleted package was brought back
        self._deleted: set[str] = set()
        self._undated_at: dict[tuple[str, bytes], datetime] = {}
        self.withheld: list[bytes] = []
        self.delivered_bodies: list[bytes] = []
        self.has_crashed = False
        if imported:
            self._import()
        if imported or abs(skew) > MAX_CLOCK_AHEAD:
            self._measure_clock()

    def _import(self) -> None:
        with self.playground.database.write() as connection:
            reconciles.begin(
                connection, kind=RunKind.BACKFILL, reason="first", since=None, fires=False, now=IMPORTED_AT
            )
            run = reconciles.take(connection, now=IMPORTED_AT, lease=HOUR, process="before")
            assert run
            reconciles.finish(
                connection, run, now=IMPORTED_AT, until=IMPORTED_AT + self.playground.skew - HOUR, unreadable=0
            )

    def _measure_clock(self) -> None:
        """Measure OneSpan's clock before the first callback, which then keeps a date that is far ahead."""
        with self.playground.database.write() as connection:
            measured = OffsetRange(self.playground.skew, self.playground.skew)
            onespan_clock.record(connection, measured, now=IMPORTED_AT)

    # Steps at OneSpan

    def step(self, fate: str) -> None:
        """Let the next thing happen at OneSpan. `fate` says what becomes of the callbacks of this step."""
        self._deliver_or_withhold(self.account.step(self.playground.onespan_now()), fate)

    def act(self, which: int, what: int, fate: str) -> None:
        """Perform one of the possible actions on one of the packages."""
        packages = self.account.packages()
        possible = list(self._possible(packages[which % len(packages)])) if packages else []
        if not possible:
            return
        package, act = packages[which % len(packages)], possible[what % len(possible)]
        note(f"    {act.verb}, role {act.role}, document {act.document}, of {package.id}")
        try:
            events = self.account.act(package.id, act, now=self.playground.onespan_now())
        except ImpossibleAction:
            note("    which is impossible")
            return
        if act.verb == "lie":
            self.lied_about.setdefault(package.id, Counter())[act.text] += 1
            self._lies |= {callbacks.reformatted(callbacks.body(event, quirks=self.account.quirks)) for event in events}
        self._deliver_or_withhold(events, fate)

    def _possible(self, package: SimulatedPackage) -> Iterator[Action]:
        quirks = self.account.quirks
        texts = {
            "unarchive": "" if quirks.unarchive_event == "none" else quirks.unarchive_event,
            "retain": "" if quirks.retention_event == "none" else quirks.retention_event,
            "archival": self.dice.choice(ARCHIVAL_STATUSES),
            "rename": f"{package.name} II",
            "bounce": self.dice.choice(("BOUNCE", "OOTO")),
            "lie": self.dice.choice(("PACKAGE_COMPLETE", "EMAIL_BOUNCE", "PACKAGE_DELETE", "PACKAGE_TRASH")),
        }
        if package.deleted:
            yield from [Action("undelete")] * (package.type == "PACKAGE")
            return
        signing = [place for place, role in enumerate(package.roles) if role.person and package.approvals(place)]
        for verb, (statuses, _) in VERBS.items():
            in_place = package.trashed == (verb == "restore") or verb in IN_AND_OUT_OF_TRASH
            too_early = verb == "complete" and not package.is_signed()
            if package.status not in statuses or not in_place or too_early or verb in ("create", "undelete"):
                continue
            if verb in PACKAGE_VERBS:
                yield Action(verb, text=texts.get(verb, ""))
                continue
            for place in signing:
                yield from self._possible_for(package, verb, place, texts.get(verb, "because"))

    def _possible_for(self, package: SimulatedPackage, verb: str, place: int, text: str) -> Iterator[Action]:
        """The actions that are possible for the person in a role."""
        role, stays = package.roles[place], self.account.quirks.reassign_role
        todo = [
            number
            for number in range(len(package.documents))
            if package.approvals(place, document=number) and not package.is_signed(place, document=number)
        ]
        if verb in SIGNING_VERBS:
            yield from self._possible_signing(package, verb, place, todo) if not role.locked else ()
            return
        is_person = not role.is_sender and not role.group
        match verb:
            case "lie" if self.lies and not (role.is_sender and text == "EMAIL_BOUNCE"):
                yield Action(verb, place, text=text)
            case "reject" if role.attachment and role.attachment.uploaded:
                yield Action(verb, place, text="unreadable")
            case "reassign" if stays == "changes" and todo and is_person:
                yield Action(verb, place, text=ids.uuid(self.dice), person=people.signer(self.dice))
            case "reassign in place" if stays != "changes" and todo and is_person:
                person = people.signer(self.dice)
                yield Action(verb, place, text=person.id if stays == "signer" else role.id, person=person)
            case "add signer" if place == 0 and not package.is_signed():
                yield Action(verb, text=ids.uuid(self.dice), person=people.signer(self.dice))
            case "lock" | "unlock" if role.locked == (verb == "unlock") and not role.is_sender:
                yield Action(verb, place)
            case "readdress" if is_person:
                yield Action(verb, place, text=people.mailbox(self.dice))
            case "fail kba" | "bounce" | "cobrowse" | "decline" | "opt out" if todo:
                yield Action(verb, place, text=text, member=self.dice.randrange(3))

    def _possible_signing(self, package: SimulatedPackage, verb: str, place: int, todo: list[int]) -> Iterator[Action]:
        """What the person in a role, or a member of its group, can sign, click or upload."""
        role, member = package.roles[place], self.dice.randrange(3)
        match verb:
            case "sign" | "view" if todo:
                yield Action(verb, place, todo[0], member=member)
            case "begin" if todo:
                yield Action(verb, place, todo[0], text="required")
            case "disable" | "enable" if todo:
                yield Action(verb, place, todo[-1], member=member)
            case "finish" if todo and all(approval.optional for approval in package.owed(place)):
                yield Action(verb, place, member=member)
            case "upload" if role.attachment and not role.attachment.uploaded:
                yield Action(verb, place, member=member)

    # Callbacks in transit

    def _deliver_or_withhold(self, events: Iterable[OneSpanEvent], fate: str) -> None:
        events = list(events)
        before, self._deleted = self._deleted, {package.id for package in self.account.packages() if package.deleted}
        reported = {event.package_id for event in events if event.name == "PACKAGE_DELETE"}
        self.silently_deleted.update(self._deleted - before - reported)
        self.brought_back.update(before - self._deleted)
        for event in events:
            about = event.document_id or _attachment(event.name, event.message)
            self.happened.setdefault(event.package_id, Counter())[wire_name(event.name), about] += 1
            if self._undated and self.dice.random() < UNDATED_SHARE:
                self._deliver_undated(event, fate)
                continue
            body = callbacks.body(event, quirks=self.account.quirks)
            if fate == "lost":
                self.withheld.append(body)
                self.count["callbacks lost"] += 1
                continue
            self.deliver(body)
            if fate == "twice":
                self.deliver(callbacks.reformatted(body))

    def _deliver_undated(self, event: OneSpanEvent, fate: str) -> None:
        """Deliver a callback without a date at once or never: a late one would be dated at its arrival."""
        body = callbacks.body(replace(event, at=None), quirks=self.account.quirks)
        before = self._undated_at.get((event.package_id, body))
        is_repeat = before is not None and self.playground.clock.now - before <= REPEAT_WINDOW
        if fate == "lost" or is_repeat:
            about = event.document_id or _attachment(event.name, event.message)
            self.unreported.setdefault(event.package_id, Counter())[wire_name(event.name), about] += 1
        if fate == "lost":
            self.count["callbacks lost"] += 1
            return
        self._undated_at[event.package_id, body] = self.playground.clock.now
        for _ in range(2 if fate == "twice" else 1):
            self.deliver(body, is_new=not is_repeat, may_wait=False)
            is_repeat = True

    def deliver(self, body: bytes, *, is_new: bool | None = None, may_wait: bool = True) -> None:
        """Journal a callback. If the process dies before the commit, the callback is lost.

        `is_new` says whether it reports a new fact, by default whether it was not delivered before. A callback that may
        not wait is lost for good.
        """
        body = odd_callbacks.decompressed(body)
        callback = parse_callback(body)
        entry = Entry("callback", self.playground.clock.now, body, key="test", package_id=callback.package_id)
        try:
            with self.playground.database.write() as connection:
                journal.add(connection, [entry])
        except Crash:
            self.count["crashes"] += 1
            if not self.playground.database.crash_after_commit:
                self.withheld += [body] * may_wait
                about = callback.document_id or _attachment(callback.name, callback.message)
                lost = self.unreported.setdefault(callback.package_id, Counter())
                lost[callback.name, about] += not may_wait
                return
        is_known = callbacks.reformatted(body) in self.delivered_bodies
        if is_new if is_new is not None else not is_known:
            about = callback.document_id or _attachment(callback.name, callback.message)
            self.delivered.setdefault(callback.package_id, Counter())[callback.name, about] += 1
            self.delivered_bodies += [body, callbacks.reformatted(body)] * may_wait

    def deliver_lies(self) -> None:
        """Deliver the false callbacks that were withheld. The next reconcile run corrects what they change."""
        false = [body for body in self.withheld if callbacks.reformatted(body) in self._lies]
        self.withheld = [body for body in self.withheld if body not in false]
        for body in false:
            self.deliver(body)

    # Turns of the service

    def turn(self, name: str, process: int = 0) -> bool:
        """Run one turn of one process. Return whether there was work."""
        self.count["turns"] += 1
        return bool(self.survive(self.processes[process].turns[name], process))

    def survive(self, turn: Callable[[], Any], process: int) -> Any:
        """Take a turn and return its result. If the process dies in the turn, start another process and return True."""
        try:
            return turn()
        except Crash:
            note(f"    process {process} dies")
            self.count["crashes"] += 1
            self.has_crashed, self.playground.during_request = True, None
            self.processes[process] = self.playground.process(budget=self._budget, drift=self._drifts[process])
            return True

    def upgrade(self) -> None:
        """Let another version have derived all packages. The turn `upgrade` derives them again."""
        with self.playground.database.write() as connection:
            old_database.make_old(connection)

    def work(self, process: int = 0) -> None:
        """Digest, run handlers and fetch packages until no work is left."""
        for _ in range(MAX_ROUNDS):
            self.playground.clock.forward(3 * SECOND)
            worked = [self.turn(name, process) for name in ("digest", "dispatch", "fetch", "upgrade")]
            if not any(worked):
                return
        raise AssertionError("the work never ends")

    def work_until_settled(self) -> None:
        """Do all work, and fetch packages again that OneSpan's API showed as they were before a callback."""
        for delay in (timedelta(0), *LAG_DELAYS, MINUTE):
            self.playground.clock.forward(delay)
            self.work()

    def end_disturbances(self) -> None:
        """Stop all faults and crashes, let every wait end, and finish all work and the current reconcile run."""
        self.count["faults"] += self.playground.faults.counts.total()
        self._faults_met += self.playground.faults.counts
        self.playground.faults.counts.clear()
        self.playground.faults.rates, self.playground.during_request = {}, None
        self.playground.database.commits_left = None
        self.playground.clock.forward(31 * MINUTE)
        self.work_until_settled()
        if self._running():
            self._finish_run()

    def times_met(self, fault: str) -> int:
        """The number of requests that met this fault."""
        return self._faults_met[fault] + self.playground.faults.counts[fault]

    def reconcile(self) -> None:
        """Do a whole reconcile run, which begins because it is due or by request."""
        if not self.turn("reconcile"):
            self.processes[0].reconcile.begin(RunRequest())
        self._finish_run()
        self.work_until_settled()

    def _finish_run(self) -> None:
        for _ in range(MAX_ROUNDS):
            while (run := self._running()) and self.turn("reconcile"):
                pass
            self.work()
            if run is None:
                return
            self.playground.clock.forward(MINUTE)
        raise AssertionError("the run never ends")

    def _running(self) -> int | None:
        with self.playground.database.read() as connection:
            return reconciles.running(connection)

    def _see(self, event: Event, _: Package) -> None:
        """Count a run of the catch-all handler."""
        fact = (event.name, event.document_id or _attachment(event.name, event.message))
        self.handled.setdefault(event.package_id, {}).setdefault(fact, Counter())[event.key] += 1

    # Results of the scenario

    def stored_packages(self) -> dict[str, Package]:
        """The packages in the status store, by id."""
        with self.playground.database.read() as connection:
            return queries.packages(connection, [package.id for package in self.account.packages()])

    def watermark(self) -> datetime | None:
        """The time up to which all changes are known."""
        with self.playground.database.read() as connection:
            return reconciles.watermark(connection, now=self.playground.onespan_now())

    def handled_facts(self, package_id: str) -> Counter[Fact]:
        """Count, for each fact about a package, the events for which the handler ran."""
        return Counter({fact: len(keys) for fact, keys in self.handled.get(package_id, {}).items()})

    def handler_runs(self) -> Counter[str]:
        """Count the handler's runs by the event's key."""
        return sum((keys for facts in self.handled.values() for keys in facts.values()), Counter())


def _attachment(name: str, message: str | None) -> str | None:
    return message if name == "PACKAGE_ATTACHMENT" else None
