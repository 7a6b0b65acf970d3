"""Reconcile finds what callbacks missed, with a few list requests, once per interval, in one process."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import func, select

from app import EXTENSION, Service, create_app
from app.errors import NotPermitted, UnreadableAnswer
from app.simulator.account import Account
from app.simulator.faults import Faults
from app.simulator.population import populated
from app.simulator.quirks import Quirks
from app.store import fetches, outages, queries, reconciles
from app.store.journal import Writer
from app.store.models import Change, Dispatch, Event, Journal, Run
from app.store.request_budget import Budget
from app.work.fetch_failures import FETCH_RETRY_DELAYS
from app.work.reconcile import RunRequest
from tests.conftest import HOUR, in_all, on_both, on_sqlite_first
from tests.support.simulation import ADDRESS, API_KEY, MINUTE, SECOND, ChangedAnswer, Simulation

DAY = timedelta(days=1)
SIX_HOURS = 6 * HOUR


@pytest.fixture
def settings(settings):
    """Settings that connect the service to OneSpan."""
    return settings.model_copy(
        update={
            "onespan_url": ADDRESS,
            "onespan_api_key": SecretStr(API_KEY),
            "onespan_requests_per_minute": 10_000,
        }
    )


@pytest.fixture
def simulation(service, post, handlers, clock):
    """A simulation whose service received callbacks from the start and has imported an empty account."""
    simulation = Simulation(service, post, handlers=handlers, clock=clock)
    simulation.post(b'{"name": "PACKAGE_CREATE", "packageId": "before", "createdDate": "2026-03-02T12:00:00.000Z"}')
    simulation.settle()
    simulation.reconcile()
    clock.forward(MINUTE)
    return simulation


@pytest.fixture
def start_process(settings, handlers, clock) -> Iterator[Callable[[], Service]]:
    """Return a function that starts an app on the same database, like a new process or a restart of the service."""
    services = []

    def start_process() -> Service:
        services.append(create_app(settings, handlers=handlers, clock=clock).extensions[EXTENSION])
        return services[-1]

    yield start_process
    for service in services:
        service.database.close()


def row_counts(service: Service) -> Counter[str]:
    """Count the rows of the tables that grow only when something happens."""
    with service.database.read() as connection:
        tables = (Event, Dispatch, Change, Journal)
        return Counter(
            {table.__tablename__: connection.scalar(select(func.count()).select_from(table)) for table in tables}
        )


def all_runs(service: Service) -> list[queries.RunDetail]:
    """Return all reconcile runs, the oldest first."""
    with service.database.read() as connection:
        return queries.run_page(connection, limit=100, before=None)[::-1]


def lose_all_callbacks(
    simulation: Simulation, seed: int = 1, *, packages: int = 3, quirks: Quirks | None = None
) -> Account:
    """Connect an account, simulate its packages to their end and lose every callback."""
    account = Account(seed, packages=packages, **({"quirks": quirks} if quirks else {}))
    simulation.connect(account)
    simulation.live(drop=1, dice=Random(seed))
    simulation.settle()
    return account


def import_account(
    simulation: Simulation, size: int, *, quirks: Quirks | None = None, faults: Faults | None = None
) -> Account:
    """Connect an account with `size` packages and import them all."""
    packages = populated(1, size, now=simulation.clock.now - 40 * DAY).packages()
    account = Account(1, packages=0, **({"quirks": quirks} if quirks else {})).load(packages)
    simulation.connect(account, faults)
    simulation.reconcile(RunRequest(backfill=True))
    return account


def archivable(account: Account) -> list[str]:
    """Return the ids of the packages that can be archived."""
    return [package.id for package in account.packages() if package.status == "COMPLETED" and not package.trashed]


class TestLaw5:
    """After a reconcile run, the status store equals the state at OneSpan."""

    @pytest.mark.parametrize("seed", [1])
    @pytest.mark.parametrize("drop", [0.3, 1.0])
    @pytest.mark.parametrize("items", ["whole", "summary"])
    def test_law_5_after_a_run_the_status_store_equals_onespan(self, simulation, runner, items, drop, seed):
        """The status store equals OneSpan after a run, even if some or all callbacks of ten packages are lost."""
        simulation.connect(Account(seed, packages=10, quirks=Quirks(list_items=items)))
        simulation.live(drop=drop, dice=Random(seed))
        simulation.settle()
        simulation.clock.forward(SIX_HOURS)
        simulation.reconcile()

        assert simulation.differences() == []
        assert runner.invoke(args=["rebuild", "--check"]).exit_code == 0

    def test_law_5_changes_that_only_the_list_shows_are_stored(self, simulation):
        """A run finds that a package is no longer archived, although no event reports the change."""
        account = lose_all_callbacks(simulation, packages=12)
        simulation.reconcile(RunRequest())
        archived = next(
            package for package in account.packages() if package.status == "ARCHIVED" and not package.deleted
        )
        before = Counter(simulation.handled.get(archived.id, Counter()))
        simulation.act(archived.id, "unarchive")
        simulation.reconcile(RunRequest())

        assert simulation.stored_package(archived.id).status == "COMPLETED"
        assert simulation.handled.get(archived.id, Counter()) == before

    def test_law_5_unlisted_package_is_fetched_and_then_deleted(self, simulation):
        """A package that the list leaves out is deleted only if a request for the package answers 404."""
        account = import_account(simulation, 5)
        deleted = account.packages()[0].id
        simulation.clock.forward(SIX_HOURS)
        simulation.act(deleted, "delete")
        simulation.requests.clear()
        simulation.reconcile(RunRequest(backfill=True))

        assert simulation.stored_package(deleted).deleted
        assert [request for request in simulation.requests if "/api/packages/" in request] == [
            f"/api/packages/{deleted}?"
        ]
        assert simulation.handled[deleted]["PACKAGE_DELETE"] == 1

    @pytest.mark.parametrize("name", ["PACKAGE_DELETE", "PACKAGE_TRASH"])
    @pytest.mark.parametrize("items", ["whole", "summary"])
    @pytest.mark.parametrize("age", [timedelta(0), 3 * DAY], ids=["listed", "too old to be listed"])
    def test_law_5_false_callback_is_corrected(self, simulation, name, items, age):
        """A run fetches a package whose newest callback is confirmed by no answer of OneSpan."""
        account = import_account(simulation, 8, quirks=Quirks(list_items=items))
        package = next(package for package in account.packages() if package.status == "COMPLETED")
        account.load([replace(package, updated=simulation.clock.now)])
        simulation.reconcile(RunRequest(backfill=True))
        simulation.clock.forward(age)
        simulation.reconcile(RunRequest())
        before = simulation.stored_package(package.id)
        simulation.post(*simulation.act(package.id, "lie", text=name))
        simulation.settle()
        false = simulation.stored_package(package.id)
        assert (false.deleted, false.trashed) != (before.deleted, before.trashed)

        simulation.clock.forward(SIX_HOURS)
        simulation.reconcile()

        assert simulation.differences() == []

    @pytest.mark.parametrize("name", ["PACKAGE_DELETE", "PACKAGE_TRASH"])
    def test_law_5_false_callback_from_before_the_window_is_corrected(self, simulation, name):
        """A callback that arrives days after its date makes the service fetch its package: no run would look for it."""
        package = import_account(simulation, 5).packages()[0]
        simulation.clock.forward(3 * DAY)
        lies = simulation.act(package.id, "lie", text=name)
        simulation.clock.forward(3 * DAY)
        simulation.reconcile(RunRequest())
        simulation.post(*lies)
        simulation.settle()
        simulation.clock.forward(SIX_HOURS)
        simulation.reconcile()

        assert simulation.differences() == []

    def test_law_5_second_completion_is_corrected_at_once(self, simulation):
        """A package is complete once, so a callback with another date of its completion makes the service fetch it."""
        account = import_account(simulation, 8)
        package = next(package for package in account.packages() if package.status == "COMPLETED")
        simulation.clock.forward(3 * DAY)
        simulation.requests.clear()
        simulation.post(*simulation.act(package.id, "lie", text="PACKAGE_COMPLETE"))
        simulation.settle()

        assert [request for request in simulation.requests if package.id in request]
        assert simulation.differences() == []

    def test_law_5_callback_after_a_deletion_makes_a_run_ask_again(self, simulation):
        """A package that was found deleted is fetched again after a callback about it, such as an email's bounce."""
        account = import_account(simulation, 5)
        before = account.packages()[0]
        package_id = before.id
        simulation.act(package_id, "delete")
        simulation.reconcile(RunRequest(backfill=True))
        assert simulation.stored_package(package_id).deleted

        account.load([before])  # brought back as it was, so no list of changes shows it
        simulation.clock.forward(3 * DAY)
        simulation.reconcile()
        assert simulation.stored_package(package_id).deleted
        simulation.post(*simulation.act(package_id, "lie", text="EMAIL_BOUNCE"))
        simulation.settle()
        simulation.clock.forward(SIX_HOURS)
        simulation.reconcile()

        assert not simulation.stored_package(package_id).deleted

    @pytest.mark.parametrize("items", ["whole", "summary"])
    @pytest.mark.parametrize("answer", ["404", "403"])
    @pytest.mark.parametrize(("verb", "name"), [("delete", ""), ("lie", "EMAIL_BOUNCE"), ("lie", "PACKAGE_DELETE")])
    def test_law_5_unconfirmed_callback_costs_one_request(self, simulation, items, answer, verb, name):
        """A run fetches a package that the list of changes does not show once after a callback, not each time."""
        account = import_account(simulation, 5, quirks=Quirks(list_items=items, deleted_answer=answer))
        package_id = account.packages()[0].id
        simulation.clock.forward(SIX_HOURS)
        simulation.post(*simulation.act(package_id, verb, text=name))
        simulation.settle()
        simulation.requests.clear()
        for _ in range(3):
            simulation.clock.forward(SIX_HOURS)
            simulation.reconcile()

        requests = [request for request in simulation.requests if package_id in request]
        assert requests == [f"/api/packages/{package_id}?"]
        assert simulation.differences() == []

    def test_law_5_deleted_package_that_was_read_in_part_is_requested_once(self, simulation):
        """The answer that a package is deleted ends the search for what the last answer did not show."""
        account = import_account(simulation, 8)
        package_id = next(package.id for package in account.packages() if package.status == "COMPLETED")
        simulation.clock.forward(3 * DAY)
        simulation.connect(account, Faults(Random(0), {"wrong-types": 1.0}))
        simulation.post(*simulation.act(package_id, "lie", text="PACKAGE_COMPLETE"))
        simulation.settle()
        simulation.connect(account)
        simulation.act(package_id, "delete")
        simulation.reconcile(RunRequest(backfill=True))
        assert simulation.stored_package(package_id).deleted
        simulation.requests.clear()
        simulation.clock.forward(SIX_HOURS)
        simulation.reconcile()

        assert [request for request in simulation.requests if package_id in request] == []

    def test_law_5_answer_of_a_lagging_api_confirms_nothing(self, simulation):
        """The package was read just after the callback, as it was before. A later run reads it again."""
        account = import_account(simulation, 5, quirks=Quirks(package_lag=60, trash_updated="stays"))
        package_id = next(package.id for package in account.packages() if not package.trashed)
        simulation.clock.forward(SIX_HOURS)
        simulation.reconcile()
        simulation.post(*simulation.act(package_id, "trash"))
        with simulation.service.database.write() as connection:
            fetches.enqueue(connection, {package_id: "asked"}, now=simulation.clock.now)
        simulation.settle()
        assert not simulation.stored_package(package_id).trashed

        simulation.clock.forward(SIX_HOURS)
        simulation.reconcile()

        assert simulation.differences() == []

    @pytest.mark.parametrize("part", ["approvals", "roles", "name"])
    def test_law_5_partly_unreadable_answer_confirms_nothing(self, simulation, part):
        """A package whose signatures, roles or name could not be read is fetched again in the next run."""
        account, spoiled = Account(1, packages=3, quirks=Quirks(list_items="summary")), [True]
        simulation.connect(account)
        simulation.live(drop=1, dice=Random(1))

        def spoil(environ: Any, answer: ChangedAnswer) -> None:
            if spoiled and "/api/packages/" in environ["PATH_INFO"]:
                package = json.loads(answer.body)
                if part == "approvals":
                    for document in package.get("documents", ()):
                        document["approvals"] = ["odd", *document["approvals"][1:]]
                else:
                    package[part] = {"odd": True}
                answer.body = json.dumps(package).encode()

        simulation.change_answers(spoil)
        simulation.reconcile(RunRequest())
        assert simulation.differences() != []
        spoiled.clear()
        simulation.clock.forward(SIX_HOURS)
        simulation.reconcile()

        assert simulation.differences() == []

    @pytest.mark.parametrize("items", ["summary", *in_all("whole")])
    def test_rows_of_the_list_are_confirmed_once(self, simulation, items):
        """The weekly list of all ids causes no fetch of packages whose callbacks a run has confirmed."""
        account = import_account(simulation, 4, quirks=Quirks(list_items=items))
        account.load([replace(package, updated=simulation.clock.now) for package in account.packages()])
        simulation.clock.forward(SIX_HOURS)
        simulation.reconcile()
        for package in account.packages():
            simulation.post(*simulation.act(package.id, "lie", text="EMAIL_BOUNCE"))
        simulation.settle()
        simulation.clock.forward(SIX_HOURS)
        simulation.reconcile()
        simulation.requests.clear()
        for _ in range(28):
            simulation.clock.forward(SIX_HOURS)
            simulation.reconcile()

        assert "sweep" in {run.kind for run in all_runs(simulation.service)}
        assert [request for request in simulation.requests if "/api/packages/" in request] == []

    def test_law_10_a_403_is_not_a_deletion(self, simulation):
        """A 403 is not a deletion of a package, because the credentials may have lost a permission."""
        account = import_account(simulation, 5, quirks=Quirks(deleted_answer="403"))
        forbidden = account.packages()[0].id
        simulation.act(forbidden, "delete")
        simulation.reconcile(RunRequest(backfill=True))

        assert not simulation.stored_package(forbidden).deleted

    def test_law_10_a_404_does_not_delete_a_package_never_read_before(self, simulation):
        """A 404 does not delete a package that a callback named, but no fetch ever returned."""
        simulation.connect(Account(1, packages=0))
        simulation.post(
            b'{"name": "PACKAGE_ACTIVATE", "packageId": "hidden", "createdDate": "2026-03-02T13:00:00.000Z"}'
        )
        simulation.reconcile(RunRequest())

        assert not simulation.stored_package("hidden").deleted

    def test_forbidden_package_is_not_fetched_again_without_a_reason(self, simulation):
        """A package that the credentials may not read costs one request, not one per run."""
        simulation.connect(Account(1, packages=0))
        simulation.post(
            b'{"name": "PACKAGE_ACTIVATE", "packageId": "hidden", "createdDate": "2026-03-02T13:00:00.000Z"}'
        )
        simulation.reconcile(RunRequest())
        simulation.requests.clear()
        simulation.reconcile(RunRequest())

        assert [request for request in simulation.requests if "hidden" in request] == []

    def test_all_package_ids_are_listed_once_a_week(self, simulation, clock):
        """The weekly sweep finds a package that no callback named and no run listed."""
        account = import_account(simulation, 5)
        account.load([replace(account.packages()[0], id="overlooked", updated=clock.now - 30 * DAY)])
        clock.forward(SIX_HOURS)
        simulation.reconcile()
        assert simulation.stored_package("overlooked") is None

        clock.forward(7 * DAY)
        simulation.reconcile()

        assert all_runs(simulation.service)[-1].kind == "sweep"
        assert simulation.stored_package("overlooked") is not None


class TestLaw6:
    """Every handler runs once for each event."""

    @pytest.mark.parametrize("seed", range(2))
    def test_law_6_event_found_by_reconcile_and_reported_late_is_handled_once(self, simulation, seed):
        """Callbacks that arrive after reconcile has found their events run no handler again."""
        simulation.connect(Account(seed, packages=10))
        late = simulation.live(drop=0.5, dice=Random(seed))
        simulation.settle()
        simulation.reconcile(RunRequest())
        handled = {
            package_id: Counter(names) for package_id, names in simulation.handled.items() if package_id != "before"
        }
        assert all(names <= simulation.happened[package_id] for package_id, names in handled.items())
        Random(seed).shuffle(late)
        simulation.post(*late)
        simulation.settle()
        simulation.reconcile(RunRequest())

        assert {
            package_id: names for package_id, names in simulation.handled.items() if package_id != "before"
        } == simulation.happened

    def test_law_6_first_import_runs_no_handlers(self, service, post, handlers, clock):
        """Events from before the first import run no handlers."""
        simulation = Simulation(service, post, handlers=handlers, clock=clock)
        account = populated(1, 120, now=clock.now)
        simulation.connect(account)
        simulation.reconcile()

        assert simulation.differences() == []
        assert simulation.handled == {}
        (run,) = all_runs(service)
        assert (run.kind, run.reason, run.state, run.shown) == ("backfill", "first", "done", run.shown)
        assert run.changed >= 100

    def test_law_6_events_after_the_import_of_an_empty_account_run_handlers(self, service, post, handlers, clock):
        """Events after the import of an empty account run handlers, even if every callback is lost."""
        simulation = Simulation(service, post, handlers=handlers, clock=clock)
        simulation.reconcile()
        simulation.connect(Account(0, packages=1))
        simulation.step()
        clock.forward(SIX_HOURS)
        simulation.reconcile()

        assert simulation.handled == simulation.happened

    def test_law_6_event_lost_after_the_import_runs_handlers(self, simulation, clock):
        """An imported package that changes later runs handlers, even if the callback is lost."""
        account = import_account(simulation, 30)
        package_id = archivable(account)[0]
        simulation.act(package_id, "archive")
        clock.forward(SIX_HOURS)
        simulation.reconcile()

        assert simulation.handled[package_id] == {"PACKAGE_ARCHIVE": 1}

    def test_law_6_import_that_fires_handles_every_event_once(self, service, post, handlers, clock):
        """An import with `--fire` runs handlers for the creation and the completion of a completed package."""
        simulation = Simulation(service, post, handlers=handlers, clock=clock)
        account = populated(1, 20, now=clock.now)
        simulation.connect(account)
        simulation.reconcile(RunRequest(backfill=True, fires=True))

        handled = {package_id: Counter(names) for package_id, names in simulation.handled.items()}
        for package in account.packages():
            if package.status == "COMPLETED" and package.type == "PACKAGE":
                assert handled[package.id]["PACKAGE_COMPLETE"] == handled[package.id]["PACKAGE_CREATE"] == 1
        simulation.reconcile(RunRequest(backfill=True, fires=True))
        assert simulation.handled == handled

    def test_law_6_import_without_handlers_can_fire_later(self, service, post, handlers, clock):
        """After an import without handlers, an import with `--fire` runs the handlers."""
        simulation = Simulation(service, post, handlers=handlers, clock=clock)
        simulation.connect(populated(1, 20, now=clock.now))
        simulation.reconcile()
        assert simulation.handled == {}
        simulation.reconcile(RunRequest(backfill=True, fires=True))

        assert sum(sum(names.values()) for names in simulation.handled.values()) > 20

    def test_law_6_unchanged_packages_cost_four_requests_and_run_no_handlers(self, simulation, clock):
        """A run over unchanged packages requests one page of each folder, and no single package."""
        import_account(simulation, 50)
        before, handled = row_counts(simulation.service), dict(simulation.handled)
        simulation.requests.clear()
        clock.forward(SIX_HOURS)
        simulation.reconcile()

        assert len(simulation.requests) == 4
        assert row_counts(simulation.service) == before
        assert simulation.handled == handled

    @pytest.mark.all
    @pytest.mark.parametrize("items", ["summary", "whole"])
    def test_unchanged_account_costs_one_request_per_hundred_packages(self, simulation, items):
        """A run fetches no unchanged package, whether the list has whole packages or summaries."""
        account = import_account(simulation, 230, quirks=Quirks(list_items=items))
        simulation.requests.clear()
        simulation.reconcile(RunRequest(backfill=True))
        folders = Counter((package.type, package.trashed) for package in account.packages() if not package.deleted)

        assert not [request for request in simulation.requests if "/api/packages/" in request]
        assert len(simulation.requests) <= sum(-(-number // 100) + 1 for number in folders.values()) + 4


@on_both
class TestLaw9:
    """Reconcile runs once per interval in one process, even when processes die."""

    def test_law_9_the_interval_survives_restarts(self, simulation, start_process, clock):
        """A new process reads the time of the last reconcile run from the database."""
        clock.forward(SIX_HOURS - 2 * MINUTE)
        restarted = start_process()
        restarted.reconcile.turn()
        assert len(all_runs(restarted)) == 1

        clock.forward(2 * MINUTE)
        restarted.reconcile.turn()
        assert [run.reason for run in all_runs(restarted)] == ["first", "interval"]

    def test_law_9_one_of_several_processes_begins_the_run(self, simulation, start_process, clock):
        """Only one of several processes begins a run, because the database allows one running run."""
        clock.forward(SIX_HOURS)
        services = [start_process() for _ in range(4)]
        start = threading.Barrier(4)

        def take_turn(service: Service) -> None:
            start.wait()
            service.reconcile.turn()

        threads = [threading.Thread(target=take_turn, args=[service]) for service in services]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

        assert len(all_runs(simulation.service)) == 2

    @on_sqlite_first
    def test_law_9_run_of_a_dead_process_goes_on_at_the_last_committed_page(self, simulation, start_process, clock):
        """A process that continues the run of a dead process does not request committed pages again."""
        account = populated(1, 300, now=clock.now - DAY)
        simulation.connect(Account(1, packages=0, quirks=Quirks(list_largest=20)).load(account.packages()))
        simulation.service.reconcile.begin(RunRequest(backfill=True))
        for _ in range(4):
            assert simulation.service.reconcile.turn()
        before = list(simulation.requests)
        with simulation.service.database.write() as connection:  # as if a process died during its turn
            assert reconciles.take(connection, now=clock.now, lease=10 * MINUTE, process="dead")
        simulation.requests.clear()
        other = start_process()
        assert other.reconcile.turn() is False, "the lease holds"
        clock.forward(11 * MINUTE)
        assert other.reconcile.turn()

        pages_before, pages_after = (
            {request.partition("&")[0] for request in requests} for requests in (before[:4], simulation.requests)
        )
        assert not pages_before & pages_after
        simulation.reconcile()
        assert simulation.differences() == []

    def test_law_9_process_without_heartbeat_for_a_minute_loses_its_run(self, simulation, start_process, clock):
        """A killed process loses its run after a minute, because its heartbeats end."""
        dead = start_process()
        dead.heartbeat.beat()
        dead.reconcile.begin(RunRequest())
        with dead.database.write() as connection:
            reconciles.take(connection, now=clock.now, lease=10 * MINUTE, process=dead.heartbeat.name)
        clock.forward(61 * SECOND)

        assert start_process().reconcile.turn()

    def test_law_9_late_owner_of_a_run_commits_nothing(self, simulation, start_process, clock, monkeypatch):
        """A process commits nothing if another process took over its run before OneSpan's answer arrived."""
        import_account(simulation, 5)
        clock.forward(SIX_HOURS)
        late = start_process()
        list_packages = late.reconcile._onespan.packages

        def answer_late(**query: object) -> object:
            monkeypatch.undo()
            answer = list_packages(**query)
            clock.forward(11 * MINUTE)
            simulation.reconcile()
            return answer

        monkeypatch.setattr(late.reconcile._onespan, "packages", answer_late)
        before = row_counts(simulation.service)

        assert late.reconcile.turn() is False
        assert row_counts(simulation.service) == before
        assert [run.state for run in all_runs(late)] == ["done"] * 3


class TestOutages:
    """After an outage that may have lost callbacks, a run begins before the interval ends."""

    def test_run_begins_at_once_after_downtime_of_the_service(self, simulation, start_process, clock):
        """A reconcile run begins at once if no process received callbacks for two minutes."""
        simulation.service.heartbeat.mark_as_receiver()
        simulation.service.heartbeat.beat()
        clock.forward(2 * MINUTE)
        restarted = start_process()
        restarted.heartbeat.mark_as_receiver()
        restarted.heartbeat.beat()
        restarted.reconcile.turn()

        assert [run.reason for run in all_runs(restarted)] == ["first", "outage"]

    def test_restart_is_not_an_outage(self, simulation, start_process, clock):
        """A restart of the service is not an outage, because a deployment takes only seconds."""
        simulation.service.heartbeat.mark_as_receiver()
        simulation.service.heartbeat.beat()
        clock.forward(20 * SECOND)
        restarted = start_process()
        restarted.heartbeat.mark_as_receiver()
        restarted.heartbeat.beat()

        assert restarted.reconcile.turn() is False

    def test_one_running_receiver_means_no_outage(self, simulation, start_process, clock):
        """There is no outage if one receiver process was down while another received callbacks."""
        down, running = start_process(), start_process()
        for service in (down, running):
            service.heartbeat.mark_as_receiver()
            service.heartbeat.beat()
        for _ in range(10):
            clock.forward(30 * SECOND)
            running.heartbeat.beat()
        start_process().heartbeat.beat()
        down.heartbeat.beat()

        assert down.reconcile.turn() is False

    def test_running_worker_does_not_hide_an_outage_of_the_receiver(self, simulation, start_process, clock):
        """The downtime of gunicorn is an outage, even if `flask worker` keeps running."""
        simulation.service.heartbeat.mark_as_receiver()
        simulation.service.heartbeat.beat()
        worker = start_process()
        for _ in range(10):
            clock.forward(30 * SECOND)
            worker.heartbeat.beat()
        restarted = start_process()
        restarted.heartbeat.mark_as_receiver()
        restarted.heartbeat.beat()

        assert restarted.reconcile.turn()
        assert all_runs(restarted)[-1].reason == "outage"

    def test_run_begins_when_onespan_answers_again(self, simulation, clock):
        """A run begins after an outage of OneSpan that delayed a fetch, because callbacks may have been lost."""
        faults = Faults(Random(1))
        simulation.connect(Account(1, packages=0), faults)
        faults.outage = "503"
        simulation.post(b'{"name": "PACKAGE_ACTIVATE", "packageId": "p", "createdDate": "2026-03-02T13:00:00.000Z"}')
        simulation.settle()
        clock.forward(2 * MINUTE)
        simulation.settle()
        faults.outage = None
        clock.forward(HOUR)
        simulation.account.load([replace(populated(1, 1, now=clock.now).packages()[0], id="p")])
        simulation.settle()
        simulation.service.reconcile.turn()

        assert all_runs(simulation.service)[-1].reason == "outage"

    def test_run_waits_during_an_outage_and_goes_on(self, simulation, clock):
        """A run that waits during an outage of OneSpan records the reason, and goes on after the outage."""
        faults = Faults(Random(1))
        account = populated(1, 30, now=clock.now - DAY)
        simulation.connect(account, faults)
        faults.outage = "503"
        simulation.service.reconcile.begin(RunRequest(backfill=True))
        assert simulation.service.reconcile.turn() is False
        assert "is unavailable" in all_runs(simulation.service)[-1].error
        assert simulation.service.reconcile.turn() is False, "the run waits"

        faults.outage = None
        clock.forward(FETCH_RETRY_DELAYS[0])
        simulation.reconcile()
        assert simulation.differences() == []
        assert all_runs(simulation.service)[-1].error is None

    def test_forbidden_folder_does_not_delay_other_folders(self, simulation, clock, monkeypatch):
        """A run stores packages even if the credentials lack the permission for templates."""
        account = populated(1, 30, now=clock.now - DAY)
        simulation.connect(account)
        list_packages = simulation.handlers.onespan.packages

        def refuse_templates(**query: object) -> object:
            if "type" in query:
                raise NotPermitted("403")
            return list_packages(**query)

        monkeypatch.setattr(simulation.handlers.onespan, "packages", refuse_templates)
        simulation.service.reconcile.begin(RunRequest(backfill=True))
        for _ in range(20):
            while simulation.service.reconcile.turn():
                pass
            simulation.settle()
            clock.forward(HOUR)

        assert all_runs(simulation.service)[1].state == "done"
        assert [difference for difference in simulation.differences() if "not known" not in difference] == []

    def test_drained_spool_is_an_outage(self, service, client, clock, monkeypatch):
        """The use of the spool counts as an outage, because other callbacks may have been lost."""
        monkeypatch.setattr(Writer, "keep", lambda *_: (_ for _ in ()).throw(TimeoutError("away")))
        headers = {"Authorization": "Basic the-callback-key"}
        body = {"name": "PACKAGE_CREATE", "packageId": "p"}
        assert client.post("/onespan/callback", json=body, headers=headers).json == {"callback": None}
        monkeypatch.undo()
        service.intake.drain()

        with service.database.read() as connection:
            assert outages.last_end(connection, now=clock.now) == clock.now
            assert outages.overlapping(connection, clock.now, clock.now) == {"spooled"}


class TestWindow:
    """The next run's window moves forward only when all changes before the window are stored."""

    def test_window_moves_only_when_the_run_is_done(self, simulation, clock):
        """The next run's window moves only when a run is done, after every listed package has been fetched."""
        account = lose_all_callbacks(simulation, quirks=Quirks(list_items="summary"))
        clock.forward(SIX_HOURS)
        before = all_runs(simulation.service)[-1].until
        while simulation.service.reconcile.turn():
            pass
        (_, run) = all_runs(simulation.service)
        assert run.state == "running"
        assert run.asked >= len([package for package in account.packages() if not package.deleted])

        simulation.reconcile()
        (_, run) = all_runs(simulation.service)
        assert run.state == "done"
        assert run.until > before

    def test_run_that_leaves_a_gap_does_not_move_the_window(self, simulation, clock):
        """A run with `--since` leaves a gap of six days, and therefore does not move the next run's window."""
        clock.forward(7 * DAY)
        simulation.reconcile(RunRequest(since=clock.now - DAY))
        assert all_runs(simulation.service)[-1].until is None

        clock.forward(SIX_HOURS)
        simulation.reconcile()
        first, _, run = all_runs(simulation.service)
        assert run.since == first.until - DAY

    def test_outdated_list_undoes_no_callback(self, simulation, clock):
        """A list that is two minutes old does not undo newer callbacks."""
        account = Account(3, packages=1, quirks=Quirks(list_lag=120))
        simulation.connect(account)
        for body in simulation.live(drop=0, dice=Random(1)):
            simulation.post(body)
        simulation.settle()
        simulation.reconcile(RunRequest())

        assert simulation.differences() == []

    def test_unreadable_package_is_skipped_and_counted(self, simulation, clock, monkeypatch):
        """A run skips and counts an unreadable package, which is fetched again later."""
        account = import_account(simulation, 5, quirks=Quirks(list_items="summary"))
        unreadable = archivable(account)[0]
        simulation.act(unreadable, "archive")
        get_package = simulation.handlers.onespan.package

        def garbled(package_id: str) -> object:
            if package_id == unreadable:
                raise UnreadableAnswer("it is not JSON")
            return get_package(package_id)

        monkeypatch.setattr(simulation.handlers.onespan, "package", garbled)
        clock.forward(SIX_HOURS)
        simulation.reconcile()
        run = all_runs(simulation.service)[-1]
        assert (run.state, run.unreadable) == ("done", 1)

        monkeypatch.undo()
        clock.forward(HOUR)
        simulation.settle()
        assert simulation.stored_package(unreadable).status == "ARCHIVED"

    def test_run_keeps_its_request_budget_and_allows_fetches(self, settings, handlers, post, clock, service):
        """A run uses eight of ten requests a minute for lists, so that fetches remain possible."""
        simulation = Simulation(service, post, handlers=handlers, clock=clock)
        account = populated(1, 300, now=clock.now - DAY)
        simulation.connect(Account(1, packages=0, quirks=Quirks(list_largest=10)).load(account.packages()))
        service.reconcile._budget = service.fetcher._budget = Budget(10)
        while service.reconcile.turn():
            pass
        assert len(simulation.requests) == 8

        post(b'{"name": "PACKAGE_ACTIVATE", "packageId": "p", "createdDate": "2026-03-02T12:00:00.000Z"}')
        service.digest.turn()
        clock.forward(3 * SECOND)
        service.fetcher.turn()
        assert simulation.requests[-1] == "/api/packages/p?"

        clock.forward(MINUTE)
        assert service.reconcile.turn()


def test_only_one_run_is_running_at_a_time(simulation):
    """A second request begins no run while another run is running."""
    assert simulation.service.reconcile.begin(RunRequest())
    assert simulation.service.reconcile.begin(RunRequest()) is None
    with simulation.service.database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(Run).where(Run.state == "running")) == 1
