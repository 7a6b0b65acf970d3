"""Reconcile: what callbacks missed is found, at the price of a few pages, once per interval, by one process."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest
from pydantic import SecretStr
from sqlalchemy import func, select

from app import EXTENSION, Service, create_app
from app.errors import NotPermitted, UnreadableAnswer
from app.simulator.account import Account
from app.simulator.faults import Faults
from app.simulator.population import populated
from app.simulator.quirks import Quirks
from app.store import outages, queries, reconciles
from app.store.journal import Writer
from app.store.models import Change, Dispatch, Event, Journal, Run
from app.store.request_budget import Budget
from app.work.reconcile import Asked
from app.work.snapshots import WAITS
from tests.conftest import HOUR, on_both
from tests.support.simulation import ADDRESS, API_KEY, MINUTE, SECOND, World

DAY = timedelta(days=1)
SIX_HOURS = 6 * HOUR


@pytest.fixture
def settings(settings):
    """The service knows where OneSpan is."""
    return settings.model_copy(
        update={
            "onespan_url": ADDRESS,
            "onespan_api_key": SecretStr(API_KEY),
            "onespan_requests_per_minute": 10_000,
        }
    )


@pytest.fixture
def world(service, post, handlers, clock):
    """A service that has listened since before anything happened, and has imported an account with nothing in it."""
    world = World(service, post, handlers=handlers, clock=clock)
    world.post(b'{"name": "PACKAGE_CREATE", "packageId": "before", "createdDate": "2026-03-02T12:00:00.000Z"}')
    world.settle()
    world.reconcile()
    clock.forward(MINUTE)
    return world


@pytest.fixture
def another(settings, handlers, clock) -> Iterator[Callable[[], Service]]:
    """Another process of the same service, or the same one after a restart."""
    made = []

    def another() -> Service:
        made.append(create_app(settings, handlers=handlers, clock=clock).extensions[EXTENSION])
        return made[-1]

    yield another
    for service in made:
        service.database.close()


def counts(service: Service) -> Counter[str]:
    """How many rows there are of what may only grow by what happened."""
    with service.database.read() as connection:
        tables = (Event, Dispatch, Change, Journal)
        return Counter({one.__tablename__: connection.scalar(select(func.count()).select_from(one)) for one in tables})


def ledger(service: Service) -> list[queries.RunDetail]:
    """All runs, the oldest first."""
    with service.database.read() as connection:
        return queries.run_page(connection, limit=100, before=None)[::-1]


def lost(world: World, seed: int = 1, *, packages: int = 3, quirks: Quirks | None = None) -> Account:
    """So many whole lives of which no callback came."""
    account = Account(seed, packages=packages, **({"quirks": quirks} if quirks else {}))
    world.connect(account)
    world.live(drop=1, dice=Random(seed))
    world.settle()
    return account


def held(world: World, number: int, *, quirks: Quirks | None = None, faults: Faults | None = None) -> Account:
    """An account with so many packages, all of them known, read and at rest."""
    packages = populated(1, number, now=world.clock.now - 40 * DAY).packages()
    account = Account(1, packages=0, **({"quirks": quirks} if quirks else {})).hold(packages)
    world.connect(account, faults)
    world.reconcile(Asked(backfill=True))
    return account


class TestLaw5:
    """The truth wins."""

    @pytest.mark.parametrize("seed", [1])
    @pytest.mark.parametrize("drop", [0.3, 1.0])
    @pytest.mark.parametrize("items", ["whole", "summary"])
    def test_law_5_after_a_reconcile_the_picture_is_the_truth(self, world, runner, items, drop, seed):
        """Whatever was lost of ten whole lives, all of it at the worst."""
        world.connect(Account(seed, packages=10, quirks=Quirks(list_items=items)))
        world.live(drop=drop, dice=Random(seed))
        world.settle()
        world.clock.forward(SIX_HOURS)
        world.reconcile()

        assert world.differences() == []
        assert runner.invoke(args=["rebuild", "--check"]).exit_code == 0

    def test_law_5_what_only_the_list_shows_is_believed(self, world):
        """Nothing tells that a package was un-archived, or that one that had expired is a draft again."""
        account = lost(world, packages=12)
        world.reconcile(Asked())
        archived = next(one for one in account.packages() if one.status == "ARCHIVED" and not one.deleted)
        before = Counter(world.told.get(archived.id, Counter()))
        world.act(archived.id, "unarchive")
        world.reconcile(Asked())

        assert world.picture(archived.id).status == "COMPLETED"
        assert world.told.get(archived.id, Counter()) == before

    def test_law_5_a_package_that_is_gone_is_asked_for_and_then_deleted(self, world):
        """That the list does not show it proves nothing; its own 404 does."""
        account = held(world, 5)
        gone = account.packages()[0].id
        world.clock.forward(SIX_HOURS)
        world.act(gone, "delete")
        world.asked.clear()
        world.reconcile(Asked(backfill=True))

        assert world.picture(gone).deleted
        assert [one for one in world.asked if "/api/packages/" in one] == [f"/api/packages/{gone}?"]
        assert world.told[gone]["PACKAGE_DELETE"] == 1

    def test_law_10_a_403_is_no_deletion(self, world):
        """It may be a right that we lost."""
        account = held(world, 5, quirks=Quirks(deleted_answer="403"))
        gone = account.packages()[0].id
        world.act(gone, "delete")
        world.reconcile(Asked(backfill=True))

        assert not world.picture(gone).deleted

    def test_law_10_what_these_credentials_never_saw_is_not_deleted_by_a_404(self, world):
        """A callback told of it; nobody ever read it."""
        world.connect(Account(1, packages=0))
        world.post(b'{"name": "PACKAGE_ACTIVATE", "packageId": "hidden", "createdDate": "2026-03-02T13:00:00.000Z"}')
        world.reconcile(Asked())

        assert not world.picture("hidden").deleted

    def test_what_was_denied_is_not_asked_for_again_without_a_reason(self, world):
        """A sender whose packages our credentials may not see costs a request per package, not one per run."""
        world.connect(Account(1, packages=0))
        world.post(b'{"name": "PACKAGE_ACTIVATE", "packageId": "hidden", "createdDate": "2026-03-02T13:00:00.000Z"}')
        world.reconcile(Asked())
        world.asked.clear()
        world.reconcile(Asked())

        assert [one for one in world.asked if "hidden" in one] == []

    def test_the_ids_of_all_packages_are_swept_once_a_week(self, world, clock):
        """What fell out of every window, and was neither told nor listed in one, is found then."""
        account = held(world, 5)
        account.hold([replace(account.packages()[0], id="strange", updated=clock.now - 30 * DAY)])
        clock.forward(SIX_HOURS)
        world.reconcile()
        assert world.picture("strange") is None

        clock.forward(7 * DAY)
        world.reconcile()

        assert ledger(world.service)[-1].kind == "sweep"
        assert world.picture("strange") is not None


class TestLaw6:
    """Every fact once to every handler."""

    @pytest.mark.parametrize("seed", range(2))
    def test_law_6_what_reading_found_and_callbacks_tell_late_is_told_once(self, world, seed):
        """All of ten lives is found, then all of it comes by callback."""
        world.connect(Account(seed, packages=10))
        late = world.live(drop=0.5, dice=Random(seed))
        world.settle()
        world.reconcile(Asked())
        told = {one: Counter(names) for one, names in world.told.items()}
        assert all(names <= world.happened[one] for one, names in told.items() if one != "before")
        Random(seed).shuffle(late)
        world.post(*late)
        world.settle()
        world.reconcile(Asked())

        assert {one: names for one, names in world.told.items() if one != "before"} == world.happened

    def test_law_6_the_first_import_tells_nothing(self, service, post, handlers, clock):
        """Of what happened before, nobody was to tell us."""
        world = World(service, post, handlers=handlers, clock=clock)
        account = populated(1, 120, now=clock.now)
        world.connect(account)
        world.reconcile()

        assert world.differences() == []
        assert world.told == {}
        (run,) = ledger(service)
        assert (run.kind, run.reason, run.state, run.shown) == ("backfill", "first", "done", run.shown)
        assert run.changed >= 100

    def test_law_6_who_imported_an_empty_account_has_listened_since(self, service, post, handlers, clock):
        """Though no callback has ever come: the first one may be the one that was lost."""
        world = World(service, post, handlers=handlers, clock=clock)
        world.reconcile()
        world.connect(Account(0, packages=1))
        world.step()
        clock.forward(SIX_HOURS)
        world.reconcile()

        assert world.told == world.happened

    def test_law_6_what_is_lost_after_the_import_is_told(self, world, clock):
        """A package that was imported goes on."""
        account = held(world, 30)
        package = next(one for one in account.packages() if one.status == "COMPLETED" and not one.trashed)
        world.act(package.id, "archive")
        clock.forward(SIX_HOURS)
        world.reconcile()

        assert world.told[package.id] == {"PACKAGE_ARCHIVE": 1}

    def test_law_6_an_import_that_is_to_fire_tells_all_there_was_and_only_once(self, service, post, handlers, clock):
        """`--fire`: a package first seen completed was also created, sent and signed."""
        world = World(service, post, handlers=handlers, clock=clock)
        account = populated(1, 20, now=clock.now)
        world.connect(account)
        world.reconcile(Asked(backfill=True, fires=True))

        told = {one: Counter(names) for one, names in world.told.items()}
        for package in account.packages():
            if package.status == "COMPLETED" and package.type == "PACKAGE":
                assert told[package.id]["PACKAGE_COMPLETE"] == told[package.id]["PACKAGE_CREATE"] == 1
        world.reconcile(Asked(backfill=True, fires=True))
        assert world.told == told

    def test_law_6_an_import_that_told_nothing_can_be_told_later(self, service, post, handlers, clock):
        """The operator looks first, and fires then."""
        world = World(service, post, handlers=handlers, clock=clock)
        world.connect(populated(1, 20, now=clock.now))
        world.reconcile()
        assert world.told == {}
        world.reconcile(Asked(backfill=True, fires=True))

        assert sum(sum(names.values()) for names in world.told.values()) > 20

    def test_law_6_unchanged_packages_cost_four_requests_and_tell_nothing(self, world, clock):
        """One page of each folder, and no package by itself."""
        held(world, 50)
        before, told = counts(world.service), dict(world.told)
        world.asked.clear()
        clock.forward(SIX_HOURS)
        world.reconcile()

        assert len(world.asked) == 4
        assert counts(world.service) == before
        assert world.told == told

    @pytest.mark.all
    @pytest.mark.parametrize("items", ["summary", "whole"])
    def test_an_unchanged_account_costs_a_request_per_hundred_packages(self, world, items):
        """And none for any of them alone, whether its rows are whole or not."""
        account = held(world, 230, quirks=Quirks(list_items=items))
        world.asked.clear()
        world.reconcile(Asked(backfill=True))
        folders = Counter((one.type, one.trashed) for one in account.packages() if not one.deleted)

        assert not [one for one in world.asked if "/api/packages/" in one]
        assert len(world.asked) <= sum(-(-number // 100) + 1 for number in folders.values()) + 4


@on_both
class TestLaw9:
    """Once per interval, by one process, whatever dies."""

    def test_law_9_the_interval_survives_restarts(self, world, another, clock):
        """A new process looks at the ledger, not at its own clock."""
        clock.forward(SIX_HOURS - 2 * MINUTE)
        restarted = another()
        restarted.reconcile.turn()
        assert len(ledger(restarted)) == 1

        clock.forward(2 * MINUTE)
        restarted.reconcile.turn()
        assert [one.reason for one in ledger(restarted)] == ["first", "interval"]

    def test_law_9_of_many_that_look_at_once_one_begins(self, world, another, clock):
        """The ledger has room for one run under way."""
        clock.forward(SIX_HOURS)
        services = [another() for _ in range(4)]
        start = threading.Barrier(4)

        def look(service: Service) -> None:
            start.wait()
            service.reconcile.turn()

        threads = [threading.Thread(target=look, args=[one]) for one in services]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

        assert len(ledger(world.service)) == 2

    def test_law_9_a_run_whose_process_died_goes_on_at_the_last_committed_page(self, world, another, clock):
        """Pages that were through are not asked for again."""
        account = populated(1, 300, now=clock.now - DAY)
        world.connect(Account(1, packages=0, quirks=Quirks(list_largest=20)).hold(account.packages()))
        world.service.reconcile.begin(Asked(backfill=True))
        for _ in range(4):
            assert world.service.reconcile.turn()
        first = list(world.asked)
        with world.service.database.write() as connection:  # it took the next step, and was never seen again
            assert reconciles.take(connection, now=clock.now, lease=10 * MINUTE, process="gone")
        world.asked.clear()
        survivor = another()
        assert survivor.reconcile.turn() is False, "the lease holds"
        clock.forward(11 * MINUTE)
        assert survivor.reconcile.turn()

        assert not {one.partition("&")[0] for one in first[:4]} & {one.partition("&")[0] for one in world.asked}
        world.reconcile()
        assert world.differences() == []

    def test_law_9_who_was_not_seen_for_a_minute_has_no_run_any_more(self, world, another, clock):
        """A process that was killed says no good-bye, but it does not beat either."""
        dead = another()
        dead.presence.beat()
        dead.reconcile.begin(Asked())
        with dead.database.write() as connection:
            reconciles.take(connection, now=clock.now, lease=10 * MINUTE, process=dead.presence.name)
        clock.forward(61 * SECOND)

        assert another().reconcile.turn()

    def test_law_9_the_late_owner_of_a_run_commits_nothing(self, world, another, clock, monkeypatch):
        """Its answer comes after somebody else has taken the run over."""
        held(world, 5)
        clock.forward(SIX_HOURS)
        late = another()
        ask = late.reconcile._onespan.packages

        def slowly(**query: object) -> object:
            monkeypatch.undo()
            answer = ask(**query)
            clock.forward(11 * MINUTE)
            world.reconcile()
            return answer

        monkeypatch.setattr(late.reconcile._onespan, "packages", slowly)
        before = counts(world.service)

        assert late.reconcile.turn() is False
        assert counts(world.service) == before
        assert [one.state for one in ledger(late)] == ["done"] * 3


class TestOutages:
    """After a time in which callbacks may have been lost, nobody waits for the interval."""

    def test_after_our_own_downtime_it_catches_up_at_once(self, world, another, clock):
        """Nobody took callbacks for two minutes."""
        world.service.presence.open_door()
        world.service.presence.beat()
        clock.forward(2 * MINUTE)
        restarted = another()
        restarted.presence.open_door()
        restarted.presence.beat()
        restarted.reconcile.turn()

        assert [one.reason for one in ledger(restarted)] == ["first", "outage"]

    def test_a_restart_is_no_outage(self, world, another, clock):
        """A deployment takes seconds."""
        world.service.presence.open_door()
        world.service.presence.beat()
        clock.forward(20 * SECOND)
        restarted = another()
        restarted.presence.open_door()
        restarted.presence.beat()

        assert restarted.reconcile.turn() is False

    def test_while_another_takes_callbacks_nobody_is_down(self, world, another, clock):
        """One of two processes was away."""
        one, other = another(), another()
        for service in (one, other):
            service.presence.open_door()
            service.presence.beat()
        for _ in range(10):
            clock.forward(30 * SECOND)
            other.presence.beat()
        another().presence.beat()
        one.presence.beat()

        assert one.reconcile.turn() is False

    def test_a_worker_that_takes_no_callbacks_does_not_hide_that_the_door_was_shut(self, world, another, clock):
        """`flask worker` lives on while gunicorn is down."""
        world.service.presence.open_door()
        world.service.presence.beat()
        worker = another()
        for _ in range(10):
            clock.forward(30 * SECOND)
            worker.presence.beat()
        restarted = another()
        restarted.presence.open_door()
        restarted.presence.beat()

        assert restarted.reconcile.turn()
        assert ledger(restarted)[-1].reason == "outage"

    def test_when_onespan_answers_again_it_catches_up(self, world, clock):
        """A read had to wait; who knows what else could not reach us."""
        faults = Faults(Random(1))
        world.connect(Account(1, packages=0), faults)
        faults.outage = "503"
        world.post(b'{"name": "PACKAGE_ACTIVATE", "packageId": "p", "createdDate": "2026-03-02T13:00:00.000Z"}')
        world.settle()
        clock.forward(2 * MINUTE)
        world.settle()
        faults.outage = None
        clock.forward(HOUR)
        world.account.hold([replace(populated(1, 1, now=clock.now).packages()[0], id="p")])
        world.settle()
        world.service.reconcile.turn()

        assert ledger(world.service)[-1].reason == "outage"

    def test_a_run_that_meets_an_outage_waits_and_goes_on(self, world, clock):
        """It says what it waits for."""
        faults = Faults(Random(1))
        account = populated(1, 30, now=clock.now - DAY)
        world.connect(account, faults)
        faults.outage = "503"
        world.service.reconcile.begin(Asked(backfill=True))
        assert world.service.reconcile.turn() is False
        assert "is unavailable" in ledger(world.service)[-1].error
        assert world.service.reconcile.turn() is False, "it waits"

        faults.outage = None
        clock.forward(WAITS[0])
        world.reconcile()
        assert world.differences() == []
        assert ledger(world.service)[-1].error is None

    def test_a_folder_that_is_refused_holds_up_no_other(self, world, clock, monkeypatch):
        """Templates may need a right of their own; the packages are known all the same."""
        account = populated(1, 30, now=clock.now - DAY)
        world.connect(account)
        ask = world.handlers.onespan.packages

        def refused(**query: object) -> object:
            if "type" in query:
                raise NotPermitted("403")
            return ask(**query)

        monkeypatch.setattr(world.handlers.onespan, "packages", refused)
        world.service.reconcile.begin(Asked(backfill=True))
        for _ in range(20):
            while world.service.reconcile.turn():
                pass
            world.settle()
            clock.forward(HOUR)

        assert ledger(world.service)[1].state == "done"
        assert [one for one in world.differences() if "not known" not in one] == []

    def test_a_spool_that_was_drained_is_an_outage(self, service, client, clock, monkeypatch):
        """The database was away; what came then was kept, but who knows."""
        monkeypatch.setattr(Writer, "keep", lambda *_: (_ for _ in ()).throw(TimeoutError("away")))
        headers = {"Authorization": "Basic the-callback-key"}
        body = {"name": "PACKAGE_CREATE", "packageId": "p"}
        assert client.post("/onespan/callback", json=body, headers=headers).json == {"callback": None}
        monkeypatch.undo()
        service.intake.drain()

        with service.database.read() as connection:
            assert outages.last_end(connection, now=clock.now) == clock.now
            assert outages.touching(connection, clock.now, clock.now) == {"spooled"}


class TestWindow:
    """The watermark moves only when all until then is known."""

    def test_it_moves_when_the_run_is_done_and_not_before(self, world, clock):
        """A package that is still to be read singly holds it up."""
        account = lost(world, quirks=Quirks(list_items="summary"))
        clock.forward(SIX_HOURS)
        before = ledger(world.service)[-1].until
        while world.service.reconcile.turn():
            pass
        (_, run) = ledger(world.service)
        assert run.state == "running"
        assert run.asked >= len([one for one in account.packages() if not one.deleted])

        world.reconcile()
        (_, run) = ledger(world.service)
        assert run.state == "done"
        assert run.until > before

    def test_one_that_leaves_a_gap_does_not_move_it(self, world, clock):
        """`--since` yesterday says nothing of the week before."""
        clock.forward(7 * DAY)
        world.reconcile(Asked(since=clock.now - DAY))
        assert ledger(world.service)[-1].until is None

        clock.forward(SIX_HOURS)
        world.reconcile()
        first, _, run = ledger(world.service)
        assert run.since == first.until - DAY

    def test_a_list_that_is_late_undoes_no_callback(self, world, clock):
        """It shows what was before."""
        account = Account(3, packages=1, quirks=Quirks(list_lag=120))
        world.connect(account)
        for body in world.live(drop=0, dice=Random(1)):
            world.post(body)
        world.settle()
        world.reconcile(Asked())

        assert world.differences() == []

    def test_a_package_that_cannot_be_read_is_skipped_and_said(self, world, clock, monkeypatch):
        """It is never fatal to the run; it is tried again later."""
        account = held(world, 5, quirks=Quirks(list_items="summary"))
        victim = next(one.id for one in account.packages() if one.status == "COMPLETED" and not one.trashed)
        world.act(victim, "archive")
        ask = world.handlers.onespan.package

        def garbled(package_id: str) -> object:
            if package_id == victim:
                raise UnreadableAnswer("it is not JSON")
            return ask(package_id)

        monkeypatch.setattr(world.handlers.onespan, "package", garbled)
        clock.forward(SIX_HOURS)
        world.reconcile()
        run = ledger(world.service)[-1]
        assert (run.state, run.unreadable) == ("done", 1)

        monkeypatch.undo()
        clock.forward(HOUR)
        world.settle()
        assert world.picture(victim).status == "ARCHIVED"

    def test_it_keeps_to_its_budget_and_leaves_room_for_single_reads(self, settings, handlers, post, clock, service):
        """So many requests a minute, four fifths of them for the list."""
        world = World(service, post, handlers=handlers, clock=clock)
        account = populated(1, 300, now=clock.now - DAY)
        world.connect(Account(1, packages=0, quirks=Quirks(list_largest=10)).hold(account.packages()))
        service.reconcile._budget = service.refresh._budget = Budget(10)
        while service.reconcile.turn():
            pass
        assert len(world.asked) == 8

        post(b'{"name": "PACKAGE_ACTIVATE", "packageId": "p", "createdDate": "2026-03-02T12:00:00.000Z"}')
        service.digest.turn()
        clock.forward(3 * SECOND)
        service.refresh.turn()
        assert world.asked[-1] == "/api/packages/p?"

        clock.forward(MINUTE)
        assert service.reconcile.turn()


def test_no_two_runs_are_ever_under_way(world):
    """Whoever asks meanwhile is told so."""
    assert world.service.reconcile.begin(Asked())
    assert world.service.reconcile.begin(Asked()) is None
    with world.service.database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(Run).where(Run.state == "running")) == 1
