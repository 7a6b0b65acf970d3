"""The digest marks a journal row as failed only if the content of that row causes the error."""

# ruff: noqa: PLR0917  (pytest passes fixtures by name)

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, text

from app.handling import Event, Package
from app.store import dispatches, journal
from app.store.db import is_row_error
from app.store.journal import Entry
from app.store.models import Journal
from app.work import batch
from app.work import digest as digesting
from tests.conftest import NOON, on_both

pytestmark = on_both


@pytest.fixture
def reasons(service: Any) -> Any:
    """The reasons why journal rows cannot be digested, by package id."""

    def reasons() -> dict[str, str]:
        with service.database.read() as connection:
            rows = connection.execute(select(Journal.package_id, Journal.error)).all()
        return {row.package_id: row.error for row in rows if row.error}

    return reasons


def add_bad_rows(service: Any, *packages: str) -> None:
    """Add unparsable snapshots to the journal."""
    with service.database.write() as connection:
        journal.add(
            connection, [Entry("snapshot", NOON, b"[]", package_id=package, read_at=NOON) for package in packages]
        )


def test_one_bad_row_is_marked_as_failed_and_the_others_are_digested(send_callback, service, work, read, reasons):
    """The digest finds a bad row by halving the batch, and digests all other rows."""
    send_callback("PACKAGE_CREATE", package="first")
    add_bad_rows(service, "bad")
    for number in range(20):
        send_callback("PACKAGE_CREATE", package=f"pkg-{number}")
    work()

    assert len(read("/api/packages")["items"]) == 21
    assert list(reasons()) == ["bad"]
    assert "could not be digested" in reasons()["bad"]


def test_law_9_processes_that_meet_a_bad_row_at_once_fail_only_that_row(
    send_callback, service, settings, reasons, handlers, clock
):
    """Processes that digest the same bad row at once mark no other row as failed."""
    for group in range(4):
        add_bad_rows(service, f"bad-{group}")
        for number in range(10):
            send_callback("PACKAGE_CREATE", package=f"pkg-{group}-{number}")
    others = [digesting.Digest(service.database, handlers, clock=clock) for _ in range(3)]

    def run(digest: digesting.Digest) -> None:
        while digest.turn(limit=8):
            pass

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(run, others))

    assert sorted(reasons()) == [f"bad-{group}" for group in range(4)]


@pytest.mark.parametrize("table", ["dispatches", "documents", "changes"])
def test_no_row_fails_because_of_an_outdated_schema(table, send_callback, service, work, read, reasons, handlers):
    """While a migration is missing, callbacks wait for the missing table and are not marked as failed."""

    @handlers.on("*")
    def do_nothing(event: Event, package: Package) -> None: ...

    for number in range(3):
        send_callback("DOCUMENT_SIGNED", package=f"pkg-{number}", sessionUser="ada", documentId="contract")
    with service.database.write() as connection:
        connection.execute(text(f"ALTER TABLE {table} RENAME TO hidden"))
    for _ in range(3):
        with pytest.raises(Exception) as failed:  # noqa: PT011  (each database raises another error)
            service.digest.turn()
        assert not is_row_error(failed.value)
    with service.database.write() as connection:
        connection.execute(text(f"ALTER TABLE hidden RENAME TO {table}"))
    work()

    assert reasons() == {}
    assert len(read("/api/events", state="done")["items"]) == 3


def test_failed_rows_can_be_digested_again(send_callback, service, work, read, reasons, runner, monkeypatch):
    """`flask replay --set-aside` digests failed rows again, and cannot be combined with filters."""
    send_callback("PACKAGE_CREATE", package="pkg-1")
    with monkeypatch.context() as patch:
        patch.setattr(batch, "parse", lambda _: 1 / 0)
        service.digest.turn()
    assert "ZeroDivisionError" in reasons()["pkg-1"]

    dry_run = runner.invoke(args=["replay", "--set-aside", "--dry-run"])
    replay = runner.invoke(args=["replay", "--set-aside"])
    work()

    assert dry_run.output == "1 callback would be digested again.\n"
    assert replay.output == "1 callback will be digested again.\n"
    assert reasons() == {}
    assert read("/api/packages/pkg-1")["status"] == "DRAFT"
    assert runner.invoke(args=["replay", "--set-aside", "--event", "PACKAGE_CREATE"]).exit_code == 2


def test_what_a_bad_row_wrote_is_rolled_back(send_callback, service, work, read, reasons, handlers, monkeypatch):
    """A row that fails at the last step of the digest leaves only its reason in the database."""

    @handlers.on("*")
    def do_nothing(event: Event, package: Package) -> None: ...

    enqueue = dispatches.enqueue

    def failing(connection: Any, runs: Any, *, now: Any) -> None:
        runs = list(runs)
        if any(package == "bad" for _, package, _ in runs):
            raise ZeroDivisionError
        enqueue(connection, runs, now=now)

    monkeypatch.setattr(dispatches, "enqueue", failing)
    send_callback("PACKAGE_CREATE", package="first")
    send_callback("PACKAGE_CREATE", package="bad")
    send_callback("PACKAGE_CREATE", package="last")
    work()

    assert list(reasons()) == ["bad"]
    assert {event["package_id"] for event in read("/api/events")["items"]} == {"first", "last"}
    assert {package["id"] for package in read("/api/packages")["items"]} == {"first", "last"}
