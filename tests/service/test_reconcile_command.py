"""`flask reconcile` and `/api/reconciles` start a reconcile run and show its result; `--check` only compares."""

from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from app.onespan.auth import ApiConnection, ApiKey
from app.simulator.account import Account
from app.simulator.faults import Faults
from app.simulator.population import populated
from app.simulator.quirks import Quirks
from app.store import outages, reconciles
from app.work.reconcile import RunRequest
from tests.conftest import HOUR, TOKEN
from tests.service.test_reconcile import all_runs, row_counts
from tests.support.simulation import API_KEY, Simulation, with_onespan

BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def settings(settings, request):
    """OneSpan's API is configured, except in tests whose name contains `without_onespan`."""
    if "without_onespan" in request.node.name:
        return settings
    return with_onespan(settings)


@pytest.fixture
def faults():
    """Simulated faults of OneSpan, empty until a test sets some."""
    return Faults(Random(1))


@pytest.fixture
def simulation(service, post, handlers, clock, faults, monkeypatch):  # noqa: PLR0917
    """An account with 40 packages that are not imported yet; calls of `sleep` move the clock forward."""
    monkeypatch.setattr("app.cli.reconcile.time.sleep", lambda seconds: clock.forward(timedelta(seconds=seconds)))
    simulation = Simulation(service, post, handlers=handlers, clock=clock)
    packages = populated(1, 40, now=clock.now - timedelta(days=1)).packages()
    simulation.connect(Account(1, packages=0).load(packages), faults)
    return simulation


def a_completed(simulation: Simulation) -> str:
    """Return the id of a package that can be archived."""
    packages = simulation.account.packages()
    return next(package.id for package in packages if package.status == "COMPLETED" and not package.trashed)


def test_the_first_run_imports_the_account(simulation, runner):
    """The first `flask reconcile` imports all packages and prints the result."""
    result = runner.invoke(args=["reconcile"])

    assert result.exit_code == 0, result.output
    assert "Reconcile 1 (backfill) done. " in result.output
    assert "40 packages listed, 40 changed, 0 queued for a fetch; 0 missed events found." in result.output
    assert simulation.differences() == []


def test_later_runs_read_what_changed(simulation, runner, clock):
    """A later `flask reconcile` lists only the package that was archived without a callback."""
    runner.invoke(args=["reconcile"])
    simulation.act(a_completed(simulation), "archive")
    clock.forward(HOUR)
    result = runner.invoke(args=["reconcile"])

    assert "Reconcile 2 (reconcile) done. 4 requests: 1 package listed, 1 changed, 0 queued" in result.output
    assert "; 1 missed event found." in result.output


def test_check_lists_differences_and_changes_nothing(simulation, runner, service):
    """`flask reconcile --check` exits with 1 if there is a difference, and names no person."""
    runner.invoke(args=["reconcile"])
    archived = a_completed(simulation)
    simulation.act(archived, "archive")
    strange = replace(
        simulation.account.packages()[0], id="strange", name="Lease of Ada Signs", updated=simulation.clock.now
    )
    simulation.account.load([strange])
    before, runs = row_counts(service), len(all_runs(service))
    result = runner.invoke(args=["reconcile", "--check"])

    assert result.exit_code == 1
    assert f"{archived} package status: 'COMPLETED' here, 'ARCHIVED' at OneSpan" in result.output
    assert "strange package status: None here," in result.output
    assert "41 packages in " in result.output
    assert "example.com" not in result.output
    assert "strange package name differs" in result.output
    assert (row_counts(service), len(all_runs(service))) == (before, runs)


def test_check_without_differences_exits_with_0(simulation, runner):
    """`flask reconcile --check` prints how many packages it compared."""
    runner.invoke(args=["reconcile"])
    result = runner.invoke(args=["reconcile", "--check"])

    assert result.exit_code == 0
    assert result.output.endswith("40 packages in 5 requests: 0 differences.\n")


@pytest.mark.parametrize(("verb", "differences"), [("lie", 1), ("delete", 0)])
def test_check_fetches_a_package_that_a_callback_says_is_deleted(simulation, runner, clock, verb, differences):
    """The list of changes shows no deleted package, so only a fetch shows whether it is true."""
    runner.invoke(args=["reconcile"])
    clock.forward(timedelta(days=3))
    package_id = a_completed(simulation)
    simulation.post(*simulation.act(package_id, verb, text="PACKAGE_DELETE"))
    simulation.settle()
    result = runner.invoke(args=["reconcile", "--check", "--since", f"{clock.now:%Y-%m-%d}"])

    assert result.exit_code == min(differences, 1)
    assert (f"{package_id} package deleted: True here, False at OneSpan" in result.output) is bool(differences)


@pytest.mark.parametrize("answer", ["404", "403"])
def test_check_fetches_what_the_list_does_not_show(simulation, runner, answer):
    """A package that the list does not show is a difference if its fetch returns 404, but not if it returns 403."""
    runner.invoke(args=["reconcile"])
    gone = a_completed(simulation)
    simulation.account.quirks = Quirks(deleted_answer=answer)
    simulation.act(gone, "delete")
    result = runner.invoke(args=["reconcile", "--check"])

    assert (f"{gone} package deleted: False here, True at OneSpan" in result.output) is (answer == "404")


def test_check_fetches_packages_of_which_the_list_shows_a_summary(simulation, runner, faults):
    """`flask reconcile --check` fetches packages with new summaries, because summaries do not show signers."""
    simulation.connect(
        Account(1, packages=0, quirks=Quirks(list_items="summary")).load(simulation.account.packages()), faults
    )
    runner.invoke(args=["reconcile"])
    archived = a_completed(simulation)
    simulation.act(archived, "archive")
    simulation.requests.clear()
    result = runner.invoke(args=["reconcile", "--check"])

    assert f"{archived} package status: 'COMPLETED' here" in result.output
    assert [request for request in simulation.requests if "/api/packages/" in request] == [f"/api/packages/{archived}?"]


@pytest.mark.parametrize("status", ["403 Forbidden", "503 Service Unavailable"])
def test_check_retries_after_a_failure(simulation, runner, status):
    """`flask reconcile --check` retries after a failure, because a check cannot continue later."""
    runner.invoke(args=["reconcile"])
    left = [1]
    simulation.change_answers(lambda _, answer: setattr(answer, "status", status) if left and left.pop() else None)
    result = runner.invoke(args=["reconcile", "--check"])

    assert result.exit_code == 0, result.output
    assert "0 differences" in result.output


def test_an_interrupted_check_says_so(simulation, runner, faults):
    """A check that an outage interrupts says that its list of differences is incomplete."""
    runner.invoke(args=["reconcile"])
    faults.outage = "503"
    result = runner.invoke(args=["reconcile", "--check"])

    assert result.exit_code == 2
    assert "The check is incomplete. Try again later." in result.output


def test_a_wrong_url_is_named(simulation, runner, handlers):
    """The error for an unreachable address names the URL and the setting `ONESPAN_URL`."""
    handlers.onespan.connect(ApiConnection("http://127.0.0.1:1", ApiKey(API_KEY)))
    result = runner.invoke(args=["reconcile", "--check"])

    assert "no answer from http://127.0.0.1:1 (ConnectionError); check ONESPAN_URL" in result.output


def test_refused_credentials_are_reported(simulation, runner, faults):
    """`flask reconcile` reports refused credentials without printing the credentials."""
    faults.outage = "401"
    result = runner.invoke(args=["reconcile", "--check"])
    assert result.exit_code == 2
    assert "rejected the credentials" in result.output
    assert API_KEY not in result.output


def test_law_9_run_of_a_killed_process_goes_on(simulation, runner, service, clock, monkeypatch):
    """`flask reconcile` says which process holds the run, and continues it when its heartbeats have ended."""
    monkeypatch.setattr("app.cli.reconcile.PROGRESS_SECONDS", -1)
    service.reconcile.begin(RunRequest())
    with service.database.write() as connection:
        outages.beat(connection, "host:1:dead", takes_callbacks=False, started_at=clock.now, now=clock.now)
        reconciles.take(connection, now=clock.now, lease=timedelta(minutes=10), process="host:1:dead")
    began = clock.now
    result = runner.invoke(args=["reconcile"])

    assert "waiting: for the request of process host:1:dead" in result.output
    assert "Reconcile 1 (backfill) done." in result.output
    assert clock.now - began < timedelta(seconds=75)


@pytest.mark.parametrize("at", [0, 21, 42])
def test_law_9_command_goes_on_after_a_fault_of_the_database(simulation, runner, service, at, monkeypatch):
    """If a statement fails during `flask reconcile`, the command says so and goes on."""
    monkeypatch.setattr("app.cli.reconcile.PROGRESS_SECONDS", -1)
    left = [at]

    def fail_once(*_):
        if left and not left[0]:
            left.clear()
            raise OperationalError("a statement", {}, Exception("a fault of this test"))
        left[:] = [number - 1 for number in left]

    def begin(*arguments, **options):
        run_id = original(*arguments, **options)
        event.listen(service.database.engine, "before_cursor_execute", fail_once)
        return run_id

    original = service.reconcile.begin
    monkeypatch.setattr(service.reconcile, "begin", begin)
    result = runner.invoke(args=["reconcile"])
    event.remove(service.database.engine, "before_cursor_execute", fail_once)

    assert not left
    assert "the database does not answer; trying again" in result.output
    assert "Reconcile 1 (backfill) done." in result.output


def test_a_run_that_must_wait_long_is_left_to_the_service(simulation, runner, faults, clock):
    """`flask reconcile` exits with 1 if the run must wait long, and says that the service continues the run."""
    faults.outage = "429"
    result = runner.invoke(args=["reconcile"])

    assert result.exit_code == 1
    assert "Reconcile 1 (backfill) is waiting: OneSpan received too many requests" in result.output
    assert "The service continues it" in result.output
    faults.outage = None
    clock.forward(HOUR)
    result = runner.invoke(args=["reconcile"])
    assert "Reconcile 1 is already running; continuing it." in result.output
    assert "Reconcile 1 (backfill) done." in result.output


@pytest.mark.parametrize("options", [["--backfill"], ["--since", "2026-03-01"], ["--fire"]])
def test_options_that_the_current_run_does_not_have_are_refused(simulation, runner, service, options):
    """Options that the current run does not have are refused, because the run would ignore the options."""
    service.reconcile.begin(RunRequest())
    result = runner.invoke(args=["reconcile", *options])

    assert result.exit_code == 2
    assert "already running" in result.output


@pytest.mark.parametrize(
    "options", [["--check", "--fire"], ["--check", "--backfill"], ["--since", "2026-01-01", "--backfill"]]
)
def test_contradicting_options_are_refused(simulation, runner, options):
    """`flask reconcile` refuses contradicting options with a message."""
    result = runner.invoke(args=["reconcile", *options])

    assert result.exit_code == 2
    assert "--" in result.output


def test_fire_runs_handlers_for_imported_packages(simulation, runner, work):
    """`flask reconcile --fire` runs handlers for imported packages, however old the events are."""
    runner.invoke(args=["reconcile", "--fire"])
    work()

    assert simulation.handled[a_completed(simulation)]["PACKAGE_COMPLETE"] == 1


def test_since_reads_older_packages(simulation, runner, clock):
    """`flask reconcile --since` reads packages again that were updated since the given date."""
    runner.invoke(args=["reconcile"])
    clock.forward(60 * 24 * HOUR)
    assert "0 packages listed" in runner.invoke(args=["reconcile"]).output
    result = runner.invoke(args=["reconcile", "--since", "2026-01-01"])

    assert "0 packages listed" not in result.output
    assert "0 changed" in result.output


@pytest.mark.parametrize("args", [["reconcile"], ["reconcile", "--check"]])
def test_without_onespan_the_command_is_refused(service, runner, args):
    """Without OneSpan's settings, `flask reconcile` is refused, and the message names the missing settings."""
    result = runner.invoke(args=args)

    assert result.exit_code == 2
    assert "ONESPAN_URL" in result.output


class TestApi:
    """Requests to `/api/reconciles` start reconcile runs and show their results."""

    def test_a_post_starts_a_run(self, simulation, client, read):
        """A POST to `/api/reconciles` starts a run, which the service continues and the list of runs shows."""
        answer = client.post("/api/reconciles", headers=BEARER)
        assert answer.status_code == 200
        assert (answer.json["state"], answer.json["kind"]) == ("running", "backfill")
        simulation.reconcile()
        (run,) = read("/api/reconciles")["items"]

        assert (run["id"], run["state"], run["reason"]) == (answer.json["id"], "done", "asked")
        assert (run["shown"], run["changed"]) == (40, 40)
        assert read(f"/api/reconciles/{run['id']}") == run

    def test_a_second_post_returns_the_current_run(self, simulation, client):
        """A second POST to `/api/reconciles` returns the current run, because two people may press the button."""
        first = client.post("/api/reconciles", headers=BEARER).json
        assert client.post("/api/reconciles", headers=BEARER).json["id"] == first["id"]

        refused = client.post("/api/reconciles", headers=BEARER, json={"backfill": True})
        assert (refused.status_code, refused.json["error"]["code"]) == (409, "under_way")

    def test_a_post_has_the_options_of_the_command(self, simulation, client):
        """The JSON body of a POST to `/api/reconciles` has the options of `flask reconcile`."""
        simulation.reconcile()
        answer = client.post("/api/reconciles", headers=BEARER, json={"since": "2026-02-01T00:00:00Z", "fire": True})

        assert (answer.json["since"], answer.json["fires"]) == ("2026-02-01T00:00:00Z", True)

    @pytest.mark.parametrize(
        "body", [b"{", b"[]", b'{"sinse": "2026-01-01"}', b'{"since": "yesterday"}', b'{"fire": 7}']
    )
    def test_an_invalid_body_is_refused(self, simulation, client, body):
        """A POST to `/api/reconciles` with an invalid body starts no run."""
        answer = client.post("/api/reconciles", headers=BEARER, data=body)

        assert (answer.status_code, answer.json["error"]["code"]) == (400, "bad_parameter")
        assert all_runs(simulation.service) == []

    def test_without_onespan_a_post_is_refused(self, service, client):
        """Without OneSpan's settings, a POST to `/api/reconciles` is refused with the names of missing settings."""
        answer = client.post("/api/reconciles", headers=BEARER)

        assert (answer.status_code, answer.json["error"]["code"]) == (409, "no_onespan")
        assert "ONESPAN_URL" in answer.json["error"]["message"]

    def test_a_token_is_required(self, simulation, client):
        """A token is required to start a reconcile run and to read missed events."""
        assert client.post("/api/reconciles").status_code == 401
        assert client.get("/api/missed").status_code == 401

    def test_an_unknown_run_is_404(self, simulation, client):
        """The API answers 404 for an unknown run id, as for any unknown id."""
        assert client.get("/api/reconciles/99", headers=BEARER).status_code == 404
