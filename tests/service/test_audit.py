"""What a person did stands in the history, with who it was."""

import getpass
from typing import Any

import pytest

from app.handling import GiveUp
from app.onespan.auth import ApiKey, Connection
from app.simulator.account import Account
from app.simulator.server import answering, api
from app.store import dispatches
from app.store.packages import Cause
from tests.conftest import HOUR, NOON, TOKEN

AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def handlers(handlers):
    """One gives up, one does not."""

    @handlers.on("PACKAGE_COMPLETE")
    def files(event, package):
        raise GiveUp("the folder is full")

    @handlers.on("PACKAGE_COMPLETE")
    def tells(event, package):
        pass

    return handlers


@pytest.fixture
def persons(read):
    """What people did to a package: subject, attribute, old, new, who."""

    def persons(package: str = "pkg-1") -> list[tuple[Any, ...]]:
        changes = read(f"/api/packages/{package}/history")["items"]
        return [
            (one["subject"], one["attribute"], one["old"], one["new"], one["cause"]["id"])
            for one in changes
            if one["cause"]["kind"] == "person"
        ]

    return persons


def test_a_replay_by_the_api_is_by_its_token(client, tell, work, read, persons, flask):  # noqa: PLR0917  (pytest passes them by name)
    """Beside it the dispatch closes what it had opened; the picture stays as the journal has it."""
    tell("PACKAGE_COMPLETE")
    work()
    assert persons() == []
    (event,) = read("/api/events")["items"]

    for dispatch in event["dispatches"]:
        assert client.post(f"/api/dispatches/{dispatch['id']}/replay", headers=AUTHORIZED).status_code == 200

    assert persons() == [
        ("handler:files", "replay", "parked", "due", "api:test"),
        ("handler:tells", "replay", "done", "due", "api:test"),
    ]
    (closed,) = [one for one in read("/api/packages/pkg-1/history")["items"] if one["old"] is True]
    assert (closed["attribute"], closed["cause"]["kind"]) == ("attention PARKED_HANDLER", "dispatch")
    assert flask("rebuild", "--check").exit_code == 0


def test_replays_by_command_are_by_whoever_is_logged_in(tell, work, flask, persons, monkeypatch):
    """Each run is a change; what is only counted is none."""
    monkeypatch.setattr(getpass, "getuser", lambda: "cleo")
    tell("PACKAGE_COMPLETE")
    tell("PACKAGE_COMPLETE", package="pkg-2")
    work()

    assert flask("replay", "--state", "parked", "--dry-run").exit_code == 0
    assert persons() == []
    assert flask("replay", "--state", "parked").exit_code == 0

    for package in ("pkg-1", "pkg-2"):
        assert persons(package) == [("handler:files", "replay", "parked", "due", "cli:cleo")]
    assert flask("rebuild", "--check").exit_code == 0


def test_what_runs_by_the_time_it_is_replayed_is_left_alone(tell, service, clock):
    """It was chosen before somebody took it; the history says nothing of it."""
    tell("PACKAGE_COMPLETE")
    service.digest.turn()

    with service.database.write() as connection:
        dispatches.take(connection, [1], now=clock.now, lease=HOUR)
        made, changes = dispatches.replay_all(connection, [1, 2], by="Cleo", now=clock.now)

    assert made == 1
    assert [(one.old, one.new, one.cause) for one in changes] == [("due", "due", Cause("person", "Cleo"))]


def test_a_run_that_was_never_owed_is_by_whoever_wanted_it(tell, work, handlers, flask, persons, monkeypatch):  # noqa: PLR0917  (pytest passes them by name)
    """Before it there was nothing."""
    monkeypatch.setattr(getpass, "getuser", lambda: "cleo")
    tell("PACKAGE_COMPLETE")
    work()

    @handlers.on("PACKAGE_COMPLETE")
    def newcomer(event, package):
        pass

    assert flask("replay", "--missing", "--handler", "newcomer").exit_code == 0

    assert persons() == [("handler:newcomer", "replay", None, "due", "cli:cleo")]


def test_a_user_without_a_name_is_told_by_number(tell, work, flask, persons, monkeypatch):
    """As in a container that runs under any id."""

    def nameless() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nameless)
    monkeypatch.setattr("os.getuid", lambda: 4711)
    tell("PACKAGE_COMPLETE")
    work()

    flask("replay", "--handler", "tells")

    assert persons() == [("handler:tells", "replay", "done", "due", "cli:4711")]


def test_a_reconcile_says_who_asked_for_it(client, handlers, service, read, flask, monkeypatch):  # noqa: PLR0917  (pytest passes them by name)
    """The token, or whoever runs the command; what the service begins by itself is by nobody."""
    monkeypatch.setattr(getpass, "getuser", lambda: "cleo")
    account = Account(3, packages=1)
    with answering(api(account, api_key="key", clock=lambda: NOON), port=0) as address:
        handlers.onespan.connect(Connection(address, ApiKey("key")))
        service.reconcile.turn()
        assert flask("reconcile").exit_code == 0  # goes on with that one
        asked = client.post("/api/reconciles", headers=AUTHORIZED).json
        assert flask("reconcile").exit_code == 0  # and with this one
        assert flask("reconcile").exit_code == 0

    assert asked["by"] == "api:test"
    assert [one["by"] for one in read("/api/reconciles")["items"]] == ["cli:cleo", "api:test", None]
