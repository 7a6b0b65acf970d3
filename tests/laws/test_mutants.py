"""Flawed twins: the pipeline with one mistake each, as drafts and other people's receivers have had them.

Each judge is a short story that the honest pipeline passes; each twin must fail the judge that is named with it. So
the judges are known to see what they look for.
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
from app.errors import NotPermitted, NotThere
from app.onespan import claims, client, list_scan
from app.onespan.client import Answer, OneSpan
from app.simulator.account import Account
from app.simulator.faults import Faults
from app.simulator.population import populated
from app.simulator.quirks import Quirks
from app.store import dispatches, events, fetches, journal, queries, reconciles
from app.store.db import take_pen
from app.store.journal import Entry
from app.store.models import Dispatch, Read
from app.work import batch, fetch, reconcile, run_plan
from app.work.batch import Batch
from app.work.digest import Digest
from app.work.reconcile import Asked, Reconcile
from tests.conftest import HOUR, on_sqlite
from tests.support.simulation import MINUTE, Spoilt, World, knowing_onespan

DAY = timedelta(days=1)
Patch = pytest.MonkeyPatch


class Crash(BaseException):
    """The process is gone, in the middle of whatever it did."""


class Court:
    """A world, and other processes of the same service on the same database."""

    def __init__(self, world: World, another: Callable[[], Service], post: Callable[..., Any]) -> None:
        self.world, self.another, self.clock = world, another, world.clock
        self.service, self.handlers, self.post = world.service, world.handlers, post

    def tell(self, name: str, minute: int, **more: Any) -> None:
        """A callback about package `p`, dated so many minutes after noon."""
        at = f"2026-03-02T12:{minute:02}:00.000Z"
        assert self.post({"name": name, "packageId": "p", "createdDate": at, **more}).status_code == 200

    def status(self, package_id: str = "p") -> str | None:
        """What is believed of a package."""
        self.world.settle()
        believed = self.world.picture(package_id)
        return believed.status if believed else None

    def imported(self, number: int, *, quirks: Quirks | None = None, faults: Faults | None = None) -> Account:
        """An account of so many packages at rest, all known."""
        packages = populated(1, number, now=self.clock.now - 40 * DAY).packages()
        account = Account(1, packages=0, **({"quirks": quirks} if quirks else {})).hold(packages)
        self.world.connect(account, faults)
        self.world.reconcile()
        self.clock.forward(MINUTE)
        return account

    def completed(self) -> list[str]:
        """Packages that can be archived."""
        return [one.id for one in self.world.account.packages() if one.status == "COMPLETED" and not one.trashed]


pytestmark = [on_sqlite, pytest.mark.all]  # the mistakes are not about databases


@pytest.fixture
def settings(settings):
    """The service knows where OneSpan is."""
    return knowing_onespan(settings)


@pytest.fixture
def court(service, post, handlers, clock, settings) -> Iterator[Court]:
    """Where twins are judged."""
    made: list[Service] = []

    def another() -> Service:
        made.append(create_app(settings, handlers=handlers, clock=clock).extensions[EXTENSION])
        return made[-1]

    yield Court(World(service, post, handlers=handlers, clock=clock), another, post)
    for one in made:
        one.database.close()


# The judges.


def told_twice(court: Court) -> None:
    """Twice is once."""
    for _ in range(2):
        court.tell("PACKAGE_ACTIVATE", 1)
    court.world.settle()
    assert court.world.told["p"] == {"PACKAGE_ACTIVATE": 1}


def crash_while_digesting(court: Court) -> None:
    """A process dies at its second commit; what it had begun is done by the next one."""
    court.tell("PACKAGE_ACTIVATE", 1)
    with crash_at_commit(court.service, 1), pytest.raises(Crash):
        court.service.digest.turn()
    with crash_at_commit(court.service, 2), suppress(Crash):
        court.service.digest.turn()
    assert court.status() == "SENT"
    assert court.world.told["p"] == {"PACKAGE_ACTIVATE": 1}


def crash_after_the_answer(court: Court) -> None:
    """Acknowledged is kept: another process finds it."""
    court.tell("PACKAGE_ACTIVATE", 1)
    with court.another().database.read() as connection:
        assert journal.is_pending(connection)


def order_of_arrival(court: Court) -> None:
    """The latest fact wins, whenever it comes."""
    court.tell("PACKAGE_COMPLETE", 10)
    court.tell("PACKAGE_ACTIVATE", 5)
    assert court.status() == "COMPLETED"


def ties(court: Court) -> None:
    """Of two facts of one instant the same one wins, whichever comes first."""
    court.world.handlers.onespan.connect(None)
    for package, names in (
        ("a", ["PACKAGE_ACTIVATE", "PACKAGE_COMPLETE"]),
        ("b", ["PACKAGE_COMPLETE", "PACKAGE_ACTIVATE"]),
    ):
        for name in names:
            court.tell(name, 5, packageId=package)
    assert court.status("a") == court.status("b") == "COMPLETED"


def callback_during_a_read(court: Court) -> None:
    """OneSpan is asked; while it answers, the package is signed, and the callback says so."""
    account = Account(5, packages=1)
    court.world.connect(account)
    while not account.packages() or account.packages()[0].status != "SENT":
        court.world.post(*court.world.step())
    package = account.packages()[0].id
    court.service.digest.turn()
    court.clock.forward(MINUTE)
    ask = court.handlers.onespan.package

    def slowly(package_id: str) -> Answer:
        answer = ask(package_id)
        court.clock.forward(timedelta(seconds=5))
        at = court.clock.now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        court.post({"name": "PACKAGE_DECLINE", "packageId": package, "createdDate": at, "message": "no"})
        court.clock.forward(timedelta(seconds=5))
        return answer

    court.handlers.onespan.package = slowly
    assert court.service.refresh.turn()
    court.handlers.onespan.package = ask
    while court.service.digest.turn():
        pass
    assert court.world.picture(package).status == "DECLINED"


def outage_in_a_walk(court: Court) -> None:
    """OneSpan fails in the middle of the list; what comes after is not lost for good."""
    faults = Faults(Random(1))
    account = court.imported(60, quirks=Quirks(list_largest=20), faults=faults)
    for package in court.completed():
        court.world.act(package, "archive")
    court.clock.forward(3 * DAY)
    assert court.service.reconcile.turn()
    faults.outage = "503"
    court.service.reconcile.turn()
    faults.outage = None
    for _ in range(2):
        court.clock.forward(7 * HOUR)
        court.world.reconcile()
    assert account.packages()
    assert court.world.differences() == []


def refused_folder(court: Court) -> None:
    """The trash is refused for days, and a package in it changes early on."""
    account = court.imported(10)
    (package, *_) = court.completed()
    court.world.act(package, "trash")
    hides = court.world.refuse_trash()
    for day in range(4):
        if day == 3:
            hides.clear()
        court.clock.forward(DAY)
        court.world.reconcile()
    assert account.package(package).trashed
    assert court.world.differences() == []


def hidden_by_the_list(court: Court) -> None:
    """The list does not show a package that is there."""
    account = court.imported(20)
    hidden = account.packages()[0].id
    account._shelf._shown.pop(hidden)
    account._shelf._indexes.clear()
    account._shelf._answers.clear()
    court.world.reconcile(Asked(backfill=True))
    assert not court.world.picture(hidden).deleted


def right_that_was_lost(court: Court) -> None:
    """OneSpan answers 403 for a package that it no longer lists."""
    account = court.imported(20, quirks=Quirks(deleted_answer="403"))
    gone = account.packages()[0].id
    court.world.act(gone, "delete")
    court.world.reconcile(Asked(backfill=True))
    assert not court.world.picture(gone).deleted


def never_seen(court: Court) -> None:
    """A callback tells of a package that our credentials cannot see."""
    court.imported(1)
    court.tell("PACKAGE_ACTIVATE", 59)
    court.world.settle()
    court.world.reconcile(Asked())
    assert not court.world.picture("p").deleted


def handler_that_kills(court: Court) -> None:
    """A handler takes its process with it, each time; in the end it is parked."""
    court.tell("PACKAGE_ACTIVATE", 1)
    court.service.digest.turn()
    for _ in range(10):
        court.another().dispatcher._settle_and_take([])
        court.clock.forward(HOUR)
    with court.service.database.read() as connection:
        assert connection.scalar(select(Dispatch.state)) == "parked"


def restarts(court: Court) -> None:
    """The process is started anew every four hours, for two days."""
    court.imported(1)
    for _ in range(12):
        court.clock.forward(4 * HOUR)
        restarted = court.another()
        for _ in range(10):
            restarted.reconcile.turn()
            restarted.digest.turn()
            court.clock.forward(timedelta(seconds=2))
    with court.service.database.read() as connection:
        assert len(queries.run_page(connection, limit=100, before=None)) >= 6


def unchanged(court: Court) -> None:
    """Nothing happened, so nothing is told."""
    account = Account(2, packages=4)
    court.world.connect(account)
    court.world.reconcile()
    court.clock.forward(HOUR)
    court.world.live(drop=0, dice=Random(2))
    court.world.settle()
    court.world.reconcile(Asked(backfill=True))
    told = {one: Counter(names) for one, names in court.world.told.items()}
    court.world.reconcile(Asked(backfill=True))
    assert court.world.told == told


def list_that_shifts(court: Court) -> None:
    """A package is put into the trash while the list is walked through."""
    packages = populated(1, 260, now=court.clock.now - 40 * DAY).packages()
    account = Account(1, packages=0).hold(packages)
    court.world.connect(account)
    court.service.reconcile.begin(Asked(backfill=True))
    court.service.reconcile.turn()
    newest = sorted((one for one in packages if not one.trashed and one.type == "PACKAGE"), key=lambda one: one.updated)
    court.world.act(next(one.id for one in newest[::-1] if one.status != "SENT"), "trash")
    court.world.reconcile()
    assert court.world.differences() == []


def dated_in_the_far_future(court: Court) -> None:
    """A callback dated 2099 does not outrank every later reading."""
    account = court.imported(20)
    package = next(one for one in court.completed())
    body = {"name": "PACKAGE_DECLINE", "packageId": package, "createdDate": "2099-01-01T00:00:00.000Z"}
    assert court.post(body).status_code == 200
    court.world.settle()
    court.clock.forward(7 * HOUR)
    court.world.reconcile(Asked(backfill=True))
    assert account.package(package).status == court.status(package)


def found_and_then_told(court: Court) -> None:
    """A reading found it; its callback comes late."""
    court.post({"name": "PACKAGE_CREATE", "packageId": "before", "createdDate": "2026-03-02T12:00:00.000Z"})
    court.world.settle()
    court.imported(20)
    package = court.completed()[0]
    late = court.world.act(package, "archive")
    court.clock.forward(7 * HOUR)
    court.world.reconcile()
    court.world.post(*late)
    court.world.settle()
    assert court.world.told[package] == {"PACKAGE_ARCHIVE": 1}


def two_look_at_once(court: Court) -> None:
    """While one process looks whether a run is due, another one begins it and ends it."""
    court.imported(1)
    court.clock.forward(7 * HOUR)
    slow, write = court.another(), None
    write = slow.database.write

    def after_the_other() -> Any:
        slow.database.write = write  # type: ignore[method-assign]
        court.world.reconcile()
        return write()

    slow.database.write = after_the_other  # type: ignore[method-assign]
    slow.reconcile.turn()
    with court.service.database.read() as connection:
        assert len(queries.run_page(connection, limit=10, before=None)) == 2


def late_owner(court: Court) -> None:
    """A process takes so long over a page that another has taken the run over; what it commits then is nobody's."""
    court.imported(20)
    court.clock.forward(7 * HOUR)
    late = court.another()
    ask = late.reconcile._onespan.packages

    def slowly(**query: Any) -> Answer:
        court.handlers.onespan.packages = ask
        answer = ask(**query)
        court.clock.forward(11 * MINUTE)
        court.world.reconcile()
        return answer

    court.handlers.onespan.packages = slowly
    late.reconcile.turn()
    court.handlers.onespan.packages = ask
    court.world.reconcile()
    with court.service.database.read() as connection:
        run = queries.run_page(connection, limit=1, before=None)[0]
    assert (run.state, run.requests) == ("done", 4)


def one_that_never_answers(court: Court) -> None:
    """OneSpan fails for one package; the next interval comes all the same."""
    court.imported(20, quirks=Quirks(list_items="summary"))
    bad = court.completed()[0]
    court.world.refuse(bad)
    court.world.act(bad, "archive")
    court.world.live_on(14 * HOUR, every=10 * MINUTE)
    with court.service.database.read() as connection:
        states = [one.state for one in queries.run_page(connection, limit=10, before=None)]
    assert states.count("done") >= 2


def date_ahead(court: Court) -> None:
    """One answer is dated two months later; what happens until then is found all the same."""
    court.imported(20)
    court.clock.forward(7 * HOUR)
    left = [1]

    def ahead(_: Any, answer: Spoilt) -> None:
        if left and left.pop():
            answer.headers["Date"] = format_datetime(court.clock.now + 60 * DAY, usegmt=True)

    court.world.spoil(ahead)
    court.world.reconcile()
    court.clock.forward(3 * DAY)
    court.world.act(court.completed()[0], "archive")
    court.clock.forward(7 * HOUR)
    court.world.reconcile()
    assert court.world.differences() == []


def asked_for_by_two(court: Court) -> None:
    """What a reconcile asked for cannot be read, and a callback asks for it, too."""
    court.imported(20, quirks=Quirks(list_items="summary"))
    bad = court.completed()[0]
    court.world.refuse(bad)
    court.world.act(bad, "archive")
    court.clock.forward(7 * HOUR)
    for _ in range(9):
        court.service.reconcile.turn()
        court.clock.forward(timedelta(seconds=1))
    at = court.clock.now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    court.post({"name": "PACKAGE_RESTORE", "packageId": bad, "createdDate": at})
    for _ in range(9):
        court.service.digest.turn()
        court.service.reconcile.turn()
        court.clock.forward(timedelta(seconds=1))
    with court.service.database.read() as connection:
        assert queries.run_page(connection, limit=1, before=None)[0].state == "running"


# The twins.


def no_dedupe(patch: Patch) -> None:
    """Every callback is a new fact."""
    count = iter(range(10**6))
    patch.setattr(
        events.Facts, "recognise", lambda self, told, *, received_at: (f"{told.fingerprint}{next(count)}", False)
    )


def check_then_insert(patch: Patch) -> None:
    """Whether a run is due is looked at before, and not again where it is written down."""

    def begin(self: Reconcile, connection: Any, *, now: Any) -> None:
        reconciles.begin(connection, kind="reconcile", reason="interval", since=None, fires=False, now=now)

    patch.setattr(Reconcile, "_begin", begin)


def mark_before_work(patch: Patch) -> None:
    """The entry is marked as digested in a commit of its own, before it has caused anything."""

    def turn(self: Digest, *, limit: int = 500) -> bool:
        with self._database.write() as connection:
            rows = journal.pending(connection, limit=limit)
            journal.settle(connection, dict.fromkeys([row.id for row in rows]), callbacks=[], now=self._clock())
        if rows:
            with self._database.write() as connection:
                take_pen(connection)
                Batch(connection, rows, handlers=self._handlers, now=self._clock()).digest(asks=True)
        return bool(rows)

    patch.setattr(Digest, "turn", turn)


def answer_before_commit(patch: Patch) -> None:
    """The callback is kept in memory, to be written when there is time."""
    patch.setattr(journal.Writer, "keep", lambda self, entry: vars(self).setdefault("kept", []).append(entry))


def last_arrival_wins(patch: Patch) -> None:
    """What comes later is newer."""
    patch.setattr(claims, "_newer", lambda one, other: True)


def strict_on_ties(patch: Patch) -> None:
    """Of two facts of one instant the first to come stays."""
    patch.setattr(claims, "_newer", lambda one, other: one[0] > other[0])


def stamped_after_the_read(patch: Patch) -> None:
    """A reading is dated when its answer is there."""
    looked = client._looked
    late = timedelta(seconds=15)
    patch.setattr(client, "_looked", lambda answer, *, now: tuple(at + late for at in looked(answer, now=now)))


def truncated_walk_is_complete(patch: Patch) -> None:
    """When OneSpan fails, the run ends with what it has; the watermark moves all the same."""

    def put_off(self: Reconcile, run: Any, leg: Any, problem: Any) -> None:
        with self._database.write() as connection:
            reconciles.finish(connection, run, now=self._clock(), until=self._clock(), unreadable=0)

    patch.setattr(Reconcile, "_put_off", put_off)


def forgets_who_is_behind(patch: Patch) -> None:
    """A folder that was refused is taken for seen."""
    patch.setattr(run_plan, "since_of", lambda run, leg: None if leg.ids_only else run.since)
    patch.setattr(reconcile, "since_of", run_plan.since_of)


def implicit_delete(patch: Patch) -> None:
    """What the list does not show is deleted."""
    ask = Reconcile._ask

    def delete(self: Reconcile, run: Any) -> bool:
        with self._database.write() as connection:
            for one in reconcile.list_state.not_shown(connection, run_id=run.id, since=run.since, after="", limit=100):
                at = self._clock()
                gone = Entry("absence", at, b"", key=self._onespan.name, package_id=one, read_at=at, answered_at=at)
                journal.add(connection, [gone])
        return ask(self, run)

    patch.setattr(Reconcile, "_ask", delete)
    patch.setattr(reconcile.fetches, "want", lambda *_, **__: None)


def denied_is_deleted(patch: Patch) -> None:
    """A 403 is read as a 404."""

    def package(self: OneSpan, package_id: str) -> Answer:
        try:
            return honest(self, package_id)
        except NotPermitted as problem:
            answer = Answer(None, b"", refresh_clock(self), refresh_clock(self))
            raise NotThere(problem.detail, answer=answer) from None

    honest = OneSpan.package
    patch.setattr(OneSpan, "package", package)


def refresh_clock(onespan: OneSpan) -> Any:
    """OneSpan's time now, as it says it."""
    return onespan.packages().read_at


def every_404_is_a_deletion(patch: Patch) -> None:
    """Whoever asks for what they may not see is told that it is not there."""
    patch.setattr(fetch, "was_read", lambda *_, **__: True)


def attempts_counted_at_failure(patch: Patch) -> None:
    """Taking is no attempt; a handler that kills its process never gets to where they are counted."""
    take = dispatches._TAKE.values(attempts=Dispatch.attempts, fence=Dispatch.fence + 1)
    patch.setattr(dispatches, "_TAKE", take)


def interval_from_the_start(patch: Patch) -> None:
    """The interval begins anew with every process."""
    begun: dict[int, Any] = {}

    def why(self: Reconcile, connection: Any, now: Any) -> str | None:
        begun.setdefault(id(self), now)
        return "interval" if now >= begun[id(self)] + self._every or reconciles.last_began(connection) is None else None

    patch.setattr(Reconcile, "_why", why)


def fires_again(patch: Patch) -> None:
    """What a run shows is told, whether it was told before or not."""
    patch.setattr(reconcile.claims, "agrees", lambda *_: False)
    patch.setattr(reconcile, "can_be_believed", lambda *_: True)
    find = batch.found_by
    patch.setattr(batch, "found_by", lambda reading, **_: find(reading, before=None, told=(), began_at=None))


def blind_paging(patch: Patch) -> None:
    """The next page begins a hundred further on, until one is not full."""

    def onward(place: Any, page: Any, **_: Any) -> Any:
        to = replace(place, offset=place.offset + 100) if page.rows == list_scan.PAGE else None
        return list_scan.Step(to, frozenset(item.reading.id for item in page.items), 0)

    patch.setattr(reconcile, "onward", onward)
    patch.setattr(reconcile.list_state, "not_shown", lambda *_, **__: [])


def any_date_is_believed(patch: Patch) -> None:
    """A callback is dated as it says, whatever it says."""
    patch.setattr(claims, "dated", lambda told, *, received_at: told.happened_at or received_at)


def nothing_is_confirmed(patch: Patch) -> None:
    """A callback that comes after its fact was found is a fact of its own."""
    patch.setattr(Batch, "_found_before", lambda *_: None)


def no_fence(patch: Patch) -> None:
    """Whoever once took a run may settle it."""

    def settle(connection: Any, run: Any, **values: Any) -> bool:
        return bool(
            connection.execute(
                reconciles.update(reconciles.Run).where(reconciles.Run.id == run.id).values(values)
            ).rowcount
        )

    patch.setattr(reconciles, "_settle", settle)


def all_errors_are_onespans(patch: Patch) -> None:
    """Whatever fails for one package is waited for, as if it were all of OneSpan."""
    patch.setattr(reconcile, "ALONE", {None: None})
    patch.setattr(Reconcile, "_is_stuck", lambda *_: False)


def every_date_is_believed(patch: Patch) -> None:
    """An answer is dated as it says, and the watermark with it."""
    patch.setattr(client, "AHEAD", 1000 * DAY)
    patch.setattr(reconciles, "AHEAD", 1000 * DAY)
    patch.setattr(reconcile, "min", lambda known, _: known, raising=False)


def newest_reason_hides_the_older(patch: Patch) -> None:
    """A read is a reconcile's only as long as nobody else wants it."""
    honest = fetches.want

    def want(connection: Any, wanted: Any, **more: Any) -> None:
        honest(connection, wanted, **more)
        if more.get("rank", fetches.SURPRISED) == fetches.SURPRISED and wanted:
            connection.execute(update(Read).where(Read.package_id.in_(wanted)).values(asked_at=None))

    patch.setattr(fetches, "want", want)


TWINS: dict[Callable[[Patch], None], Callable[[Court], None]] = {
    no_dedupe: told_twice,
    check_then_insert: two_look_at_once,
    mark_before_work: crash_while_digesting,
    answer_before_commit: crash_after_the_answer,
    last_arrival_wins: order_of_arrival,
    strict_on_ties: ties,
    stamped_after_the_read: callback_during_a_read,
    truncated_walk_is_complete: outage_in_a_walk,
    forgets_who_is_behind: refused_folder,
    implicit_delete: hidden_by_the_list,
    denied_is_deleted: right_that_was_lost,
    every_404_is_a_deletion: never_seen,
    attempts_counted_at_failure: handler_that_kills,
    interval_from_the_start: restarts,
    fires_again: unchanged,
    blind_paging: list_that_shifts,
    any_date_is_believed: dated_in_the_far_future,
    nothing_is_confirmed: found_and_then_told,
    all_errors_are_onespans: one_that_never_answers,
    every_date_is_believed: date_ahead,
    newest_reason_hides_the_older: asked_for_by_two,
    no_fence: late_owner,
}


@pytest.mark.parametrize("judge", TWINS.values(), ids=lambda judge: judge.__name__)
def test_the_honest_pipeline_passes_every_judge(court, judge):
    """Otherwise a twin's failure would say nothing."""
    judge(court)


@pytest.mark.parametrize(("twin", "judge"), TWINS.items(), ids=lambda one: one.__name__)
def test_every_flawed_twin_is_caught(court, monkeypatch, twin, judge):
    """By the judge that looks for its mistake."""
    twin(monkeypatch)

    with pytest.raises(AssertionError):
        judge(court)


@contextmanager
def crash_at_commit(service: Service, number: int) -> Iterator[None]:
    """The process dies right before so many-th commit."""
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
