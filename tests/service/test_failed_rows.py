"""A callback that cannot be digested is set aside, it alone, and only when it is its own fault."""

# ruff: noqa: PLR0917  (fixtures come by their names)

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, text

from app.handling import Event, Package
from app.store import dispatches, journal
from app.store.db import blames_a_row
from app.store.journal import Entry
from app.store.models import Journal
from app.work import batch
from app.work import digest as digesting
from tests.conftest import NOON, on_both

pytestmark = on_both


@pytest.fixture
def reasons(service: Any) -> Any:
    """Why rows are unreadable, by their package."""

    def reasons() -> dict[str, str]:
        with service.database.read() as connection:
            rows = connection.execute(select(Journal.package_id, Journal.error)).all()
        return {row.package_id: row.error for row in rows if row.error}

    return reasons


def spoil(service: Any, *packages: str) -> None:
    """Journal snapshots that nobody can read."""
    with service.database.write() as connection:
        journal.add(connection, [Entry("snapshot", NOON, b"[]", package_id=one, read_at=NOON) for one in packages])


def test_one_bad_row_is_set_aside_and_those_around_it_are_digested(tell, service, work, read, reasons):
    """It is found by halving the batch."""
    tell("PACKAGE_CREATE", package="first")
    spoil(service, "bad")
    for number in range(20):
        tell("PACKAGE_CREATE", package=f"pkg-{number}")
    work()

    assert len(read("/api/packages")["items"]) == 21
    assert list(reasons()) == ["bad"]
    assert "could not be digested" in reasons()["bad"]


def test_law_9_many_that_meet_a_bad_row_set_aside_that_row_alone(tell, service, settings, reasons, handlers, clock):
    """Who comes second finds it gone, and blames nobody else for it."""
    for crowd in range(4):
        spoil(service, f"bad-{crowd}")
        for number in range(10):
            tell("PACKAGE_CREATE", package=f"pkg-{crowd}-{number}")
    others = [digesting.Digest(service.database, handlers, clock=clock) for _ in range(3)]

    def digest(one: digesting.Digest) -> None:
        while one.turn(limit=8):
            pass

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(digest, others))

    assert sorted(reasons()) == [f"bad-{crowd}" for crowd in range(4)]


@pytest.mark.parametrize("table", ["dispatches", "documents", "changes"])
def test_no_row_is_blamed_for_a_database_of_another_version(table, tell, service, work, read, reasons, handlers):
    """New code before its migration: callbacks wait until the tables are there."""

    @handlers.on("*")
    def look(event: Event, package: Package) -> None: ...

    for number in range(3):
        tell("DOCUMENT_SIGNED", package=f"pkg-{number}", sessionUser="ada", documentId="contract")
    with service.database.write() as connection:
        connection.execute(text(f"ALTER TABLE {table} RENAME TO hidden"))
    for _ in range(3):
        with pytest.raises(Exception) as failed:  # noqa: PT011  (each database has an error of its own)
            service.digest.turn()
        assert not blames_a_row(failed.value)
    with service.database.write() as connection:
        connection.execute(text(f"ALTER TABLE hidden RENAME TO {table}"))
    work()

    assert reasons() == {}
    assert len(read("/api/events", state="done")["items"]) == 3


def test_what_was_set_aside_can_be_digested_again(tell, service, work, read, reasons, runner, monkeypatch):
    """After the repair, with one command; what was unreadable at the door stays so."""
    tell("PACKAGE_CREATE", package="pkg-1")
    with monkeypatch.context() as broken:
        broken.setattr(batch, "parse", lambda _: 1 / 0)
        service.digest.turn()
    assert "ZeroDivisionError" in reasons()["pkg-1"]

    counted = runner.invoke(args=["replay", "--set-aside", "--dry-run"])
    told = runner.invoke(args=["replay", "--set-aside"])
    work()

    assert counted.output == "1 callback would be digested again.\n"
    assert told.output == "1 callback will be digested again.\n"
    assert reasons() == {}
    assert read("/api/packages/pkg-1")["status"] == "DRAFT"
    assert runner.invoke(args=["replay", "--set-aside", "--event", "PACKAGE_CREATE"]).exit_code == 2


def test_what_a_bad_row_had_written_is_undone(tell, service, work, read, reasons, handlers, monkeypatch):
    """It failed at its last step: nothing of it stays but the reason."""

    @handlers.on("*")
    def look(event: Event, package: Package) -> None: ...

    oblige = dispatches.oblige

    def failing(connection: Any, owed: Any, *, now: Any) -> None:
        wanted = list(owed)
        if any(package == "bad" for _, package, _ in wanted):
            raise ZeroDivisionError
        oblige(connection, wanted, now=now)

    monkeypatch.setattr(dispatches, "oblige", failing)
    tell("PACKAGE_CREATE", package="first")
    tell("PACKAGE_CREATE", package="bad")
    tell("PACKAGE_CREATE", package="last")
    work()

    assert list(reasons()) == ["bad"]
    assert {one["package_id"] for one in read("/api/events")["items"]} == {"first", "last"}
    assert {one["id"] for one in read("/api/packages")["items"]} == {"first", "last"}
