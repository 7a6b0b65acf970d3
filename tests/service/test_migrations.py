"""The migrations and the models say the same, forwards and backwards."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from click.testing import Result
from flask import Flask
from flask.cli import FlaskGroup
from sqlalchemy import inspect, make_url, text

from app import EXTENSION, create_app
from app.store.models import Base
from app.store.queries import walk
from app.store.searches import grams
from app.work.dispatch import Handlers
from config import Settings


@pytest.fixture
def empty(database_url: str, tmp_path: Path) -> Iterator[Flask]:
    """The app on a database with nothing in it."""
    url = f"sqlite:///{tmp_path}/empty.db" if database_url.startswith("sqlite") else database_url
    settings = Settings(database_url=url, onespan_callback_keys="key", spool_dir=tmp_path / "spool")
    app = create_app(settings, handlers=Handlers())
    if make_url(url).get_backend_name() == "postgresql":
        with app.extensions[EXTENSION].database.write() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
    yield app
    app.extensions[EXTENSION].database.close()


def flask(app: Flask, *words: str) -> Result:
    """Run `flask` with these words."""
    return app.test_cli_runner().invoke(FlaskGroup(create_app=lambda: app), words)


def tables(app: Flask) -> set[str]:
    """Names of the tables that are there, but for those of the grams, which have no model."""
    engine = app.extensions[EXTENSION].database.engine
    return {name for name in inspect(engine).get_table_names() if not name.startswith(("sqlite_", "grams"))}


def differences(app: Flask) -> list[object]:
    """What the tables lack of the models, or have beside them."""
    with app.extensions[EXTENSION].database.read() as connection:
        options = {
            "compare_type": True,
            "compare_server_default": True,
            "include_name": lambda name, *_: name is None or "grams" not in name,
        }
        return compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata)


def test_the_migrations_build_what_the_models_describe(empty):
    """No column, type, index or constraint differs."""
    upgraded = flask(empty, "db", "upgrade")

    assert upgraded.exit_code == 0, upgraded.output
    assert tables(empty) == {*Base.metadata.tables, "alembic_version"}
    assert differences(empty) == []


def test_what_was_upgraded_can_be_downgraded_and_upgraded_again(empty):
    """Nothing is left behind, twice over."""
    for _ in range(2):
        assert flask(empty, "db", "upgrade").exit_code == 0
        assert flask(empty, "db", "upgrade").exit_code == 0  # a second time changes nothing
        down = flask(empty, "db", "downgrade", "base")
        assert down.exit_code == 0, down.output
        assert tables(empty) == {"alembic_version"}
    assert flask(empty, "db", "upgrade").exit_code == 0

    assert differences(empty) == []


def test_ids_keep_their_case(service, tell, work):
    """OneSpan's ids differ by case alone: an id column compares bytes, and so does its index."""
    for package_id in ("aB=", "AB=", "ab="):
        tell("PACKAGE_CREATE", package=package_id)
    work()

    with service.database.read() as connection:
        for table in ("packages", "events", "journal", "changes"):
            column = "id" if table == "packages" else "package_id"
            found = connection.execute(
                text(f"SELECT DISTINCT {column} FROM {table} WHERE {column} >= 'AA' ORDER BY {column}")
            )
            assert list(found.scalars()) == ["AB=", "aB=", "ab="], table


def test_what_was_searched_is_found_after(app, tell, work, ask, monkeypatch):
    """The grams move to where they are kept now, and back, and none is lost. A walk alone finds one."""
    monkeypatch.setattr(walk, "STRIDES", (1,))
    for package in ("a-needle", "b-needle"):
        tell("PACKAGE_CREATE", package=package)
    work()

    for step in (("downgrade", "0007"), ("upgrade",)):
        done = flask(app, "db", *step)
        assert done.exit_code == 0, done.output

    assert {one["id"] for one in ask("/api/packages", q="needle").json["items"]} == {"a-needle", "b-needle"}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_what_the_version_before_writes_after_an_upgrade_is_found(app, service, tell, work, ask, monkeypatch):  # noqa: PLR0917  (pytest passes them by name)
    """It goes on until it is reloaded, and knows only the table that the grams were in."""
    monkeypatch.setattr(walk, "STRIDES", (1,))
    for package in ("a-straw", "b-straw"):
        tell("PACKAGE_CREATE", package=package)
    work()
    for step in (("downgrade", "0007"), ("upgrade",)):
        assert flask(app, "db", *step).exit_code == 0

    with service.database.write() as connection:
        for package in ("a-straw", "b-straw"):
            words = f"{package}\nneedle"
            connection.execute(
                text(
                    """INSERT INTO searches (package_id, text) VALUES (:package, :words)
                    ON CONFLICT (package_id) DO UPDATE SET text = excluded.text"""
                ),
                {"package": package, "words": words},
            )
            number = connection.scalar(text("SELECT id FROM searches WHERE package_id = :one"), {"one": package})
            connection.execute(text("DELETE FROM grams WHERE id = :id"), {"id": number})
            connection.execute(
                text("INSERT INTO grams (id, grams) VALUES (:id, :grams)"),
                {"id": number, "grams": sorted(grams(words))},
            )

    assert {one["id"] for one in ask("/api/packages", q="needle").json["items"]} == {"a-straw", "b-straw"}
