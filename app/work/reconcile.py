"""The turn that asks OneSpan what changed: one page of its list at a time, each committed with where to go on.

APScheduler offers it, the run ledger decides. There is one run at a time in the fleet, and any process may take its
next step, so a run that lost its process goes on at the last committed page. What a page shows that is not as we
believe becomes a snapshot on the same road as all else, or is asked for singly; what agrees costs nothing further.
Only when the whole window is through, all that it made us ask is answered, and all answers are digested, the run is
done, and its `until` becomes the watermark from which the next one goes back a day.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy.engine import Connection

from app.errors import NotPermitted, NotThere, OneSpanError, RefusedByOneSpan, UnderWay, UnsteadyList
from app.onespan import claims
from app.onespan.claims import iso
from app.onespan.client import Answer, OneSpan
from app.onespan.list_scan import Item, ListPage, anew, onward, question, read_page
from app.store import fetches, journal, list_state, outages, packages, reconciles
from app.store.db import Database, take_pen
from app.store.journal import Entry
from app.store.reconciles import BACKFILL, RECONCILE, SWEEP, Progress, TakenRun, Tally
from app.store.request_budget import Budget, next_minute
from app.work.attempt import Clock
from app.work.run_plan import Leg, after, is_new, leg_of, pass_of, since_of, without
from app.work.snapshot_events import ALL, NOTHING
from app.work.snapshots import ALONE, SETTLE, as_shown, can_be_believed, listed, wait_after

log = structlog.get_logger()

LEASE = timedelta(minutes=10)  # longer than one request with all its tries may take
OVERLAP = timedelta(days=1)  # how far a window goes back behind the watermark: the list's dates may mean whole days
SWEEP_EVERY = timedelta(days=7)  # how often all ids are listed, to find what fell out of every window
SOON = timedelta(seconds=1)  # until we look again whether what was asked for has come
STUBBORN = 3  # times a folder is refused us, but for the first, until we go on without it
REFUSALS = (RefusedByOneSpan, NotPermitted, NotThere)
CANNOT_READ = "packages that changed cannot be read now"
NOT_DIGESTED = "what was read is not digested"
NOT_SHOWN = "OneSpan does not show us some folders"
OVERDUE = 1000  # of those that must have expired, at most, in one run
CHUNK = 100  # packages asked for singly in one step


class NotOurs(Exception):
    """Somebody else has taken the run over."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person wants of a run: to go back to `since` rather than to the watermark, to import all, to fire."""

    since: datetime | None = None
    backfill: bool = False
    fires: bool = False


class Reconcile:
    """Asks OneSpan what changed. Any number of processes may offer turns; one at a time does."""

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

    def begin(self, asked: Asked, *, by: str | None = None) -> int | None:
        """Write down that a run begins, because somebody asks. Returns its id.

        None where one is under way, which then waits no longer. Raises `UnderWay` where it is not what was asked for.
        """
        now = self._clock()
        with self._database.write() as connection:
            imports = asked.backfill or (asked.since is None and _never_imported(connection))
            kind, since = (BACKFILL, None) if imports else (RECONCILE, asked.since or _window(connection, now=now))
            run = reconciles.begin(
                connection, kind=kind, reason="asked", since=since, fires=asked.fires, now=now, by=by
            )
            if run is None and asked != Asked():
                raise UnderWay(reconciles.what_it_waits_for(connection))
        if run is None:
            self.hasten()
        else:
            log.info("reconcile.began", run=run, kind=kind, reason="asked")
        return run

    def hasten(self) -> None:
        """Let nothing wait because of what failed before: there may be other settings, or somebody who cannot wait."""
        now = self._clock()
        with self._database.write() as connection:
            reconciles.hasten(connection, now=now)
            fetches.hasten(connection, now=now)

    def turn(self) -> bool:
        """Begin a run that is due, or take the one that is under way a step further. Returns whether there was work."""
        if not self._onespan.is_connected:
            return False
        now = self._clock()
        with self._database.read() as connection:
            under_way, why = reconciles.running(connection), self._why(connection, now)
        if under_way is None and why is None:
            return False
        with self._database.write() as connection:
            if why and reconciles.running(connection) is None:
                self._begin(connection, now=now)
            run = reconciles.take(connection, now=now, lease=LEASE, process=self._process)
        try:
            return run is not None and self._step(run)
        except NotOurs:
            return False

    def _why(self, connection: Connection, now: datetime) -> str | None:
        """Why a run is due; None where none is."""
        last, outage = reconciles.last_began(connection), outages.last_end(connection, now=now)
        if last is None:
            return "first"
        if abs(now - last) >= self._every:  # so far ahead of us was a clock that was wrong
            return "interval"
        return "outage" if outage and outage > last else None

    def _begin(self, connection: Connection, *, now: datetime) -> None:
        take_pen(connection)
        why = self._why(connection, now)  # again: another process may have begun, and even ended, one meanwhile
        if why is None:
            return
        kind, since = BACKFILL, None
        if not _never_imported(connection):
            swept = reconciles.last_done(connection, SWEEP, BACKFILL)
            kind = RECONCILE if swept and abs(now - swept) < SWEEP_EVERY else SWEEP
            since = _window(connection, now=now)
        run_id = reconciles.begin(connection, kind=kind, reason=why, since=since, fires=False, now=now)
        log.info("reconcile.began", run=run_id, kind=kind, reason=why)

    def _step(self, run: TakenRun) -> bool:
        if leg := leg_of(run):
            return self._walk(run, leg)
        if run.progress.walked_at is None:
            return self._ask(run)
        return self._close(run)

    def _walk(self, run: TakenRun, leg: Leg) -> bool:
        """Ask for the next page, and commit what it shows together with where to go on."""
        now, place, since = self._clock(), run.progress.place, since_of(run, leg)
        with self._database.write() as connection:
            if not self._budget.has_room(connection, now=now):
                reconciles.wait(connection, run, until=next_minute(now), error=None)
                return False
            self._budget.spend(connection, now=now)
        try:
            asked = question(leg.folder, place, since=since, now=now, ids_only=leg.ids_only)
            answer = self._onespan.packages(**asked)
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
            entries, wanted = self._news(connection, run, page.items, answer, unheard=unheard)
            journal.add(connection, entries)
            self._want(connection, run, wanted, unheard=unheard)
            list_state.note(connection, step.shown, during=scan, at=answer.read_at, key=self._onespan.name)
            did = Tally(1, step.first, len(entries), len(wanted), page.unreadable)
            on = replace(here, place=step.to, refused=0) if step.to else after(here, leg, page)
            if step.first or not step.to:  # to see the same packages again is not to come further
                on = self._moved(on)
            self._advance(connection, run, on, did=did, at=answer)
        log.info("reconcile.page", run=run.id, leg=here.leg, offset=here.place.offset, shown=page.rows)

    def _news(
        self, connection: Connection, run: TakenRun, items: Sequence[Item], answer: Answer, *, unheard: set[str]
    ) -> tuple[list[Entry], dict[str, str]]:
        """What of a page is not as we believe: as snapshots, and what has to be asked for singly, each for a reason."""
        states = packages.states(connection, [item.reading.id for item in items])
        entries, wanted = [], {}
        for item in items:
            state = states.get(item.reading.id, {})
            reading = as_shown(item, state)
            if not run.fires and claims.agrees(state, claims.shown_by(reading, at=answer.read_at)):
                continue
            if can_be_believed(reading, state, answer):
                tells = ALL if run.fires else NOTHING if reading.id in unheard else None
                entries.append(listed(answer, item, now=self._clock(), key=self._onespan.name, tells=tells))
            else:
                wanted[reading.id] = "drift" if state else "unlisted"
        return entries, wanted

    def _want(self, connection: Connection, run: TakenRun, wanted: Mapping[str, str], *, unheard: set[str]) -> None:
        now, silent = self._clock(), {one: why for one, why in wanted.items() if one in unheard and not run.fires}
        others = {one: why for one, why in wanted.items() if one not in silent}
        fetches.want(connection, silent, now=now, rank=fetches.RECONCILING, tells=NOTHING)
        fetches.want(connection, others, now=now, rank=fetches.RECONCILING, tells=ALL if run.fires else None)

    def _ask(self, run: TakenRun) -> bool:
        """Ask for packages that we hold and the list did not show: one by one, for not to be listed is no deletion."""
        here, now = run.progress, self._clock()
        with self._database.write() as connection:
            since = None if run.kind == SWEEP else run.since
            missing = list_state.not_shown(connection, run_id=run.id, since=since, after=here.after, limit=CHUNK)
            wanted = dict.fromkeys(missing, "not listed")
            if not here.after:
                wanted |= dict.fromkeys(list_state.overdue(connection, now=now, limit=OVERDUE), "overdue")
            fetches.want(connection, wanted, now=now, rank=fetches.RECONCILING)
            done = len(missing) < CHUNK
            to = replace(here, after=missing[-1] if missing else here.after, walked_at=iso(now) if done else None)
            self._advance(connection, run, self._moved(to), did=Tally(asked=len(wanted)))
        return True

    def _close(self, run: TakenRun) -> bool:
        """End the run once all that it asked for is answered, and digested."""
        now = self._clock()
        with self._database.write() as connection:
            asked = fetches.still_asked(connection, alone=ALONE)
            if asked.waited_for or journal.is_reading_pending(connection):
                self._wait_for(connection, run, asked)
                return False
            known = reconciles.watermark(connection, now=now)
            leaves_a_gap = run.since is not None and (known is None or run.since > known)
            until = None if leaves_a_gap else run.until
            left_out = run.progress.left_out
            error = f"{NOT_SHOWN}: {', '.join(left_out)}" if left_out else None
            reconciles.finish(connection, run, now=now, until=until, error=error, unreadable=asked.given_up)
        log.info("reconcile.done", run=run.id, seconds=round((now - run.began_at).total_seconds(), 1))
        return True

    def _wait_for(self, connection: Connection, run: TakenRun, asked: fetches.Asked) -> None:
        """Until what was asked for singly is read; for ever it is not waited for."""
        now, errors = self._clock(), ", ".join(sorted(filter(None, asked.errors)))
        error = f"{CANNOT_READ}: {errors}" if errors else None
        here = run.progress
        if here.waits_for is None or asked.waited_for < here.waits_for:
            here = self._moved(replace(here, waits_for=asked.waited_for))
        if self._is_stuck(run, here):
            self._give_up(connection, run, error or NOT_DIGESTED)
        else:
            reconciles.wait(connection, run, until=now + SOON, error=error, progress=here)

    def _moved(self, to: Progress) -> Progress:
        return replace(to, moved_at=iso(self._clock()))

    def _is_stuck(self, run: TakenRun, here: Progress) -> bool:
        """Whether it has not come further for as long as it takes until another one is due."""
        moved_at = datetime.fromisoformat(here.moved_at) if here.moved_at else run.began_at
        return abs(self._clock() - moved_at) >= self._every

    def _give_up(self, connection: Connection, run: TakenRun, error: str) -> None:
        reconciles.give_up(connection, run, now=self._clock(), error=error)
        log.error("reconcile.failed", run=run.id, error=error)

    def _advance(
        self, connection: Connection, run: TakenRun, to: Progress, *, did: Tally, at: Answer | None = None
    ) -> None:
        """Commit how far it has come, and let go of it: whoever looks next takes the next step."""
        until = run.until or (at.read_at - SETTLE if at else None)
        if not reconciles.advance(connection, run, to, did=did, until=until, due_at=self._clock()):
            raise NotOurs

    def _put_off(self, run: TakenRun, leg: Leg, problem: OneSpanError) -> None:
        """Come back later, to where we were; to a list that did not add up from its beginning."""
        now, progress, attempts = self._clock(), run.progress, run.attempts
        if isinstance(problem, UnsteadyList):
            progress = replace(progress, place=anew(progress.place))
            attempts = progress.place.passes  # pages that came count no attempts
        wait = wait_after(attempts, problem)
        if isinstance(problem, REFUSALS):
            progress = replace(progress, refused=progress.refused + 1)
        with self._database.write() as connection:
            if progress.refused >= STUBBORN and progress.leg > 0:
                log.error("reconcile.folder_refused", run=run.id, leg=progress.leg, error=type(problem).__name__)
                since = run.since or _window(connection, now=now)
                progress = self._moved(without(progress, leg, problem.detail or "refused", since=since))
                wait = timedelta(0)  # the others are not held up by one folder
            if self._is_stuck(run, progress):
                self._give_up(connection, run, str(problem))
                return
            reconciles.put_off(connection, run, until=now + wait, error=str(problem), progress=progress)
        log.warning("reconcile.waits", run=run.id, error=type(problem).__name__, seconds=wait.total_seconds())


def _never_imported(connection: Connection) -> bool:
    return reconciles.last_done(connection, BACKFILL) is None


def _unheard(connection: Connection, run: TakenRun, leg: Leg, package_ids: Collection[str]) -> set[str]:
    """Of whom nobody told us before the first import of the account, or of this folder: of these it tells nothing."""
    if not is_new(run, leg) and (run.kind != BACKFILL or not _never_imported(connection)):
        return set()
    return set(package_ids) - journal.told_of(connection, package_ids)


def _window(connection: Connection, *, now: datetime) -> datetime | None:
    known = reconciles.watermark(connection, now=now)
    return min(known, now) - OVERLAP if known else None
