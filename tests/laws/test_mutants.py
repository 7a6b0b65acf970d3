"""Mutants: variants of the service with one mistake each, which earlier drafts or other receivers have had.

Each check is a short scenario that the real service passes. Each mutant must fail the check that is listed with it,
which proves that the check detects the mistake.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from random import Random
from typing import Any

import pytest
from sqlalchemy import select, update

from app import EXTENSION, Service, create_app
from app.errors import NotPermitted, OneSpanNotFound
from app.onespan import claims, confirmation, list_scan, merge
from app.onespan.client import Answer, OneSpan
from app.onespan.clock import OffsetRange
from app.simulator.account import Account
from app.simulator.faults import Faults
from app.simulator.population import populated
from app.simulator.quirks import Quirks
from app.store import dispatches, fetches, journal, queries, reconciles
from app.store.db import take_write_lock
from app.store.journal import Entry
from app.store.models import Dispatch, Fetch
from app.work import batch, fetch, reconcile, run_plan
from app.work.batch import Batch
from app.work.digest import Digest
from app.work.reconcile import Reconciler, RunRequest
from tests.conftest import HOUR, on_sqlite
from tests.support.simulation import MINUTE, ChangedAnswer, Simulation, with_onespan

DAY = timedelta(days=1)
Patch = pytest.MonkeyPatch


class Crash(BaseException):
    """The simulated death of a process."""


class Harness:
    """A simulation that can start more processes of the service on its database."""

    def __init__(self, simulation: Simulation, start_process: Callable[[], Service], post: Callable[..., Any]) -> None:
        self.simulation, self.start_process, self.clock = simulation, start_process, simulation.clock
        self.service, self.handlers, self.post = simulation.service, simulation.handlers, post

    def send_callback(self, name: str, minute: int, **more: Any) -> None:
        """Post a callback about the package `p`, dated `minute` minutes after noon."""
        at = f"2026-03-02T12:{minute:02}:00.000Z"
        assert self.post({"name": name, "packageId": "p", "createdDate": at, **more}).status_code == 200

    def status(self, package_id: str = "p") -> str | None:
        """Finish all work, then return the status of a package in the status store."""
        self.simulation.settle()
        stored = self.simulation.stored_package(package_id)
        return stored.status if stored else None

    def import_packages(self, number: int, *, quirks: Quirks | None = None, faults: Faults | None = None) -> Account:
        """Create an account with `number` finished packages, and import all packages."""
        packages = populated(1, number, now=self.clock.now - 40 * DAY).packages()
        account = Account(1, packages=0, **({"quirks": quirks} if quirks else {})).load(packages)
        self.simulation.connect(account, faults)
        self.simulation.reconcile()
        self.clock.forward(MINUTE)
        return account

    def completed(self) -> list[str]:
        """The ids of completed packages, which can be archived."""
        return [
            package.id
            for package in self.simulation.account.packages()
            if package.status == "COMPLETED" and not package.trashed
        ]


pytestmark = [on_sqlite, pytest.mark.all]  # no mutant depends on the kind of database


@pytest.fixture
def settings(settings):
    """Settings with the address of the simulated OneSpan."""
    return with_onespan(settings)


@pytest.fixture
def harness(service, post, handlers, clock, settings) -> Iterator[Harness]:
    """The simulation that the checks use."""
    made: list[Service] = []

    def start_process() -> Service:
        made.append(create_app(settings, handlers=handlers, clock=clock).extensions[EXTENSION])
        return made[-1]

    yield Harness(Simulation(service, post, handlers=handlers, clock=clock), start_process, post)
    for started in made:
        started.database.close()


# Checks: scenarios that the real service passes


def callback_twice(harness: Harness) -> None:
    """A callback that arrives twice is one event."""
    for _ in range(2):
        harness.send_callback("PACKAGE_ACTIVATE", 1)
    harness.simulation.settle()
    assert harness.simulation.handled["p"] == {"PACKAGE_ACTIVATE": 1}


def crash_while_digesting(harness: Harness) -> None:
    """If a process dies at a commit of the digest, the callback still takes effect, and its handler runs once."""
    harness.send_callback("PACKAGE_ACTIVATE", 1)
    with crash_at_commit(harness.service, 1), pytest.raises(Crash):
        harness.service.digest.turn()
    with crash_at_commit(harness.service, 2), suppress(Crash):
        harness.service.digest.turn()
    assert harness.status() == "SENT"
    assert harness.simulation.handled["p"] == {"PACKAGE_ACTIVATE": 1}


def crash_after_answer(harness: Harness) -> None:
    """An acknowledged callback is in the database, where another process finds it."""
    harness.send_callback("PACKAGE_ACTIVATE", 1)
    with harness.start_process().database.read() as connection:
        assert journal.pending(connection, limit=1)


def order_of_arrival(harness: Harness) -> None:
    """The fact with the latest date gives the status, in whatever order callbacks arrive."""
    harness.send_callback("PACKAGE_COMPLETE", 10)
    harness.send_callback("PACKAGE_ACTIVATE", 5)
    assert harness.status() == "COMPLETED"


def ties(harness: Harness) -> None:
    """Of two facts with the same date, the same fact wins in either order of arrival."""
    harness.simulation.handlers.onespan.connect(None)
    for package, names in (
        ("a", ["PACKAGE_ACTIVATE", "PACKAGE_COMPLETE"]),
        ("b", ["PACKAGE_COMPLETE", "PACKAGE_ACTIVATE"]),
    ):
        for name in names:
            harness.send_callback(name, 5, packageId=package)
    assert harness.status("a") == harness.status("b") == "COMPLETED"


def sent_package(harness: Harness) -> str:
    """Let the account send a package whose callbacks are digested; return its id a minute later."""
    account = Account(5, packages=1)
    harness.simulation.connect(account)
    while not account.packages() or account.packages()[0].status != "SENT":
        harness.simulation.post(*harness.simulation.step())
    harness.service.digest.turn()
    harness.clock.forward(MINUTE)
    return account.packages()[0].id


def callback_during_fetch(harness: Harness) -> None:
    """A move to the trash that a callback reports during a fetch wins over the snapshot of that fetch."""
    package = sent_package(harness)
    ask = harness.handlers.onespan.package

    def slowly(package_id: str) -> Answer:
        answer = ask(package_id)
        harness.clock.forward(timedelta(seconds=5))
        at = harness.clock.now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        harness.post({"name": "PACKAGE_TRASH", "packageId": package, "createdDate": at})
        harness.clock.forward(timedelta(seconds=5))
        return answer

    harness.handlers.onespan.package = slowly
    assert harness.service.fetcher.turn()
    harness.handlers.onespan.package = ask
    while harness.service.digest.turn():
        pass
    assert harness.simulation.stored_package(package).trashed


def callback_ahead_of_the_api(harness: Harness) -> None:
    """A decline that the API does not show yet stays, although the snapshot is taken after it."""
    package = sent_package(harness)
    at = harness.clock.now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    harness.post({"name": "PACKAGE_DECLINE", "packageId": package, "createdDate": at, "message": "no"})
    harness.clock.forward(timedelta(seconds=5))
    assert harness.service.fetcher.turn()
    while harness.service.digest.turn():
        pass
    assert harness.simulation.stored_package(package).status == "DECLINED"


def outage_during_pass(harness: Harness) -> None:
    """If OneSpan fails in the middle of a list, later runs still find the packages after that point."""
    faults = Faults(Random(1))
    account = harness.import_packages(60, quirks=Quirks(list_largest=20), faults=faults)
    for package in harness.completed():
        harness.simulation.act(package, "archive")
    harness.clock.forward(3 * DAY)
    assert harness.service.reconcile.turn()
    faults.outage = "503"
    harness.service.reconcile.turn()
    faults.outage = None
    for _ in range(2):
        harness.clock.forward(7 * HOUR)
        harness.simulation.reconcile()
    assert account.packages()
    assert harness.simulation.differences() == []


def refused_folder(harness: Harness) -> None:
    """If OneSpan refuses the trash for days, a package that changed in the trash is still found later."""
    account = harness.import_packages(10)
    (package, *_) = harness.completed()
    harness.simulation.act(package, "trash")
    hides = harness.simulation.refuse_trash()
    for day in range(4):
        if day == 3:
            hides.clear()
        harness.clock.forward(DAY)
        harness.simulation.reconcile()
    assert account.package(package).trashed
    assert harness.simulation.differences() == []


def package_hidden_by_list(harness: Harness) -> None:
    """An existing package that OneSpan's list does not show is not marked as deleted."""
    account = harness.import_packages(20)
    hidden = account.packages()[0].id
    account._list_view._visible.pop(hidden)
    account._list_view._indexes.clear()
    account._list_view._cache.clear()
    harness.simulation.reconcile(RunRequest(backfill=True))
    assert not harness.simulation.stored_package(hidden).deleted


def lost_permission(harness: Harness) -> None:
    """An unlisted package for which OneSpan answers 403 is not marked as deleted."""
    account = harness.import_packages(20, quirks=Quirks(deleted_answer="403"))
    gone = account.packages()[0].id
    harness.simulation.act(gone, "delete")
    harness.simulation.reconcile(RunRequest(backfill=True))
    assert not harness.simulation.stored_package(gone).deleted


def package_never_read(harness: Harness) -> None:
    """If a callback names a package that these credentials cannot see, the package is not marked as deleted."""
    harness.import_packages(1)
    harness.send_callback("PACKAGE_ACTIVATE", 59)
    harness.simulation.settle()
    harness.simulation.reconcile(RunRequest())
    assert not harness.simulation.stored_package("p").deleted


def handler_that_kills(harness: Harness) -> None:
    """The run of a handler that kills its process in each attempt is parked in the end."""
    harness.send_callback("PACKAGE_ACTIVATE", 1)
    harness.service.digest.turn()
    for _ in range(10):
        harness.start_process().dispatcher._settle_and_take([])
        harness.clock.forward(HOUR)
    with harness.service.database.read() as connection:
        assert connection.scalar(select(Dispatch.state)) == "parked"


def restarts_within_interval(harness: Harness) -> None:
    """If the process restarts every four hours for two days, reconcile runs still begin at their interval."""
    harness.import_packages(1)
    for _ in range(12):
        harness.clock.forward(4 * HOUR)
        restarted = harness.start_process()
        for _ in range(10):
            restarted.reconcile.turn()
            restarted.digest.turn()
            harness.clock.forward(timedelta(seconds=2))
    with harness.service.database.read() as connection:
        assert len(queries.run_page(connection, limit=100, before=None)) >= 6


def unchanged_account(harness: Harness) -> None:
    """A second reconcile run of an unchanged account runs no handler."""
    account = Account(2, packages=4)
    harness.simulation.connect(account)
    harness.simulation.reconcile()
    harness.clock.forward(HOUR)
    harness.simulation.live(drop=0, dice=Random(2))
    harness.simulation.settle()
    harness.simulation.reconcile(RunRequest(backfill=True))
    before = {package_id: Counter(names) for package_id, names in harness.simulation.handled.items()}
    harness.simulation.reconcile(RunRequest(backfill=True))
    assert harness.simulation.handled == before


def shifting_list(harness: Harness) -> None:
    """If a package moves to the trash in the middle of a pass, the reconcile run still misses no package."""
    packages = populated(1, 260, now=harness.clock.now - 40 * DAY).packages()
    account = Account(1, packages=0).load(packages)
    harness.simulation.connect(account)
    harness.service.reconcile.begin(RunRequest(backfill=True))
    harness.service.reconcile.turn()
    newest = sorted(
        (package for package in packages if not package.trashed and package.type == "PACKAGE"),
        key=lambda package: package.updated,
    )
    harness.simulation.act(next(package.id for package in newest[::-1] if package.status != "SENT"), "trash")
    harness.simulation.reconcile()
    assert harness.simulation.differences() == []


def callback_from_far_future(harness: Harness) -> None:
    """A callback dated 2099 does not outrank every later snapshot."""
    account = harness.import_packages(20)
    package = harness.completed()[0]
    body = {"name": "PACKAGE_DECLINE", "packageId": package, "createdDate": "2099-01-01T00:00:00.000Z"}
    assert harness.post(body).status_code == 200
    harness.simulation.settle()
    harness.clock.forward(7 * HOUR)
    harness.simulation.reconcile(RunRequest(backfill=True))
    assert account.package(package).status == harness.status(package)


def found_before_callback(harness: Harness) -> None:
    """A fact that a snapshot showed before its callback arrived is handled once."""
    harness.post({"name": "PACKAGE_CREATE", "packageId": "before", "createdDate": "2026-03-02T12:00:00.000Z"})
    harness.simulation.settle()
    harness.import_packages(20)
    package = harness.completed()[0]
    late = harness.simulation.act(package, "archive")
    harness.clock.forward(7 * HOUR)
    harness.simulation.reconcile()
    harness.simulation.post(*late)
    harness.simulation.settle()
    assert harness.simulation.handled[package] == {"PACKAGE_ARCHIVE": 1}


def two_processes_check_at_once(harness: Harness) -> None:
    """If two processes find at the same time that a reconcile run is due, only one run begins."""
    harness.import_packages(1)
    harness.clock.forward(7 * HOUR)
    slow, write = harness.start_process(), None
    write = slow.database.write

    def after_the_other() -> Any:
        slow.database.write = write  # type: ignore[method-assign]
        harness.simulation.reconcile()
        return write()

    slow.database.write = after_the_other  # type: ignore[method-assign]
    slow.reconcile.turn()
    with harness.service.database.read() as connection:
        assert len(queries.run_page(connection, limit=10, before=None)) == 2


def late_process(harness: Harness) -> None:
    """A process that waits for a page until another process takes its run over cannot change the run afterwards."""
    harness.import_packages(20)
    harness.clock.forward(7 * HOUR)
    late = harness.start_process()
    ask = late.reconcile._onespan.packages

    def slowly(**query: Any) -> Answer:
        harness.handlers.onespan.packages = ask
        answer = ask(**query)
        harness.clock.forward(11 * MINUTE)
        harness.simulation.reconcile()
        return answer

    harness.handlers.onespan.packages = slowly
    late.reconcile.turn()
    harness.handlers.onespan.packages = ask
    harness.simulation.reconcile()
    with harness.service.database.read() as connection:
        run = queries.run_page(connection, limit=1, before=None)[0]
    assert (run.state, run.requests) == ("done", 4)


def package_that_never_answers(harness: Harness) -> None:
    """If OneSpan fails for one package, the reconcile run of the next interval begins all the same."""
    harness.import_packages(20, quirks=Quirks(list_items="summary"))
    bad = harness.completed()[0]
    harness.simulation.refuse(bad)
    harness.simulation.act(bad, "archive")
    harness.simulation.run_for(14 * HOUR, every=10 * MINUTE)
    with harness.service.database.read() as connection:
        states = [run.state for run in queries.run_page(connection, limit=10, before=None)]
    assert states.count("done") >= 2


def answer_dated_ahead(harness: Harness) -> None:
    """After one answer with a date two months ahead, earlier changes are still found."""
    harness.import_packages(20)
    harness.clock.forward(7 * HOUR)
    left = [1]

    def ahead(_: Any, answer: ChangedAnswer) -> None:
        if left and left.pop():
            answer.headers["Date"] = format_datetime(harness.clock.now + 60 * DAY, usegmt=True)

    harness.simulation.change_answers(ahead)
    harness.simulation.reconcile()
    harness.clock.forward(3 * DAY)
    harness.simulation.act(harness.completed()[0], "archive")
    harness.clock.forward(7 * HOUR)
    harness.simulation.reconcile()
    assert harness.simulation.differences() == []


def fetch_with_two_reasons(harness: Harness) -> None:
    """A reconcile run still waits for a failed fetch after a callback has queued the same package too."""
    harness.import_packages(20, quirks=Quirks(list_items="summary"))
    bad = harness.completed()[0]
    harness.simulation.refuse(bad)
    harness.simulation.act(bad, "archive")
    harness.clock.forward(7 * HOUR)
    for _ in range(9):
        harness.service.reconcile.turn()
        harness.clock.forward(timedelta(seconds=1))
    at = harness.clock.now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    harness.post({"name": "PACKAGE_RESTORE", "packageId": bad, "createdDate": at})
    for _ in range(9):
        harness.service.digest.turn()
        harness.service.reconcile.turn()
        harness.clock.forward(timedelta(seconds=1))
    with harness.service.database.read() as connection:
        assert queries.run_page(connection, limit=1, before=None)[0].state == "running"


# Mutants: functions that build one mistake into the service


def no_dedupe(patch: Patch) -> None:
    """Mutant: a repeated callback counts as a new fact."""
    count = iter(range(10**6))
    patch.setattr(
        confirmation.KnownFingerprints,
        "identify",
        lambda self, callback, *, received_at: (f"{callback.fingerprint}{next(count)}", False),
    )


def check_then_insert(patch: Patch) -> None:
    """Mutant: whether a run is due is checked only before the transaction that begins the run."""

    def begin(self: Reconciler, connection: Any, *, now: Any) -> None:
        reconciles.begin(connection, kind="reconcile", reason="interval", since=None, fires=False, now=now)

    patch.setattr(Reconciler, "_begin", begin)


def mark_before_work(patch: Patch) -> None:
    """Mutant: a journal entry is marked as digested in a commit of its own, before its effects are written."""

    def turn(self: Digest, *, limit: int = 500) -> bool:
        with self._database.write() as connection:
            rows = journal.pending(connection, limit=limit)
            ids = dict.fromkeys([row.id for row in rows])
            journal.settle(connection, ids, callbacks=[], clock_offset=None, now=self._clock())
        if rows:
            with self._database.write() as connection:
                take_write_lock(connection)
                Batch(connection, rows, handlers=self._handlers, now=self._clock()).digest(can_fetch=True)
        return bool(rows)

    patch.setattr(Digest, "turn", turn)


def answer_before_commit(patch: Patch) -> None:
    """Mutant: the receiver acknowledges a callback that is kept only in memory, to be written later."""
    patch.setattr(journal.Writer, "keep", lambda self, entry: vars(self).setdefault("kept", []).append(entry))


def last_arrival_wins(patch: Patch) -> None:
    """Mutant: the claim that arrives later counts as newer."""
    patch.setattr(merge, "_wins", lambda attribute, register, other: True)


def strict_on_ties(patch: Patch) -> None:
    """Mutant: of two claims with the same date, the claim that arrives first stays."""
    patch.setattr(merge, "_wins", lambda attribute, register, other: register[0] > other[0])


def dated_at_arrival(patch: Patch) -> None:
    """Mutant: a snapshot is dated at the arrival of the answer, not when OneSpan read the package."""
    dated, late = OneSpan._dated, timedelta(seconds=15)

    def at_arrival(*arguments: Any, **more: Any) -> Answer:
        answer = dated(*arguments, **more)
        return replace(answer, read_at=answer.read_at + late, answered_at=answer.answered_at + late)

    patch.setattr(OneSpan, "_dated", at_arrival)


def api_never_lags(patch: Patch) -> None:
    """Mutant: a snapshot shows all that happened before it, whatever its `updated` says."""
    patch.setattr(claims, "may_lag", lambda attribute, value: False)


def truncated_pass_is_complete(patch: Patch) -> None:
    """Mutant: when OneSpan fails, the reconcile run ends with what it has, and the watermark moves."""

    def put_off(self: Reconciler, run: Any, folder: Any, problem: Any) -> None:
        with self._database.write() as connection:
            reconciles.finish(connection, run, now=self._clock(), until=self._clock(), unreadable=0)

    patch.setattr(Reconciler, "_put_off", put_off)


def forgets_refused_folder(patch: Patch) -> None:
    """Mutant: a folder that OneSpan refused counts as read."""
    patch.setattr(run_plan, "since_of", lambda run, folder: None if folder.ids_only else run.since)
    patch.setattr(reconcile, "since_of", run_plan.since_of)


def implicit_delete(patch: Patch) -> None:
    """Mutant: a package that the list does not show counts as deleted."""
    ask = Reconciler._enqueue_unlisted

    def delete(self: Reconciler, run: Any) -> bool:
        with self._database.write() as connection:
            for package_id in reconcile.list_state.unlisted(
                connection, run_id=run.id, since=run.since, after="", limit=100
            ):
                at = self._clock()
                gone = Entry(
                    "absence", at, b"", key=self._onespan.name, package_id=package_id, read_at=at, answered_at=at
                )
                journal.add(connection, [gone])
        return ask(self, run)

    patch.setattr(Reconciler, "_enqueue_unlisted", delete)
    patch.setattr(reconcile.fetches, "enqueue", lambda *_, **__: None)


def forbidden_is_deleted(patch: Patch) -> None:
    """Mutant: a 403 answer is treated as a 404 answer."""

    def package(self: OneSpan, package_id: str) -> Answer:
        try:
            return original(self, package_id)
        except NotPermitted as problem:
            answer = Answer(None, b"", onespan_now(self), onespan_now(self))
            raise OneSpanNotFound(problem.detail, answer=answer) from None

    original = OneSpan.package
    patch.setattr(OneSpan, "package", package)


def onespan_now(onespan: OneSpan) -> Any:
    """The present time according to OneSpan."""
    return onespan.packages().read_at


def every_404_is_a_deletion(patch: Patch) -> None:
    """Mutant: a 404 is a deletion even of a package that these credentials never read."""
    patch.setattr(fetch, "was_read", lambda *_, **__: True)


def attempts_counted_at_failure(patch: Patch) -> None:
    """Mutant: an attempt counts only when it fails, so a handler that kills its process uses up no attempt."""
    take = dispatches._TAKE.values(attempts=Dispatch.attempts, fence=Dispatch.fence + 1)
    patch.setattr(dispatches, "_TAKE", take)


def interval_per_process(patch: Patch) -> None:
    """Mutant: each process starts a new reconcile interval."""
    begun: dict[int, Any] = {}

    def why(self: Reconciler, connection: Any, now: Any) -> str | None:
        begun.setdefault(id(self), now)
        return "interval" if now >= begun[id(self)] + self._every or reconciles.last_began(connection) is None else None

    patch.setattr(Reconciler, "_due_reason", why)


def runs_handlers_again(patch: Patch) -> None:
    """Mutant: handlers run for all that a reconcile run finds, even if a callback reported the fact before."""
    patch.setattr(reconcile, "is_known", lambda *_, **__: False)
    patch.setattr(reconcile, "is_conclusive", lambda *_: True)
    find = batch.unreported_events
    patch.setattr(batch, "unreported_events", lambda reading, **_: find(reading, before=None, known=(), began_at=None))


def blind_paging(patch: Patch) -> None:
    """Mutant: the next page always begins a hundred rows further on, until a page is not full."""

    def next_step(place: Any, page: Any, **_: Any) -> Any:
        to = replace(place, offset=place.offset + 100) if page.rows == list_scan.PAGE_SIZE else None
        return list_scan.ScanStep(to, frozenset(item.snapshot.id for item in page.items), 0)

    patch.setattr(reconcile, "next_step", next_step)
    patch.setattr(reconcile.list_state, "unlisted", lambda *_, **__: [])


def any_callback_date_is_accepted(patch: Patch) -> None:
    """Mutant: every date of a callback is accepted, even in the far future."""
    patch.setattr(claims, "claim_time", lambda callback, *, received_at: callback.happened_at or received_at)


def late_callback_is_a_new_fact(patch: Patch) -> None:
    """Mutant: a callback that arrives after its fact was found counts as a new fact."""
    patch.setattr(batch, "confirmed_event", lambda *_, **__: None)


def no_fence(patch: Patch) -> None:
    """Mutant: a process that has lost a reconcile run may still write the run's result."""

    def settle(connection: Any, run: Any, **values: Any) -> bool:
        return bool(
            connection.execute(
                reconciles.update(reconciles.Run).where(reconciles.Run.id == run.id).values(values)
            ).rowcount
        )

    patch.setattr(reconciles, "_settle", settle)


def one_error_stops_the_run(patch: Patch) -> None:
    """Mutant: an error of one package makes the whole reconcile run wait."""
    patch.setattr(reconcile, "PACKAGE_ONLY_FROM", {None: None})
    patch.setattr(Reconciler, "_is_stuck", lambda *_: False)


def any_answer_date_is_accepted(patch: Patch) -> None:
    """Mutant: every date of an answer is accepted, and the watermark follows that date."""
    patch.setattr(OffsetRange, "is_within", lambda *_: True)
    patch.setattr(reconciles, "MAX_CLOCK_AHEAD", 1000 * DAY)
    patch.setattr(reconcile, "min", lambda known, _: known, raising=False)


def newest_reason_hides_the_older(patch: Patch) -> None:
    """Mutant: a fetch no longer counts for a reconcile run when another reason queues the package too."""
    original = fetches.enqueue

    def want(connection: Any, wanted: Any, **more: Any) -> None:
        original(connection, wanted, **more)
        if more.get("rank", fetches.AFTER_CALLBACK) == fetches.AFTER_CALLBACK and wanted:
            connection.execute(update(Fetch).where(Fetch.package_id.in_(wanted)).values(asked_at=None))

    patch.setattr(fetches, "enqueue", want)


MUTANTS: dict[Callable[[Patch], None], Callable[[Harness], None]] = {
    no_dedupe: callback_twice,
    check_then_insert: two_processes_check_at_once,
    mark_before_work: crash_while_digesting,
    answer_before_commit: crash_after_answer,
    last_arrival_wins: order_of_arrival,
    strict_on_ties: ties,
    dated_at_arrival: callback_during_fetch,
    api_never_lags: callback_ahead_of_the_api,
    truncated_pass_is_complete: outage_during_pass,
    forgets_refused_folder: refused_folder,
    implicit_delete: package_hidden_by_list,
    forbidden_is_deleted: lost_permission,
    every_404_is_a_deletion: package_never_read,
    attempts_counted_at_failure: handler_that_kills,
    interval_per_process: restarts_within_interval,
    runs_handlers_again: unchanged_account,
    blind_paging: shifting_list,
    any_callback_date_is_accepted: callback_from_far_future,
    late_callback_is_a_new_fact: found_before_callback,
    one_error_stops_the_run: package_that_never_answers,
    any_answer_date_is_accepted: answer_dated_ahead,
    newest_reason_hides_the_older: fetch_with_two_reasons,
    no_fence: late_process,
}


@pytest.mark.parametrize("check", MUTANTS.values(), ids=lambda check: check.__name__)
def test_real_pipeline_passes_every_check(harness, check):
    """The real service passes every check; otherwise the failure of a mutant would prove nothing."""
    check(harness)


@pytest.mark.parametrize(("mutant", "check"), MUTANTS.items(), ids=lambda function: function.__name__)
def test_every_mutant_is_caught(harness, monkeypatch, mutant, check):
    """Each mutant fails the check that is listed for its mistake."""
    mutant(monkeypatch)

    with pytest.raises(AssertionError):
        check(harness)


@contextmanager
def crash_at_commit(service: Service, number: int) -> Iterator[None]:
    """Let the process die right before the commit with this number, counted from 1."""
    write, left = service.database.write, [number]

    @contextmanager
    def dying() -> Iterator[Any]:
        with write() as connection:
            yield connection
            left[0] -= 1
            if left[0] == 0:
                raise Crash

    service.database.write = dying  # type: ignore[method-assign]
    try:
        yield
    finally:
        service.database.write = write  # type: ignore[method-assign]
