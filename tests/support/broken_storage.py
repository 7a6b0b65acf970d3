"""Ways to break the database or the spool of a service, each for the time of a `with` block."""

import contextlib
import os
import pwd
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection

from app import Service
from app.store.db import Database

FILLER = "filler"  # the file that fills a disk
SMALLEST_BLOCK = 512


def is_sqlite(database_url: str) -> bool:
    """Whether this is the URL of a SQLite database."""
    return make_url(database_url).get_backend_name() == "sqlite"


def plain(database_url: str, *, database: str | None = None) -> str:
    """Format a URL for psycopg, perhaps with another database of the same server."""
    url = make_url(database_url).set(drivername="postgresql")
    return (url.set(database=database) if database else url).render_as_string(hide_password=False)


@contextmanager
def unavailable(database_url: str, *services: Service) -> Iterator[None]:
    """Make the database unavailable: SQLite's file cannot be opened, PostgreSQL accepts no connection."""
    if is_sqlite(database_url):
        file = Path(make_url(database_url).database or "")
        hidden = file.with_suffix(".hidden")
        for service in services:
            service.database.close()
        file.rename(hidden)
        file.mkdir()
        yield
        file.rmdir()
        hidden.rename(file)
        return
    name = make_url(database_url).database
    with psycopg.connect(plain(database_url, database="postgres"), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        _end_connections(connection, name)
        yield
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


@contextmanager
def read_only(database_url: str, service: Service) -> Iterator[None]:
    """Let the database refuse every write, as a standby and a read-only disk do."""
    if is_sqlite(database_url):
        with _on_connect(service.database, "PRAGMA query_only = ON"):
            yield
        return
    name = make_url(database_url).database
    with psycopg.connect(plain(database_url, database="postgres"), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        _end_connections(connection, name)
        yield
        connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        _end_connections(connection, name)


@contextmanager
def locked(database_url: str, *_: Service) -> Iterator[None]:
    """Hold the lock that every writer needs, as a backup or a migration of another program does."""
    if is_sqlite(database_url):
        file = make_url(database_url).database or ""
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
        return
    with psycopg.connect(plain(database_url)) as connection:
        connection.execute("LOCK TABLE journal IN ACCESS EXCLUSIVE MODE")
        yield


@contextmanager
def without_tables(database_url: str, service: Service) -> Iterator[None]:
    """Hide the tables, as if `flask db upgrade` had not run."""
    names = ("journal", "alembic_version")
    with service.database.write() as connection:
        for name in names:
            connection.execute(text(f"ALTER TABLE {name} RENAME TO hidden_{name}"))
    yield
    with service.database.write() as connection:
        for name in names:
            connection.execute(text(f"ALTER TABLE hidden_{name} RENAME TO {name}"))


@contextmanager
def page_limit(database_url: str, service: Service) -> Iterator[None]:
    """Let a SQLite file not grow, as on a full disk."""
    with service.database.read() as connection:
        pages = connection.scalar(text("PRAGMA page_count"))
    with _on_connect(service.database, f"PRAGMA max_page_count = {pages}"):
        yield


@contextmanager
def file_in_place_of(folder: Path) -> Iterator[None]:
    """Put a file where the spool's folder should be."""
    if folder.exists():
        folder.rmdir()
    folder.write_text("a file")
    yield
    folder.unlink()


class Disk:
    """A small disk in memory that can be filled and freed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """Write until no block is free."""
        with (self.folder / FILLER).open("ab", buffering=0) as file:
            for size in (65536, SMALLEST_BLOCK):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"?" * size)

    def make_read_only(self) -> None:
        """Refuse every write from now on."""
        subprocess.run(["mount", "-o", "remount,ro", str(self.folder)], check=True)

    def free(self) -> None:
        """Delete what `fill` wrote."""
        (self.folder / FILLER).unlink()


@contextmanager
def small_disk(*, megabytes: int, owner: str | None = None) -> Iterator[Disk]:
    """Mount a small disk in memory. Skips the test if this user may not mount."""
    folder = Path(tempfile.mkdtemp(prefix="small-disk-", dir="/tmp"))
    folder.chmod(0o755)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        mounted = None
    if mounted is None or mounted.returncode:
        folder.rmdir()
        pytest.skip("only root may mount a small disk, which this test fills")
    try:
        if owner:
            user = pwd.getpwnam(owner)
            os.chown(folder, user.pw_uid, user.pw_gid)
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


@contextmanager
def _on_connect(database: Database, statement: str) -> Iterator[None]:
    """Execute a statement on each new connection, and end the connections before and after."""

    def prepare(connection: DBAPIConnection, _: object) -> None:
        assert isinstance(connection, sqlite3.Connection)
        connection.execute(statement)

    database.close()
    event.listen(database.engine, "connect", prepare)
    yield
    event.remove(database.engine, "connect", prepare)
    database.close()


def _end_connections(connection: psycopg.Connection, name: str | None) -> None:
    connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
