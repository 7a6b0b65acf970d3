"""The access check: whether OneSpan accepts the credentials, known within a minute and not at the next reconcile."""

from datetime import datetime, timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.errors import (
    CredentialsRejected,
    FirewallRefused,
    NotPermitted,
    OneSpanError,
    OneSpanNotFound,
    RequestRejected,
    Throttled,
    WrongAddress,
)
from app.onespan.client import OneSpan
from app.store import onespan_access
from app.store.db import Database
from app.store.request_budget import Budget
from app.types import Clock

log = structlog.get_logger()

CHECK_INTERVAL = timedelta(seconds=45)  # a refusal is known within a minute, even if the request is slow
REFUSALS = (CredentialsRejected, FirewallRefused)
OF_ONE_PACKAGE = (NotPermitted, OneSpanNotFound)  # refusals that may concern one package, so that the check asks
MAY_NOT_LIST = "These credentials may not list packages: use those of the account owner"


class AccessCheck:
    """The access check. It learns from every request, and sends one only if no process sent any for a while."""

    def __init__(self, database: Database, onespan: OneSpan, *, clock: Clock, budget: Budget) -> None:
        self._database = database
        self._onespan = onespan
        self._clock = clock
        self._budget = budget
        self._is_due_again = False  # because the database failed before it had the last answer

    def report(self, problem: OneSpanError | None) -> None:
        """Record what a request shows about the credentials. If the database fails, the next turn checks again."""
        key, now = self._onespan.name, self._clock()
        if key is None:
            return
        try:
            if problem is None or isinstance(problem, (*REFUSALS, RequestRejected)):
                self._record(key, str(problem) if isinstance(problem, REFUSALS) else None, now=now)
            elif not isinstance(problem, OF_ONE_PACKAGE):
                self._postpone(key, problem, now=now)
        except SQLAlchemyError:
            self._is_due_again = True

    def turn(self) -> bool:
        """Send the cheapest request if the check is due. Returns False.

        `report` records the answer, except that these credentials may not list packages, or that there is no list.
        """
        key, now = self._onespan.name, self._clock()
        try:
            if key is None:
                self._forget()
            elif self._take(key, now=now):
                self._check(key, now=now)
        except Exception:
            self._is_due_again = True
            raise
        return False

    def _check(self, key: str, *, now: datetime) -> None:
        try:
            self._onespan.packages(**{"from": 0, "to": 0})
        except NotPermitted:
            self._record(key, MAY_NOT_LIST, now=now)
        except (OneSpanNotFound, WrongAddress) as problem:
            self._record(key, str(WrongAddress(problem.detail)), now=now)
        except OneSpanError:
            pass

    def _take(self, key: str, *, now: datetime) -> bool:
        again = self._is_due_again
        with self._database.read() as connection:
            if not again and not onespan_access.is_due(connection, key, now=now):
                return False
        with self._database.write() as connection:
            is_taken = onespan_access.take(connection, key, now=now, due_at=now + CHECK_INTERVAL, again=again)
            if is_taken:
                self._budget.spend(connection, now=now)
        self._is_due_again = False
        return is_taken

    def _forget(self) -> None:
        with self._database.read() as connection:
            if not onespan_access.is_known(connection):
                return
        with self._database.write() as connection:
            onespan_access.forget(connection)

    def _record(self, key: str, error: str | None, *, now: datetime) -> None:
        with self._database.read() as connection:
            if onespan_access.is_recorded(connection, key, error=error, now=now):
                return
        if error:
            log.warning("onespan.refused", error=error)
        with self._database.write() as connection:
            onespan_access.record(connection, key, error=error, now=now, due_at=now + CHECK_INTERVAL)

    def _postpone(self, key: str, problem: OneSpanError, *, now: datetime) -> None:
        seconds = (problem.seconds or 0) if isinstance(problem, Throttled) else 0
        wait = max(CHECK_INTERVAL, timedelta(seconds=min(seconds, onespan_access.LONGEST_WAIT.total_seconds())))
        with self._database.write() as connection:
            onespan_access.postpone(connection, key, due_at=now + wait)
