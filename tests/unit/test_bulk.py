"""Bulk writing, and the search for a list of values, on both databases."""

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.engine import Connection

from app.store.bulk import any_of, insert_all, update_all, upsert_all
from app.store.models import Document, Package
from tests.conftest import NOON, on_both
from tests.support.strategies import examples

pytestmark = on_both

IDS = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8))
LATER = datetime(2026, 3, 2, 12, 0, 0, 123456, tzinfo=UTC)


def package(package_id: str, **values: object) -> dict[str, object]:
    """A row of the table of packages."""
    numbers = {"signers_total": 0, "signers_completed": 0, "projection_version": 1}
    flags = {"trashed": False, "deleted": False}
    return {"id": package_id, **numbers, **flags, "next_signers": [], "sort_name": "", "claims": {}, **values}


@pytest.fixture
def connection(service):
    """A connection in a write transaction."""
    with service.database.write() as connection:
        yield connection


@settings(max_examples=examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stored=IDS, wanted=IDS)
def test_any_of_finds_what_in_finds(service, stored, wanted):
    """`any_of` finds the rows that `in_` finds, for any list of texts, also an empty one."""
    with service.database.write() as connection, connection.begin_nested() as savepoint:
        insert_all(connection, Package, [package(package_id) for package_id in dict.fromkeys(stored)])

        found = connection.execute(select(Package.id).where(any_of(Package.id, "ids")), {"ids": wanted}).scalars()
        assert set(found) == set(stored) & set(wanted)
        savepoint.rollback()


def test_any_of_finds_numbers(connection: Connection):
    """`any_of` takes numbers, too."""
    insert_all(connection, Package, [package("p", projection_version=1), package("q", projection_version=2)])
    found = select(Package.id).where(any_of(Package.projection_version, "numbers"))

    assert list(connection.execute(found, {"numbers": [1, 3]}).scalars()) == ["p"]


def test_values_of_all_types_are_kept(connection: Connection):
    """Times keep their microseconds, JSON its structure, and null stays null."""
    insert_all(connection, Package, [package("p", data={"a": ["ü", None, 1.5]}, due_at=LATER, name=None)])
    document = {"package_id": "p", "position": 0, "id": "d", "name": "x", "signed_by": ["ada"], "signed_at": None}
    insert_all(connection, Document, [{**document, "signatures": []}])

    row = connection.execute(select(Package.data, Package.due_at, Package.name)).one()
    assert tuple(row) == ({"a": ["ü", None, 1.5]}, LATER, None)
    assert tuple(connection.execute(select(Document.signed_by, Document.signed_at)).one()) == (["ada"], None)


def test_upsert_overwrites_and_update_changes_only_its_columns(connection: Connection):
    """An upsert adds or replaces rows; an update changes only the given columns of rows that exist."""
    insert_all(connection, Package, [package("p", name="old"), package("q", name="kept")])
    upsert_all(connection, Package, [package("p", name="new", due_at=NOON), package("r", name="added", due_at=None)])
    update_all(connection, Package, [{"id": "p", "status": "SENT"}, {"id": "nowhere", "status": "SENT"}])

    rows = connection.execute(select(Package.id, Package.name, Package.status, Package.due_at).order_by(Package.id))
    expected = [("p", "new", "SENT", NOON), ("q", "kept", None, None), ("r", "added", None, None)]
    assert [tuple(row) for row in rows] == expected


def test_no_rows_are_no_statement(connection: Connection):
    """Nothing is written for an empty list."""
    for write in (insert_all, upsert_all, update_all):
        write(connection, Package, [])

    assert connection.execute(select(Package.id)).all() == []
