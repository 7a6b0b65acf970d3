"""Random scenarios as a state machine: its steps, and its checks from `tests/support/invariants.py`."""

import sys
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from app.errors import ReconcileRunning
from app.simulator import callbacks
from app.simulator.quirks import Quirks
from app.work.reconcile import RunRequest
from tests.conftest import HOUR, NOON
from tests.support import invariants
from tests.support.playground import Playground
from tests.support.scenario import FATES, MINUTE, SECOND, TURNS, Scenario

DAY = timedelta(days=1)
FAULTS = (
    *("503", "cut", "401", "403", "429", "429-wait", "500", "502", "html", "truncated", "list"),
    *("waf", "404", "no-id", "wrong-types"),
)
REQUESTS = (RunRequest(), RunRequest(backfill=True), RunRequest(since=NOON), RunRequest(backfill=True, fires=True))
SHORTEST = timedelta(milliseconds=1)  # the shortest duration of a request, and the resolution of OneSpan's times
COURSE_MINUTES = 8  # minutes during which a reconcile run is continued
SECOND_RUN_SHARE = 0.3  # share of schedules that end with a second reconcile run

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
    package_lag=st.sampled_from((0, 0, 0, 5, 40, 240)),
    rest_dates=st.sampled_from(("milliseconds", "shortest", "lower-case")),
    rest_nulls=st.sampled_from(("absent", "null")),
    document_order=st.sampled_from(("index", "reversed")),
    consent_dates=st.sampled_from(("accepted", "both")),
    reviewer_type=st.sampled_from(("SIGNER", "VIEWER")),
    reviewer_views=st.sampled_from(("no", "yes")),
    group_members=st.sampled_from(("shown", "hidden")),
    group_user=st.sampled_from(("member", "role", "unlisted")),
    undated=st.sampled_from(("absent", "null")),
    odd_members=st.sampled_from(("none", "mixed")),
)
fates = st.lists(st.sampled_from(FATES), min_size=1, max_size=8)
pauses = st.sampled_from((SECOND, MINUTE, 3 * SECOND, 11 * MINUTE, HOUR))
naps = st.sampled_from((SECOND, 20 * SECOND, 2 * MINUTE, 11 * MINUTE, HOUR, 7 * HOUR, DAY, 3 * DAY, 8 * DAY))
small_numbers = st.integers(0, 7)
process = st.integers(0, 1)
turns = st.lists(st.sampled_from(TURNS), max_size=6)


class Schedule(RuleBasedStateMachine):
    """One random schedule. All schedules share `playground`, and `count` holds the totals of all schedules."""

    playground: ClassVar[Playground]
    count: ClassVar[Counter[str]]
    scenario: Scenario | None = None
    watermark: datetime | None = None

    @initialize(
        seed=st.integers(0, 2**16),
        quirks=quirks,
        imported=st.sampled_from((True, True, False)),
        anomalies=st.booleans(),
        features=st.booleans(),
        undated=st.sampled_from((False, False, False, True)),
        lies=st.sampled_from((False, False, True)),
        skew=st.sampled_from((0, 2, -2, 100, -100, 600, -600, 7200, -7200)),
        drift=st.sampled_from((0, 0, 1.5, -1.5)),
        budget=st.sampled_from((1000, 8)),
        packages=st.sampled_from((1, 1, 2, 3)),
        fates=fates,
        pause=pauses,
        fault=st.sampled_from((None, *FAULTS)),
        commits=st.sampled_from((None, 3, 6, 10, 20, 40)),
    )
    def create_account(
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
        """Create an account, simulate its packages for a while, and perhaps schedule faults and a crash."""
        self.scenario = Scenario(self.playground, self.count, skew=skew * SECOND, drift=drift * SECOND, **more)
        self.count["schedules"] += 1
        self.scenario.account._to_create = packages
        self.play_steps(fates=fates, pause=pause, turns=[])
        self.playground.faults.rates = {fault: 0.4} if fault else {}
        self.playground.database.commits_left = commits

    # Steps at OneSpan

    @rule(fates=fates, pause=pauses, turns=turns)
    def play_steps(self, *, fates: list[str], pause: timedelta, turns: list[str]) -> None:
        """Simulate one event of the packages after another, and take turns of the service in between."""
        for fate, turn in zip_longest(fates, turns):
            self.playground.clock.forward(pause)
            if fate:
                self.scenario.step(fate)
            if turn:
                self.turn(turn)

    @rule()
    def start_package(self) -> None:
        """Let the account start one more package."""
        self.scenario.account._to_create += 1

    @rule(which=small_numbers, what=st.integers(0, 40), fate=st.sampled_from(FATES))
    def take_action(self, *, which: int, what: int, fate: str) -> None:
        """Perform one action on a package at OneSpan."""
        self.playground.clock.forward(SECOND)
        self.scenario.act(which, what, fate)

    @rule(fault=st.sampled_from(FAULTS), rate=st.sampled_from((0.5, 0.2, 1.0)))
    def begin_faults(self, *, fault: str, rate: float) -> None:
        """Let a share of OneSpan's answers fail until further notice."""
        self.playground.faults.rates = {fault: rate}

    @rule()
    def end_faults(self) -> None:
        """End the faults of OneSpan."""
        self.playground.faults.rates = {}

    # Callbacks in transit

    @rule(places=st.lists(small_numbers, min_size=1, max_size=4), reformatted=st.booleans())
    def deliver_withheld(self, *, places: list[int], reformatted: bool) -> None:
        """Deliver lost callbacks late and in any order, unchanged or with other white space."""
        for place in places[: len(self.scenario.withheld)]:
            body = self.scenario.withheld.pop(place % len(self.scenario.withheld))
            self.scenario.deliver(callbacks.reformatted(body) if reformatted else body)

    @rule(place=small_numbers)
    def deliver_again(self, *, place: int) -> None:
        """Deliver a callback that has already been delivered."""
        if delivered_bodies := self.scenario.delivered_bodies:
            self.scenario.deliver(delivered_bodies[place % len(delivered_bodies)])

    @rule(nap=naps)
    def sleep(self, *, nap: timedelta) -> None:
        """Let time pass."""
        self.playground.clock.forward(nap)

    # Turns of the service

    @rule(turns=turns, process=process)
    def take_turns(self, *, turns: list[str], process: int) -> None:
        """Take turns of the service in any order, in a process that has just sent a heartbeat."""
        self.scenario.survive(self.scenario.processes[process].beat, process)
        for turn in turns:
            self.turn(turn, process)

    @rule(process=process)
    def finish_work(self, *, process: int) -> None:
        """Do all work except reconciling."""
        self.scenario.work(process)

    @rule()
    def upgrade(self) -> None:
        """Upgrade the service from another version, which has derived all packages otherwise."""
        self.scenario.survive(self.scenario.upgrade, 0)

    @rule(asked=st.sampled_from(REQUESTS))
    def request_reconcile(self, *, asked: RunRequest) -> None:
        """Request a reconcile run, which is refused while another reconcile run is in progress."""
        with suppress(ReconcileRunning):
            self.scenario.survive(lambda: self.scenario.processes[0].reconcile.begin(asked), 0)

    @rule(steps=st.integers(1, 9), process=process)
    def continue_reconcile(self, *, steps: int, process: int) -> None:
        """Take some steps of a reconcile run."""
        for _ in range(steps):
            self.turn("reconcile", process)

    @rule(nap=naps, fault=st.sampled_from((None, *FAULTS)), process=process)
    def attempt_reconcile(self, *, nap: timedelta, fault: str | None, process: int) -> None:
        """Begin a reconcile run, perhaps with faults, and continue the run for some minutes, perhaps to its end."""
        self.playground.clock.forward(nap)
        self.playground.faults.rates = {fault: 0.4} if fault else {}
        self.scenario.survive(lambda: self.scenario.processes[process].reconcile.begin(RunRequest()), process)
        for _ in range(COURSE_MINUTES):
            for turn in ("reconcile", "reconcile", "fetch", "digest", "dispatch"):
                self.turn(turn, process)
            self.playground.clock.forward(MINUTE)

    @rule(commits=st.integers(1, 8), after=st.booleans())
    def kill_at_commit(self, *, commits: int, after: bool) -> None:
        """Let a process die right before or right after one of the next commits."""
        self.playground.database.commits_left, self.playground.database.crash_after_commit = commits, after

    @rule(
        which=small_numbers,
        what=st.integers(0, 40),
        fate=st.sampled_from(FATES),
        takes=st.sampled_from((0, 1, 5, 50, 700)),
        dated_late=st.booleans(),
        others=st.lists(st.sampled_from(TURNS), max_size=4),
    )
    def interrupt_next_request(
        self, *, which: int, what: int, fate: str, takes: int, dated_late: bool, others: list[str]
    ) -> None:
        """Change a package after OneSpan read its data and before the answer arrives, while another process works."""

        def action() -> None:
            self.playground.clock.forward(takes * SECOND / 2 + SHORTEST)
            self.scenario.act(which, what, fate)
            for other in others:
                self.turn(other, 1)
            self.playground.clock.forward(takes * SECOND / 2)

        self.playground.during_request, self.playground.dates_answer_late = action, dated_late

    def turn(self, name: str, process: int = 0) -> None:
        """Take one turn of the service, then check the watermark."""
        self.scenario.turn(name, process)
        self.check_watermark()

    # Checks of the service

    @invariant()
    def count_step(self) -> None:
        """Count the steps of all schedules."""
        self.count["steps"] += 1

    @rule()
    def reconcile_and_check(self) -> None:
        """Assert that one undisturbed reconcile run makes the status store equal to OneSpan."""
        self.scenario.end_disturbances()
        self.scenario.reconcile()
        self.count["clean reconciles"] += 1
        self.check_watermark()
        invariants.status_store_matches_onespan(self.scenario)
        invariants.handlers_ran_only_for_real_facts(self.scenario)
        invariants.handlers_ran_for_known_facts(self.scenario)

    def check_watermark(self) -> None:
        """Assert that the watermark only rises, and that everything OneSpan dates before the watermark was read."""
        before, self.watermark = self.watermark, self.scenario.watermark()
        if self.watermark != before:
            assert before is None or (self.watermark and self.watermark > before)
            self.count["reconciles"] += 1
            invariants.all_before_watermark_was_read(self.scenario, self.watermark)

    def teardown(self) -> None:
        """End a schedule that has not failed: deliver the lost callbacks and check everything again.

        Lost lies are delivered before the last run, because only a run can correct what they change.
        """
        if sys.exc_info()[0] is not None or self.scenario is None:
            return
        self.scenario.end_disturbances()
        self.scenario.deliver_lies()
        self.reconcile_and_check()
        if self.scenario.dice.random() < SECOND_RUN_SHARE:
            invariants.second_run_adds_nothing(self.scenario)
        self.scenario.dice.shuffle(self.scenario.withheld)
        while self.scenario.withheld:
            self.scenario.deliver(self.scenario.withheld.pop())
        self.scenario.work_until_settled()
        invariants.status_store_matches_onespan(self.scenario)
        invariants.handlers_ran_only_for_real_facts(self.scenario)
        invariants.handlers_ran_for_all_facts(self.scenario)
        invariants.rebuild_finds_no_difference(self.scenario)
