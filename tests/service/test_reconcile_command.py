"""`flask reconcile` and `/api/reconciles`: ask now, see what came of it, and change nothing where that is wanted."""

from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest

from app.onespan.auth import ApiKey, Connection
from app.simulator.account import Account
from app.simulator.faults import Faults
from app.simulator.population import populated
from app.simulator.quirks import Quirks
from app.work.reconcile import Asked
from tests.conftest import HOUR, TOKEN
from tests.service.test_reconcile import counts, ledger
from tests.support.simulation import API_KEY, World, knowing_onespan

BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def settings(settings, request):
    """The service knows where OneSpan is, unless a test is about one that does not."""
    if "alone" in request.node.name:
        return settings
    return knowing_onespan(settings)


@pytest.fixture
def faults():
    """None, until a test wants some."""
    return Faults(Random(1))


@pytest.fixture
def world(service, post, handlers, clock, faults, monkeypatch):  # noqa: PLR0917
    """An account of forty packages that we have not asked for yet. While a command waits, the clock goes on."""
    monkeypatch.setattr("app.cli.reconcile.time.sleep", lambda seconds: clock.forward(timedelta(seconds=seconds)))
    world = World(service, post, handlers=handlers, clock=clock)
    packages = populated(1, 40, now=clock.now - timedelta(days=1)).packages()
    world.connect(Account(1, packages=0).hold(packages), faults)
    return world


def a_completed(world: World) -> str:
    """The id of a package that can be archived."""
    return next(one.id for one in world.account.packages() if one.status == "COMPLETED" and not one.trashed)


def test_the_first_time_it_imports_the_account(world, runner):
    """And says what it did."""
    result = runner.invoke(args=["reconcile"])

    assert result.exit_code == 0, result.output
    assert "Reconcile 1 (backfill) done. " in result.output
    assert "40 packages shown, 40 changed, 0 to be read singly; 0 facts found" in result.output
    assert world.differences() == []


def test_later_it_asks_for_what_changed(world, runner, clock):
    """One package was archived, and nobody told us."""
    runner.invoke(args=["reconcile"])
    world.act(a_completed(world), "archive")
    clock.forward(HOUR)
    result = runner.invoke(args=["reconcile"])

    assert (
        "Reconcile 2 (reconcile) done. 4 requests: 1 package shown, 1 changed, 0 to be read singly; 1 fact found"
        in result.output
    )


def test_check_lists_the_drift_and_changes_nothing(world, runner, service):
    """It exits with 1 where there is any, and names no person."""
    runner.invoke(args=["reconcile"])
    archived = a_completed(world)
    world.act(archived, "archive")
    strange = replace(world.account.packages()[0], id="strange", name="Lease of Ada Signs", updated=world.clock.now)
    world.account.hold([strange])
    before, runs = counts(service), len(ledger(service))
    result = runner.invoke(args=["reconcile", "--check"])

    assert result.exit_code == 1
    assert f"{archived} package status: 'COMPLETED' here, 'ARCHIVED' at OneSpan" in result.output
    assert "strange package status: None here," in result.output
    assert "41 packages in " in result.output
    assert "example.com" not in result.output
    assert "strange package name differs" in result.output
    assert (counts(service), len(ledger(service))) == (before, runs)


def test_check_of_what_is_as_it_should_be_exits_with_0(world, runner):
    """And says how much it looked at."""
    runner.invoke(args=["reconcile"])
    result = runner.invoke(args=["reconcile", "--check"])

    assert result.exit_code == 0
    assert result.output.endswith("40 packages in 5 requests: all as OneSpan has it.\n")


@pytest.mark.parametrize("answer", ["404", "403"])
def test_check_asks_for_what_the_list_does_not_show(world, runner, answer):
    """One that is gone is a drift; one that is denied us says nothing."""
    runner.invoke(args=["reconcile"])
    gone = a_completed(world)
    world.account.quirks = Quirks(deleted_answer=answer)
    world.act(gone, "delete")
    result = runner.invoke(args=["reconcile", "--check"])

    assert (f"{gone} package deleted: False here, True at OneSpan" in result.output) is (answer == "404")


def test_check_reads_singly_where_the_list_shows_too_little(world, runner, faults):
    """A summary that is newer than what we read says nothing of its signers."""
    world.connect(Account(1, packages=0, quirks=Quirks(list_items="summary")).hold(world.account.packages()), faults)
    runner.invoke(args=["reconcile"])
    archived = a_completed(world)
    world.act(archived, "archive")
    world.asked.clear()
    result = runner.invoke(args=["reconcile", "--check"])

    assert f"{archived} package status: 'COMPLETED' here" in result.output
    assert [one for one in world.asked if "/api/packages/" in one] == [f"/api/packages/{archived}?"]


@pytest.mark.parametrize("status", ["403 Forbidden", "503 Service Unavailable"])
def test_check_does_not_give_up_at_one_failure(world, runner, status):
    """Nobody takes it up later."""
    runner.invoke(args=["reconcile"])
    left = [1]
    world.spoil(lambda _, answer: setattr(answer, "status", status) if left and left.pop() else None)
    result = runner.invoke(args=["reconcile", "--check"])

    assert result.exit_code == 0, result.output
    assert "all as OneSpan has it" in result.output


def test_check_that_did_not_come_to_its_end_says_so(world, runner, faults):
    """So nobody takes what it listed for all there is."""
    runner.invoke(args=["reconcile"])
    faults.outage = "503"
    result = runner.invoke(args=["reconcile", "--check"])

    assert result.exit_code == 2
    assert "try again" in result.output


def test_a_wrong_address_is_named(world, runner, handlers):
    """And whether it is right is asked."""
    handlers.onespan.connect(Connection("http://127.0.0.1:1", ApiKey(API_KEY)))
    result = runner.invoke(args=["reconcile", "--check"])

    assert "ConnectionError at http://127.0.0.1:1; is ONESPAN_URL right?" in result.output


def test_what_onespan_refuses_is_said_with_what_to_do(world, runner, faults):
    """The run waits, and goes on later."""
    faults.outage = "401"
    result = runner.invoke(args=["reconcile", "--check"])
    assert result.exit_code == 2
    assert "rejected the credentials" in result.output
    assert API_KEY not in result.output


def test_a_run_that_has_to_wait_long_is_left_to_the_service(world, runner, faults, clock):
    """It is said, and exits with 1."""
    faults.outage = "429"
    result = runner.invoke(args=["reconcile"])

    assert result.exit_code == 1
    assert "Reconcile 1 (backfill) waits: OneSpan received too many requests" in result.output
    assert "goes on by itself where the service runs" in result.output
    faults.outage = None
    clock.forward(HOUR)
    result = runner.invoke(args=["reconcile"])
    assert "Reconcile 1 is under way already; going on with it." in result.output
    assert "Reconcile 1 (backfill) done." in result.output


@pytest.mark.parametrize("options", [["--backfill"], ["--since", "2026-03-01"], ["--fire"]])
def test_what_the_run_under_way_does_not_do_is_refused(world, runner, service, options):
    """It would be silently dropped otherwise."""
    service.reconcile.begin(Asked())
    result = runner.invoke(args=["reconcile", *options])

    assert result.exit_code == 2
    assert "already running" in result.output


@pytest.mark.parametrize(
    "options", [["--check", "--fire"], ["--check", "--backfill"], ["--since", "2026-01-01", "--backfill"]]
)
def test_options_that_contradict_one_another_are_refused(world, runner, options):
    """With a sentence."""
    result = runner.invoke(args=["reconcile", *options])

    assert result.exit_code == 2
    assert "--" in result.output


def test_fire_tells_what_an_import_would_keep_silent_about(world, runner, work):
    """However old."""
    runner.invoke(args=["reconcile", "--fire"])
    work()

    assert world.told[a_completed(world)]["PACKAGE_COMPLETE"] == 1


def test_since_goes_back_further(world, runner, clock):
    """What was updated since then is looked at again."""
    runner.invoke(args=["reconcile"])
    clock.forward(60 * 24 * HOUR)
    assert "0 packages shown" in runner.invoke(args=["reconcile"]).output
    result = runner.invoke(args=["reconcile", "--since", "2026-01-01"])

    assert "0 packages shown" not in result.output
    assert "0 changed" in result.output


@pytest.mark.parametrize("args", [["reconcile"], ["reconcile", "--check"]])
def test_alone_there_is_nobody_to_ask(service, runner, args):
    """It says which settings are missing."""
    result = runner.invoke(args=args)

    assert result.exit_code == 2
    assert "ONESPAN_URL" in result.output


class TestApi:
    """`/api/reconciles`."""

    def test_a_run_begins_by_request_and_is_shown(self, world, client, read):
        """Newest first; the service goes on with it."""
        answer = client.post("/api/reconciles", headers=BEARER)
        assert answer.status_code == 200
        assert (answer.json["state"], answer.json["kind"]) == ("running", "backfill")
        world.reconcile()
        (run,) = read("/api/reconciles")["items"]

        assert (run["id"], run["state"], run["reason"]) == (answer.json["id"], "done", "asked")
        assert (run["shown"], run["changed"]) == (40, 40)
        assert read(f"/api/reconciles/{run['id']}") == run

    def test_while_one_is_under_way_it_is_answered(self, world, client):
        """Two people press the button."""
        first = client.post("/api/reconciles", headers=BEARER).json
        assert client.post("/api/reconciles", headers=BEARER).json["id"] == first["id"]

        refused = client.post("/api/reconciles", headers=BEARER, json={"backfill": True})
        assert (refused.status_code, refused.json["error"]["code"]) == (409, "under_way")

    def test_it_can_be_told_what_to_do(self, world, client):
        """As the command can."""
        world.reconcile()
        answer = client.post("/api/reconciles", headers=BEARER, json={"since": "2026-02-01T00:00:00Z", "fire": True})

        assert (answer.json["since"], answer.json["fires"]) == ("2026-02-01T00:00:00Z", True)

    @pytest.mark.parametrize(
        "body", [b"{", b"[]", b'{"sinse": "2026-01-01"}', b'{"since": "yesterday"}', b'{"fire": 7}']
    )
    def test_a_body_that_is_not_right_is_refused_and_named(self, world, client, body):
        """And nothing begins."""
        answer = client.post("/api/reconciles", headers=BEARER, data=body)

        assert (answer.status_code, answer.json["error"]["code"]) == (400, "bad_parameter")
        assert ledger(world.service) == []

    def test_alone_there_is_nobody_to_ask(self, service, client):
        """It says which settings are missing."""
        answer = client.post("/api/reconciles", headers=BEARER)

        assert (answer.status_code, answer.json["error"]["code"]) == (409, "no_onespan")
        assert "ONESPAN_URL" in answer.json["error"]["message"]

    def test_without_a_token_nobody_begins_anything(self, world, client):
        """Nor sees what was asked."""
        assert client.post("/api/reconciles").status_code == 401
        assert client.get("/api/missed").status_code == 401

    def test_what_is_not_there_is_404(self, world, client):
        """With the error's shape."""
        assert client.get("/api/reconciles/99", headers=BEARER).status_code == 404
