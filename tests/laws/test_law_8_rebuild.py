"""Law 8: the picture can be derived again from the journal, and `flask rebuild` tells where it differs."""

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
from app.store import journal, queries
from app.store.journal import Entry
from app.store.models import Package
from app.work.dispatch import Handlers
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
Telling = JSON | tuple[JSON, datetime]


@pytest.fixture
def digest(service: Service) -> Callable[..., None]:
    """Write callbacks and dated snapshots into the journal and digest them."""

    def digest(told: Sequence[Telling], *, package: str = "pkg-1", limit: int = 500) -> None:
        with service.database.write() as connection:
            journal.add(
                connection, [_entry(one, package, LATER + timedelta(minutes=at)) for at, one in enumerate(told)]
            )
        for _ in range(1000):
            if not service.digest.turn(limit=limit):
                return
        raise AssertionError("there is always more to digest")

    return digest


@pytest.fixture
def rebuild(runner: FlaskCliRunner) -> Callable[..., Any]:
    """`flask rebuild`, with its exit code and what it said."""
    return lambda *options: runner.invoke(args=["rebuild", *options])


@pytest.fixture
def story(digest: Callable[..., None]) -> None:
    """Ada signed, Ben is locked, Cleo's package is out for signature."""
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
    """Change a row behind the service's back."""
    with service.database.write() as connection:
        assert connection.execute(text(statement)).rowcount == 1


@STORED
@given(strategies.facts, st.lists(strategies.callbacks(st.none()), max_size=3), st.data())
def test_law_8_rebuild_finds_no_difference_after_any_history(rebuild, digest, facts, undated, data):
    """However callbacks and snapshots came in, repeated, shuffled, without a date."""
    told = [*facts.callbacks, *facts.snapshots, *undated]
    repeated = data.draw(st.lists(st.sampled_from(told), max_size=4))
    package = f"pkg-{data.draw(st.uuids())}"

    digest(data.draw(st.permutations([*told, *repeated])), package=package, limit=data.draw(st.integers(1, 5)))

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
    "UPDATE packages SET sort_name = 'wrong'": ("place in lists", "'as stored' -> 'as the package has it'"),
    "UPDATE searches SET text = 'wrong'": ("place in lists", "'as stored' -> 'as the package has it'"),
    "DELETE FROM searches": ("place in lists", "'as stored' -> 'as the package has it'"),
}


@pytest.mark.parametrize("statement", TAMPERED)
@pytest.mark.usefixtures("story")
def test_law_8_rebuild_check_tells_of_every_tampered_value(service, rebuild, statement):
    """Whoever changed a row by hand is found out; nothing is written."""
    attribute, difference = TAMPERED[statement]
    tamper(service, statement)

    first, second = rebuild("--check"), rebuild("--check")

    assert first.exit_code == second.exit_code == 1
    assert first.stdout == second.stdout
    assert re.search(rf"^pkg-1 \S+ {attribute}: .*{re.escape(difference)}", first.stdout, re.MULTILINE)
    assert re.search(r"^1 package, [1-9]\d* differences?\.$", first.stdout, re.MULTILINE)


@pytest.mark.parametrize("statement", TAMPERED)
@pytest.mark.usefixtures("story")
def test_law_8_rebuild_mends_what_was_tampered_with(service, rebuild, statement):
    """The picture is again what it was before, and a second look finds nothing."""
    before = _picture(service)
    tamper(service, statement)

    mended = rebuild()

    assert mended.exit_code == 0
    assert re.search(r"differences?, mended\.", mended.stdout)
    assert _picture(service) == before
    assert rebuild("--check").exit_code == 0


@pytest.mark.usefixtures("story")
def test_law_8_what_rebuild_mends_is_history_too(service, rebuild, clock):
    """Every change has a cause; this one's is the rebuild."""
    tamper(service, "UPDATE packages SET status = 'COMPLETED'")
    before = _history(service)
    clock.forward(HOUR)

    rebuild()

    (change,) = _history(service)[len(before) :]
    assert (change.subject, change.attribute, change.old, change.new) == ("package", "status", "COMPLETED", "SENT")
    assert change.cause.kind == "rebuild"
    assert change.recorded_at == NOON + HOUR


@pytest.mark.usefixtures("story")
def test_law_8_a_lost_package_is_derived_anew(service, rebuild):
    """All that is known of a package follows from the journal."""
    before = _picture(service)
    for table in ("attention", "documents", "signers"):
        with service.database.write() as connection:
            connection.execute(text(f"DELETE FROM {table}"))
    tamper(service, "DELETE FROM packages")

    assert rebuild("--check").exit_code == 1
    assert rebuild().exit_code == 0

    assert _picture(service) == before


def test_law_8_rebuild_runs_no_handler(service, handlers: Handlers, digest, rebuild):
    """Mending is not news: no dispatch is written, none is run again."""
    handlers.on("*")(_nothing)
    digest([callback("PACKAGE_ACTIVATE")])
    tamper(service, "UPDATE packages SET status = 'DRAFT'")
    before = _dispatches(service)

    rebuild()

    assert len(before) == 1
    assert _dispatches(service) == before


def test_law_8_rebuild_leaves_to_the_digest_what_still_waits(service, digest, rebuild):
    """A callback not digested yet is no difference."""
    digest([callback("PACKAGE_CREATE")])
    with service.database.write() as connection:
        journal.add(connection, [_entry(callback("PACKAGE_ACTIVATE", NOON + HOUR), "pkg-1", LATER)])

    assert rebuild("--check").exit_code == 0


def test_law_8_rebuild_passes_over_what_could_not_be_read(service, digest, rebuild):
    """A row that was refused with its reason caused nothing, and causes nothing again."""
    digest([callback("PACKAGE_CREATE")])
    with service.database.write() as connection:
        journal.add(connection, [Entry("callback", LATER, b"{", package_id="pkg-1", error="it is not JSON")])

    assert rebuild("--check").exit_code == 0


def _nothing(*_: object) -> None:
    """Do nothing."""


def _entry(one: Telling, package_id: str, received_at: datetime) -> Entry:
    body, read_at = one if isinstance(one, tuple) else (one, None)
    name, kind = ("packageId", "callback") if read_at is None else ("id", "snapshot")
    told = json.dumps({**body, name: package_id}).encode()
    return Entry(kind, received_at, told, package_id=package_id, read_at=read_at)


def _picture(service: Service) -> Any:
    with service.database.read() as connection:
        return queries.packages(connection, ["pkg-1"])["pkg-1"]


def _history(service: Service) -> list[queries.ChangeDetail]:
    with service.database.read() as connection:
        return queries.history(connection, "pkg-1", limit=1000, after=0)


def _dispatches(service: Service) -> list[Any]:
    with service.database.read() as connection:
        return list(connection.execute(text("SELECT id, state, attempts, fence, due_at FROM dispatches")).all())


@pytest.mark.usefixtures("story")
def test_law_8_what_is_claimed_is_compared_too(service, rebuild):
    """The next callback derives from it, so it must be right even where it does not show."""
    tamper(service, "UPDATE packages SET claims = '{}'")

    found, mended, clean = rebuild("--check"), rebuild(), rebuild("--check")

    assert (found.exit_code, "pkg-1 package claims" in found.output) == (1, True)
    assert "1 difference, mended." in mended.output
    assert clean.exit_code == 0


@pytest.mark.usefixtures("story")
def test_law_8_a_package_of_no_cause_is_found_and_goes(service, rebuild, read):
    """Nobody ever told of it."""
    with service.database.write() as connection:
        columns = ", ".join(c.name for c in Package.__table__.c if c.name != "id")
        connection.execute(text(f"INSERT INTO packages (id, {columns}) SELECT 'ghost', {columns} FROM packages"))

    found, mended, clean = rebuild("--check"), rebuild(), rebuild("--check")

    assert (found.exit_code, "ghost package row" in found.output) == (1, True)
    assert "2 differences, mended." in mended.output
    assert clean.exit_code == 0
    assert [one["id"] for one in read("/api/packages")["items"]] == ["pkg-1"]


@pytest.mark.parametrize("date", [None, "2099-01-01T00:00:00Z"])
def test_law_8_commits_may_pass_each_other(date, service, digest, rebuild, clock):
    """What was told twice and digested in the other order: dated by what was digested first."""
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
