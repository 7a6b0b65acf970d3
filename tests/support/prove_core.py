"""Tries random histories of one package on the pure core: claims, merge, projection, findings and confirmation.

Run the script with `make prove-core`, or with `python -m tests.support.prove_core --histories 1000 --processes 2`.
There is no database and no HTTP, so it tries hundreds of histories per second. The number of a history is its seed. The
script prints each history that fails, and `--first 4711 --histories 1` repeats the history 4711.
"""

import argparse
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import NamedTuple

from app.onespan import merge
from app.onespan.callbacks import Callback
from app.onespan.claims import callback_claims
from app.onespan.confirmation import FoundEvent, KnownFingerprints, confirmed_event
from app.onespan.event_catalogue import event_type
from app.onespan.fetch_rules import LAG_DELAYS, is_behind, next_lag_fetch
from app.onespan.interval import StoredEvent
from app.onespan.lifecycle import status_after
from app.onespan.merge import Claim, State
from app.onespan.packages import parse_package
from app.onespan.projection import derive
from app.onespan.snapshot import PackageSnapshot
from app.onespan.values import Package
from app.store.events import NewEvent
from app.types import iso
from app.work import snapshot_events
from app.work.parsing import ParsedEntry, time_of_reading
from app.work.snapshot_events import DatedSnapshot
from tests.support.core_histories import BEGINNING, MINUTE, SECOND, Fact, Happened, Truth, moment

RECEIVING_SINCE = BEGINNING - timedelta(days=1)
NEAR = 5 * SECOND  # how far apart two groups' signatures may be and still be taken for each other's
SETTLED_AFTER = 11 * MINUTE  # when a clean snapshot is taken: later than OneSpan's API may lag
BATCH = 500  # histories between two lines of progress, per process


class Failure(AssertionError):
    """A history whose result is wrong."""


class Arrival(NamedTuple):
    """A callback that arrives, or a fetch. `lag` is how old the API's answer is; `fetch` counts fetches after a lag."""

    at: int
    event: Happened | None = None
    lag: int = 0
    fetch: int = 0
    lagged_at: datetime | None = None


class Core:
    """The pure part of the digest, with lists instead of tables."""

    def __init__(self) -> None:
        self.state: State = {}
        self.bundles: list[list[Claim]] = []
        self.events: list[StoredEvent] = []
        self.found: list[FoundEvent] = []
        self.snapshots: list[DatedSnapshot] = []
        self.facts = KnownFingerprints()
        self.entries = 0
        self._derived: tuple[State, Package] | None = None

    def apply_callback(self, callback: Callback, *, received_at: datetime) -> None:
        """Apply a callback: a repeat, the confirmation of a found event, or a new event."""
        if self.facts.identify(callback, received_at=received_at)[1]:
            return
        entry = ParsedEntry(self._next_id(), received_at, "p", callback=callback)
        at = entry.happened_at
        confirmed = confirmed_event(callback, self.found, state=self.state or None, happened_at=at)
        if confirmed:
            self.found.remove(confirmed)
            if callback.happened_at:
                self.events[confirmed.id - 1] = replace(self.events[confirmed.id - 1], at=iso(at), after=None)
        else:
            self._store(callback, at)
        self._merge(callback_claims(callback, received_at=received_at))

    def apply_snapshot(self, entry: ParsedEntry) -> bool:
        """Apply a snapshot or an absence. Returns whether it shows less than a callback."""
        assert entry.read_at
        dated = _dated(entry, entry.snapshot or PackageSnapshot("p"))
        before = max(self.snapshots, key=lambda snapshot: (snapshot.read_at, snapshot.journal_id), default=None)
        since = iso(before.known_since) if before else ""
        known = [event for event in self.events if event.at > since]
        for new in self._unreported(entry, dated, before, known):
            assert new.found
            after, until = new.found
            self._store(new.callback, new.happened_at, found=True, after=after)
            self.found.append(
                FoundEvent.of(len(self.events), new.callback, at=new.happened_at, after=after, until=until)
            )
        self._merge(entry.claims)
        if entry.snapshot is None:
            return False
        self.snapshots.append(dated)
        assert entry.answered_at
        return is_behind(entry.snapshot, self.state, settled_at=entry.settled_at, answered_at=entry.answered_at)

    def _unreported(
        self, entry: ParsedEntry, dated: DatedSnapshot, before: DatedSnapshot | None, known: Iterable[StoredEvent]
    ) -> list[NewEvent]:
        if entry.snapshot is None:
            return snapshot_events.unreported_deletion(dated, before=before, known=known)
        return snapshot_events.unreported_events(dated, before=before, known=known, began_at=RECEIVING_SINCE)

    def _store(self, callback: Callback, at: datetime, *, found: bool = False, after: datetime | None = None) -> None:
        who, role = callback.session_user or callback.signer_id, callback.extra.get("newRoleId")
        to = role if isinstance(role, str) else None
        since = iso(after) if after else None
        event = StoredEvent(callback.name, iso(at), who, callback.document_id, callback.message, to, found, since)
        self.events.append(event)

    def _merge(self, claims: list[Claim]) -> None:
        self.bundles.append(claims)
        self.state = merge.merge_claims(self.state, claims)

    def package(self) -> Package:
        """The package that the claims derive; derived again only if a claim is new."""
        if self._derived is None or self._derived[0] is not self.state:
            self._derived = (self.state, derive("p", self.state))
        return self._derived[1]

    @property
    def status(self) -> object:
        """The status of the package, according to the claims."""
        return merge.current_value(self.state.get(merge.PACKAGE, {}).get("status", {}))[1]

    def _next_id(self) -> int:
        self.entries += 1
        return self.entries

    def entry(self, truth: Truth, arrival: Arrival) -> ParsedEntry:
        """Return the journal entry of a fetch. The answer's `Date` header has whole seconds."""
        json = truth.shown(arrival.at, lag=arrival.lag)
        second = arrival.at - arrival.at % SECOND
        read_at, answered_at = moment(second), moment(second + SECOND)
        snapshot = parse_package(json) if json else None
        if snapshot:
            read_at, answered_at = time_of_reading(snapshot, read_at, answered_at)
        return ParsedEntry(
            self._next_id(),
            moment(arrival.at),
            "p",
            snapshot=snapshot,
            read_at=read_at,
            answered_at=answered_at,
            lag_fetches=arrival.fetch,
            lagged_at=arrival.lagged_at,
        )


def _dated(entry: ParsedEntry, package: PackageSnapshot) -> DatedSnapshot:
    assert entry.read_at
    assert entry.answered_at
    return DatedSnapshot(entry.id, entry.received_at, entry.read_at, entry.settled_at, entry.answered_at, package)


class History:
    """One random history: what happens, in which order callbacks and snapshots arrive, and what must come of it."""

    def __init__(self, number: int) -> None:
        self.dice = Random(number)
        self.truth, self.core = Truth(self.dice), Core()
        self.dated = self.dice.random() > 0.1
        self.lost: list[Happened] = []
        self.delivered: set[int] = set()
        self.arrivals = self._arrivals()

    def _arrivals(self) -> list[Arrival]:
        """Let things happen, and draw when callbacks and fetches arrive."""
        dice, gaps = self.dice, (2 * SECOND, 20 * SECOND, 3 * MINUTE, 12 * MINUTE)
        for _ in range(dice.choice((1, 3, 5, 8, 12))):
            self.truth.step(dice.choice(gaps) + dice.randrange(SECOND) if self.dated else 7 * MINUTE)
        arrivals = [arrival for event in self.truth.happened for arrival in self._delivered(event)]
        for _ in range(dice.choice((0, 1, 2, 4))):
            lag = dice.choice((0, 0, 5 * SECOND, 40 * SECOND, 4 * MINUTE))
            arrivals.append(Arrival(dice.randrange(1, self.truth.now + 2 * MINUTE), lag=lag))
        return sorted(arrivals, key=lambda arrival: arrival.at)

    def _delivered(self, event: Happened) -> Iterator[Arrival]:
        fate = self.dice.choice(("delivered", "delivered", "twice", "lost", "late"))
        delay = self.dice.randrange(4 * SECOND)
        if fate == "lost":
            self.lost.append(event)
            return
        if fate == "late" and self.dated:
            delay += self.dice.choice((MINUTE, 20 * MINUTE))
        yield Arrival(event.at + delay, event)
        if fate == "twice":
            yield Arrival(event.at + delay + self.dice.randrange(2 * MINUTE), event)

    def check(self) -> None:
        """Play the history and check its result. Raises `Failure`."""
        queue, delivered = list(self.arrivals), self.delivered
        while queue:
            arrival = queue.pop(0)
            if arrival.event:
                delivered.add(id(arrival.event))
                self._deliver(arrival.event, arrival.at)
            elif again := self._fetch(arrival):
                queue = sorted([*queue, again], key=lambda item: item.at)
        end = max([self.truth.now, *(arrival.at for arrival in self.arrivals)]) + SETTLED_AFTER
        self._fetch(Arrival(end))
        reported = [event for event in self.truth.happened if id(event) in delivered]
        self._check_package(end, reported)
        self._check_facts(reported)
        self._check_second_snapshot(end)
        if self.dated and self.lost:
            self.dice.shuffle(self.lost)
            for event in self.lost:
                self._deliver(event, end + MINUTE)
            self._check_package(end, self.truth.happened)
            self._check_facts(self.truth.happened)
        self._check_order()

    def _deliver(self, event: Happened, at: int) -> None:
        happened_at = moment(event.at) if self.dated else None
        callback = Callback(event.name, "p", event.who, event.document, None, happened_at, {})
        self.core.apply_callback(callback, received_at=moment(at))

    def _fetch(self, arrival: Arrival) -> Arrival | None:
        """Fetch the package. Returns the next fetch if the answer shows less than a callback."""
        entry, status = self.core.entry(self.truth, arrival), self.core.status
        shows_less = self.core.apply_snapshot(entry)
        if self._is_older_than_callback(arrival):
            _equal(self.core.status, status, "status after a snapshot that lags")
        if not shows_less or not entry.answered_at:
            return None
        number, since = next_lag_fetch(arrival.fetch, arrival.lagged_at, answered_at=entry.answered_at)
        delay = int(LAG_DELAYS[number - 1].total_seconds() * SECOND)
        return Arrival(arrival.at + delay, lag=arrival.lag, fetch=number, lagged_at=since)

    # Checks

    def _is_older_than_callback(self, arrival: Arrival) -> bool:
        """Whether the API shows the package as it was before a status that a callback has reported."""
        shown_at = arrival.at - arrival.lag + SECOND
        is_last = arrival.fetch >= len(LAG_DELAYS)
        return (
            self.dated
            and not is_last
            and any(
                event.at > shown_at and id(event) in self.delivered and status_after(event.name)
                for event in self.truth.happened
            )
        )

    def _check_facts(self, reported: Sequence[Happened]) -> None:
        """Every fact is one event: those that callbacks reported, those that were found, and no other."""
        stored = Counter[Fact](
            (event.name, self._seat(event.name, event.who), event.document_id) for event in self.core.events
        )
        happened, known = self.truth.facts(), Counter(event.fact for event in reported)
        _expect(stored <= happened, f"invented: {stored - happened}")
        _expect(known <= stored, f"reported, but no event: {known - stored}")
        visible = Counter(fact for fact in self._visible() if not self._is_ambiguous(fact))
        _expect(visible <= stored, f"visible, but no event: {visible - stored}")

    def _is_ambiguous(self, fact: Fact) -> bool:
        """Whether a person in no list did the same for another group within five seconds.

        A limit of the service: it cannot tell for which of the two groups the person acted.
        """
        same = [event for event in self.truth.happened if (event.name, event.document) == (fact[0], fact[2])]
        by_others = [event.at for event in same if event.fact != fact and self._is_stranger(event.who)]
        return any(
            0 <= at - event.at <= NEAR
            for event in same
            if event.fact == fact and self._is_group(fact[1])
            for at in by_others
        )

    def _is_group(self, signer_id: str | None) -> bool:
        return any(seat.signer_id == signer_id and seat.members is not None for seat in self.truth.seats)

    def _is_stranger(self, who: str | None) -> bool:
        return any(who in seat.ids and who not in (seat.members or seat.ids) for seat in self.truth.seats)

    def _seat(self, name: str, who: str | None) -> str | None:
        return self.truth.seat_of(who) if event_type(name).by_signer else None

    def _visible(self) -> Iterator[Fact]:
        """What the present state of the package proves."""
        truth = self.truth
        if truth.deleted.now:
            return
        yield "PACKAGE_CREATE", None, None
        if truth.trashed.now:
            yield "PACKAGE_TRASH", None, None
        steps = {"SENT": ["ACTIVATE"], "DECLINED": ["ACTIVATE"], "EXPIRED": ["ACTIVATE", "EXPIRE"]}
        steps |= {"COMPLETED": ["ACTIVATE", "COMPLETE"], "ARCHIVED": ["ACTIVATE", "COMPLETE", "ARCHIVE"]}
        for step in steps.get(truth.status.now, ()):
            yield f"PACKAGE_{step}", None, None
        for seat in truth.seats:
            if seat.locked.now:
                yield "SIGNER_LOCKED", seat.signer_id, None
            for document, blocks in seat.blocks.items():
                if blocks[0].signed:
                    yield "DOCUMENT_SIGNED", seat.signer_id, document
            if seat.finished is not None and not seat.is_optional:
                yield "SIGNER_COMPLETE", seat.signer_id, None

    def _check_package(self, at: int, reported: Sequence[Happened]) -> None:
        """The status store equals OneSpan; what no snapshot shows is as callbacks reported it."""
        truth, package = self.truth, self.core.package()
        _equal(package.deleted, truth.deleted.now, "deleted")
        if truth.deleted.now:
            return
        _equal(package.status, truth.status.now, "status")
        _equal(package.trashed, truth.trashed.now, "trashed")
        _equal(package.completed_at, moment(done) if (done := truth.completed.now) is not None else None, "completed")
        statuses = {seat.signer_id: self._status(seat.signer_id, reported) for seat in truth.seats}
        _equal({signer.id: signer.status for signer in package.signers}, statuses, "signers")
        _equal(package.signers_total, sum(status is not None for status in statuses.values()), "signers in total")
        waiting = [seat for seat in truth.seats if statuses[seat.signer_id] in ("PENDING", "LOCKED")]
        is_open = truth.status.now == "SENT" and not truth.trashed.now
        first = min((seat.order for seat in waiting), default=0)
        turn = sorted(seat.signer_id for seat in waiting if is_open and seat.order == first)
        _equal(sorted(package.next_signers), turn, "next")
        for document in package.documents:
            signed = {
                seat.signer_id for seat in truth.seats for block in seat.blocks.get(document.id, ())[:1] if block.signed
            }
            _equal(set(document.signed_by), signed, f"signed {document.id}")

    def _status(self, signer_id: str, reported: Sequence[Happened]) -> str | None:
        truth = self.truth
        seat = next(seat for seat in truth.seats if seat.signer_id == signer_id)
        names = [event.name for event in reported]
        finished = any(event.fact == ("SIGNER_COMPLETE", signer_id, None) for event in reported)
        all_signed = all(block.signed for blocks in seat.blocks.values() for block in blocks)
        if not seat.owes:
            return None
        if truth.status.now in ("COMPLETED", "ARCHIVED"):
            return "COMPLETED"
        if seat.finished is not None and (not seat.is_optional or finished or all_signed):
            return "COMPLETED"
        steps = [name for name in names if name in ("PACKAGE_ACTIVATE", "PACKAGE_READY_FOR_COMPLETE")]
        if truth.status.now == "SENT" and steps[-1:] == ["PACKAGE_READY_FOR_COMPLETE"]:
            return "COMPLETED"
        if truth.status.now == "DECLINED" and truth.seat_of(truth.messages[-1][1]) == signer_id:
            return "DECLINED"
        return "LOCKED" if seat.locked.now else "PENDING"

    def _check_second_snapshot(self, end: int) -> None:
        """A second clean snapshot finds nothing and changes nothing."""
        events, package = len(self.core.events), self.core.package()
        self._fetch(Arrival(end + MINUTE // 2))
        _equal(len(self.core.events), events, "events after a second snapshot")
        again = self.core.package()
        _equal(
            (again.signers, again.documents, again.status),
            (package.signers, package.documents, package.status),
            "state",
        )

    def _check_order(self) -> None:
        """The claims merge to the same package in another order, and if some are repeated."""
        claims = [claim for bundle in self.core.bundles for claim in bundle]
        self.dice.shuffle(claims)
        state = merge.merge_claims(merge.merge_claims({}, claims), claims[: len(claims) // 3])
        _equal(derive("p", state), self.core.package(), "package in another order")

    def in_words(self) -> list[str]:
        """The history in words, for the report of a failure."""
        lines = [
            f"{event.at / SECOND:9.3f} {event.name} by {event.who} for {event.seat}, {event.document}"
            + " (lost)" * (event in self.lost)
            for event in self.truth.happened
        ]
        for at, event, lag, *_ in self.arrivals:
            lines.append(
                f"{at / SECOND:9.3f} arrives {event.name}" if event else f"{at / SECOND:9.3f} fetch, lag {lag}"
            )
        lines += [f"event: {event}" for event in self.core.events]
        lines += [f"seat: {seat}" for seat in self.truth.seats]
        return lines


def _expect(holds: bool, message: str) -> None:  # noqa: FBT001
    if not holds:
        raise Failure(message)


def _equal(is_: object, expected: object, name: str) -> None:
    if is_ != expected:
        raise Failure(f"{name}: {is_!r}, at OneSpan {expected!r}")


def fault_in(number: int) -> str | None:
    """Try one history. Returns what is wrong, with the history in words; None if nothing is."""
    history = History(number)
    try:
        history.check()
    except Exception as failure:  # noqa: BLE001  (a wrong result, or any error of the core)
        reason = str(failure) if isinstance(failure, Failure) else traceback.format_exc()
        return "\n".join([f"History {number} fails: {reason}", *history.in_words()])
    return None


def faults_in(first: int, count: int) -> list[str]:
    """Try `count` histories from the number `first`. Returns what is wrong with each that fails."""
    return [fault for number in range(first, first + count) if (fault := fault_in(number))]


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="the number of the first history, which is its seed")
    parser.add_argument("--histories", type=int, default=1_000_000, help="how many histories to try")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--file", type=Path, help="where to write the histories that fail, besides printing them")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Try histories, printing a line of progress now and then. Returns 1 if one fails."""
    options = parse_arguments(arguments)
    began, failed, tried = time.monotonic(), list[str](), 0
    starts = range(options.first, options.first + options.histories, BATCH)
    counts = [min(BATCH, options.first + options.histories - start) for start in starts]
    with ProcessPoolExecutor(options.processes) as pool:
        for count, faults in zip(counts, pool.map(faults_in, starts, counts), strict=True):
            tried += count
            failed += faults
            for fault in faults:
                _print(fault)
            if tried % (20 * BATCH) == 0 or tried == options.histories:
                seconds = time.monotonic() - began
                _print(f"{seconds:.0f} s: {tried} histories from {options.first}, {len(failed)} failures")
    if failed and options.file:
        options.file.write_text("\n\n".join(failed) + "\n")
    return 1 if failed else 0


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
