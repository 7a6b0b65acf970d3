"""The migrations build and remove exactly the tables of the models."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from click.testing import Result
from flask import Flask
from flask.cli import FlaskGroup
from sqlalchemy import inspect, make_url, text

from app import EXTENSION, create_app
from app.handling import Handlers
from app.store.models import Base
from config import Settings
from tests.conftest import ADA, on_both, on_postgresql
from tests.support.databases import administer

# Each migration test creates and drops tables, so it needs its own database.
pytestmark = [on_both, pytest.mark.own_database]


@pytest.fixture
def empty(database_url: str, tmp_path: Path) -> Iterator[Flask]:
    """The app on a database without tables."""
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
    """Run a `flask` command of an app with these arguments."""
    return app.test_cli_runner().invoke(FlaskGroup(create_app=lambda: app), words)


def tables(app: Flask) -> set[str]:
    """Return the names of the tables in the database."""
    engine = app.extensions[EXTENSION].database.engine
    return {name for name in inspect(engine).get_table_names() if not name.startswith("sqlite_")}


def differences(app: Flask) -> list[object]:
    """Return the differences between the tables in the database and the models."""
    with app.extensions[EXTENSION].database.read() as connection:
        options = {
            "compare_type": True,
            "compare_server_default": True,
            # The index `ix_searches_text` exists only on PostgreSQL, and only if `pg_trgm` is available.
            "include_name": lambda name, *_: name != "ix_searches_text",
        }
        return compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata)


def test_the_migrations_build_what_the_models_describe(empty):
    """After an upgrade, no column, type, index or constraint differs from the models."""
    upgraded = flask(empty, "db", "upgrade")

    assert upgraded.exit_code == 0, upgraded.output
    assert tables(empty) == {*Base.metadata.tables, "alembic_version"}
    assert differences(empty) == []


def test_what_was_upgraded_can_be_downgraded_and_upgraded_again(empty):
    """A downgrade removes all tables of the service, even after a second upgrade."""
    for _ in range(2):
        assert flask(empty, "db", "upgrade").exit_code == 0
        assert flask(empty, "db", "upgrade").exit_code == 0  # a repeated upgrade changes nothing
        down = flask(empty, "db", "downgrade", "base")
        assert down.exit_code == 0, down.output
        assert tables(empty) == {"alembic_version"}
    assert flask(empty, "db", "upgrade").exit_code == 0

    assert differences(empty) == []


def test_a_downgrade_keeps_the_rows(service, app, send_callback, work):
    """The schema can be downgraded and upgraded again while a package with a signer and a document is stored."""
    send_callback("DOCUMENT_SIGNED", sessionUser=ADA, documentId="contract")
    work()

    down = flask(app, "db", "downgrade", "initial_schema")
    up = flask(app, "db", "upgrade")

    assert (down.exit_code, up.exit_code) == (0, 0), down.output
    assert differences(app) == []
    with service.database.read() as connection:
        versions = "SELECT projection_version FROM packages JOIN signers ON package_id = packages.id"
        assert list(connection.execute(text(versions)).scalars()) == [1]


def test_ids_keep_their_case(service, send_callback, work):
    """Id columns and their indexes compare bytes, because OneSpan's ids may differ only by case."""
    for package_id in ("aB=", "AB=", "ab="):
        send_callback("PACKAGE_CREATE", package=package_id)
    work()

    with service.database.read() as connection:
        for table in ("packages", "events", "journal", "changes"):
            column = "id" if table == "packages" else "package_id"
            found = connection.execute(
                text(f"SELECT DISTINCT {column} FROM {table} WHERE {column} >= 'AA' ORDER BY {column}")
            )
            assert list(found.scalars()) == ["AB=", "aB=", "ab="], table


@on_postgresql
def test_search_works_without_a_trigram_index_and_doctor_warns(empty):
    """If an upgrade may not create `pg_trgm`, the SQL in doctor's warning creates the trigram index later."""
    owner = f"owner_{os.urandom(4).hex()}"
    database = empty.extensions[EXTENSION].database
    with database.write() as connection:
        connection.execute(text(f"CREATE ROLE {owner} LOGIN"))
        connection.execute(text(f"ALTER SCHEMA public OWNER TO {owner}"))
    url = database.engine.url.set(username=owner).render_as_string(hide_password=False)
    restricted = create_app(Settings(database_url=url, onespan_callback_keys="key"), handlers=Handlers())
    try:
        upgraded = flask(restricted, "db", "upgrade")
        assert upgraded.exit_code == 0, upgraded.output
        warning = " ".join(flask(restricted, "doctor").output.split())
        assert "warn search Every search reads all packages" in warning
        statements = re.findall(r"(?:CREATE|DROP) [^;]+;", warning)
        assert len(statements) == 3

        for interrupted in (False, True):
            if interrupted:  # an interrupted `CREATE INDEX CONCURRENTLY` leaves an invalid index
                with database.write() as connection:
                    connection.execute(
                        text("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_searches_text'::regclass")
                    )
                assert "warn search" in " ".join(flask(restricted, "doctor").output.split())
            with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                for statement in statements:
                    connection.exec_driver_sql(statement)
            assert "ok search" in " ".join(flask(restricted, "doctor").output.split())
    finally:
        restricted.extensions[EXTENSION].database.close()
        with database.write() as connection:
            connection.execute(text(f"REASSIGN OWNED BY {owner} TO CURRENT_USER"))
            connection.execute(text(f"DROP OWNED BY {owner}"))
            connection.execute(text(f"DROP ROLE {owner}"))


@pytest.mark.parametrize("revision", ["0008", "initial", "first"])
def test_a_database_from_before_the_first_release_is_refused(revision, empty):
    """An upgrade of a database from before the first release says what to do, without a traceback."""
    with empty.extensions[EXTENSION].database.write() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision})

    upgraded = flask(empty, "db", "upgrade")

    assert upgraded.exit_code == 2
    assert "made before the first release" in upgraded.output
    assert "Traceback" not in upgraded.output
    ready = empty.test_client().get("/readyz")
    assert ready.status_code == 200  # the spool keeps callbacks
    assert "flask db upgrade" in str(ready.json["notes"])


@contextmanager
def app_on_another_database(url: str, options: str) -> Iterator[Flask]:
    """Yield an app that uses a new database on the same server, created with these options."""
    server, name = make_url(url), f"other_{os.urandom(4).hex()}"
    administer(server, f"CREATE DATABASE {name} TEMPLATE template0 {options}")
    other = server.set(database=name).render_as_string(hide_password=False)
    app = create_app(Settings(database_url=other, onespan_callback_keys="key"), handlers=Handlers())
    try:
        yield app
    finally:
        app.extensions[EXTENSION].database.close()
        administer(server, f"DROP DATABASE {name} WITH (FORCE)")


@on_postgresql
@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_of_another_encoding_is_refused(database_url, encoding):
    """An upgrade refuses a database without UTF-8, because storing some names would fail later."""
    with app_on_another_database(database_url, f"ENCODING '{encoding}' LOCALE 'C'") as app:
        upgraded, doctor = flask(app, "db", "upgrade"), flask(app, "doctor")

    assert upgraded.exit_code == 2
    assert f"encoding is {encoding}" in upgraded.output
    assert doctor.exit_code == 1
    assert "flask db upgrade" in doctor.output


@on_postgresql
def test_doctor_warns_of_another_locale(database_url):
    """`flask doctor` warns of the locale `C`, where searches for letters beyond ASCII are slow without trigrams."""
    with app_on_another_database(database_url, "ENCODING 'UTF8' LOCALE 'C'") as app:
        upgraded, doctor = flask(app, "db", "upgrade"), flask(app, "doctor")

    assert upgraded.exit_code == 0, upgraded.output
    assert "LC_CTYPE is C" in " ".join(doctor.output.split())


@on_postgresql
@pytest.mark.parametrize("may_use", [True, False])
def test_upgrade_without_the_right_to_create_tables_says_what_to_do(empty, may_use):
    """`flask db upgrade` says what to do if its role may not create tables, as is common since PostgreSQL 15."""
    role = f"guest_{os.urandom(4).hex()}"
    database = empty.extensions[EXTENSION].database
    administer(database.engine.url, f"CREATE ROLE {role} LOGIN")
    if may_use:
        administer(database.engine.url, f"GRANT USAGE ON SCHEMA public TO {role}")
    url = database.engine.url.set(username=role).render_as_string(hide_password=False)
    guest = create_app(Settings(database_url=url, onespan_callback_keys="k"), handlers=Handlers())

    upgraded = flask(guest, "db", "upgrade")

    guest.extensions[EXTENSION].database.close()
    administer(database.engine.url, f"DROP OWNED BY {role}")
    administer(database.engine.url, f"DROP ROLE {role}")
    assert upgraded.exit_code == 2
    assert "OWNER TO" in upgraded.output


@on_postgresql
def test_the_extension_may_be_in_another_schema(empty):
    """Search works if `pg_trgm` is in a schema outside the search path, as on managed servers."""
    with empty.extensions[EXTENSION].database.write() as connection:
        connection.execute(text("CREATE SCHEMA extensions"))
        connection.execute(text("CREATE EXTENSION pg_trgm SCHEMA extensions"))

    upgraded = flask(empty, "db", "upgrade")

    assert upgraded.exit_code == 0, upgraded.output
    assert "ok search" in " ".join(flask(empty, "doctor").output.split())
