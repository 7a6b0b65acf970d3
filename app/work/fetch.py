"""The turn that reads packages that surprised us, one after another, and writes down what OneSpan showed."""

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from sqlalchemy.engine import Connection

from app.errors import NotThere, OneSpanError, UnreadableAnswer, UnreadablePackage
from app.onespan.client import Answer, OneSpan
from app.onespan.packages import read_package
from app.onespan.projection import derive
from app.store import fetches, journal, list_state, outages, packages
from app.store.db import Database
from app.store.fetches import Wanted
from app.store.request_budget import Budget
from app.types import Clock
from app.work.snapshots import entry, meaning_of, wait_after, was_read

log = structlog.get_logger()

LOOK = 8  # packages that are looked at in one turn; the first that nobody else has is read
LEASE = timedelta(minutes=10)  # longer than a read with all its tries may take
SOON = timedelta(seconds=2)  # until a package is read again that was wanted anew meanwhile
UNREACHABLE = timedelta(minutes=1)  # from when on it is an outage that OneSpan does not answer


class Refresh:
    """Asks OneSpan for the packages that are wanted. Any number of processes may; of each package one at a time does.

    A read that began before its package was wanted anew is not the last: it is read again. So no callback is undone
    by a reading that had not seen it, and none that it surprised us with is left unexplained.
    """

    def __init__(
        self,
        database: Database,
        onespan: OneSpan,
        *,
        clock: Clock,
        budget: Budget,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._budget = budget
        self._database = database
        self._onespan = onespan
        self._clock = clock
        self._wake = wake
        self._pause_until: datetime | None = None
        self._down_since: datetime | None = None
        self._failed: set[str] = set()  # since the last good answer

    def turn(self) -> bool:
        """Read one package that is due, and wake the digest. Returns whether there was work."""
        now = self._clock()
        if not self._onespan.is_connected or (self._pause_until and now < self._pause_until):
            return False
        with self._database.read() as connection:
            has_room = self._budget.has_room(connection, now=now)
            due = fetches.due(connection, now=now, limit=LOOK)
        for package_id, rank in due:
            if rank == fetches.RECONCILING and not has_room:
                return False
            with self._database.write() as connection:
                taken = fetches.take(connection, package_id, now=now, lease=LEASE)
                if taken:
                    self._budget.spend(connection, now=now)
            if taken:
                self._read(taken)
                return True
        return False

    def _read(self, wanted: Wanted) -> None:
        began_at = self._clock()
        try:
            answer = self._onespan.package(wanted.package_id)
            if _id_in(answer) != wanted.package_id:
                raise UnreadableAnswer("it is not that package")
        except OneSpanError as problem:
            self._not_read(wanted, problem, began_at=began_at)
        else:
            self._keep(wanted, answer, kind="snapshot")

    def _keep(self, wanted: Wanted, answer: Answer, *, kind: str) -> None:
        """Journal what was shown, and note that it was read, in one transaction."""
        now = self._clock()
        key = self._onespan.name
        shown = entry(answer, wanted.package_id, now=now, key=key, kind=kind, tells=wanted.tells)
        with self._database.write() as connection:
            journal.add(connection, [shown])
            fetches.settle(connection, wanted, again_at=now + SOON)
            self._answers_again(connection, now, wanted.package_id)
        log.info("package.read", package_id=wanted.package_id, kind=kind)
        self._wake()

    def _answers_again(self, connection: Connection, now: datetime, package_id: str) -> None:
        """OneSpan answers; where it had not for a while, that was an outage, but not if it was one package alone."""
        was_down = len(self._failed) > 1 or package_id in self._failed
        if was_down and self._down_since and now - self._down_since >= UNREACHABLE:
            outages.note(connection, outages.UNREACHABLE, began_at=self._down_since, ended_at=now)
        self._pause_until = self._down_since = None
        self._failed.clear()

    def _not_read(self, wanted: Wanted, problem: OneSpanError, *, began_at: datetime) -> None:
        with self._database.read() as connection:
            known = was_read(connection, wanted.package_id, key=self._onespan.name)
            gone = isinstance(problem, NotThere) and _was_told_deleted(connection, wanted.package_id)
        if isinstance(problem, NotThere) and problem.answer and known:
            self._keep(wanted, problem.answer, kind="absence")
            return
        log.warning("package.not_read", package_id=wanted.package_id, error=type(problem).__name__)
        now, wait = self._clock(), None if gone else self._wait(wanted, problem, known=known)
        with self._database.write() as connection:
            if wait is None:
                fetches.settle(connection, wanted, again_at=now + SOON)
                self._answers_again(connection, now, wanted.package_id)
                list_state.refused(connection, wanted.package_id, now=now)  # after: a reconcile locks in this order
                return
            fetches.put_off(connection, wanted, until=now + wait, error=type(problem).__name__)
        alone = meaning_of(problem).alone
        if alone is None or wanted.attempt < alone:
            self._fails(wanted.package_id, began_at=began_at, until=now + wait, for_all=alone is None)

    def _fails(self, package_id: str, *, began_at: datetime, until: datetime, for_all: bool) -> None:
        """It may be all of OneSpan, or this package alone: nobody else waits until a second one fails, too."""
        self._failed.add(package_id)
        self._down_since = self._down_since or began_at
        if for_all or len(self._failed) > 1:
            self._pause_until = until

    def _wait(self, wanted: Wanted, problem: OneSpanError, *, known: bool) -> timedelta | None:
        """How long to wait until it is tried again; None where it is believed that it is not for us.

        Who denies us what these very credentials have seen may do so by mistake, and for a while only; what they
        never saw may be so new that it is not there yet.
        """
        meaning = meaning_of(problem)
        waits = meaning.waits if known else meaning.unseen
        if waits is None:
            return wait_after(wanted.attempt, problem)
        return waits[wanted.attempt - 1] if wanted.attempt <= len(waits) else None


def _was_told_deleted(connection: Connection, package_id: str) -> bool:
    state = packages.states(connection, [package_id]).get(package_id)
    return state is not None and derive(package_id, state).deleted


def _id_in(answer: Answer) -> str | None:
    try:
        return read_package(answer.json).id
    except UnreadablePackage:
        return None
