"""The health report, the callback rates, and the fetch of one package on request."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from app.handling import GiveUp
from app.simulator.account import Account
from app.simulator.faults import Faults
from app.simulator.population import populated
from app.store import outages
from tests.conftest import HOUR, NOON, on_sqlite
from tests.support.simulation import MINUTE, Simulation, with_onespan


@pytest.fixture
def settings(settings, request):
    """Settings with a connection to OneSpan for tests that use the fixture `simulation`."""
    if "simulation" not in request.fixturenames:
        return settings
    return with_onespan(settings)


@pytest.fixture
def simulation(service, post, handlers, clock):
    """A simulated OneSpan account with five packages."""
    simulation = Simulation(service, post, handlers=handlers, clock=clock)
    simulation.connect(Account(1, packages=0).load(populated(1, 5, now=clock.now - 40 * timedelta(days=1)).packages()))
    return simulation


def test_report_has_backlog_and_dwell(api_get, simulation, send_callback, handlers, clock):
    """The health report has the backlog and the dwell: the time from receipt to the end of the handler."""

    @handlers.on("PACKAGE_COMPLETE")
    def give_up(event, package) -> None:
        raise GiveUp("no")

    send_callback("PACKAGE_COMPLETE")
    clock.forward(timedelta(seconds=2))
    simulation.settle()
    send_callback("PACKAGE_TRASH")
    clock.forward(timedelta(seconds=3))

    shown = api_get("/api/health").json

    backlog = {"undigested": 1, "oldest_undigested": 3.0, "spooled": 0, "due": 0, "running": 0, "parked": 1}
    assert shown["backlog"] == backlog
    assert shown["dwell"]["runs"] == 2
    assert shown["dwell"]["p50"] == shown["dwell"]["p99"] >= 2
    assert (shown["is_ready"], shown["reasons"]) == (True, [])


def test_report_has_last_and_next_reconcile_run(api_get, simulation, clock):
    """After an outage, the health report gives the end of the outage as the time of the next reconcile run."""
    assert api_get("/api/health").json["reconciles"] == {
        "running": None,
        "last": None,
        "every_hours": 6.0,
        "next_due_at": None,
    }
    simulation.reconcile()
    first = api_get("/api/health").json["reconciles"]
    assert (first["running"], first["last"]["kind"], first["last"]["shown"]) == (None, "backfill", 5)
    assert first["next_due_at"] == "2026-03-02T18:00:00Z"

    with simulation.service.database.write() as connection:
        outages.record(connection, "down", began_at=NOON + HOUR, ended_at=NOON + 2 * HOUR)
    clock.forward(3 * HOUR)

    shown = api_get("/api/health").json
    assert shown["reconciles"]["next_due_at"] == "2026-03-02T14:00:00Z"
    assert [(outage["kind"], outage["ended_at"]) for outage in shown["outages"]] == [("down", "2026-03-02T14:00:00Z")]


def test_report_says_whether_onespan_responds(api_get, api_post, simulation, clock):
    """The health report says whether OneSpan responds, is unreachable, or has had no request yet."""
    assert api_get("/api/health").json["onespan"] == {
        "is_asked": True,
        "why_not": None,
        "reach": {"answers": None, "error": None, "answered_at": None, "unreachable": None},
    }
    simulation.reconcile()
    reach = api_get("/api/health").json["onespan"]["reach"]
    assert (reach["answers"], reach["error"]) == (True, None)
    answered_at = reach["answered_at"]

    account = simulation.account
    away = Faults(Random(1))
    away.outage = "503"
    simulation.connect(account, away)
    api_post(f"/api/packages/{account.packages()[0].id}/read")
    simulation.service.fetcher.turn()
    reach = api_get("/api/health").json["onespan"]["reach"]
    assert (reach["answers"], reach["answered_at"]) == (False, answered_at)
    assert reach["error"].startswith("OneSpan is unavailable")

    simulation.connect(account)
    clock.forward(10 * MINUTE)
    simulation.service.fetcher.turn()
    reach = api_get("/api/health").json["onespan"]["reach"]
    assert (reach["answers"], reach["error"], reach["unreachable"]["kind"]) == (True, None, "unreachable")


def test_report_says_why_onespan_is_not_connected(api_get, api_post, send_callback):
    """The health report says why OneSpan is not connected, and a request to fetch a package is refused."""
    send_callback("PACKAGE_CREATE")
    shown = api_get("/api/health").json

    assert (shown["onespan"]["is_asked"], shown["reconciles"]["next_due_at"]) == (False, None)
    assert "ONESPAN_URL" in shown["onespan"]["why_not"]
    assert any("Sync with OneSpan (reconcile) is off" in note for note in shown["notes"])
    refused = api_post("/api/packages/pkg-1/read")
    assert (refused.status_code, refused.json["error"]["code"]) == (409, "no_onespan")


def test_report_lists_processes_and_whether_they_are_alive(api_get, simulation, clock):
    """A process is reported as not alive if it has stopped or has had no heartbeat for a minute."""
    heartbeat = simulation.service.heartbeat
    heartbeat.beat()
    (seen,) = api_get("/api/health").json["processes"]
    clock.forward(2 * MINUTE)
    (silent,) = api_get("/api/health").json["processes"]
    heartbeat.beat()
    heartbeat.record_stop()
    (ended,) = api_get("/api/health").json["processes"]

    assert (seen["name"], seen["seen_at"], seen["is_alive"]) == (heartbeat.name, "2026-03-02T12:00:00Z", True)
    assert (silent["is_alive"], silent["stopped_at"]) == (False, None)
    assert (ended["is_alive"], ended["stopped_at"]) == (False, "2026-03-02T12:02:00Z")


def test_unchanged_report_is_304(client, simulation, api_get, clock):
    """An unchanged health report gets 304, so that reading it every second is cheap."""
    clock.now = datetime.now(UTC)  # otherwise the report has a clock difference, which varies
    tag = api_get("/api/health").headers["ETag"]

    answer = client.get("/api/health", headers={"Authorization": "Bearer the-bearer-token", "If-None-Match": tag})

    assert answer.status_code == 304


def test_callback_rates_are_given_by_minute_and_hour(api_get, send_callback, work):
    """Callback rates are lists of 60 minutes and 48 hours, in which the current minute and hour come last."""
    send_callback("PACKAGE_CREATE")
    work()
    flow = api_get("/api/flow").json

    assert (len(flow["minutes"]), len(flow["hours"])) == (60, 48)
    assert flow["minutes"][-1] == flow["hours"][-1] == {"at": "2026-03-02T12:00:00Z", "callbacks": 1}


def test_requested_package_is_fetched(api_get, api_post, simulation):
    """A fetch on request reads only the requested package from OneSpan and stores its state."""
    package = simulation.account.packages()[0]

    answer = api_post(f"/api/packages/{package.id}/read")
    simulation.settle()

    assert answer.status_code == 202
    assert answer.json == {"package_id": package.id, "wanted_at": "2026-03-02T12:00:00Z", "is_known": False}
    assert [url for url in simulation.requests if "/api/packages/" in url] == [f"/api/packages/{package.id}?"]
    assert api_get(f"/api/packages/{package.id}").json["status"] == package.status
    assert api_post(f"/api/packages/{package.id}/read").json["is_known"]
    history = api_get(f"/api/packages/{package.id}/history").json["items"]
    (change,) = [change for change in history if change["attribute"] == "read"]
    assert (change["new"], change["cause"]) == ("wanted", {"kind": "person", "id": "api:test"})


@on_sqlite
@pytest.mark.parametrize("package_id", ["x" * 256, "nul%00", "%00"])
def test_fetch_of_an_invalid_id_is_404(api_post, simulation, package_id):
    """A request to fetch a package with an id that no package can have gets 404."""
    assert api_post(f"/api/packages/{package_id}/read").status_code == 404
