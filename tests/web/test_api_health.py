"""How the service is, in one document; and one package read because a person asks."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from app.handling import GiveUp
from app.simulator.account import Account
from app.simulator.faults import Faults
from app.simulator.population import populated
from app.store import outages
from tests.conftest import HOUR, NOON, on_sqlite
from tests.support.simulation import MINUTE, World, knowing_onespan


@pytest.fixture
def settings(settings, request):
    """The service knows where OneSpan is, but where a test has no world."""
    if "world" not in request.fixturenames:
        return settings
    return knowing_onespan(settings)


@pytest.fixture
def world(service, post, handlers, clock):
    """An account with some packages."""
    world = World(service, post, handlers=handlers, clock=clock)
    world.connect(Account(1, packages=0).hold(populated(1, 5, now=clock.now - 40 * timedelta(days=1)).packages()))
    return world


def test_what_waits_and_how_long_it_took_is_told(ask, world, tell, handlers, clock):
    """Backlog by state; dwell from the door to the handler's end."""

    @handlers.on("PACKAGE_COMPLETE")
    def give_up(event, package) -> None:
        raise GiveUp("no")

    tell("PACKAGE_COMPLETE")
    clock.forward(timedelta(seconds=2))
    world.settle()
    tell("PACKAGE_TRASH")
    clock.forward(timedelta(seconds=3))

    shown = ask("/api/health").json

    backlog = {"undigested": 1, "oldest_undigested": 3.0, "spooled": 0, "due": 0, "running": 0, "parked": 1}
    assert shown["backlog"] == backlog
    assert shown["dwell"]["runs"] == 2
    assert shown["dwell"]["p50"] == shown["dwell"]["p99"] >= 2
    assert (shown["is_ready"], shown["reasons"]) == (True, [])


def test_the_last_and_the_next_reconcile_are_told(ask, world, clock):
    """With what it found; an outage makes the next one due."""
    assert ask("/api/health").json["reconciles"] == {
        "running": None,
        "last": None,
        "every_hours": 6.0,
        "next_due_at": None,
    }
    world.reconcile()
    first = ask("/api/health").json["reconciles"]
    assert (first["running"], first["last"]["kind"], first["last"]["shown"]) == (None, "backfill", 5)
    assert first["next_due_at"] == "2026-03-02T18:00:00Z"

    with world.service.database.write() as connection:
        outages.note(connection, "down", began_at=NOON + HOUR, ended_at=NOON + 2 * HOUR)
    clock.forward(3 * HOUR)

    shown = ask("/api/health").json
    assert shown["reconciles"]["next_due_at"] == "2026-03-02T14:00:00Z"
    assert [(one["kind"], one["ended_at"]) for one in shown["outages"]] == [("down", "2026-03-02T14:00:00Z")]


def test_whether_onespan_answers_is_told(ask, send, world, clock):
    """Not asked yet, answering, not answering any more, and answering again."""
    assert ask("/api/health").json["onespan"] == {
        "is_asked": True,
        "why_not": None,
        "reach": {"answers": None, "error": None, "answered_at": None, "unreachable": None},
    }
    world.reconcile()
    reach = ask("/api/health").json["onespan"]["reach"]
    assert (reach["answers"], reach["error"]) == (True, None)
    answered_at = reach["answered_at"]

    account = world.account
    away = Faults(Random(1))
    away.outage = "503"
    world.connect(account, away)
    send(f"/api/packages/{account.packages()[0].id}/read")
    world.service.refresh.turn()
    reach = ask("/api/health").json["onespan"]["reach"]
    assert (reach["answers"], reach["answered_at"]) == (False, answered_at)
    assert reach["error"].startswith("OneSpan does not answer")

    world.connect(account)
    clock.forward(10 * MINUTE)
    world.service.refresh.turn()
    reach = ask("/api/health").json["onespan"]["reach"]
    assert (reach["answers"], reach["error"], reach["unreachable"]["kind"]) == (True, None, "unreachable")


def test_without_a_onespan_it_says_why_nothing_is_asked(ask, send, tell):
    """And reading is refused."""
    tell("PACKAGE_CREATE")
    shown = ask("/api/health").json

    assert (shown["onespan"]["is_asked"], shown["reconciles"]["next_due_at"]) == (False, None)
    assert "ONESPAN_URL" in shown["onespan"]["why_not"]
    assert any("Nothing is asked" in note for note in shown["notes"])
    refused = send("/api/packages/pkg-1/read")
    assert (refused.status_code, refused.json["error"]["code"]) == (409, "no_onespan")


def test_every_process_is_shown_and_whether_it_is_there(ask, world, clock):
    """One that said good-bye, and one that was not seen for a minute, are not."""
    presence = world.service.presence
    presence.beat()
    (seen,) = ask("/api/health").json["processes"]
    clock.forward(2 * MINUTE)
    (gone,) = ask("/api/health").json["processes"]
    presence.beat()
    presence.say_goodbye()
    (ended,) = ask("/api/health").json["processes"]

    assert (seen["name"], seen["seen_at"], seen["is_alive"]) == (presence.name, "2026-03-02T12:00:00Z", True)
    assert (gone["is_alive"], gone["stopped_at"]) == (False, None)
    assert (ended["is_alive"], ended["stopped_at"]) == (False, "2026-03-02T12:02:00Z")


def test_a_health_that_is_the_same_is_304(client, world, ask, clock):
    """Who looks every second costs little."""
    clock.now = datetime.now(UTC)  # or it would tell by how much we are off
    tag = ask("/api/health").headers["ETag"]

    answer = client.get("/api/health", headers={"Authorization": "Bearer the-api-token", "If-None-Match": tag})

    assert answer.status_code == 304


def test_callbacks_are_told_by_the_minute_and_by_the_hour(ask, tell, work):
    """The current ones last."""
    tell("PACKAGE_CREATE")
    work()
    flow = ask("/api/flow").json

    assert (len(flow["minutes"]), len(flow["hours"])) == (60, 48)
    assert flow["minutes"][-1] == flow["hours"][-1] == {"at": "2026-03-02T12:00:00Z", "callbacks": 1}


def test_a_person_has_one_package_read(ask, send, world):
    """It is asked for before all that a reconcile wants, and is then as OneSpan shows it."""
    package = world.account.packages()[0]

    answer = send(f"/api/packages/{package.id}/read")
    world.settle()

    assert answer.status_code == 202
    assert answer.json == {"package_id": package.id, "wanted_at": "2026-03-02T12:00:00Z", "is_known": False}
    assert [one for one in world.asked if "/api/packages/" in one] == [f"/api/packages/{package.id}?"]
    assert ask(f"/api/packages/{package.id}").json["status"] == package.status
    assert send(f"/api/packages/{package.id}/read").json["is_known"]
    (wanted,) = [one for one in ask(f"/api/packages/{package.id}/history").json["items"] if one["attribute"] == "read"]
    assert (wanted["new"], wanted["cause"]) == ("wanted", {"kind": "person", "id": "api:test"})


@on_sqlite
@pytest.mark.parametrize("package_id", ["x" * 256, "nul%00", "%00"])
def test_what_can_be_no_id_is_not_asked_for(send, world, package_id):
    """There is no such package, and never will be."""
    assert send(f"/api/packages/{package_id}/read").status_code == 404
