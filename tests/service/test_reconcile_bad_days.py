"""One faulty package, header, list or clock at OneSpan does not affect the rest of reconcile."""

# ruff: noqa: F401, F811  (fixtures are imported and used by name)

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from random import Random
from typing import Any
from urllib.parse import parse_qs

import pytest
from sqlalchemy import delete, select

from app.checks import reconcile_note
from app.simulator.account import Account
from app.simulator.population import populated
from app.simulator.quirks import Quirks
from app.store import outages, queries
from app.store.models import Fetch, Outage, Run
from app.store.states import OutageKind
from app.work.fetch_failures import FETCH_RETRY_DELAYS
from app.work.reconcile import RunRequest
from tests.conftest import HOUR, TOKEN, in_all, on_sqlite, onespan_time
from tests.service.test_reconcile import (
    DAY,
    SIX_HOURS,
    all_runs,
    archivable,
    import_account,
    settings,
    simulation,
    start_process,
)
from tests.support.simulation import MINUTE, SECOND, ChangedAnswer, Simulation

BEARER = {"Authorization": f"Bearer {TOKEN}"}
HTML = b"<html>Sorry</html>"


def values(simulation: Simulation, column: Any) -> list[Any]:
    """Return the values of a table's column in all rows."""
    with simulation.service.database.read() as connection:
        return list(connection.execute(select(column)).scalars())


class TestUnreadablePackage:
    """A package that cannot be fetched delays no other package."""

    @pytest.mark.parametrize(
        ("status", "body", "kind"),
        [
            ("500 Internal Server Error", b"{}", "application/json"),
            *in_all(("200 OK", HTML, "text/html")),
        ],
    )
    def test_package_that_always_fails_does_not_stop_reconcile(self, simulation, status, body, kind):
        """A package that always fails is counted and fetched again, and the next run begins on time."""
        account = import_account(simulation, 40, quirks=Quirks(list_items="summary"))
        bad, other = archivable(simulation.account)[:2]
        simulation.refuse(bad, status=status, body=body, Content_Type=kind)
        simulation.act(bad, "archive")
        simulation.run_for(DAY, every=15 * MINUTE)
        simulation.act(other, "archive")
        simulation.run_for(DAY, every=15 * MINUTE)

        runs = [(run.state, run.unreadable) for run in all_runs(simulation.service)[2:]]
        assert len(runs) == 8
        assert set(runs[:-1]) == {("done", 1)}
        assert simulation.stored_package(other).status == "ARCHIVED"
        assert account.package(bad).status != simulation.stored_package(bad).status
        assert bad in values(simulation, Fetch.package_id)

    def test_unreadable_package_delays_no_other(self, simulation, clock):
        """A package that needs a fetch is fetched at once, although the fetch of another package fails."""
        simulation.connect(Account(1, packages=1))
        simulation.refuse("/poison")
        simulation.post(
            b'{"name": "PACKAGE_ACTIVATE", "packageId": "poison", "createdDate": "2026-03-02T12:00:00.000Z"}'
        )
        simulation.run_for(2 * HOUR)
        simulation.post(*simulation.step())
        simulation.requests.clear()
        simulation.run_for(10 * SECOND, every=SECOND)

        (package,) = simulation.account.packages()
        assert f"/api/packages/{package.id}?" in simulation.requests

    def test_unreadable_package_is_not_an_outage(self, simulation):
        """One unreadable package starts no additional run, because OneSpan answers for other packages."""
        simulation.connect(Account(1, packages=3))
        simulation.refuse("/poison")
        simulation.post(
            b'{"name": "PACKAGE_ACTIVATE", "packageId": "poison", "createdDate": "2026-03-02T12:00:00.000Z"}'
        )
        simulation.run_for(HOUR)
        simulation.post(*simulation.step())
        simulation.run_for(HOUR)

        assert OutageKind.UNREACHABLE not in values(simulation, Outage.kind)

    def test_after_two_failures_in_sequence_no_other_package_is_fetched(self, simulation, clock):
        """After two failed fetches in sequence, single requests check whether OneSpan answers again."""
        simulation.change_answers(lambda _, answer: setattr(answer, "status", "503 Service Unavailable"))
        for number in range(20):
            callback = {"name": "PACKAGE_ACTIVATE", "packageId": f"p{number}", "createdDate": onespan_time(clock.now)}
            simulation.post(json.dumps(callback).encode())
        simulation.settle()
        simulation.requests.clear()
        clock.forward(FETCH_RETRY_DELAYS[0])
        simulation.settle()

        assert len({request for request in simulation.requests if "/api/packages/" in request}) <= 2

    def test_run_waits_for_its_own_fetch_when_a_callback_needs_one_too(self, simulation, clock):
        """A run waits for its failed fetch of a package, even if a callback requests a fetch of the package too."""
        import_account(simulation, 40, quirks=Quirks(list_items="summary"))
        bad = archivable(simulation.account)[0]
        simulation.refuse(bad)
        simulation.act(bad, "archive")
        clock.forward(SIX_HOURS)
        for _ in range(20):
            clock.forward(2 * SECOND)
            simulation.service.reconcile.turn()
        callback = {"name": "PACKAGE_RESTORE", "packageId": bad, "createdDate": onespan_time(clock.now)}
        simulation.post(json.dumps(callback).encode())
        for _ in range(20):
            clock.forward(2 * SECOND)
            simulation.service.digest.turn()
            simulation.service.reconcile.turn()

        assert all_runs(simulation.service)[-1].state == "running"

    def test_package_that_is_not_available_yet_is_fetched_again_soon(self, simulation, clock):
        """A package is fetched again if OneSpan sends its callback before the API returns the package."""
        simulation.connect(Account(1, packages=1))
        is_missing = [True]

        def answer_not_found(environ: Any, answer: ChangedAnswer) -> None:
            if is_missing and environ["PATH_INFO"].startswith("/api/packages/"):
                answer.status, answer.body = "404 Not Found", b'{"code": 404, "messageKey": "error.notFound"}'

        simulation.change_answers(answer_not_found)
        simulation.post(*simulation.step())
        simulation.settle()
        is_missing.clear()
        (package,) = simulation.account.packages()
        assert simulation.stored_package(package.id).read_at is None
        clock.forward(MINUTE)
        simulation.settle()

        assert simulation.stored_package(package.id).read_at

    def test_package_deleted_before_its_first_fetch_is_fetched_once(self, simulation, clock):
        """A missing package is not fetched again if a callback has reported its deletion."""
        simulation.connect(Account(1, packages=1))
        simulation.post(*simulation.step())
        (package,) = simulation.account.packages()
        simulation.post(*simulation.act(package.id, "delete"))
        simulation.settle()
        clock.forward(MINUTE)
        simulation.settle()

        assert simulation.stored_package(package.id).deleted
        assert len([request for request in simulation.requests if f"/{package.id}" in request]) == 1


class TestIncompleteRows:
    """An incomplete row of OneSpan's list claims nothing about the parts that the row leaves out."""

    @pytest.mark.parametrize("cut", ["parts", "signers", *in_all("approvals", "no approvals")])
    def test_law_5_package_of_an_incomplete_row_is_fetched(self, simulation, clock, cut):
        """A package whose list row has an empty member is fetched, because the list may leave parts out."""

        def change(environ: Any, answer: ChangedAnswer) -> None:
            if environ["PATH_INFO"] == "/api/packages" and answer.status.startswith("200"):
                page = json.loads(answer.body)
                for row in page["results"]:
                    leave_out(row, cut)
                answer.body = json.dumps(page).encode()

        account = Account(1, packages=8)
        simulation.connect(account)
        simulation.change_answers(change)
        simulation.live(drop=0.3, dice=Random(1))
        simulation.settle()
        for _ in range(2):
            clock.forward(SIX_HOURS)
            simulation.reconcile()

        assert simulation.differences() == []
        for package_id, names in simulation.handled.items():
            assert package_id == "before" or names <= simulation.happened[package_id]

    def test_unchanged_incomplete_rows_cost_no_fetch(self, simulation, clock):
        """A package is not fetched if all members in its incomplete list row are unchanged."""
        import_account(simulation, 30)

        def change(environ: Any, answer: ChangedAnswer) -> None:
            if environ["PATH_INFO"] == "/api/packages" and answer.status.startswith("200"):
                page = json.loads(answer.body)
                page["results"] = [row | {"roles": [], "documents": []} for row in page["results"]]
                answer.body = json.dumps(page).encode()

        simulation.change_answers(change)
        simulation.requests.clear()
        simulation.reconcile(RunRequest(backfill=True))

        assert [request for request in simulation.requests if "/api/packages/" in request] == []


def leave_out(row: dict[str, Any], cut: str) -> None:
    """Remove the part that `cut` names from a row of the list, if the row has such a part."""
    if cut == "parts" and "roles" in row:
        row |= {"roles": [], "documents": []}
    for document in row.get("documents", ()):
        if cut == "approvals":
            document.pop("approvals", None)
        elif cut == "no approvals":
            document["approvals"] = []
    for role in row.get("roles", ()) if cut == "signers" else ():
        role["signers"] = []


class TestLists:
    """Reconcile finds every package, in whatever order OneSpan lists packages."""

    @pytest.mark.all
    def test_law_5_packages_changed_at_one_instant_may_come_in_any_order(self, simulation, clock):
        """A run finds all packages that changed at the same instant, in whatever order the list has them."""
        packages = populated(1, 400, now=clock.now - 40 * DAY).packages()
        account = Account(1, packages=0, quirks=Quirks(list_largest=0)).load(packages)
        simulation.connect(account)
        simulation.reconcile(RunRequest(backfill=True))
        clock.forward(SIX_HOURS)
        archived = [
            replace(account.package(package_id), status="ARCHIVED", updated=clock.now)
            for package_id in archivable(simulation.account)
        ]
        account.load(archived)
        simulation.arrange_list(in_any_order(3))
        clock.forward(SIX_HOURS)
        simulation.reconcile()

        assert len(archived) > 100
        assert simulation.differences() == []

    @on_sqlite
    @pytest.mark.all
    def test_import_of_packages_changed_at_one_instant_is_complete(self, service, post, handlers, clock):
        """An import is complete even if all packages have the same date, as after a migration at OneSpan."""
        simulation = Simulation(service, post, handlers=handlers, clock=clock)
        at = clock.now - 40 * DAY
        packages = [replace(package, updated=at, due=None) for package in populated(1, 350, now=at).packages()]
        simulation.connect(Account(1, packages=0, quirks=Quirks(list_largest=0, list_items="summary")).load(packages))
        simulation.arrange_list(in_any_order(3))
        simulation.reconcile()

        assert all(simulation.stored_package(package.id) for package in packages)

    @on_sqlite
    @pytest.mark.all
    def test_capped_count_does_not_end_an_import(self, service, post, handlers, clock):
        """An import is complete even if the list has more than the 150 packages that its count states."""
        simulation = Simulation(service, post, handlers=handlers, clock=clock)
        packages = populated(1, 350, now=clock.now - 40 * DAY).packages()
        simulation.connect(Account(1, packages=0, quirks=Quirks(list_largest=0, list_items="summary")).load(packages))
        simulation.arrange_list(lambda rows: (rows, min(len(rows), 150)))
        simulation.reconcile()

        assert all(simulation.stored_package(package.id) for package in packages)


def in_any_order(seed: int) -> Callable[[list[Any]], tuple[list[Any], int]]:
    """Return a function that sorts rows from the newest and shuffles rows of the same instant.

    The function does not change a list in order of creation or a list of ids only.
    """
    rng = Random(seed)

    def arrange(rows: list[Any]) -> tuple[list[Any], int]:
        if any("updated" not in row for row in rows):
            return rows, len(rows)
        is_by_age = [row["created"] for row in rows] == sorted(row["created"] for row in rows)
        if is_by_age and len(rows) > 1:
            return rows, len(rows)
        return sorted(rows, key=lambda row: (row["updated"], rng.random()), reverse=True), len(rows)

    return arrange


class TestClocks:
    """A clock that was wrong for a while has no lasting effect."""

    def test_law_5_one_answer_dated_ahead_hides_no_change(self, simulation, clock):
        """An answer with a `Date` header two months in the future hides no later change."""
        import_account(simulation, 5)
        first, second = archivable(simulation.account)[:2]
        wrong_answers = [1]

        def date_ahead(_: Any, answer: ChangedAnswer) -> None:
            if wrong_answers and wrong_answers.pop():
                answer.headers["Date"] = format_datetime(clock.now + 60 * DAY, usegmt=True)

        clock.forward(SIX_HOURS)
        simulation.change_answers(date_ahead)
        simulation.act(first, "archive")
        simulation.reconcile()
        assert all_runs(simulation.service)[-1].until <= clock.now
        clock.forward(SIX_HOURS)
        simulation.act(second, "archive")
        simulation.act(first, "unarchive")
        simulation.reconcile()

        assert simulation.differences() == []
        assert simulation.stored_package(first).read_at <= clock.now

    @pytest.mark.parametrize("date", ["", "garbage", "Fri, 31 Dec 9999 23:59:59 GMT", "Thu, 01 Jan 1970 00:00:00 GMT"])
    def test_run_ends_with_any_date_header(self, simulation, clock, date):
        """A run ends with any `Date` header; once the header is right again, the status store equals OneSpan."""
        import_account(simulation, 5)
        package_id = archivable(simulation.account)[0]
        is_wrong = [True]
        simulation.change_answers(lambda _, answer: answer.headers.update(Date=date) if is_wrong else None)
        clock.forward(SIX_HOURS)
        simulation.act(package_id, "archive")
        simulation.reconcile()
        is_wrong.clear()
        clock.forward(SIX_HOURS)
        simulation.reconcile()
        clock.forward(SIX_HOURS)
        simulation.reconcile()

        assert {run.state for run in all_runs(simulation.service)} == {"done"}
        assert simulation.differences() == []

    def test_law_9_interval_continues_after_the_clock_was_a_month_ahead(self, simulation, clock):
        """Runs that began while the clock was a month ahead do not delay runs after the clock is corrected."""
        import_account(simulation, 3)
        clock.forward(30 * DAY + SIX_HOURS)
        simulation.reconcile()
        with simulation.service.database.write() as connection:
            outages.record(connection, OutageKind.DOWN, began_at=clock.now, ended_at=clock.now + MINUTE)
        clock.now -= 30 * DAY
        before = len(all_runs(simulation.service))
        for _ in range(8):
            clock.forward(SIX_HOURS)
            simulation.reconcile()
        assert len(all_runs(simulation.service)) - before == 8

    def test_law_9_clock_slightly_ahead_begins_no_second_run(self, simulation, start_process, clock):
        """A process whose clock is two seconds behind begins no second run after another process has ended a run."""
        clock.forward(SIX_HOURS + 2 * SECOND)
        simulation.reconcile()
        clock.now -= 2 * SECOND

        assert start_process().reconcile.turn() is False
        assert len(all_runs(simulation.service)) == 2

    def test_run_that_waits_for_a_wrong_time_goes_on(self, simulation, clock):
        """After a clock that was a month ahead is corrected, a run that waits for a wrong time goes on."""
        import_account(simulation, 3)
        clock.forward(30 * DAY)
        simulation.service.reconcile.turn()
        with simulation.service.database.write() as connection:
            connection.exec_driver_sql("UPDATE reconciles SET process = NULL WHERE state = 'running'")
        clock.now -= 30 * DAY
        simulation.reconcile()

        assert all_runs(simulation.service)[-1].state == "done"


class TestFailedRuns:
    """A run that makes no progress fails, and the next run begins."""

    def test_run_refused_for_an_interval_fails_and_the_next_begins(self, simulation, clock, client):
        """A run that OneSpan refuses for six hours fails, records the reason, and does not move the window."""
        import_account(simulation, 3)
        is_forbidden = [True]

        def change(environ: Any, answer: ChangedAnswer) -> None:
            if is_forbidden and environ["PATH_INFO"] == "/api/packages":
                answer.status, answer.body = "403 Forbidden", b"{}"

        simulation.change_answers(change)
        simulation.run_for(SIX_HOURS + 7 * HOUR, every=10 * MINUTE)
        failed, following = all_runs(simulation.service)[2:]
        assert (failed.state, failed.until, following.state) == ("failed", None, "running")
        assert "do not permit this" in failed.error
        assert "UTC: The credentials do not permit this" in " ".join(client.get("/readyz").json["notes"])

        is_forbidden.clear()
        simulation.run_for(HOUR)
        assert all_runs(simulation.service)[-1].state == "done"
        assert simulation.differences() == []

    def test_run_that_makes_progress_does_not_fail(self, simulation, clock):
        """A run may take long if it makes progress, such as an import that fetches every package."""
        account = Account(1, packages=0, quirks=Quirks(list_items="summary"))
        simulation.connect(account.load(populated(1, 40, now=clock.now - DAY).packages()))
        simulation.service.reconcile.begin(RunRequest(backfill=True))
        for _ in range(60):
            simulation.service.reconcile.turn()
            simulation.service.digest.turn()
            simulation.service.fetcher.turn()
            clock.forward(HOUR)
        simulation.reconcile()

        assert [run.state for run in all_runs(simulation.service)][:2] == ["done", "done"]

    @on_sqlite
    @pytest.mark.all
    def test_run_with_an_inconsistent_list_fails(self, simulation, clock):
        """A run fails if the list is empty on every page that does not begin at a multiple of a hundred."""
        packages = populated(1, 130, now=clock.now - 40 * DAY).packages()
        simulation.connect(Account(1, packages=0, quirks=Quirks(list_largest=0, list_items="summary")).load(packages))

        def change(environ: Any, answer: ChangedAnswer) -> None:
            query = parse_qs(environ["QUERY_STRING"])
            if environ["PATH_INFO"] == "/api/packages":
                rows = [] if int(query["from"][0]) % 100 else json.loads(answer.body)["results"]
                answer.body = json.dumps({"count": len(rows), "results": rows}).encode()

        simulation.change_answers(change)
        simulation.service.reconcile.begin(RunRequest(backfill=True))
        simulation.run_for(SIX_HOURS + HOUR, every=30 * MINUTE)

        assert all_runs(simulation.service)[1].state == "failed"
        assert "is inconsistent" in all_runs(simulation.service)[1].error
        assert len(simulation.requests) < 800

    @pytest.mark.parametrize("since", ["0001-01-01T00:00:00Z", "1999-12-31T00:00:00Z", "2099-01-01T00:00:00+14:00"])
    def test_since_outside_the_time_of_packages_is_rejected(self, simulation, client, runner, since):
        """A run is rejected if `since` is before OneSpan existed or in the future."""
        answer = client.post("/api/reconciles", json={"since": since}, headers=BEARER)
        assert (answer.status_code, answer.json["error"]["code"]) == (400, "bad_parameter")
        assert "since" in answer.json["error"]["message"]

        result = runner.invoke(args=["reconcile", "--since", since])
        assert result.exit_code == 2
        assert "--since" in result.output
        assert len(all_runs(simulation.service)) == 1


class TestRowWithoutId:
    """A row of the list without an id may be a package, so its folder is read again until the row is readable."""

    def test_law_5_change_in_an_unreadable_row_is_found_later(self, simulation):
        """The first run that can read the row finds the change of five days before."""
        import_account(simulation, 5)
        without_id, changed = simulation.hide_ids(), archivable(simulation.account)[0]
        without_id.append(changed)
        simulation.act(changed, "archive")
        simulation.run_for(5 * DAY, every=30 * MINUTE)
        assert simulation.stored_package(changed).status == "COMPLETED"
        last = [run for run in all_runs(simulation.service) if run.state == "done"][-1]
        assert last.unreadable >= 1

        without_id.clear()
        simulation.run_for(SIX_HOURS + HOUR, every=30 * MINUTE)
        assert simulation.stored_package(changed).status == "ARCHIVED"
        assert simulation.handled[changed]["PACKAGE_ARCHIVE"] == 1

    def test_row_that_stays_unreadable_lets_runs_read_a_month_at_most(self, simulation, clock):
        """Runs do not begin earlier and earlier because of one row."""
        import_account(simulation, 5)
        without_id, changed = simulation.hide_ids(), archivable(simulation.account)[0]
        without_id.append(changed)
        for _ in range(40):
            clock.forward(DAY)
            simulation.act(changed, "rename", text="Again")
            simulation.requests.clear()
            simulation.reconcile()

        starts = [
            start for request in simulation.requests for start in parse_qs(request).get("lastUpdatedStartDate", ())
        ]
        assert (clock.now - 32 * DAY).isoformat() < min(starts) < (clock.now - 28 * DAY).isoformat()


class TestForbiddenFolder:
    """A forbidden folder delays no other folder, and its changes are found once the folder may be read."""

    def test_forbidden_folder_is_reported(self, simulation, client):
        """A run ends without a forbidden folder, and the error of the run names the folder."""
        import_account(simulation, 5)
        simulation.refuse_trash()
        simulation.run_for(SIX_HOURS + HOUR)
        run = all_runs(simulation.service)[-1]

        assert run.state == "done"
        assert "packages in the trash" in run.error
        assert any("packages in the trash" in note for note in client.get("/readyz").json["notes"])

    def test_law_5_changes_in_a_forbidden_folder_are_found_later(self, simulation, clock):
        """The first run that may read a folder again finds the changes of the five days before."""
        account = import_account(simulation, 5)
        is_forbidden = simulation.refuse_trash()
        original = account.package(archivable(account)[0])
        trashed = replace(original, id="new", trashed=True, created=clock.now, updated=clock.now + HOUR)
        clock.forward(2 * HOUR)
        account.load([*account.packages(), trashed])
        simulation.run_for(5 * DAY, every=30 * MINUTE)
        assert [run.state for run in all_runs(simulation.service)[-3:-1]] == ["done", "done"]
        assert [difference for difference in simulation.differences() if "new" in difference]

        is_forbidden.clear()
        simulation.run_for(SIX_HOURS)
        assert simulation.differences() == []
        assert simulation.handled["new"]["PACKAGE_TRASH"] == 1

        simulation.requests.clear()
        simulation.run_for(SIX_HOURS)
        starts = {
            parse_qs(request).get("lastUpdatedStartDate", [""])[0]
            for request in simulation.requests
            if "trashed" in request
        }
        assert starts
        assert min(starts) > (clock.now - 3 * DAY).isoformat()[:10]

    def test_law_6_first_import_of_a_forbidden_folder_runs_no_handlers(self, simulation, clock):
        """The first import of a folder runs no handlers, even if other folders were imported earlier."""
        is_forbidden, packages = simulation.refuse_trash(), populated(1, 12, now=clock.now - 40 * DAY).packages()
        account = simulation.account.load(
            [replace(package, trashed=number < 4) for number, package in enumerate(packages)]
        )
        with simulation.service.database.write() as connection:
            connection.execute(delete(Run))  # lets the next run be a first import
        simulation.handled.clear()
        simulation.run_for(DAY, every=30 * MINUTE)
        assert len([run for run in all_runs(simulation.service) if run.state == "done"]) > 1

        is_forbidden.clear()
        simulation.run_for(SIX_HOURS)
        assert simulation.differences() == []
        assert [package.trashed for package in account.packages()].count(True) == 4
        assert simulation.handled == {}


class TestRequestedRuns:
    """A request ends the waiting time of a run after a failed attempt."""

    def start_outage(self, simulation: Simulation) -> list[bool]:
        """Let OneSpan answer 503 until the returned list is empty."""
        is_down = [True]
        simulation.change_answers(
            lambda _, answer: setattr(answer, "status", "503 Service Unavailable") if is_down else None
        )
        return is_down

    @pytest.mark.parametrize("how", ["request", "restart"])
    def test_waiting_run_goes_on_at_once(self, simulation, clock, client, start_process, how):
        """A waiting run goes on at once when an operator requests a run or restarts the service."""
        import_account(simulation, 3)
        is_down = self.start_outage(simulation)
        clock.forward(SIX_HOURS)
        for _ in range(4):
            simulation.service.reconcile.turn()
            clock.forward(31 * MINUTE)
        simulation.service.reconcile.turn()
        is_down.clear()
        assert simulation.service.reconcile.turn() is False, "the run waits"

        if how == "request":
            assert client.post("/api/reconciles", headers=BEARER).status_code == 200
            assert simulation.service.reconcile.turn()
        else:
            restarted = start_process()
            restarted.worker._retry_now()
            assert restarted.reconcile.turn()

    def test_second_request_names_what_the_run_waits_for(self, simulation, clock, client, runner):
        """The answer to a second request says why the current run waits and when the run goes on."""
        import_account(simulation, 3)
        self.start_outage(simulation)
        clock.forward(SIX_HOURS)
        simulation.service.reconcile.turn()

        refused = client.post("/api/reconciles", headers=BEARER, json={"backfill": True})
        assert refused.status_code == 409
        result = runner.invoke(args=["reconcile", "--backfill"])
        assert result.exit_code == 2
        for text in (refused.json["error"]["message"], result.output):
            assert "reconcile 3 waits: OneSpan is unavailable" in text
            assert "goes on at 18:0" in text

    def test_finished_run_has_no_note(self, simulation, clock):
        """A run that waited has no note once the run is done."""
        import_account(simulation, 3)
        is_down = self.start_outage(simulation)
        clock.forward(SIX_HOURS)
        simulation.service.reconcile.turn()
        with simulation.service.database.read() as connection:
            assert "Reconcile 3 (reconcile, " in reconcile_note(queries.newest_run(connection))
        is_down.clear()
        clock.forward(MINUTE)
        simulation.reconcile()

        with simulation.service.database.read() as connection:
            assert reconcile_note(queries.newest_run(connection)) is None
