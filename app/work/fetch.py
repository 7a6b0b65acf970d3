"""The fetcher, which reads the packages of the fetch queue from OneSpan and journals the answers."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from structlog.contextvars import bound_contextvars

from app.errors import (
    NotPermitted,
    OneSpanError,
    OneSpanNotFound,
    RequestRejected,
    UnreadableAnswer,
    UnreadablePackage,
    UnusableId,
)
from app.onespan.client import Answer, OneSpan
from app.onespan.ids import can_be_requested
from app.onespan.merge import newest_claim_at
from app.onespan.packages import parse_package
from app.onespan.projection import derive
from app.store import fetches, journal, list_state, onespan_clock, outages, packages
from app.store.db import Database, is_row_error, take_write_lock
from app.store.fetches import TakenFetch
from app.store.packages import Cause
from app.store.request_budget import Budget
from app.store.states import JournalKind, OutageKind, UnverifiedReason
from app.types import Clock
from app.work.fetch_failures import delay_after_error, failure_rule, retry_delay
from app.work.snapshots import snapshot_entry, was_read
from app.work.upgrade import current_claims

log = structlog.get_logger()

CANDIDATES = 8  # due packages that one turn considers; it fetches the first that no other process fetches
LEASE = timedelta(minutes=10)  # how long a process holds a fetch: longer than one fetch with all its retries
AGAIN_DELAY = timedelta(seconds=2)  # delay before fetching a package that was queued again during its fetch
OUTAGE_AFTER = timedelta(minutes=1)  # an outage is recorded if OneSpan did not answer for this long


class Fetcher:
    """The fetcher of queued packages. Any number of processes may run it; one at a time fetches a given package.

    A package that is queued again during its fetch is fetched once more. So a snapshot taken before a callback
    neither undoes what the callback reported nor counts as the fetch that the callback requested.
    """

    def __init__(
        self,
        database: Database,
        onespan: OneSpan,
        *,
        clock: Clock,
        budget: Budget,
        process: Callable[[], str],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._budget = budget
        self._database = database
        self._onespan = onespan
        self._clock = clock
        self._process = process
        self._wake = wake
        self._pause_until: datetime | None = None
        self._down_since: datetime | None = None
        self._failed: set[str] = set()  # packages whose fetch failed since the last good answer

    def turn(self) -> bool:
        """Fetch one due package and wake the digest. Returns whether there was work."""
        now = self._clock()
        if not self._onespan.is_connected or (self._pause_until and now < self._pause_until):
            return False
        with self._database.read() as connection:
            has_capacity = self._budget.has_capacity(connection, now=now)
            due = fetches.due(connection, now=now, limit=CANDIDATES, process=self._process())
        for package_id, rank in due:
            if rank == fetches.FOR_RECONCILE and not has_capacity:
                return False
            with self._database.write() as connection:
                taken = fetches.take(connection, package_id, now=now, lease=LEASE, process=self._process())
                if taken:
                    self._budget.spend(connection, now=now)
            if taken:
                try:
                    with bound_contextvars(package_id=package_id):
                        self._fetch(taken)
                except Exception as error:
                    self._give_back(taken, error)
                    raise
                return True
        return False

    def _give_back(self, wanted: TakenFetch, error: Exception) -> None:
        """Give a fetch back whose turn failed. If that fails too, the next turn of this process takes it again."""
        now, name = self._clock(), type(error).__name__
        with suppress(SQLAlchemyError), self._database.write() as connection:
            if is_row_error(error):
                until = now + delay_after_error(wanted.attempt)
                fetches.postpone(connection, wanted, until=until, error=name)
            else:
                fetches.give_back(connection, wanted, now=now)

    def _fetch(self, wanted: TakenFetch) -> None:
        if not can_be_requested(wanted.package_id):
            self._drop(wanted)
            return
        began_at, (after, known) = self._clock(), self._known_before(wanted.package_id)
        try:
            answer = self._onespan.package(wanted.package_id)
            if _id_in(answer) != wanted.package_id:
                raise UnreadableAnswer("it is another package")
        except OneSpanError as problem:
            self._fetch_failed(wanted, problem, began_at=began_at, after=after, known=known)
        else:
            self._keep(wanted, answer, kind=JournalKind.SNAPSHOT, after=after)

    def _drop(self, wanted: TakenFetch) -> None:
        """Settle the fetch of a package whose id cannot be part of a request, and mark the package."""
        now = self._clock()
        reasons = {wanted.package_id: UnverifiedReason.UNUSABLE_ID}
        log.warning("package.not_read", package_id=wanted.package_id, error=UnusableId.__name__)
        with self._database.write() as connection:
            take_write_lock(connection)
            packages.begin_unverified(connection, reasons, cause=Cause("fetch", UnusableId.__name__), now=now)
            fetches.settle(connection, wanted, again_at=now + AGAIN_DELAY)

    def _known_before(self, package_id: str) -> tuple[datetime, bool]:
        """Return the time of the newest snapshot, on OneSpan's clock, and whether these credentials saw the package.

        The time is the beginning of time if there is no snapshot.
        """
        with self._database.read() as connection:
            state = current_claims(connection, [package_id]).get(package_id, {})
            known = was_read(connection, package_id, key=self._onespan.name)
        return datetime.fromisoformat(newest_claim_at(state, "snapshot")), known

    def _keep(self, wanted: TakenFetch, answer: Answer, *, kind: str, after: datetime) -> None:
        """Journal the answer, a snapshot or an absence, and settle the fetch, in one transaction.

        The answer is dated later than `after`, the snapshot that was known before the request: the resolution of the
        `Date` header is a second, and the durations of requests differ.
        """
        now = self._clock()
        key, earliest = self._onespan.name, after + timedelta.resolution
        read_at, answered_at = max(answer.read_at, earliest), max(answer.answered_at, earliest)
        answer = replace(answer, read_at=read_at, answered_at=answered_at)
        entry = snapshot_entry(answer, wanted.package_id, now=now, key=key, kind=kind, emit=wanted.emit)
        entry = replace(entry, lag_fetches=wanted.lag_fetches, lagged_at=wanted.lagged_at)
        with self._database.write() as connection:
            journal.add(connection, [entry])
            fetches.settle(connection, wanted, again_at=now + AGAIN_DELAY)
            self._onespan_answers(connection, now, wanted.package_id)
            list_state.end_refusal(connection, wanted.package_id)
            onespan_clock.record(connection, answer.offset, now=now)
        log.info("package.read", package_id=wanted.package_id, kind=kind)
        self._wake()

    def _onespan_answers(self, connection: Connection, now: datetime, package_id: str) -> None:
        """End the pause, because OneSpan answered.

        Record an outage if it lasted at least `OUTAGE_AFTER`, and several packages had failed or this package had.
        """
        was_down = len(self._failed) > 1 or package_id in self._failed
        if was_down and self._down_since and now - self._down_since >= OUTAGE_AFTER:
            outages.record(connection, OutageKind.UNREACHABLE, began_at=self._down_since, ended_at=now)
        self._pause_until = self._down_since = None
        self._failed.clear()

    def _fetch_failed(
        self, wanted: TakenFetch, problem: OneSpanError, *, began_at: datetime, after: datetime, known: bool
    ) -> None:
        """Retry or settle a fetch that failed. `known` says that the package had been seen before the request.

        What the list shows during the request may be newer than the answer, which then says nothing of a deletion.
        """
        with self._database.read() as connection:
            # No refusal contradicts a deletion that a callback reported.
            is_refused = isinstance(problem, OneSpanNotFound | NotPermitted | RequestRejected)
            is_deleted = is_refused and _is_deleted(connection, wanted.package_id)
        if isinstance(problem, OneSpanNotFound) and problem.answer and known:
            self._keep(wanted, problem.answer, kind=JournalKind.ABSENCE, after=after)
            return
        log.warning("package.not_read", package_id=wanted.package_id, error=type(problem).__name__)
        now, delay = self._clock(), None if is_deleted else self._delay(wanted, problem, known=known)
        with self._database.write() as connection:
            if reason := _unverified_reason(problem, is_given_up=delay is None and not is_deleted):
                take_write_lock(connection)
                cause = Cause("fetch", type(problem).__name__)
                packages.begin_unverified(connection, {wanted.package_id: reason}, cause=cause, now=now)
            if delay is None:
                fetches.settle(connection, wanted, again_at=now + AGAIN_DELAY)
                self._onespan_answers(connection, now, wanted.package_id)
                # The refusal is recorded last, because a reconcile run locks these tables in the same order.
                at = onespan_clock.onespan_time(connection, now)
                list_state.record_refusal(connection, wanted.package_id, at=at)
                return
            fetches.postpone(connection, wanted, until=now + delay, error=type(problem).__name__)
        package_only_from = failure_rule(problem).package_only_from
        if package_only_from is None or wanted.attempt < package_only_from:
            self._pause(wanted.package_id, began_at=began_at, until=now + delay, for_all=package_only_from is None)

    def _pause(self, package_id: str, *, began_at: datetime, until: datetime, for_all: bool) -> None:
        """Pause all fetches if the error concerns all of OneSpan, or if a second package has failed too."""
        self._failed.add(package_id)
        self._down_since = self._down_since or began_at
        if for_all or len(self._failed) > 1:
            self._pause_until = until

    def _delay(self, wanted: TakenFetch, problem: OneSpanError, *, known: bool) -> timedelta | None:
        """Return the delay before the next attempt; None if the package counts as refused.

        A refusal of a package that these credentials have seen may be temporary. A package that these credentials
        have never seen may be too new to be visible.
        """
        rule = failure_rule(problem)
        delays = rule.delays if known else rule.delays_if_unseen
        if delays is None:
            return retry_delay(wanted.attempt, problem)
        return delays[wanted.attempt - 1] if wanted.attempt <= len(delays) else None


def _unverified_reason(problem: OneSpanError, *, is_given_up: bool) -> UnverifiedReason | None:
    """Return why a package cannot be verified after a failed fetch; None if the failure does not say that.

    A package that is not found may be too new, so only the last of several attempts says it.
    """
    if isinstance(problem, NotPermitted | RequestRejected):
        return UnverifiedReason.REFUSED
    return UnverifiedReason.NOT_FOUND if isinstance(problem, OneSpanNotFound) and is_given_up else None


def _is_deleted(connection: Connection, package_id: str) -> bool:
    state = current_claims(connection, [package_id]).get(package_id)
    return state is not None and derive(package_id, state).deleted


def _id_in(answer: Answer) -> str | None:
    try:
        return parse_package(answer.json).id
    except UnreadablePackage:
        return None
