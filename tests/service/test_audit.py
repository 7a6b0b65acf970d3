"""The history of packages and the list of reconcile runs record who requested an action."""

# ruff: noqa: PLR0917  (pytest passes fixtures by name)

import getpass
from typing import Any

import pytest

from app.handling import GiveUp
from app.onespan.auth import ApiConnection, ApiKey
from app.simulator.account import Account
from app.simulator.server import api, serve_in_thread
from app.store import dispatches
from app.store.packages import Cause
from tests.conftest import HOUR, NOON, TOKEN

AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def handlers(handlers):
    """Two handlers: `file_documents` gives up, `notify_sender` succeeds."""

    @handlers.on("PACKAGE_COMPLETE")
    def file_documents(event, package):
        raise GiveUp("the folder is full")

    @handlers.on("PACKAGE_COMPLETE")
    def notify_sender(event, package):
        pass

    return handlers


@pytest.fixture
def manual_changes(read):
    """The changes that people made to a package: subject, attribute, old value, new value and person."""

    def manual_changes(package: str = "pkg-1") -> list[tuple[Any, ...]]:
        changes = read(f"/api/packages/{package}/history")["items"]
        return [
            (change["subject"], change["attribute"], change["old"], change["new"], change["cause"]["id"])
            for change in changes
            if change["cause"]["kind"] == "person"
        ]

    return manual_changes


def test_a_replay_by_the_api_records_its_token(client, send_callback, work, read, manual_changes, flask):
    """A replay by the API records the token's label and closes the attention reason; `rebuild` finds no difference."""
    send_callback("PACKAGE_COMPLETE")
    work()
    assert manual_changes() == []
    (event,) = read("/api/events")["items"]

    for dispatch in event["dispatches"]:
        assert client.post(f"/api/dispatches/{dispatch['id']}/replay", headers=AUTHORIZED).status_code == 200

    assert manual_changes() == [
        ("handler:file_documents", "replay", "parked", "due", "api:test"),
        ("handler:notify_sender", "replay", "done", "due", "api:test"),
    ]
    history = read("/api/packages/pkg-1/history")["items"]
    (closed,) = [change for change in history if change["old"] is True]
    assert (closed["attribute"], closed["cause"]["kind"]) == ("attention PARKED_HANDLER", "dispatch")
    assert flask("rebuild", "--check").exit_code == 0


def test_a_replay_by_command_records_the_login_name(send_callback, work, flask, manual_changes, monkeypatch):
    """`flask replay` records each replayed run with the login name; a dry run records nothing."""
    monkeypatch.setattr(getpass, "getuser", lambda: "cleo")
    send_callback("PACKAGE_COMPLETE")
    send_callback("PACKAGE_COMPLETE", package="pkg-2")
    work()

    assert flask("replay", "--state", "parked", "--dry-run").exit_code == 0
    assert manual_changes() == []
    assert flask("replay", "--state", "parked").exit_code == 0

    for package in ("pkg-1", "pkg-2"):
        assert manual_changes(package) == [("handler:file_documents", "replay", "parked", "due", "cli:cleo")]
    assert flask("rebuild", "--check").exit_code == 0


def test_a_dispatch_that_runs_when_it_is_replayed_is_skipped(send_callback, service, clock):
    """A dispatch that starts between its selection and its replay is skipped, and no change is recorded for it."""
    send_callback("PACKAGE_COMPLETE")
    service.digest.turn()

    with service.database.write() as connection:
        dispatches.take(connection, [1], now=clock.now, lease=HOUR)
        replayed, changes = dispatches.replay_all(connection, [1, 2], by="Cleo", now=clock.now)

    assert replayed == 1
    assert [(change.old, change.new, change.cause) for change in changes] == [("due", "due", Cause("person", "Cleo"))]


def test_a_run_for_a_new_handler_records_who_requested_it(
    send_callback, work, handlers, flask, manual_changes, monkeypatch
):
    """A replay for a new handler records the old state None, because no dispatch existed before."""
    monkeypatch.setattr(getpass, "getuser", lambda: "cleo")
    send_callback("PACKAGE_COMPLETE")
    work()

    @handlers.on("PACKAGE_COMPLETE")
    def newcomer(event, package):
        pass

    assert flask("replay", "--missing", "--handler", "newcomer").exit_code == 0

    assert manual_changes() == [("handler:newcomer", "replay", None, "due", "cli:cleo")]


def test_a_user_without_a_name_is_recorded_by_number(send_callback, work, flask, manual_changes, monkeypatch):
    """`flask replay` records the user id of a user without a name, such as a user in a container."""

    def nameless() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nameless)
    monkeypatch.setattr("os.getuid", lambda: 4711)
    send_callback("PACKAGE_COMPLETE")
    work()

    flask("replay", "--handler", "notify_sender")

    assert manual_changes() == [("handler:notify_sender", "replay", "done", "due", "cli:4711")]


def test_a_reconcile_run_records_who_requested_it(client, handlers, service, read, flask, monkeypatch):
    """A reconcile run records the token's label or the login name, or null if the service began the run."""
    monkeypatch.setattr(getpass, "getuser", lambda: "cleo")
    account = Account(3, packages=1)
    with serve_in_thread(api(account, api_key="key", clock=lambda: NOON), port=0) as address:
        handlers.onespan.connect(ApiConnection(address, ApiKey("key")))
        service.reconcile.turn()
        assert flask("reconcile").exit_code == 0  # continues the run that the service began
        requested = client.post("/api/reconciles", headers=AUTHORIZED).json
        assert flask("reconcile").exit_code == 0  # continues the run that the API requested
        assert flask("reconcile").exit_code == 0

    assert requested["by"] == "api:test"
    assert [run["by"] for run in read("/api/reconciles")["items"]] == ["cli:cleo", "api:test", None]
