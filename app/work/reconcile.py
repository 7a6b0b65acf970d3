"""The reconciler, which reads OneSpan's list page by page and commits each page together with its progress.

The scheduler wakes the reconciler; the table `reconciles` decides whether a run is due. At most one run exists at a
time. Any process may take the next step of the run, so a run whose process died continues at the last committed page.

A listed package that differs from the status store is journaled as a snapshot or queued for a fetch; a package that
agrees costs nothing more. The run is done when all folders are read, all fetches are answered, and all answers are
digested. The run's `until` then becomes the watermark, and the window of the next run begins a day before the
watermark.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from app.errors import InconsistentList, NotPermitted, OneSpanError, OneSpanNotFound, ReconcileRunning, RequestRejected
from app.onespan.client import Answer, OneSpan
from app.onespan.fetch_rules import is_missing
from app.onespan.list_scan import ListItem, ListPage, list_query, next_step, parse_page, restart
from app.store import fetches, journal, list_state, onespan_clock, outages, packages, reconciles
from app.store.db import Database, is_row_error, take_write_lock
from app.store.journal import Entry
from app.store.packages import Cause
from app.store.reconciles import Progress, RunCounts, TakenRun
from app.store.request_budget import Budget, next_minute
from app.store.states import Emit, RunKind, UnverifiedReason
from app.types import Clock, iso
from app.work.fetch_failures import PACKAGE_ONLY_FROM, delay_after_error, retry_delay
from app.work.run_plan import Folder, current_folder, is_unread, next_folder, pass_of, since_of, skip_folder
from app.work.snapshots import LIST_LAG, is_conclusive, is_known, listed_entry, listed_snapshot
from app.work.upgrade import current_claims

log = structlog.get_logger()

LEASE = timedelta(minutes=10)  # how long a process holds a step: longer than one request with all its retries
OVERLAP = timedelta(days=1)  # how far a window begins before the watermark: the list's dates may mean whole days
SWEEP_INTERVAL = timedelta(days=7)  # time between two sweeps, which list all ids to find what no window shows
UNREADABLE_FOR = timedelta(days=30)  # how far back a folder with unreadable rows is read again: a row may stay so
WAIT_POLL = timedelta(seconds=1)  # time between two checks for open fetches
MAX_REFUSALS = 3  # refusals after which a run leaves out a folder; it never leaves out the first folder
REFUSAL_ERRORS = (RequestRejected, NotPermitted, OneSpanNotFound)
CANNOT_READ = "some changed packages cannot be read"
NOT_DIGESTED = "some snapshots are not digested"
NOT_SHOWN = "OneSpan refuses some folders"
MAX_OVERDUE = 1000  # packages past their due date that one run fetches
CHUNK = 100  # unlisted packages queued for a fetch in one step


class RunLost(Exception):
    """Another process has taken over the reconcile run."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A request for a manual run.

    `since` is the beginning of the window (None: a day before the watermark). `backfill` imports all packages. `fires`
    runs handlers.
    """

    since: datetime | None = None
    backfill: bool = False
    fires: bool = False


class Reconciler:
    """The reconciler, which performs runs step by step. Any number of processes may take steps, one at a time."""

    def __init__(
        self,
        database: Database,
        onespan: OneSpan,
        *,
        clock: Clock,
        every: timedelta,
        budget: Budget,
        process: Callable[[], str],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._onespan = onespan
        self._clock = clock
        self._every = every
        self._budget = budget
        self._process = process
        self._wake = wake

    def begin(self, request: RunRequest, *, by: str | None = None) -> int | None:
        """Start a run that the person `by` requests. Returns the run's id.

        If a run exists already, that run continues at once, and None is returned. Raises `ReconcileRunning` if the
        existing run may not do what is requested.
        """
        now = self._clock()
        with self._database.write() as connection:
            imports = request.backfill or (request.since is None and _never_imported(connection))
            kind, since = (
                (RunKind.BACKFILL, None)
                if imports
                else (RunKind.RECONCILE, request.since or window_start(connection, now=now))
            )
            run = reconciles.begin(
                connection, kind=kind, reason="asked", since=since, fires=request.fires, now=now, by=by
            )
            if run is None and request != RunRequest():
                raise ReconcileRunning(reconciles.waiting_reason(connection))
        if run is None:
            self.expedite()
        else:
            log.info("reconcile.began", run=run, kind=kind, reason="asked")
        return run

    def expedite(self) -> None:
        """Retry at once the requests that wait because of an earlier failure."""
        now = self._clock()
        with self._database.write() as connection:
            reconciles.expedite(connection, now=now)
            fetches.expedite(connection, now=now)

    def turn(self) -> bool:
        """Start a due run, or take the next step of the current run. Returns whether there was work."""
        if not self._onespan.is_connected:
            return False
        now = self._clock()
        with self._database.read() as connection:
            running, reason = reconciles.running(connection), self._due_reason(connection, now)
        if running is None and reason is None:
            return False
        with self._database.write() as connection:
            if reason and reconciles.running(connection) is None:
                self._begin(connection, now=now)
            run = reconciles.take(connection, now=now, lease=LEASE, process=self._process())
        try:
            return run is not None and self._step(run)
        except RunLost:
            return False
        except Exception as error:
            assert run
            self._give_back(run, error)
            raise

    def _give_back(self, run: TakenRun, error: Exception) -> None:
        """Let any process go on after a failed step. If that fails too, the next turn takes this process's run again.

        A fault of the database is no failed attempt. After an error of this service itself the delay grows.
        """
        now = self._clock()
        with suppress(SQLAlchemyError), self._database.write() as connection:
            if is_row_error(error):
                until = now + delay_after_error(run.attempts)
                reconciles.postpone(connection, run, until=until, error=type(error).__name__, progress=run.progress)
            else:
                reconciles.pause(connection, run, until=now, error=None)

    def _due_reason(self, connection: Connection, now: datetime) -> str | None:
        """Return why a run is due; None if no run is due."""
        last, outage = reconciles.last_began(connection), outages.last_end(connection, now=now)
        if last is None:
            return "first"
        if abs(now - last) >= self._every:  # abs: a wrong clock may have dated the last run in the future
            return "interval"
        return "outage" if outage and outage > last else None

    def _begin(self, connection: Connection, *, now: datetime) -> None:
        take_write_lock(connection)
        reason = self._due_reason(connection, now)  # checked again: another process may have started a run meanwhile
        if reason is None:
            return
        kind, since = RunKind.BACKFILL, None
        if not _never_imported(connection):
            last_sweep = reconciles.last_done_began_at(connection, RunKind.SWEEP, RunKind.BACKFILL)
            kind = RunKind.RECONCILE if last_sweep and abs(now - last_sweep) < SWEEP_INTERVAL else RunKind.SWEEP
            since = window_start(connection, now=now)
        run_id = reconciles.begin(connection, kind=kind, reason=reason, since=since, fires=False, now=now)
        log.info("reconcile.began", run=run_id, kind=kind, reason=reason)

    def _step(self, run: TakenRun) -> bool:
        if folder := current_folder(run):
            return self._request_page(run, folder)
        if run.progress.queued_at is None:
            return self._enqueue_unlisted(run)
        return self._close(run)

    def _request_page(self, run: TakenRun, folder: Folder) -> bool:
        """Read the next page of OneSpan's list, and commit the page together with the progress."""
        now, place, since = self._clock(), run.progress.place, since_of(run, folder)
        with self._database.write() as connection:
            if not self._budget.has_capacity(connection, now=now):
                reconciles.pause(connection, run, until=next_minute(now), error=None)
                return False
            self._budget.spend(connection, now=now)
        try:
            parameters = list_query(folder.query, place, since=since, now=now, ids_only=folder.ids_only)
            answer = self._onespan.packages(**parameters)
            self._keep(run, folder, answer, parse_page(answer.json), since=since)
        except OneSpanError as problem:
            self._put_off(run, folder, problem)
            return False
        self._wake()
        return True

    def _keep(self, run: TakenRun, folder: Folder, answer: Answer, page: ListPage, *, since: datetime | None) -> None:
        progress = replace(run.progress, unreadable=run.progress.unreadable + page.unreadable)
        scan, ids = pass_of(run), {item.snapshot.id for item in page.items}
        with self._database.write() as connection:
            take_write_lock(connection)
            passed = list_state.seen_in_passes(connection, ids, until=scan)
            step = next_step(progress.place, page, passed=passed, since=iso(since) if since else None)
            unheard = _unheard(connection, run, folder, ids)
            entries, to_fetch = self._compare(connection, run, page.items, answer, unheard=unheard)
            if folder.ids_only:  # an id alone verifies nothing
                to_fetch |= dict.fromkeys(packages.unverified(connection, ids), "not verified")
            else:
                shown = dict.fromkeys(ids - to_fetch.keys(), Cause("reconcile", run.id))
                packages.end_unverified(connection, shown, now=self._clock())
            journal.add(connection, entries)
            self._enqueue(connection, run, to_fetch, unheard=unheard)
            list_state.record_page(connection, step.seen, during=scan, at=answer.read_at, key=self._onespan.name)
            did = RunCounts(1, step.new, len(entries), len(to_fetch), page.unreadable)
            on = (
                replace(progress, place=step.next_state, refused=0)
                if step.next_state
                else next_folder(progress, folder, page, since=_read_again_from(since, at=answer.read_at))
            )
            if step.new or not step.next_state:  # a page without new packages is no progress
                on = self._stamped(on)
            self._advance(connection, run, on, did=did, at=answer)
            onespan_clock.record(connection, answer.offset, now=self._clock())
        log.info(
            "reconcile.page", run=run.id, folder=progress.folder_number, offset=progress.place.offset, shown=page.rows
        )

    def _compare(
        self, connection: Connection, run: TakenRun, items: Sequence[ListItem], answer: Answer, *, unheard: set[str]
    ) -> tuple[list[Entry], dict[str, str]]:
        """Return the entries to journal, and the packages to fetch with the reason for each."""
        ids = [item.snapshot.id for item in items]
        states, times = current_claims(connection, ids), list_state.times(connection, ids)
        entries, to_fetch = [], {}
        for item in items:
            state = states.get(item.snapshot.id, {})
            snapshot = listed_snapshot(item, state)
            listed_at = times.get(snapshot.id, list_state.ListTimes()).seen_at
            if not run.fires and is_known(snapshot, state, at=answer.read_at, listed_at=listed_at):
                continue
            if is_conclusive(snapshot, state, answer):
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
        fetches.enqueue(connection, silent, now=now, rank=fetches.FOR_RECONCILE, emit=Emit.NONE)
        fetches.enqueue(
            connection, others, now=now, rank=fetches.FOR_RECONCILE, emit=Emit.ALL if run.fires else Emit.NEW
        )

    def _enqueue_unlisted(self, run: TakenRun) -> bool:
        """Queue a fetch of each stored package that the list did not show, because the package may still exist."""
        progress, now = run.progress, self._clock()
        with self._database.write() as connection:
            since = None if run.kind == RunKind.SWEEP else run.since
            missing = list_state.unlisted(connection, run_id=run.id, since=since, after=progress.after, limit=CHUNK)
            states = current_claims(connection, missing)
            in_doubt = [key for key in missing if is_missing(states.get(key, {}), since=since)]
            wanted = dict.fromkeys(in_doubt, "not listed")
            if not progress.after:
                at = onespan_clock.onespan_time(connection, now)
                wanted |= dict.fromkeys(list_state.overdue(connection, now=at, limit=MAX_OVERDUE), "overdue")
            fetches.enqueue(connection, wanted, now=now, rank=fetches.FOR_RECONCILE)
            done = len(missing) < CHUNK
            to = replace(
                progress, after=missing[-1] if missing else progress.after, queued_at=iso(now) if done else None
            )
            self._advance(connection, run, self._stamped(to), did=RunCounts(asked=len(wanted)))
        return True

    def _close(self, run: TakenRun) -> bool:
        """Finish the run if all its fetches are answered and the answers are digested."""
        now = self._clock()
        with self._database.write() as connection:
            open_fetches = fetches.requested_by_reconcile(connection, alone=PACKAGE_ONLY_FROM)
            if open_fetches.waited_for or journal.is_snapshot_pending(connection):
                self._wait_for(connection, run, open_fetches.waited_for, errors=open_fetches.errors)
                return False
            take_write_lock(connection)
            never_shown = dict.fromkeys(packages.never_read(connection), UnverifiedReason.NOT_SHOWN)
            packages.begin_unverified(connection, never_shown, cause=Cause("reconcile", run.id), now=now)
            known = reconciles.watermark(connection, now=onespan_clock.onespan_time(connection, now))
            leaves_a_gap = run.since is not None and (known is None or run.since > known)
            until = None if leaves_a_gap else run.until
            skipped = run.progress.skipped
            error = f"{NOT_SHOWN}: {', '.join(skipped)}" if skipped else None
            reconciles.finish(connection, run, now=now, until=until, error=error, unreadable=open_fetches.given_up)
        log.info("reconcile.done", run=run.id, seconds=round((now - run.began_at).total_seconds(), 1))
        return True

    def _wait_for(self, connection: Connection, run: TakenRun, count: int, *, errors: Collection[str | None]) -> None:
        """Wait for open fetches; give up a run that makes no progress."""
        now, names = self._clock(), ", ".join(sorted(filter(None, errors)))
        error = f"{CANNOT_READ}: {names}" if names else None
        progress = run.progress
        if progress.open_fetches is None or count < progress.open_fetches:
            progress = self._stamped(replace(progress, open_fetches=count))
        if self._is_stuck(run, progress):
            self._give_up(connection, run, error or NOT_DIGESTED)
        else:
            reconciles.pause(connection, run, until=now + WAIT_POLL, error=error, progress=progress)

    def _stamped(self, to: Progress) -> Progress:
        return replace(to, progress_at=iso(self._clock()))

    def _is_stuck(self, run: TakenRun, progress: Progress) -> bool:
        """Return whether the run made no progress for as long as the time between two runs."""
        progress_at = datetime.fromisoformat(progress.progress_at) if progress.progress_at else run.began_at
        return abs(self._clock() - progress_at) >= self._every

    def _give_up(self, connection: Connection, run: TakenRun, error: str) -> None:
        reconciles.fail(connection, run, now=self._clock(), error=error)
        log.error("reconcile.failed", run=run.id, error=error)

    def _advance(
        self, connection: Connection, run: TakenRun, to: Progress, *, did: RunCounts, at: Answer | None = None
    ) -> None:
        """Commit the progress and release the run, so that any process can take the next step."""
        until = run.until or (at.read_at - LIST_LAG if at else None)
        if not reconciles.advance(connection, run, to, did=did, until=until, due_at=self._clock()):
            raise RunLost

    def _put_off(self, run: TakenRun, folder: Folder, problem: OneSpanError) -> None:
        """Retry the page later; an inconsistent list is read again from its beginning."""
        now, progress, attempts = self._clock(), run.progress, run.attempts
        if isinstance(problem, InconsistentList):
            progress = replace(progress, place=restart(progress.place))
            attempts = (
                progress.place.passes
            )  # each page that is read resets the attempts, so the passes decide the delay
        delay = retry_delay(attempts, problem)
        if isinstance(problem, REFUSAL_ERRORS):
            progress = replace(progress, refused=progress.refused + 1)
        with self._database.write() as connection:
            if progress.refused >= MAX_REFUSALS and progress.folder_number > 0:
                log.error(
                    "reconcile.folder_refused", run=run.id, folder=progress.folder_number, error=type(problem).__name__
                )
                since = run.since or window_start(connection, now=now)
                progress = self._stamped(skip_folder(progress, folder, problem.detail or "refused", since=since))
                delay = timedelta(0)  # the next folder is read at once
            if self._is_stuck(run, progress):
                self._give_up(connection, run, str(problem))
                return
            reconciles.postpone(connection, run, until=now + delay, error=str(problem), progress=progress)
        log.warning("reconcile.waits", run=run.id, error=type(problem).__name__, seconds=delay.total_seconds())


def _read_again_from(since: datetime | None, *, at: datetime) -> datetime:
    """Return from when on to read a folder again that was read `since` a time and had unreadable rows."""
    earliest = at - UNREADABLE_FOR
    return max(since, earliest) if since else earliest


def _never_imported(connection: Connection) -> bool:
    return reconciles.last_done_began_at(connection, RunKind.BACKFILL) is None


def _unheard(connection: Connection, run: TakenRun, folder: Folder, package_ids: Collection[str]) -> set[str]:
    """Return the ids of packages without callbacks, if the run imports the account or the folder for the first time.

    In other runs, the set is empty. Unless `run.fires` is set, the snapshots of these packages are journaled with
    `Emit.NONE`.
    """
    if not is_unread(run, folder) and (run.kind != RunKind.BACKFILL or not _never_imported(connection)):
        return set()
    return set(package_ids) - journal.packages_with_callbacks(connection, package_ids)


def window_start(connection: Connection, *, now: datetime) -> datetime | None:
    """Return the start of the next run's window; None if the run reads all packages."""
    at = onespan_clock.onespan_time(connection, now)
    known = reconciles.watermark(connection, now=at)
    return min(known, at) - OVERLAP if known else None
