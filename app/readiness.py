"""Readiness: whether a callback posted now would be kept. The service finds out by keeping one and taking it back.

Slow checks run in threads of their own, so that a database or disk that hangs delays no answer for long.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Generic, TypeVar

from psycopg.errors import DiskFull, ReadOnlySqlTransaction

from app.checks import NO_ANSWER, Check
from app.store import journal
from app.store.db import Database
from app.store.journal import DATABASE_TIMEOUT_SECONDS
from app.store.spool import SharedFolder, Spool

T = TypeVar("T")
PROBE_INTERVAL = timedelta(seconds=5)  # time for which a good answer of a probe counts
QUICK_SECONDS = 2.0  # seconds to wait for a check that has answered before
READ_ONLY = "The database takes no callbacks, because it is read-only: check its disk, and DATABASE_URL."
DISK_FULL = "The database takes no callbacks, because its disk is full: free some space."
MEANWHILE = "Callbacks go to the spool meanwhile."
NO_SPOOL_ANSWER = "SPOOL_DIR does not respond: callbacks are refused while the database is down."


class Bounded(Generic[T]):
    """A function that may hang. It runs in a thread, one run at a time, so callers wait for a limited time.

    While a run takes longer than `quick` seconds, callers get the result of the run before. A run that takes longer
    than a callback waits for the database hangs.
    """

    def __init__(self, function: Callable[[], T], *, quick: float = QUICK_SECONDS) -> None:
        self._function = function
        self._quick = quick
        self._lock = threading.Lock()
        self._run: Future[T] | None = None
        self._last: Future[T] | None = None
        self._began_at = 0.0

    def result(self) -> T:
        """Run the function, unless it still runs, and return its result. Raises `TimeoutError` if it hangs."""
        return self.begin()()

    def begin(self) -> Callable[[], T]:
        """Run the function, unless it still runs, and return a function that waits as `result` does."""
        with self._lock:
            if self._run is None or self._run.done():
                self._last, self._run, self._began_at = self._run, Future(), time.monotonic()
                threading.Thread(target=self._work, args=(self._run,), name="probe", daemon=True).start()
            return partial(self._wait, self._run, self._last, self._began_at)

    def _wait(self, run: Future[T], last: Future[T] | None, began_at: float) -> T:
        waits_until = began_at + (self._quick if last else DATABASE_TIMEOUT_SECONDS)
        try:
            return run.result(max(0.0, waits_until - time.monotonic()))
        except TimeoutError:
            if last is None or time.monotonic() - began_at >= DATABASE_TIMEOUT_SECONDS:
                raise
            return last.result()

    def _work(self, run: Future[T]) -> None:
        try:
            run.set_result(self._function())
        except BaseException as error:  # noqa: BLE001  (the caller gets it)
            run.set_exception(error)


@dataclass(frozen=True, slots=True)
class Report:
    """Whether callbacks are kept. `reasons` say why not, and are empty if they are; `notes` need attention."""

    reasons: list[str]
    notes: list[str]
    is_database_writable: bool
    is_spool_writable: bool


class Readiness:
    """The readiness of this process. `schema` and `keys` are the checks of the migrations and the callback keys."""

    def __init__(
        self,
        database: Database,
        spool: Spool,
        *,
        schema: Check,
        keys: Check,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._spool = spool
        self._schema = schema
        self._keys = keys
        self._clock = clock
        self._kept_at: dict[str, datetime] = {}  # when the database and the spool last kept a probe
        self._database_state = Bounded(self._check_database)
        self._spool_state = Bounded(lambda: self._probe("spool", self._probe_spool))

    def report(self) -> Report:
        """Return whether a callback posted now would be kept. A fault is known after `PROBE_INTERVAL`."""
        (database, schema), spool, keys = self._database_problems(), self._spool_problem(), self._keys.problem()
        is_lost = database and spool
        reasons = [keys, database, spool] if is_lost else [keys]
        notes = [] if is_lost else [database and f"{database} {MEANWHILE}", schema, spool]
        return Report(list(filter(None, reasons)), list(filter(None, notes)), database is None, spool is None)

    def checks(self) -> list[Check]:
        """Return the checks of `flask doctor` for what an operator must fix at once."""
        return [
            Check("database", lambda: next(filter(None, self._database_problems()), None), self._schema.ok_message),
            self._keys,
        ]

    def spool_check(self) -> Check:
        """Return the check of `flask doctor` for the spool, which is needed only while the database is down."""
        return Check("spool", self._spool_problem, "ready to keep callbacks while the database is down")

    def _database_problems(self) -> tuple[str | None, str | None]:
        """Return why the database takes no callbacks now, if it takes none, and otherwise whether it lacks a migration.

        None means no problem.
        """
        try:
            return self._database_state.result()
        except TimeoutError:
            return NO_ANSWER, None

    def _spool_problem(self) -> str | None:
        try:
            return self._spool_state.result()
        except TimeoutError:
            return NO_SPOOL_ANSWER

    def _check_database(self) -> tuple[str | None, str | None]:
        problem = self._probe("database", self._probe_database)
        return problem, None if problem else self._schema.problem()

    def _probe(self, name: str, probe: Callable[[], str | None]) -> str | None:
        now, kept_at = self._clock(), self._kept_at.pop(name, None)
        if kept_at is None or abs(now - kept_at) >= PROBE_INTERVAL:
            if problem := probe():
                return problem
            kept_at = now
        self._kept_at[name] = kept_at
        return None

    def _probe_database(self) -> str | None:
        try:
            with self._database.write() as connection:
                journal.write_and_remove(connection, now=self._clock())
        except Exception as error:  # noqa: BLE001  (the receiver spools a callback after any error)
            return _reason(error) or self._schema.problem() or NO_ANSWER
        return None

    def _probe_spool(self) -> str | None:
        try:
            self._spool.probe()
        except OSError as problem:
            fault = "is not safe" if isinstance(problem, SharedFolder) else "is not writable"
            return f"SPOOL_DIR {fault} ({problem.strerror}): callbacks are refused while the database is down."
        return None


def _reason(error: Exception) -> str | None:
    """Return what the error of a write says about the database; None if it says nothing special."""
    cause = getattr(error, "orig", error)
    if isinstance(cause, DiskFull) or "disk is full" in str(cause):
        return DISK_FULL
    is_read_only = isinstance(cause, ReadOnlySqlTransaction) or "readonly database" in str(cause)
    return READ_ONLY if is_read_only else None
