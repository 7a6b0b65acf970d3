"""The database: one engine, read and write transactions, and the write lock.

On every connection, a commit that has returned is on disk (law 1 in `docs/architecture.md`).
"""

import fcntl
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg.errors import QueryCanceled
from sqlalchemy import (
    URL,
    DateTime,
    Dialect,
    Engine,
    TypeDecorator,
    create_engine,
    event,
    func,
    make_url,
    select,
    text,
)
from sqlalchemy.engine import Connection
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from app.errors import QueryTimeout

BUSY_SECONDS = 10  # seconds that a writer waits for another writer before it gives up
PROGRESS_STEPS = 10_000  # SQLite instructions between two checks of a query's time limit; they take far less than 1 ms
RECYCLE_SECONDS = 600  # age of a connection to SQLite, which reads the statistics of the planner only when it opens
LOCK_POLL_SECONDS = 0.001  # seconds between two attempts to take a file lock that another process holds
LOCK_TIMEOUT = "timed out waiting for another writer of the SQLite file"
WRITE_LOCK_KEY = 0x6F6E6573  # key of PostgreSQL's advisory lock for changes to the status store

_TAKE_WRITE_LOCK = text("SELECT pg_advisory_xact_lock(:key)")

# SQL expressions of the settings' values.
POSTGRESQL_SETTINGS = {
    # `synchronous_commit` must be "on" or stronger, because an acknowledged callback must survive a power cut.
    "synchronous_commit": """CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') THEN 'on'
                             ELSE current_setting('synchronous_commit') END""",
    "timezone": "'UTC'",
    # A process that stalls inside a transaction must not hold the write lock for ever.
    "idle_in_transaction_session_timeout": "'60s'",
    "lock_timeout": f"'{BUSY_SECONDS}s'",
    # A cached plan ignores parameter values. A plan made for a small table would scan the table when it is large.
    "plan_cache_mode": "'force_custom_plan'",
    # JIT compilation and parallel workers take longer than most queries here, and callbacks need the cores.
    "jit": "'off'",
    "max_parallel_workers_per_gather": "'0'",
    # Most database pages are in memory or on an SSD, where random reads are cheap and index lookups cost CPU time.
    "random_page_cost": "'1.1'",
    "cpu_operator_cost": "'0.005'",
}
_SET_ALL = ", ".join(f"set_config('{name}', {value}, {{is_local}})" for name, value in POSTGRESQL_SETTINGS.items())
_SET_FOR_SESSION, _SET_FOR_TRANSACTION = (f"SELECT {_SET_ALL.format(is_local=local)}" for local in ("false", "true"))
# These timeouts detect within seconds a server that vanished without closing its connections.
POSTGRESQL_CONNECTION = {
    "client_encoding": "utf8",
    "connect_timeout": 3,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
SQLITE_SETTINGS = (
    f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -16000",  # a cache of 16,000 KB per connection; the default of 2,000 KB hardly holds one index
    "PRAGMA analysis_limit = 400",  # rows that `ANALYZE` samples per index, so it takes milliseconds for any table
)


class UTCDateTime(TypeDecorator[datetime]):
    """A column type for UTC times with microseconds, which both databases return as aware times."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Prepare an aware time for storage. A naive time raises `ValueError`.

        SQLite stores no zone, so a time is converted to UTC and stored without a zone.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without its zone cannot be stored")
        return value.astimezone(UTC).replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return a stored time as an aware time in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Database:
    """A database engine and its transactions. Threads may share an instance; a forked process calls `after_fork`."""

    def __init__(self, url: str) -> None:
        self.engine = make_engine(url)
        self._writer = self.engine.execution_options(writes=True)
        self._file_lock = _file_lock(make_url(url))
        self._reader = self.engine
        if self.engine.dialect.name == "postgresql":
            self._reader = self.engine.execution_options(isolation_level="REPEATABLE READ")

    @contextmanager
    def read(self, *, timeout: timedelta | None = None) -> Iterator[Connection]:
        """Open a read transaction that sees one consistent state of the data. The transaction blocks no writer.

        Raises `QueryTimeout` if a statement takes longer than `timeout`. On SQLite, `timeout` limits the time of all
        statements of the transaction together.
        """
        with self._reader.begin() as connection:
            if timeout is None:
                yield connection
                return
            with _time_limit(connection, timeout):
                yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a write transaction and commit it at the end. On SQLite, other writers wait until the end."""
        with self._file_lock, self._writer.begin() as connection:
            yield connection

    def now(self) -> datetime:
        """Read the database's clock; for SQLite that is this machine's clock."""
        with self.read() as connection:
            moment: datetime = connection.execute(select(func.now(type_=UTCDateTime))).scalar_one()
        return moment

    def analyze(self) -> None:
        """Update the statistics that SQLite's query planner uses. PostgreSQL updates its statistics by itself."""
        if self.engine.dialect.name == "sqlite":
            with self.write() as connection:
                connection.exec_driver_sql("ANALYZE")

    def close(self) -> None:
        """Close all connections to the database."""
        self.engine.dispose()

    def after_fork(self) -> None:
        """Share no connection and no lock with the process that forked this one."""
        self.engine.dispose(close=False)
        self._file_lock = _file_lock(self.engine.url)


class FileLock:
    """A lock that admits one writer of a SQLite file at a time, across threads and processes.

    Writers that wait for SQLite's own lock sleep for up to 100 ms at a time; writers that wait for this lock sleep for
    1 ms. The lock of a process that dies is released. A writer that has waited for `BUSY_SECONDS` gets
    `sqlalchemy.exc.TimeoutError`.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._threads = threading.Lock()
        self._handle: int | None = None

    def __enter__(self) -> None:
        if not self._threads.acquire(timeout=BUSY_SECONDS):
            raise PoolTimeout(LOCK_TIMEOUT)
        try:
            self._lock_file()
        except BaseException:
            self._threads.release()
            raise

    def _lock_file(self) -> None:
        if self._handle is None:
            try:
                self._handle = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as problem:  # callers expect the errors of a database
                raise OperationalError(None, None, problem) from None
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                return fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise PoolTimeout(LOCK_TIMEOUT) from None
                time.sleep(LOCK_POLL_SECONDS)

    def __exit__(self, *_: object) -> None:
        try:
            assert self._handle is not None
            fcntl.flock(self._handle, fcntl.LOCK_UN)
        finally:
            self._threads.release()


def _file_lock(url: URL) -> AbstractContextManager[None]:
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return nullcontext()
    return FileLock(Path(f"{url.database}-turn"))


# One encoder serves all values, because `json.dumps` would create an encoder for each value.
_write_json = json.JSONEncoder(separators=(",", ":")).encode


# `hide_parameters` keeps the values of rows, which contain personal data, out of the texts of errors.
ENGINE: Mapping[str, Any] = {"json_serializer": _write_json, "hide_parameters": True}

# The pool reuses the connection that was used last, so that only a few connections need a full cache.
POOL: Mapping[str, Any] = {"pool_size": 10, "max_overflow": 30, "pool_timeout": 5, "pool_use_lifo": True}


def make_engine(url: str) -> Engine:
    """Create an engine for a database URL. On all its connections, a commit that has returned is on disk."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database and parsed.database != ":memory:":
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            if not Path(parsed.database).exists():  # an existing file may be on a read-only disk
                Path(parsed.database).touch(mode=0o600)  # only its owner may read the file with personal data
        engine = create_engine(parsed, **ENGINE, **POOL, pool_recycle=RECYCLE_SECONDS)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    engine = create_engine(
        parsed,
        **ENGINE,
        **POOL,
        pool_pre_ping=True,
        connect_args=POSTGRESQL_CONNECTION,
    )
    event.listen(engine, "connect", _prepare_postgresql)
    event.listen(engine, "begin", _begin_postgresql)
    return engine


def is_row_error(error: Exception) -> bool:
    """Whether a row's content may have caused an error, rather than a database that is down, busy, full or outdated."""
    if isinstance(error, DBAPIError):
        return isinstance(error, DataError | IntegrityError)
    return not isinstance(error, PoolTimeout | OSError)


def take_write_lock(connection: Connection) -> None:
    """Take the write lock of the status store and hold it until the transaction ends.

    Take the write lock before the first write to packages, signers, documents, attention or changes, and take no
    other lock after it. Thus changes commit in the order of their ids, and a reader of the change feed skips no change.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_TAKE_WRITE_LOCK, {"key": WRITE_LOCK_KEY})


class unindexed(FunctionElement[str]):  # noqa: N801  (SQLAlchemy's functions are lower case)
    """A column whose indexes SQLite must not use: https://www.sqlite.org/optoverview.html#dqterm."""

    inherit_cache = True


@compiles(unindexed)
def _column(element: unindexed, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)


@compiles(unindexed, "sqlite")
def _column_on_sqlite(element: unindexed, compiler: SQLCompiler, **options: Any) -> str:
    return f"+{_column(element, compiler, **options)}"


@contextmanager
def _time_limit(connection: Connection, timeout: timedelta) -> Iterator[None]:
    """Cancel statements of a transaction that take longer than `timeout`.

    A cancelled statement raises `QueryTimeout`. After that, the transaction can only be rolled back.
    """
    limit = _postgresql_limit if connection.dialect.name == "postgresql" else _sqlite_limit
    with limit(connection, timeout):
        try:
            yield
        except OperationalError as error:
            if isinstance(error.orig, QueryCanceled) or str(error.orig) == "interrupted":
                raise QueryTimeout from None
            raise


@contextmanager
def _postgresql_limit(connection: Connection, timeout: timedelta) -> Iterator[None]:
    milliseconds = f"{timeout / timedelta(milliseconds=1):.0f}"
    is_local = True
    connection.execute(select(func.set_config("statement_timeout", milliseconds, is_local)))
    yield


@contextmanager
def _sqlite_limit(connection: Connection, timeout: timedelta) -> Iterator[None]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    deadline = time.monotonic() + timeout.total_seconds()
    driver.set_progress_handler(lambda: time.monotonic() > deadline, PROGRESS_STEPS)
    try:
        yield
    finally:
        driver.set_progress_handler(None, 0)


def _prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)
    connection.isolation_level = None  # the driver must not send BEGIN, because `_begin_sqlite` does
    for setting in SQLITE_SETTINGS:
        connection.execute(setting)


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _prepare_postgresql(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    assert isinstance(connection, psycopg.Connection)
    if is_pooled(connection):
        connection.prepare_threshold = None  # the next transaction may be in a session without the prepared statements
    else:
        connection.execute(_SET_FOR_SESSION)
    connection.commit()


def is_pooled(connection: psycopg.Connection) -> bool:
    """Whether a pooler such as PgBouncer is in between, which may give each transaction another session.

    A pooler cannot name the session's process when a client connects, so it names another.
    """
    (backend,) = connection.execute("SELECT pg_backend_pid()").fetchone() or (None,)
    return bool(backend != connection.info.backend_pid)


def _begin_postgresql(connection: Connection) -> None:
    """Apply the settings to this transaction alone, if the session may not be this connection's own."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    if driver.prepare_threshold is None:
        driver.execute(_SET_FOR_TRANSACTION)
