"""The receiver behind OneSpan Sign. `create_app` is the one place that knows every piece."""

import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module

from flask import Flask
from flask_alembic import Alembic
from sqlalchemy.exc import SQLAlchemyError

from app import logs
from app.cli import commands
from app.store import queries
from app.store.db import Database
from app.store.intake import Intake
from app.store.models import Base
from app.store.queries import Pulse
from app.store.schema import is_behind
from app.store.spool import Spool
from app.web.api import AnyId, api
from app.web.errors import answer_errors
from app.web.health import Check, health
from app.web.metrics import metrics
from app.web.receiver import door
from app.work.digest import Digest
from app.work.dispatch import Clock, Dispatcher, Handlers
from app.work.scheduler import Scheduler
from app.work.worker import Worker
from config import ROOT, Key, Settings, SettingsError, load_settings

NOT_LOADED = 4  # the exit code at which gunicorn stops, where at others it would try again for ever
SPOOL_LOOK = timedelta(seconds=5)  # how often we look whether spooled callbacks can be journaled
MIGRATIONS = ROOT / "migrations"
EXTENSION = "onespan_receiver"


@dataclass(frozen=True, slots=True)
class Service:
    """The pieces of one app, for whoever starts or tests it: `app.extensions["onespan_receiver"]`."""

    settings: Settings
    database: Database
    spool: Spool
    intake: Intake
    digest: Digest
    dispatcher: Dispatcher
    worker: Worker
    digesting: threading.Event
    dispatching: threading.Event


def utc_now() -> datetime:
    """Our clock."""
    return datetime.now(UTC)


def create_app(settings: Settings | None = None, *, handlers: Handlers | None = None, clock: Clock = utc_now) -> Flask:
    """The whole service. Starts no thread: gunicorn does that after its fork, or `flask worker`."""
    if settings is None:
        try:
            settings = load_settings()
        except SettingsError as problem:
            print(problem, file=sys.stderr)  # noqa: T201  (there is no log yet)
            sys.exit(NOT_LOADED)
    logs.configure(settings.log_format)
    app = Flask(__name__, instance_path=str(ROOT / "instance"))
    app.url_map.merge_slashes = False  # an id may have two in a row
    app.url_map.converters["id"] = AnyId
    app.config["ALEMBIC"] = {"script_location": str(MIGRATIONS)}
    if handlers is None:
        handlers = import_module("app.handlers").handlers  # the developers' file, last: all it needs is there
        assert isinstance(handlers, Handlers), "app/handlers.py must have `handlers = Handlers()`"
    service = _assemble(settings, handlers, clock)
    app.extensions[EXTENSION] = service
    Alembic(app, engines=service.database.engine, metadatas=Base.metadata, run_mkdir=False)
    _open_edges(app, service, handlers=handlers, clock=clock)
    return app


def _assemble(settings: Settings, handlers: Handlers, clock: Clock) -> Service:
    database = Database(settings.database_url.get_secret_value())
    spool = Spool(settings.spool_dir)
    intake = Intake(database, spool)
    lease = timedelta(seconds=settings.handler_lease_seconds)
    digesting, dispatching = threading.Event(), threading.Event()
    digest = Digest(database, handlers, clock=clock, wake=dispatching.set)
    dispatcher = Dispatcher(
        database, handlers, clock=clock, threads=settings.handler_threads, lease=lease, wake=dispatching.set
    )
    scheduler = Scheduler(("renew", lease / 3, dispatcher.renew), ("drain", SPOOL_LOOK, intake.drain))
    worker = Worker(digest, dispatcher, scheduler, digesting=digesting, dispatching=dispatching)
    return Service(settings, database, spool, intake, digest, dispatcher, worker, digesting, dispatching)


def _open_edges(app: Flask, service: Service, *, handlers: Handlers, clock: Clock) -> None:
    settings, database = service.settings, service.database
    answer_errors(app)
    keys, tokens = _pairs(settings.onespan_callback_keys), _pairs(settings.api_tokens)
    app.register_blueprint(door(keys=keys, keep=service.intake.keep, wake=service.digesting.set, clock=clock))
    app.register_blueprint(api(database, tokens=tokens, clock=clock, wake=service.dispatching.set), url_prefix="/api")
    app.register_blueprint(metrics(pulse=_pulse(database, clock), spooled=lambda: len(service.spool.waiting())))
    app.register_blueprint(health(checks=_checks(service), notes=_notes(service)))
    for command in commands(database, service.worker, handlers=handlers, clock=clock):
        app.cli.add_command(command)


def _pulse(database: Database, clock: Clock) -> Callable[[], Pulse]:
    def read() -> Pulse:
        with database.read() as connection:
            return queries.pulse(connection, now=clock())

    return read


def _pairs(keys: Iterable[Key]) -> list[tuple[str, str]]:
    return [(key.label, key.secret.get_secret_value()) for key in keys]


def _checks(service: Service) -> list[Check]:
    """What makes us unready."""

    def database_is_there() -> str | None:
        try:
            behind = is_behind(service.database, MIGRATIONS)
        except SQLAlchemyError:
            return "The database does not answer: check DATABASE_URL and that it runs. Callbacks go to the spool."
        return "The database is not at this version: run `flask db upgrade`." if behind else None

    def somebody_may_call() -> str | None:
        if service.settings.onespan_callback_keys:
            return None
        return "No callback is believed: set ONESPAN_CALLBACK_KEYS to the key that OneSpan has."

    return [database_is_there, somebody_may_call]


def _notes(service: Service) -> list[Check]:
    """What an operator should know."""

    def nothing_is_asked() -> str | None:
        if service.settings.onespan_url:
            return None
        return "ONESPAN_URL is not set: nothing is asked of OneSpan, so what callbacks miss stays missed."

    def spooled() -> str | None:
        waiting = len(service.spool.waiting())
        return f"{waiting} callbacks wait in the spool for the database." if waiting else None

    def damaged() -> str | None:
        files = service.spool.damaged()
        return f"{len(files)} damaged files were set aside in the spool: see what they hold." if files else None

    return [nothing_is_asked, spooled, damaged]
