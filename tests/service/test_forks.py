"""A database object in a process that was forked from another one."""

import os
import warnings
from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.store import db
from app.store.db import Database
from tests.conftest import on_postgresql, on_sqlite


def forked(work: Callable[[], object]) -> Callable[[], int]:
    """Fork a process that calls `work`. Return a function that waits for its exit code: 0 if `work` returned true."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the test process has threads, gunicorn has none
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if work() else 1
        finally:
            os._exit(code)
    return lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def database(database_url: str):
    """A database whose pool has a connection."""
    database = Database(database_url)
    database.now()
    with database.write():
        pass
    yield database
    database.close()


@on_postgresql
def test_forked_process_has_its_own_connection(database: Database):
    """A forked process uses no connection of its parent, and leaves them open."""

    def backend() -> int:
        with database.read() as connection:
            return connection.scalar(text("SELECT pg_backend_pid()"))

    def has_another() -> bool:
        database.after_fork()
        return backend() != parent

    parent = backend()

    assert forked(has_another)() == 0
    assert backend() == parent


@on_sqlite
def test_forked_process_waits_for_its_parent(database: Database, monkeypatch: pytest.MonkeyPatch):
    """The lock of a SQLite file admits one writer also among processes of which one has forked the other."""
    monkeypatch.setattr(db, "BUSY_SECONDS", 0.2)
    begin, begun = os.pipe()

    def is_kept_out() -> bool:
        database.after_fork()
        os.read(begin, 1)
        with pytest.raises(PoolTimeout), database.write():
            pass
        return True

    wait = forked(is_kept_out)
    with database.write():
        os.write(begun, b"1")
        assert wait() == 0
    os.close(begin)
    os.close(begun)
