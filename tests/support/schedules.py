"""Random histories, as a state machine: what may happen, and what must hold then (`tests/support/invariants.py`)."""

import sys
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from app.errors import UnderWay
from app.simulator import callbacks
from app.simulator.quirks import Quirks
from app.work.reconcile import Asked
from tests.conftest import HOUR, NOON
from tests.support import invariants
from tests.support.playground import Bench
from tests.support.scenario import FATES, MINUTE, SECOND, TURNS, History

DAY = timedelta(days=1)
BEFALLS = ("503", "cut", "401", "403", "429", "429-wait", "500", "502", "html", "truncated", "list")
ASKED = (Asked(), Asked(backfill=True), Asked(since=NOON), Asked(backfill=True, fires=True))
JUST = timedelta(milliseconds=1)  # the least that a request takes, and the grain of OneSpan's times
COURSE = 8  # minutes that a run under way is pursued for
SECOND_RUNS = 0.3  # how often a second run follows the last

quirks = st.builds(
    Quirks,
    list_first=st.sampled_from((0, 1)),
    list_largest=st.sampled_from((100, 0, 100, 2, 3)),
    list_items=st.sampled_from(("whole", "summary")),
    list_sort=st.sampled_from(("honoured", "ignored", "ignored-with-dates")),
    list_dates=st.sampled_from(("both", "lastUpdated", "start", "neither")),
    list_count=st.sampled_from(("all", "page")),
    list_lag=st.sampled_from((0, 5, 300)),
    list_grain=st.sampled_from(("day", "exact")),
    session_user=st.sampled_from(("signer", "role")),
    system_user=st.sampled_from(("somebody", "system", "null")),
    reassign_role=st.sampled_from(("changes", "stays", "signer")),
    unused_fields=st.sampled_from(("null", "absent")),
    ready_name=st.sampled_from(("PACKAGE_READY_FOR_COMPLETE", "PACKAGE_READY_FOR_COMPLETION")),
    unarchive_event=st.sampled_from(("none", "PACKAGE_RESTORE", "PACKAGE_UNARCHIVE")),
    retention_event=st.sampled_from(("none", "PACKAGE_DELETE")),
)
fates = st.lists(st.sampled_from(FATES), min_size=1, max_size=8)
pauses = st.sampled_from((SECOND, MINUTE, 3 * SECOND, 11 * MINUTE, HOUR))
naps = st.sampled_from((SECOND, 20 * SECOND, 2 * MINUTE, 11 * MINUTE, HOUR, 7 * HOUR, DAY, 3 * DAY, 8 * DAY))
few = st.integers(0, 7)
process = st.integers(0, 1)
turns = st.lists(st.sampled_from(TURNS), max_size=6)


class Schedule(RuleBasedStateMachine):
    """One of them. `bench` is what it is played on, `count` counts what befell all of them."""

    bench: ClassVar[Bench]
    count: ClassVar[Counter[str]]
    history: History | None = None
    watermark: datetime | None = None

    @initialize(
        seed=st.integers(0, 2**16),
        quirks=quirks,
        imported=st.sampled_from((True, True, False)),
        odd=st.booleans(),
        skew=st.sampled_from((0, 2, -2, 100, -100)),
        drift=st.sampled_from((0, 0, 1.5, -1.5)),
        budget=st.sampled_from((1000, 8)),
        packages=st.sampled_from((1, 1, 2, 3)),
        fates=fates,
        pause=pauses,
        fault=st.sampled_from((None, *BEFALLS)),
        commits=st.sampled_from((None, 3, 6, 10, 20, 40)),
    )
    def there_is_an_account(
        self,
        *,
        skew: int,
        drift: float,
        packages: int,
        fates: list[str],
        pause: timedelta,
        fault: str | None,
        commits: int | None,
        **more: Any,
    ) -> None:
        """Some of its packages live already, the day may be a bad one, and somebody may be about to die."""
        self.history = History(self.bench, self.count, skew=skew * SECOND, drift=drift * SECOND, **more)
        self.count["schedules"] += 1
        self.history.account._to_begin = packages
        self.lives_go_on(fates=fates, pause=pause, turns=[])
        self.bench.faults.rates = {fault: 0.4} if fault else {}
        self.bench.database.commits = commits

    # At OneSpan.

    @rule(fates=fates, pause=pauses, turns=turns)
    def lives_go_on(self, *, fates: list[str], pause: timedelta, turns: list[str]) -> None:
        """One thing after another happens to one package or another, and turns are taken in between."""
        for fate, turn in zip_longest(fates, turns):
            self.bench.clock.forward(pause)
            if fate:
                self.history.step(fate)
            if turn:
                self.turn(turn)

    @rule()
    def another_begins(self) -> None:
        """There will be one more package."""
        self.history.account._to_begin += 1

    @rule(which=few, what=st.integers(0, 40), fate=st.sampled_from(FATES))
    def somebody_acts(self, *, which: int, what: int, fate: str) -> None:
        """By hand."""
        self.bench.clock.forward(SECOND)
        self.history.act(which, what, fate)

    @rule(fault=st.sampled_from(BEFALLS), rate=st.sampled_from((0.5, 0.2, 1.0)))
    def a_bad_day_begins(self, *, fault: str, rate: float) -> None:
        """Until it is over."""
        self.bench.faults.rates = {fault: rate}

    @rule()
    def a_good_day_begins(self) -> None:
        """All is well."""
        self.bench.faults.rates = {}

    # On the way.

    @rule(places=st.lists(few, min_size=1, max_size=4), by_hand=st.booleans())
    def lost_callbacks_come(self, *, places: list[int], by_hand: bool) -> None:
        """Late, and in any order; as they were, or typed anew."""
        for place in places[: len(self.history.withheld)]:
            body = self.history.withheld.pop(place % len(self.history.withheld))
            self.history.deliver(callbacks.by_hand(body) if by_hand else body)

    @rule(place=few)
    def a_callback_comes_again(self, *, place: int) -> None:
        """One that came before."""
        if came := self.history.came:
            self.history.deliver(came[place % len(came)])

    @rule(nap=naps)
    def time_passes(self, *, nap: timedelta) -> None:
        """Nobody does anything."""
        self.bench.clock.forward(nap)

    # In the service.

    @rule(turns=turns, process=process)
    def turns_are_taken(self, *, turns: list[str], process: int) -> None:
        """In any order, by a process that says that it is there."""
        self.history.guarded(self.history.processes[process].beat, process)
        for turn in turns:
            self.turn(turn, process)

    @rule(process=process)
    def all_work_is_done(self, *, process: int) -> None:
        """But for reconciling."""
        self.history.work(process)

    @rule(asked=st.sampled_from(ASKED))
    def somebody_asks_for_a_reconcile(self, *, asked: Asked) -> None:
        """By hand; where another one is under way they are told so."""
        with suppress(UnderWay):
            self.history.guarded(lambda: self.history.processes[0].reconcile.begin(asked), 0)

    @rule(steps=st.integers(1, 9), process=process)
    def a_reconcile_goes_on(self, *, steps: int, process: int) -> None:
        """Some steps."""
        for _ in range(steps):
            self.turn("reconcile", process)

    @rule(nap=naps, fault=st.sampled_from((None, *BEFALLS)), process=process)
    def a_reconcile_runs_its_course(self, *, nap: timedelta, fault: str | None, process: int) -> None:
        """On a day as it is; it may come to its end."""
        self.bench.clock.forward(nap)
        self.bench.faults.rates = {fault: 0.4} if fault else {}
        self.history.guarded(lambda: self.history.processes[process].reconcile.begin(Asked()), process)
        for _ in range(COURSE):
            for turn in ("reconcile", "reconcile", "refresh", "digest", "dispatch"):
                self.turn(turn, process)
            self.bench.clock.forward(MINUTE)

    @rule(commits=st.integers(1, 8), after=st.booleans())
    def somebody_will_die(self, *, commits: int, after: bool) -> None:
        """At a commit, right before it or right after."""
        self.bench.database.commits, self.bench.database.after = commits, after

    @rule(
        which=few,
        what=st.integers(0, 40),
        fate=st.sampled_from(FATES),
        takes=st.sampled_from((0, 1, 5, 50, 700)),
        dated_late=st.booleans(),
        others=st.lists(st.sampled_from(TURNS), max_size=4),
    )
    def much_will_happen_during_the_next_request(
        self, *, which: int, what: int, fate: str, takes: int, dated_late: bool, others: list[str]
    ) -> None:
        """After OneSpan looked and before its answer is here; the other process works meanwhile."""

        def happens() -> None:
            self.bench.clock.forward(takes * SECOND / 2 + JUST)
            self.history.act(which, what, fate)
            for other in others:
                self.turn(other, 1)
            self.bench.clock.forward(takes * SECOND / 2)

        self.bench.meanwhile, self.bench.dates_late = happens, dated_late

    def turn(self, name: str, process: int = 0) -> None:
        """One turn, after which the watermark stands where it stood, or later with all before it seen."""
        self.history.turn(name, process)
        self.watermark_only_rises()

    # What must hold.

    @invariant()
    def it_is_counted(self) -> None:
        """So many steps there were."""
        self.count["steps"] += 1

    @rule()
    def all_comes_clean(self) -> None:
        """After one reconcile that nobody disturbs."""
        self.history.calm_down()
        self.history.reconcile()
        self.count["clean reconciles"] += 1
        self.watermark_only_rises()
        invariants.the_picture_is_the_truth(self.history)
        invariants.what_was_told_has_happened(self.history)
        invariants.what_can_be_known_was_told(self.history)

    def watermark_only_rises(self) -> None:
        """And whatever OneSpan dates before it was seen."""
        before, self.watermark = self.watermark, self.history.watermark()
        if self.watermark != before:
            assert before is None or (self.watermark and self.watermark > before)
            self.count["reconciles"] += 1
            invariants.all_before_the_watermark_was_seen(self.history, self.watermark)

    def teardown(self) -> None:
        """The end of each schedule, unless it has failed before: what was lost comes after all."""
        if sys.exc_info()[0] is not None or self.history is None:
            return
        self.all_comes_clean()
        if self.history.dice.random() < SECOND_RUNS:
            invariants.nothing_fires_for_what_is_unchanged(self.history)
        self.history.dice.shuffle(self.history.withheld)
        while self.history.withheld:
            self.history.deliver(self.history.withheld.pop())
        self.history.work()
        invariants.the_picture_is_the_truth(self.history)
        invariants.what_was_told_has_happened(self.history)
        invariants.all_that_happened_was_told(self.history)
        invariants.the_picture_follows_from_the_journal(self.history)
