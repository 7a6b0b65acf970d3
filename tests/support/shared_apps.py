"""Apps that the tests of one process share, because creating one takes longer than most tests.

`SharedApps.get` returns an app in its initial state: the method resets what the app's objects keep in memory.
`tests/support/databases.py` resets the rows. An app whose threads were started is not used again.
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
from app.handling import Handlers
from app.onespan.client import OneSpan
from app.store.db import Database
from app.types import Clock
from config import Settings
from tests.support.databases import PostgresqlDatabase, SqliteDatabase

NO_WAIT = {"sqlite": "PRAGMA synchronous = OFF", "postgresql": "SET synchronous_commit = off"}
MAX_APPS = 5  # apps in one process, each of which keeps a few connections open
CONTAINERS = (dict, set, list, deque)
LOCK = type(threading.Lock())
JOURNAL = "journal"  # the name of a thread that may keep running: the thread ends when there is nothing to write


def commit_at_once(database: Database) -> None:
    """Let the database commit without waiting for the disk, because tests kill processes but never cut the power."""

    def prepare(connection: DBAPIConnection, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute(NO_WAIT[database.engine.dialect.name])
        cursor.close()
        connection.commit()

    event.listen(database.engine, "connect", prepare)


class Key(NamedTuple):
    """What identifies a shared app: two tests with the same key share an app. `prepare` is called once per app."""

    settings: Settings
    generation: int  # how often the database was created again, see `tests/support/databases.py`
    prepare: Callable[[Flask], object] | None


def new_app(
    settings: Settings, *, handlers: Handlers, clock: Clock, prepare: Callable[[Flask], object] | None = None
) -> Flask:
    """Create an app that answers errors as in production."""
    app = create_app(settings, handlers=handlers, clock=clock)
    app.testing = False
    commit_at_once(app.extensions[EXTENSION].database)
    if prepare:
        prepare(app)
    return app


class SharedApp:
    """One app, with a copy of its initial state."""

    def __init__(self, key: Key, handlers: Handlers, clock: Clock) -> None:
        self.key, self._onespan, self._clock = key, handlers.onespan, clock
        self.app = new_app(key.settings, handlers=handlers, clock=clock, prepare=key.prepare)
        self.app._got_first_request = True  # so that Flask refuses a route that one test would add for all tests
        self._config, self._connection = dict(self.app.config), self._onespan._connection
        self._report = self._onespan.report
        service = self.app.extensions[EXTENSION]
        pieces: dict[int, Any] = {}
        for field in fields(service):
            _gather(getattr(service, field.name), pieces)
        self._pieces = [
            (piece, {name: _copy(value) for name, value in vars(piece).items()}) for piece in pieces.values()
        ]
        self._wakeups = [getattr(service.wakeups, field.name) for field in fields(service.wakeups)]
        self._engine = service.database.engine

    def is_used_up(self) -> bool:
        """Whether the app cannot be reset: it has started threads, holds a lock, or has a listener for its queries."""
        attributes = [value for piece, _ in self._pieces for value in vars(piece).values()]
        return (
            bool(self._engine.dispatch.before_cursor_execute)
            or any(
                isinstance(value, threading.Thread) and value.ident and value.name != JOURNAL for value in attributes
            )
            or any(isinstance(value, LOCK) and value.locked() for value in attributes)
        )

    def reset(self) -> None:
        """Restore the initial state of the app."""
        logs.configure(self.key.settings.log_format)
        self.app.config.clear()
        self.app.config.update(self._config)
        self._onespan.connect(self._connection, clock=self._clock)
        self._onespan.report = self._report
        for piece, state in self._pieces:
            _restore(piece, state)
        for wakeup in self._wakeups:
            wakeup.clear()

    def close(self) -> None:
        """Close the database connections of the app."""
        self._engine.dispose()


class SharedApps:
    """The apps of one process and their one handler registry. `databases` maps URLs to the shared databases."""

    def __init__(self) -> None:
        self.handlers, self._onespan = Handlers(), OneSpan(backoff=0)
        self.databases: dict[str, SqliteDatabase | PostgresqlDatabase] = {}
        self._apps: list[SharedApp] = []

    def reset_handlers(self) -> Handlers:
        """Empty the handler registry and return it. Its OneSpan client retries without a pause."""
        for shared in (self.handlers, self._onespan):
            vars(shared).clear()
        self.handlers.__init__()  # type: ignore[misc]
        self._onespan.__init__(backoff=0)  # type: ignore[misc]
        self.handlers.onespan = self._onespan
        return self.handlers

    def get(
        self,
        settings: Settings,
        handlers: Handlers,
        clock: Clock,
        prepare: Callable[[Flask], object] | None,
    ) -> Flask | None:
        """Return a reset app with these settings, or None for a test that brings its own database or handlers."""
        database = self.databases.get(settings.database_url.get_secret_value())
        own = handlers is not self.handlers or handlers.onespan is not self._onespan
        if database is None or own or settings.onespan_client_id:  # the OneSpan client would keep a token
            return None
        key = Key(settings, database.generation, prepare)
        for app in [app for app in self._apps if app.is_used_up() or _is_outdated(app.key, key)]:
            self._forget(app)
        found = next((app for app in self._apps if app.key == key), None) or SharedApp(key, handlers, clock)
        self._apps = [app for app in self._apps if app is not found] + [found]
        if len(self._apps) > MAX_APPS:
            self._forget(self._apps[0])
        found.reset()
        return found.app

    def close(self) -> None:
        """Close the connections of all apps."""
        for app in list(self._apps):
            self._forget(app)

    def _forget(self, app: SharedApp) -> None:
        self._apps.remove(app)
        app.close()


def _is_outdated(key: Key, current: Key) -> bool:
    return key.settings.database_url == current.settings.database_url and key.generation != current.generation


def _gather(piece: Any, found: dict[int, Any]) -> None:
    """Collect an object of the app and all objects to which it refers, except objects that all apps share."""
    is_app_object = type(piece).__module__.startswith("app.") and hasattr(piece, "__dict__")
    if is_app_object and id(piece) not in found and not isinstance(piece, Handlers | OneSpan):
        found[id(piece)] = piece
        for value in vars(piece).values():
            _gather(value, found)


def _copy(value: Any) -> Any:
    if isinstance(value, threading.Event):
        return value.is_set()
    return copy(value) if isinstance(value, CONTAINERS) else value


def _restore(piece: Any, state: dict[str, Any]) -> None:
    for name in vars(piece).keys() - state.keys():
        delattr(piece, name)
    for name, was in state.items():
        now = vars(piece).get(name)
        if isinstance(now, threading.Event) and isinstance(was, bool):
            (now.set if was else now.clear)()
        elif not isinstance(now, threading.Thread):
            setattr(piece, name, _copy(was))
