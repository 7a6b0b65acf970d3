"""The turn that reconciles: read one page of OneSpan's list, and commit the page together with the progress.

The scheduler calls it; the table `reconciles` decides whether a run is due. At most one run exists at a time. Any
process may take its next step, so a run whose process died continues at the last committed page.

A listed package that differs from the status store is journaled as a snapshot or queued for a fetch; one that agrees
costs nothing more. The run is done when all folders are read, all fetches are answered, and all answers are digested.
Its `until` then becomes the watermark; the next run begins a day before it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy.engine import Connection

from app.errors import NotPermitted, NotThere, OneSpanError, RefusedByOneSpan, UnderWay, UnsteadyList
from app.onespan import claims
from app.onespan.client import Answer, OneSpan
from app.onespan.list_scan import Item, ListPage, anew, onward, question, read_page
from app.store import fetches, journal, list_state, outages, packages, reconciles
from app.store.db import Database, take_pen
from app.store.journal import Entry
from app.store.reconciles import Progress, TakenRun, Tally
from app.store.request_budget import Budget, next_minute
from app.store.states import Emit, RunKind
from app.types import Clock, iso
from app.work.run_plan import Leg, is_unread, leg_of, next_folder, pass_of, since_of, skip_folder
from app.work.snapshots import ALONE, LIST_LAG, can_be_believed, listed_entry, listed_snapshot, retry_delay

log = structlog.get_logger()

LEASE = timedelta(minutes=10)  # longer than one request with all its retries
OVERLAP = timedelta(days=1)  # how far a window begins before the watermark: the list's dates may mean whole days
SWEEP_INTERVAL = timedelta(days=7)  # between two runs that list all ids, to find what no window shows
WAIT_POLL = timedelta(seconds=1)  # between two checks for open fetches
MAX_REFUSALS = 3  # of a folder other than the first; then the run goes on without it
REFUSAL_ERRORS = (RefusedByOneSpan, NotPermitted, NotThere)
CANNOT_READ = "some changed packages cannot be read"
NOT_DIGESTED = "some snapshots are not digested"
NOT_SHOWN = "OneSpan refuses some folders"
MAX_OVERDUE = 1000  # packages past their due date that one run fetches
CHUNK = 100  # unlisted packages queued for a fetch in one step


class RunLost(Exception):
    """Another process has taken the run over."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A manual run: since when (None: the watermark), whether to import everything, whether to run handlers."""

    since: datetime | None = None
    backfill: bool = False
    fires: bool = False


class Reconcile:
    """Runs reconcile runs, step by step. Any number of processes may take turns; one at a time works."""

    def __init__(
        self,
        database: Database,
        onespan: OneSpan,
        *,
        clock: Clock,
        every: timedelta,
        budget: Budget,
        process: str,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._onespan = onespan
        self._clock = clock
        self._every = every
        self._budget = budget
        self._process = process
        self._wake = wake

    def begin(self, request: Asked, *, by: str | None = None) -> int | None:
        """Start a run on request; `by` is the person. Returns its id.

        Returns None if a run exists already; it then continues at once. Raises `UnderWay` if that run may not do what
        is requested.
        """
        now = self._clock()
        with self._database.write() as connection:
            imports = request.backfill or (request.since is None and _never_imported(connection))
            kind, since = (
                (RunKind.BACKFILL, None)
                if imports
                else (RunKind.RECONCILE, request.since or _window(connection, now=now))
            )
            run = reconciles.begin(
                connection, kind=kind, reason="asked", since=since, fires=request.fires, now=now, by=by
            )
            if run is None and request != Asked():
                raise UnderWay(reconciles.what_it_waits_for(connection))
        if run is None:
            self.hasten()
        else:
            log.info("reconcile.began", run=run, kind=kind, reason="asked")
        return run

    def hasten(self) -> None:
        """Retry at once what waits because of an earlier failure."""
        now = self._clock()
        with self._database.write() as connection:
            reconciles.hasten(connection, now=now)
            fetches.hasten(connection, now=now)

    def turn(self) -> bool:
        """Start a due run, or take the next step of the current one. Returns whether there was work."""
        if not self._onespan.is_connected:
            return False
        now = self._clock()
        with self._database.read() as connection:
            running, reason = reconciles.running(connection), self._why(connection, now)
        if running is None and reason is None:
            return False
        with self._database.write() as connection:
            if reason and reconciles.running(connection) is None:
                self._begin(connection, now=now)
            run = reconciles.take(connection, now=now, lease=LEASE, process=self._process)
        try:
            return run is not None and self._step(run)
        except RunLost:
            return False

    def _why(self, connection: Connection, now: datetime) -> str | None:
        """Return why a run is due; None if none is."""
        last, outage = reconciles.last_began(connection), outages.last_end(connection, now=now)
        if last is None:
            return "first"
        if abs(now - last) >= self._every:  # abs: a wrong clock may have dated the last run in the future
            return "interval"
        return "outage" if outage and outage > last else None

    def _begin(self, connection: Connection, *, now: datetime) -> None:
        take_pen(connection)
        reason = self._why(connection, now)  # again: another process may have started a run meanwhile
        if reason is None:
            return
        kind, since = RunKind.BACKFILL, None
        if not _never_imported(connection):
            last_sweep = reconciles.last_done(connection, RunKind.SWEEP, RunKind.BACKFILL)
            kind = RunKind.RECONCILE if last_sweep and abs(now - last_sweep) < SWEEP_INTERVAL else RunKind.SWEEP
            since = _window(connection, now=now)
        run_id = reconciles.begin(connection, kind=kind, reason=reason, since=since, fires=False, now=now)
        log.info("reconcile.began", run=run_id, kind=kind, reason=reason)

    def _step(self, run: TakenRun) -> bool:
        if leg := leg_of(run):
            return self._request_page(run, leg)
        if run.progress.walked_at is None:
            return self._ask(run)
        return self._close(run)

    def _request_page(self, run: TakenRun, leg: Leg) -> bool:
        """Read the next page of the list, and commit it together with the progress."""
        now, place, since = self._clock(), run.progress.place, since_of(run, leg)
        with self._database.write() as connection:
            if not self._budget.has_room(connection, now=now):
                reconciles.wait(connection, run, until=next_minute(now), error=None)
                return False
            self._budget.spend(connection, now=now)
        try:
            parameters = question(leg.query, place, since=since, now=now, ids_only=leg.ids_only)
            answer = self._onespan.packages(**parameters)
            self._keep(run, leg, answer, read_page(answer.json), since=since)
        except OneSpanError as problem:
            self._put_off(run, leg, problem)
            return False
        self._wake()
        return True

    def _keep(self, run: TakenRun, leg: Leg, answer: Answer, page: ListPage, *, since: datetime | None) -> None:
        here = run.progress
        scan, ids = pass_of(run), {item.reading.id for item in page.items}
        with self._database.write() as connection:
            take_pen(connection)
            passed = list_state.seen_in_passes(connection, ids, until=scan)
            step = onward(here.place, page, passed=passed, since=iso(since) if since else None)
            unheard = _unheard(connection, run, leg, ids)
            entries, to_fetch = self._compare(connection, run, page.items, answer, unheard=unheard)
            journal.add(connection, entries)
            self._enqueue(connection, run, to_fetch, unheard=unheard)
            list_state.note(connection, step.shown, during=scan, at=answer.read_at, key=self._onespan.name)
            did = Tally(1, step.first, len(entries), len(to_fetch), page.unreadable)
            on = replace(here, place=step.to, refused=0) if step.to else next_folder(here, leg, page)
            if step.first or not step.to:  # a page without new packages is no progress
                on = self._stamped(on)
            self._advance(connection, run, on, did=did, at=answer)
        log.info("reconcile.page", run=run.id, leg=here.leg, offset=here.place.offset, shown=page.rows)

    def _compare(
        self, connection: Connection, run: TakenRun, items: Sequence[Item], answer: Answer, *, unheard: set[str]
    ) -> tuple[list[Entry], dict[str, str]]:
        """Return the entries to journal, and the packages to fetch with the reason for each."""
        states = packages.states(connection, [item.reading.id for item in items])
        entries, to_fetch = [], {}
        for item in items:
            state = states.get(item.reading.id, {})
            snapshot = listed_snapshot(item, state)
            if not run.fires and claims.agrees(state, claims.shown_by(snapshot, at=answer.read_at)):
                continue
            if can_be_believed(snapshot, state, answer):
                emit = Emit.ALL if run.fires else Emit.NONE if snapshot.id in unheard else Emit.NEW
                entries.append(listed_entry(answer, item, now=self._clock(), key=self._onespan.name, emit=emit))
            else:
                to_fetch[snapshot.id] = "drift" if state else "unlisted"
        return entries, to_fetch

    def _enqueue(
        self, connection: Connection, run: TakenRun, to_fetch: Mapping[str, str], *, unheard: set[str]
    ) -> None:
        now = self._clock()
        silent = {key: reason for key, reason in to_fetch.items() if key in unheard and not run.fires}
        others = {key: reason for key, reason in to_fetch.items() if key not in silent}
        fetches.want(connection, silent, now=now, rank=fetches.RECONCILING, emit=Emit.NONE)
        fetches.want(connection, others, now=now, rank=fetches.RECONCILING, emit=Emit.ALL if run.fires else Emit.NEW)

    def _ask(self, run: TakenRun) -> bool:
        """Queue stored packages that the list did not show for a fetch: not being listed does not mean deleted."""
        here, now = run.progress, self._clock()
        with self._database.write() as connection:
            since = None if run.kind == RunKind.SWEEP else run.since
            missing = list_state.not_shown(connection, run_id=run.id, since=since, after=here.after, limit=CHUNK)
            wanted = dict.fromkeys(missing, "not listed")
            if not here.after:
                wanted |= dict.fromkeys(list_state.overdue(connection, now=now, limit=MAX_OVERDUE), "overdue")
            fetches.want(connection, wanted, now=now, rank=fetches.RECONCILING)
            done = len(missing) < CHUNK
            to = replace(here, after=missing[-1] if missing else here.after, walked_at=iso(now) if done else None)
            self._advance(connection, run, self._stamped(to), did=Tally(asked=len(wanted)))
        return True

    def _close(self, run: TakenRun) -> bool:
        """Finish the run if all its fetches are answered and digested."""
        now = self._clock()
        with self._database.write() as connection:
            open_fetches = fetches.still_asked(connection, alone=ALONE)
            if open_fetches.waited_for or journal.is_reading_pending(connection):
                self._wait_for(connection, run, open_fetches.waited_for, errors=open_fetches.errors)
                return False
            known = reconciles.watermark(connection, now=now)
            leaves_a_gap = run.since is not None and (known is None or run.since > known)
            until = None if leaves_a_gap else run.until
            left_out = run.progress.left_out
            error = f"{NOT_SHOWN}: {', '.join(left_out)}" if left_out else None
            reconciles.finish(connection, run, now=now, until=until, error=error, unreadable=open_fetches.given_up)
        log.info("reconcile.done", run=run.id, seconds=round((now - run.began_at).total_seconds(), 1))
        return True

    def _wait_for(self, connection: Connection, run: TakenRun, count: int, *, errors: Collection[str | None]) -> None:
        """Wait for open fetches; give the run up when it makes no progress."""
        now, names = self._clock(), ", ".join(sorted(filter(None, errors)))
        error = f"{CANNOT_READ}: {names}" if names else None
        here = run.progress
        if here.waits_for is None or count < here.waits_for:
            here = self._stamped(replace(here, waits_for=count))
        if self._is_stuck(run, here):
            self._give_up(connection, run, error or NOT_DIGESTED)
        else:
            reconciles.wait(connection, run, until=now + WAIT_POLL, error=error, progress=here)

    def _stamped(self, to: Progress) -> Progress:
        return replace(to, moved_at=iso(self._clock()))

    def _is_stuck(self, run: TakenRun, here: Progress) -> bool:
        """Return whether the run made no progress for a whole interval."""
        moved_at = datetime.fromisoformat(here.moved_at) if here.moved_at else run.began_at
        return abs(self._clock() - moved_at) >= self._every

    def _give_up(self, connection: Connection, run: TakenRun, error: str) -> None:
        reconciles.give_up(connection, run, now=self._clock(), error=error)
        log.error("reconcile.failed", run=run.id, error=error)

    def _advance(
        self, connection: Connection, run: TakenRun, to: Progress, *, did: Tally, at: Answer | None = None
    ) -> None:
        """Commit the progress and release the run, so that any process can take the next step."""
        until = run.until or (at.read_at - LIST_LAG if at else None)
        if not reconciles.advance(connection, run, to, did=did, until=until, due_at=self._clock()):
            raise RunLost

    def _put_off(self, run: TakenRun, leg: Leg, problem: OneSpanError) -> None:
        """Retry the page later; an inconsistent list is read again from its beginning."""
        now, progress, attempts = self._clock(), run.progress, run.attempts
        if isinstance(problem, UnsteadyList):
            progress = replace(progress, place=anew(progress.place))
            attempts = progress.place.passes  # pages that were read are not counted as attempts
        delay = retry_delay(attempts, problem)
        if isinstance(problem, REFUSAL_ERRORS):
            progress = replace(progress, refused=progress.refused + 1)
        with self._database.write() as connection:
            if progress.refused >= MAX_REFUSALS and progress.leg > 0:
                log.error("reconcile.folder_refused", run=run.id, leg=progress.leg, error=type(problem).__name__)
                since = run.since or _window(connection, now=now)
                progress = self._stamped(skip_folder(progress, leg, problem.detail or "refused", since=since))
                delay = timedelta(0)  # the other folders do not wait
            if self._is_stuck(run, progress):
                self._give_up(connection, run, str(problem))
                return
            reconciles.put_off(connection, run, until=now + delay, error=str(problem), progress=progress)
        log.warning("reconcile.waits", run=run.id, error=type(problem).__name__, seconds=delay.total_seconds())


def _never_imported(connection: Connection) -> bool:
    return reconciles.last_done(connection, RunKind.BACKFILL) is None


def _unheard(connection: Connection, run: TakenRun, leg: Leg, package_ids: Collection[str]) -> set[str]:
    """Return the packages without callbacks, if the account or this folder is imported the first time: no events."""
    if not is_unread(run, leg) and (run.kind != RunKind.BACKFILL or not _never_imported(connection)):
        return set()
    return set(package_ids) - journal.told_of(connection, package_ids)


def _window(connection: Connection, *, now: datetime) -> datetime | None:
    known = reconciles.watermark(connection, now=now)
    return min(known, now) - OVERLAP if known else None
