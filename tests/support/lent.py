"""Apps that tests lend one another in one process, for to create one and fill its caches costs more than most tests.

A test gets an app as it was when it was new: rows are the databases' business (`tests/support/databases.py`), what the
app's pieces keep in memory is put back here. An app with a thread that was started for good is not lent again.
"""

import threading
from collections import deque
from collections.abc import Callable
from copy import copy
from dataclasses import fields
from typing import Any, NamedTuple

from flask import Flask
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection

from app import EXTENSION, create_app, logs
from app.onespan.client import OneSpan
from app.store.db import Database
from app.work.attempt import Clock
from app.work.dispatch import Handlers
from config import Settings
from tests.support.databases import PostgresqlDatabase, SqliteDatabase

HURRY = {"sqlite": "PRAGMA synchronous = OFF", "postgresql": "SET synchronous_commit = off"}
MOST = 5  # apps kept in a process; each keeps a few connections
CONTAINERS = (dict, set, list, deque)
LOCK = type(threading.Lock())
JOURNAL = "journal"  # the thread that is there for as long as there is something to write


def hurry(database: Database) -> None:
    """Let no commit wait for the disk: processes are killed here, but the power stays on."""

    def prepare(connection: DBAPIConnection, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute(HURRY[database.engine.dialect.name])
        cursor.close()
        connection.commit()

    event.listen(database.engine, "connect", prepare)


class Kind(NamedTuple):
    """What two tests must have in common to use the same app. `prepare` is done to it when it is new."""

    settings: Settings
    number: int  # of the databases that there were at this URL
    prepare: Callable[[Flask], object] | None


def new_app(
    settings: Settings, *, handlers: Handlers, clock: Clock, prepare: Callable[[Flask], object] | None = None
) -> Flask:
    """The service. It answers errors as it does in production."""
    app = create_app(settings, handlers=handlers, clock=clock)
    app.testing = False
    hurry(app.extensions[EXTENSION].database)
    if prepare:
        prepare(app)
    return app


class Lent:
    """One app, and how it was when it was new."""

    def __init__(self, kind: Kind, handlers: Handlers, clock: Clock) -> None:
        self.kind, self._onespan, self._clock = kind, handlers.onespan, clock
        self.app = new_app(kind.settings, handlers=handlers, clock=clock, prepare=kind.prepare)
        self.app._got_first_request = True  # what a test adds to it would be there in the next one: Flask says so
        self._config, self._connection = dict(self.app.config), self._onespan._connection
        service = self.app.extensions[EXTENSION]
        pieces: dict[int, Any] = {}
        for field in fields(service):
            _gather(getattr(service, field.name), pieces)
        self._pieces = [(one, {name: _copy(value) for name, value in vars(one).items()}) for one in pieces.values()]
        self._bells = [getattr(service.bells, field.name) for field in fields(service.bells)]
        self._engine = service.database.engine

    def is_spent(self) -> bool:
        """Whether it cannot be put back."""
        kept = [value for piece, _ in self._pieces for value in vars(piece).values()]
        return (
            bool(self._engine.dispatch.before_cursor_execute)
            or any(isinstance(one, threading.Thread) and one.ident and one.name != JOURNAL for one in kept)
            or any(isinstance(one, LOCK) and one.locked() for one in kept)
        )

    def put_back(self) -> None:
        """Let it be as it was."""
        logs.configure(self.kind.settings.log_format)
        self.app.config.clear()
        self.app.config.update(self._config)
        self._onespan.connect(self._connection, clock=self._clock)
        for piece, state in self._pieces:
            _put_back(piece, state)
        for bell in self._bells:
            bell.clear()

    def close(self) -> None:
        """Use it no more."""
        self._engine.dispose()


class Lender:
    """The apps of this process, the handlers that they share, and the databases that they may be on, by URL."""

    def __init__(self) -> None:
        self.handlers, self._onespan = Handlers(), OneSpan(backoff=0)
        self.databases: dict[str, SqliteDatabase | PostgresqlDatabase] = {}
        self._lent: list[Lent] = []

    def new_handlers(self) -> Handlers:
        """An empty registry, whose client never waits before it tries again."""
        for one in (self.handlers, self._onespan):
            vars(one).clear()
        self.handlers.__init__()  # type: ignore[misc]
        self._onespan.__init__(backoff=0)  # type: ignore[misc]
        self.handlers.onespan = self._onespan
        return self.handlers

    def lend(
        self,
        settings: Settings,
        handlers: Handlers,
        clock: Clock,
        prepare: Callable[[Flask], object] | None,
    ) -> Flask | None:
        """An app with these settings, as it was when it was new; None where the test brings what is not shared."""
        database = self.databases.get(settings.database_url.get_secret_value())
        own = handlers is not self.handlers or handlers.onespan is not self._onespan
        if database is None or own or settings.onespan_client_id:  # with that goes a token, which would be kept
            return None
        kind = Kind(settings, database.number, prepare)
        for one in [one for one in self._lent if one.is_spent() or _is_older(one.kind, kind)]:
            self._forget(one)
        lent = next((one for one in self._lent if one.kind == kind), None) or Lent(kind, handlers, clock)
        self._lent = [one for one in self._lent if one is not lent] + [lent]
        if len(self._lent) > MOST:
            self._forget(self._lent[0])
        lent.put_back()
        return lent.app

    def close(self) -> None:
        """Use none any more."""
        for one in list(self._lent):
            self._forget(one)

    def _forget(self, one: Lent) -> None:
        self._lent.remove(one)
        one.close()


def _is_older(one: Kind, other: Kind) -> bool:
    return one.settings.database_url == other.settings.database_url and one.number != other.number


def _gather(piece: Any, found: dict[int, Any]) -> None:
    """A piece of ours, and what it has, but not what all apps share."""
    ours = type(piece).__module__.startswith("app.") and hasattr(piece, "__dict__")
    if ours and id(piece) not in found and not isinstance(piece, Handlers | OneSpan):
        found[id(piece)] = piece
        for value in vars(piece).values():
            _gather(value, found)


def _copy(value: Any) -> Any:
    if isinstance(value, threading.Event):
        return value.is_set()
    return copy(value) if isinstance(value, CONTAINERS) else value


def _put_back(piece: Any, state: dict[str, Any]) -> None:
    for name in vars(piece).keys() - state.keys():
        delattr(piece, name)
    for name, was in state.items():
        now = vars(piece).get(name)
        if isinstance(now, threading.Event) and isinstance(was, bool):
            (now.set if was else now.clear)()
        elif not isinstance(now, threading.Thread):
            setattr(piece, name, _copy(was))
