"""Law 8: `flask rebuild` derives the status store again from the journal and reports the differences."""

import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskCliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from app import Service
from app.handling import Handlers
from app.store import journal, queries
from app.store.journal import Entry
from app.store.models import Package
from tests.conftest import ADA, BEN, HOUR, NOON, on_both
from tests.support import strategies
from tests.support.fixtures import JSON, callback, sent_to
from tests.support.strategies import LATER, examples

pytestmark = on_both

STORED = settings(
    deadline=None,
    print_blob=True,
    max_examples=examples(30),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
Input = JSON | tuple[JSON, datetime]


@pytest.fixture
def digest(service: Service) -> Callable[..., None]:
    """Journal callbacks and dated snapshots, and digest them."""

    def digest(inputs: Sequence[Input], *, package: str = "pkg-1", limit: int = 500) -> None:
        with service.database.write() as connection:
            journal.add(
                connection, [_entry(item, package, LATER + timedelta(minutes=at)) for at, item in enumerate(inputs)]
            )
        for _ in range(1000):
            if not service.digest.turn(limit=limit):
                return
        raise AssertionError("the digest never ends")

    return digest


@pytest.fixture
def rebuild(runner: FlaskCliRunner) -> Callable[..., Any]:
    """Run `flask rebuild` and return its exit code and output."""
    return lambda *options: runner.invoke(args=["rebuild", *options])


@pytest.fixture
def signed_package(digest: Callable[..., None]) -> None:
    """A package from Cleo that is out for signature: Ada has signed, and Ben is locked."""
    digest(
        [
            callback("PACKAGE_CREATE"),
            callback("PACKAGE_ACTIVATE", NOON + HOUR / 4),
            (sent_to(ADA, BEN), NOON + HOUR / 2),
            callback("DOCUMENT_SIGNED", NOON + HOUR, sessionUser=ADA, documentId="contract"),
            callback("SIGNER_COMPLETE", NOON + HOUR, sessionUser=ADA),
            callback("SIGNER_LOCKED", NOON + HOUR, sessionUser=BEN),
        ]
    )


def tamper(service: Service, statement: str) -> None:
    """Change one row of the database directly, without the service."""
    with service.database.write() as connection:
        assert connection.execute(text(statement)).rowcount == 1


@STORED
@given(strategies.facts, st.lists(strategies.callbacks(st.none()), max_size=3), st.data())
def test_law_8_rebuild_finds_no_difference_after_any_history(rebuild, digest, facts, undated, data):
    """`rebuild --check` finds no difference after callbacks and snapshots in any order, repeated or undated."""
    inputs = [*facts.callbacks, *facts.snapshots, *undated]
    repeated = data.draw(st.lists(st.sampled_from(inputs), max_size=4))
    package = f"pkg-{data.draw(st.uuids())}"

    digest(data.draw(st.permutations([*inputs, *repeated])), package=package, limit=data.draw(st.integers(1, 5)))

    checked = rebuild("--check")
    assert (checked.exit_code, checked.stdout.splitlines()[:-1]) == (0, []), checked.stdout
    assert re.fullmatch(r"\d+ packages?, 0 differences\.\n", checked.stdout)


TAMPERED = {
    "UPDATE packages SET status = 'COMPLETED'": ("status", "'COMPLETED' -> 'SENT'"),
    "UPDATE packages SET deleted = true": ("deleted", "True -> False"),
    "UPDATE packages SET name = 'Another lease'": ("name", "'Another lease' -> 'Lease'"),
    "UPDATE signers SET locked = false WHERE locked = true": ("locked", "False -> True"),
    "UPDATE documents SET signed_by = '[]'": ("signed_by", "[] -> ['ada-who-signs']"),
    "DELETE FROM signers WHERE id = 'ada-who-signs'": ("status", "None -> 'COMPLETED'"),
    "DELETE FROM attention": ("attention SIGNER_LOCKED", "None -> True"),
    "UPDATE packages SET signers_total = 7": ("details", "signers_total=7"),
    "UPDATE packages SET status_at = null": ("details", "status_at=None"),
    "UPDATE packages SET sort_name = 'wrong'": ("list entry", "'as stored' -> 'as derived'"),
    "UPDATE searches SET text = 'wrong'": ("list entry", "'as stored' -> 'as derived'"),
    "DELETE FROM searches": ("list entry", "'as stored' -> 'as derived'"),
}


@pytest.mark.parametrize("statement", TAMPERED)
@pytest.mark.usefixtures("signed_package")
def test_law_8_rebuild_check_reports_every_tampered_value(service, rebuild, statement):
    """`rebuild --check` reports a row that was changed by hand, and writes nothing."""
    attribute, difference = TAMPERED[statement]
    tamper(service, statement)

    first, second = rebuild("--check"), rebuild("--check")

    assert first.exit_code == second.exit_code == 1
    assert first.stdout == second.stdout
    assert re.search(rf"^pkg-1 \S+ {attribute}: .*{re.escape(difference)}", first.stdout, re.MULTILINE)
    assert re.search(r"^1 package, [1-9]\d* differences?\.$", first.stdout, re.MULTILINE)


@pytest.mark.parametrize("statement", TAMPERED)
@pytest.mark.usefixtures("signed_package")
def test_law_8_rebuild_corrects_what_was_tampered_with(service, rebuild, statement):
    """`rebuild` restores a package whose row was changed by hand, and a second check finds no difference."""
    before = _package(service)
    tamper(service, statement)

    corrected = rebuild()

    assert corrected.exit_code == 0
    assert re.search(r"differences?, repaired\.", corrected.stdout)
    assert _package(service) == before
    assert rebuild("--check").exit_code == 0


@pytest.mark.usefixtures("signed_package")
def test_law_8_correction_by_rebuild_is_a_change(service, rebuild, clock):
    """A correction by `rebuild` is recorded as a change whose cause is the rebuild."""
    tamper(service, "UPDATE packages SET status = 'COMPLETED'")
    before = _history(service)
    clock.forward(HOUR)

    rebuild()

    (change,) = _history(service)[len(before) :]
    assert (change.subject, change.attribute, change.old, change.new) == ("package", "status", "COMPLETED", "SENT")
    assert change.cause.kind == "rebuild"
    assert change.recorded_at == NOON + HOUR


@pytest.mark.usefixtures("signed_package")
def test_law_8_lost_package_is_derived_again(service, rebuild):
    """`rebuild` restores a package whose rows are all deleted, because the journal has all facts about the package."""
    before = _package(service)
    for table in ("attention", "documents", "signers"):
        with service.database.write() as connection:
            connection.execute(text(f"DELETE FROM {table}"))
    tamper(service, "DELETE FROM packages")

    assert rebuild("--check").exit_code == 1
    assert rebuild().exit_code == 0

    assert _package(service) == before


def test_law_8_rebuild_runs_no_handler(service, handlers: Handlers, digest, rebuild):
    """A correction by `rebuild` is no event, so no dispatch is written or run again."""
    handlers.on("*")(_nothing)
    digest([callback("PACKAGE_ACTIVATE")])
    tamper(service, "UPDATE packages SET status = 'DRAFT'")
    before = _dispatches(service)

    rebuild()

    assert len(before) == 1
    assert _dispatches(service) == before


def test_law_8_rebuild_ignores_pending_entries(service, digest, rebuild):
    """`rebuild --check` reports no difference for a callback that is not digested yet."""
    digest([callback("PACKAGE_CREATE")])
    with service.database.write() as connection:
        journal.add(connection, [_entry(callback("PACKAGE_ACTIVATE", NOON + HOUR), "pkg-1", LATER)])

    assert rebuild("--check").exit_code == 0


def test_law_8_rebuild_ignores_unreadable_entries(service, digest, rebuild):
    """`rebuild --check` reports no difference for an unreadable callback, which never had an effect."""
    digest([callback("PACKAGE_CREATE")])
    with service.database.write() as connection:
        journal.add(connection, [Entry("callback", LATER, b"{", package_id="pkg-1", error="it is not JSON")])

    assert rebuild("--check").exit_code == 0


def _nothing(*_: object) -> None:
    """Handle an event by doing nothing."""


def _entry(item: Input, package_id: str, received_at: datetime) -> Entry:
    body, read_at = item if isinstance(item, tuple) else (item, None)
    name, kind = ("packageId", "callback") if read_at is None else ("id", "snapshot")
    content = json.dumps({**body, name: package_id}).encode()
    return Entry(kind, received_at, content, package_id=package_id, read_at=read_at)


def _package(service: Service) -> Any:
    with service.database.read() as connection:
        return queries.packages(connection, ["pkg-1"])["pkg-1"]


def _history(service: Service) -> list[queries.ChangeDetail]:
    with service.database.read() as connection:
        return queries.history(connection, "pkg-1", limit=1000, after=0)


def _dispatches(service: Service) -> list[Any]:
    with service.database.read() as connection:
        return list(connection.execute(text("SELECT id, state, attempts, fence, due_at FROM dispatches")).all())


@pytest.mark.usefixtures("signed_package")
def test_law_8_claims_are_compared_too(service, rebuild):
    """`rebuild` corrects stored claims even if no shown value is wrong, because later callbacks merge with them."""
    tamper(service, "UPDATE packages SET claims = '{}'")

    found, corrected, clean = rebuild("--check"), rebuild(), rebuild("--check")

    assert (found.exit_code, "pkg-1 package claims" in found.output) == (1, True)
    assert "1 difference, repaired." in corrected.output
    assert clean.exit_code == 0


@pytest.mark.usefixtures("signed_package")
def test_law_8_package_without_a_cause_is_found_and_removed(service, rebuild, read):
    """`rebuild` reports and removes a package that no journal row mentions."""
    with service.database.write() as connection:
        columns = ", ".join(c.name for c in Package.__table__.c if c.name != "id")
        connection.execute(text(f"INSERT INTO packages (id, {columns}) SELECT 'ghost', {columns} FROM packages"))

    found, corrected, clean = rebuild("--check"), rebuild(), rebuild("--check")

    assert (found.exit_code, "ghost package row" in found.output) == (1, True)
    assert "2 differences, repaired." in corrected.output
    assert clean.exit_code == 0
    assert [item["id"] for item in read("/api/packages")["items"]] == ["pkg-1"]


@pytest.mark.parametrize("date", [None, "2099-01-01T00:00:00Z"])
def test_law_8_commits_may_overtake_each_other(date, service, digest, rebuild, clock):
    """If the later of two equal callbacks is digested first and dates the event, `rebuild` finds no difference."""
    body = {"name": "PACKAGE_COMPLETE", "packageId": "pkg-1", "createdDate": date}
    with service.database.write() as connection:
        for minutes in (0, 2):
            at = NOON + timedelta(minutes=minutes)
            journal.add(connection, [Entry("callback", at, json.dumps(body).encode(), package_id="pkg-1")])
        connection.execute(text("UPDATE journal SET state = 'digested', digested_at = received_at WHERE id = 1"))
    service.digest.turn()
    with service.database.write() as connection:
        connection.execute(text("UPDATE journal SET state = 'pending', digested_at = NULL WHERE id = 1"))
    service.digest.turn()

    assert rebuild("--check").exit_code == 0
