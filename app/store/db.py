"""The database: one engine, two kinds of transaction, and the pen.

SQLite and PostgreSQL are told at every connection what law 1 needs: a commit that returned is on the disk.
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
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError, TimeoutError  # noqa: A004  (a database error to all)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from app.errors import QueryTimeout

BUSY_SECONDS = 10  # how long a writer waits for another before it gives up
PROGRESS_STEPS = 10_000  # of SQLite's machine between two looks at the clock: well below a millisecond
NUDGE = 0.001  # seconds between two tries to pass the turnstile that another process holds
STALLED = "another writer of the SQLite file does not come to an end"
PEN = 0x6F6E6573  # the advisory lock that whoever changes the picture holds

_TAKE_PEN = text("SELECT pg_advisory_xact_lock(:pen)")

POSTGRESQL_SETTINGS = (
    # Never weaker than "on": an acknowledged callback must survive a power cut.
    """SELECT set_config('synchronous_commit', 'on', false)
       WHERE current_setting('synchronous_commit') IN ('off', 'local')""",
    "SET timezone = 'UTC'",
    # A process that stalls inside a transaction must not hold the pen for ever.
    "SET idle_in_transaction_session_timeout = '60s'",
    f"SET lock_timeout = '{BUSY_SECONDS}s'",
    # A plan that is kept knows no parameters: one from when a table was small reads all of it long after.
    "SET plan_cache_mode = 'force_custom_plan'",
    # To compile a query, or to start processes for it, takes longer than most queries, and cores are for callbacks.
    "SET jit = off",
    "SET max_parallel_workers_per_gather = 0",
    # Most pages are in memory or on an SSD; there it is the looks into indexes that take time.
    "SET random_page_cost = 1.1",
    "SET cpu_operator_cost = 0.005",
)
# A server that is gone without a word is noticed within seconds.
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
    "PRAGMA cache_size = -16000",  # kilobytes for each connection; 2,000, as it comes, hold hardly an index
    "PRAGMA analysis_limit = 400",  # rows of each index that `ANALYZE` looks at: milliseconds, however many there are
)


class Moment(TypeDecorator[datetime]):
    """A time in UTC with microseconds, aware on both databases."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store UTC; SQLite keeps no zone, so it gets none. A naive time is a mistake."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without its zone cannot be stored")
        return value.astimezone(UTC).replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  (SQLAlchemy passes it)
        """Give back UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Database:
    """The engine and its transactions. Any number of threads may use one; after a fork make another."""

    def __init__(self, url: str) -> None:
        self.engine = make_engine(url)
        self._writer = self.engine.execution_options(writes=True)
        self._turnstile = _turnstile(make_url(url))
        self._reader = self.engine
        if self.engine.dialect.name == "postgresql":
            self._reader = self.engine.execution_options(isolation_level="REPEATABLE READ")

    @contextmanager
    def read(self, *, timeout: timedelta | None = None) -> Iterator[Connection]:
        """One consistent look; it holds up no writer on either database.

        Raises `QueryTimeout` where a statement takes longer than `timeout`; on SQLite, where all of them together do.
        """
        with self._reader.begin() as connection:
            if timeout is None:
                yield connection
                return
            with _time_limit(connection, timeout):
                yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, committed at the end. On SQLite it is the only one that writes, from its first moment."""
        with self._turnstile, self._writer.begin() as connection:
            yield connection

    def now(self) -> datetime:
        """The database's clock; for SQLite it is this machine's."""
        with self.read() as connection:
            moment: datetime = connection.execute(select(func.now(type_=Moment))).scalar_one()
        return moment

    def analyze(self) -> None:
        """Let SQLite see what is rare in its tables, for it plans by that; PostgreSQL looks by itself."""
        if self.engine.dialect.name == "sqlite":
            with self.write() as connection:
                connection.exec_driver_sql("ANALYZE")

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


class Turnstile:
    """Lets the writers of one SQLite file through one at a time, across threads and processes.

    SQLite would see to that by itself, but who has to wait there sleeps for up to a tenth of a second at a time;
    here it is a millisecond. A process that dies lets the next one through. Raises `sqlalchemy.exc.TimeoutError`
    after `BUSY_SECONDS`.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._threads = threading.Lock()
        self._handle: int | None = None

    def __enter__(self) -> None:
        if not self._threads.acquire(timeout=BUSY_SECONDS):
            raise TimeoutError(STALLED)
        try:
            self._pass()
        except BaseException:
            self._threads.release()
            raise

    def _pass(self) -> None:
        if self._handle is None:
            self._handle = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                return fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(STALLED) from None
                time.sleep(NUDGE)

    def __exit__(self, *_: object) -> None:
        try:
            assert self._handle is not None
            fcntl.flock(self._handle, fcntl.LOCK_UN)
        finally:
            self._threads.release()


def _turnstile(url: URL) -> AbstractContextManager[None]:
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return nullcontext()
    return Turnstile(Path(f"{url.database}-turn"))


_write_json = json.JSONEncoder(separators=(",", ":")).encode  # made once: `json.dumps` would make one for each value


# Parameters are hidden: an error's text would quote a row, and with it a person.
ENGINE: Mapping[str, Any] = {"json_serializer": _write_json, "hide_parameters": True}

# The one that was used last is taken first, so there are no more with a full cache than work at once.
POOL: Mapping[str, Any] = {"pool_size": 10, "max_overflow": 30, "pool_timeout": 5, "pool_use_lifo": True}


def make_engine(url: str) -> Engine:
    """An engine whose every connection keeps law 1."""
    address = make_url(url)
    if address.get_backend_name() == "sqlite":
        if address.database and address.database != ":memory:":
            Path(address.database).parent.mkdir(parents=True, exist_ok=True)
            Path(address.database).touch(mode=0o600)  # it will name people
        engine = create_engine(address, **ENGINE, **POOL)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    engine = create_engine(
        address,
        **ENGINE,
        **POOL,
        pool_pre_ping=True,
        connect_args=POSTGRESQL_CONNECTION,
    )
    event.listen(engine, "connect", _prepare_postgresql)
    return engine


def blames_a_row(error: Exception) -> bool:
    """Whether what a row says may be at fault: not for a database that is away, busy, full or of another version."""
    if isinstance(error, DBAPIError):
        return isinstance(error, DataError | IntegrityError)
    return not isinstance(error, TimeoutError | OSError)


def take_pen(connection: Connection) -> None:
    """Become the only one who changes the picture, until this transaction ends.

    Take it before the first write to packages, signers, documents, attention or changes; take no other lock
    after it. So changes commit in the order of their ids, and whoever reads the feed skips none.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_TAKE_PEN, {"pen": PEN})


class unindexed(FunctionElement[str]):  # noqa: N801  (SQLAlchemy's functions have small letters)
    """A column whose indexes SQLite is to leave alone: https://www.sqlite.org/optoverview.html#dqterm."""

    inherit_cache = True


@compiles(unindexed)
def _column(element: unindexed, compiler: SQLCompiler, **more: Any) -> str:
    return compiler.process(element.clauses, **more)


@compiles(unindexed, "sqlite")
def _column_on_sqlite(element: unindexed, compiler: SQLCompiler, **more: Any) -> str:
    return f"+{_column(element, compiler, **more)}"


@contextmanager
def _time_limit(connection: Connection, timeout: timedelta) -> Iterator[None]:
    """Stop statements of this transaction that take too long: they raise `QueryTimeout`, and it can only end."""
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
    connection.execute(select(func.set_config("statement_timeout", milliseconds, True)))  # noqa: FBT003  (SQL's)
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
    connection.isolation_level = None  # we say BEGIN ourselves
    for setting in SQLITE_SETTINGS:
        connection.execute(setting)


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _prepare_postgresql(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for setting in POSTGRESQL_SETTINGS:
        cursor.execute(setting)
    cursor.close()
    connection.commit()
