"""A receiver for OneSpan Sign's callbacks. `create_app` builds the service from its parts."""

import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from flask import Flask
from flask_alembic import Alembic
from pydantic import SecretStr
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.middleware.proxy_fix import ProxyFix

from app import logs
from app.checks import must_be, of_asking, to_know
from app.cli import commands, with_database
from app.cli.reconcile import Turns
from app.onespan.auth import Connection, connection_to
from app.registry import Handlers
from app.store import queries
from app.store.db import Database
from app.store.dispatch_filter import Choice
from app.store.intake import Intake
from app.store.models import Base
from app.store.queries import Pulse
from app.store.request_budget import Budget
from app.store.schema import is_behind, why_no_upgrade
from app.store.spool import Spool
from app.types import Clock
from app.web.actions import Acts, Begin, ReplayAll
from app.web.admission import keep_places_for_callbacks
from app.web.api.blueprint import AnyId, api
from app.web.api.cors import let_pages_read
from app.web.api.health import Bedside
from app.web.assets import version_assets
from app.web.browser import say_what_browsers_may
from app.web.dashboard import open_dashboard
from app.web.dashboard.layout import Frame
from app.web.dashboard.pages import pages, teach_templates
from app.web.dashboard.passwords import Passwords
from app.web.errors import answer_errors
from app.web.metrics import metrics
from app.web.ops import health
from app.web.receiver import door
from app.work import replay as replaying
from app.work.digest import Digest
from app.work.dispatch import Dispatcher
from app.work.fetch import Refresh
from app.work.housekeeping import Presence, Watch
from app.work.reconcile import Asked, Reconcile
from app.work.scheduler import Scheduler
from app.work.worker import Bells, Worker
from config import ROOT, Key, Settings, SettingsError, load_settings

EXIT_NOT_LOADED = 4  # gunicorn stops at this exit code; at others it starts its workers again, without end
SPOOL_INTERVAL = timedelta(seconds=5)  # between two attempts to journal spooled callbacks
RECONCILE_INTERVAL = timedelta(seconds=5)  # between two checks for a due reconcile run
HOUSEKEEPING_INTERVAL = timedelta(minutes=1)
HEARTBEAT_INTERVAL = timedelta(seconds=15)
MIGRATIONS = ROOT / "migrations"
EXTENSION = "onespan_receiver"


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of one app, for servers, commands and tests: `app.extensions["onespan_receiver"]`."""

    settings: Settings
    database: Database
    spool: Spool
    intake: Intake
    digest: Digest
    dispatcher: Dispatcher
    refresh: Refresh
    reconcile: Reconcile
    watch: Watch
    presence: Presence
    worker: Worker
    bells: Bells


def utc_now() -> datetime:
    """Return the current time."""
    return datetime.now(UTC)


def create_app(settings: Settings | None = None, *, handlers: Handlers | None = None, clock: Clock = utc_now) -> Flask:
    """Create the service. Starts no threads: gunicorn does so after its fork, and `flask worker`."""
    if settings is None:
        try:
            settings = load_settings()
        except SettingsError as problem:
            _exit(problem)
    logs.configure(settings.log_format)
    app = Flask(
        __name__,
        instance_path=str(ROOT / "instance"),
        static_folder="web/static",
        static_url_path="/static",
        template_folder="web/templates",
    )
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=settings.proxies, x_proto=min(settings.proxies, 1))  # type: ignore[method-assign]
    app.url_map.merge_slashes = False  # ids may contain `//`
    app.url_map.converters["id"] = AnyId
    app.config["ALEMBIC"] = {"script_location": str(MIGRATIONS)}
    if handlers is None:
        handlers = _load_handlers()
    handlers.onespan.connect(_connection(settings), clock=clock)
    service = _assemble(settings, handlers, clock)
    app.extensions[EXTENSION] = service
    Alembic(app, engines=service.database.engine, metadatas=Base.metadata, run_mkdir=False)
    _register_edges(app, service, handlers=handlers, clock=clock)
    return app


def _exit(problem: object) -> NoReturn:
    """End the process with a message on stderr and without a traceback; logging may not be configured yet."""
    print(problem, file=sys.stderr)  # noqa: T201
    sys.exit(EXIT_NOT_LOADED)


def _load_handlers() -> Handlers:
    """Import the integrator's `app/handlers.py`; exit with the line and the error if that fails."""
    try:
        handlers = import_module("app.handlers").handlers
    except Exception as error:  # noqa: BLE001  (the integrator's file may raise anything)
        frames = traceback.extract_tb(error.__traceback__)
        frame = next((frame for frame in frames if _is_handlers_file(frame)), frames[-1])
        line = error.lineno if isinstance(error, SyntaxError) and frame is frames[-1] else frame.lineno
        message = "".join(traceback.format_exception_only(error)).strip()
        _exit(f"app/handlers.py cannot be loaded, see line {line}:\n{message}")
    if not isinstance(handlers, Handlers):
        _exit("app/handlers.py must have `handlers = Handlers()`.")
    return handlers


def _is_handlers_file(frame: traceback.FrameSummary) -> bool:
    return Path(frame.filename) == Path(__file__).with_name("handlers.py")


def _assemble(settings: Settings, handlers: Handlers, clock: Clock) -> Service:
    try:
        database = Database(settings.database_url.get_secret_value())
    except OSError as problem:
        _exit(f"DATABASE_URL: {problem.filename} cannot be created or opened: {problem.strerror}")
    spool = Spool(settings.spool_dir)
    intake = Intake(database, spool)
    lease = timedelta(seconds=settings.handler_lease_seconds)
    bells, presence = Bells(), Presence(database, clock=clock)
    budget = Budget(settings.onespan_requests_per_minute)
    asks = handlers.onespan.is_connected
    digest = Digest(database, handlers, clock=clock, wake=bells.dispatching.set, asks=asks)
    refresh = Refresh(database, handlers.onespan, clock=clock, budget=budget, wake=bells.digesting.set)
    reconcile = Reconcile(
        database,
        handlers.onespan,
        clock=clock,
        every=timedelta(hours=settings.reconcile_hours),
        budget=budget,
        process=presence.name,
        wake=bells.digesting.set,
    )
    watch = Watch(database, clock=clock, grace=timedelta(minutes=settings.missed_grace_minutes))
    dispatcher = Dispatcher(
        database, handlers, clock=clock, threads=settings.handler_threads, lease=lease, wake=bells.dispatching.set
    )
    scheduler = Scheduler(
        ("renew", lease / 3, dispatcher.renew),
        ("drain", SPOOL_INTERVAL, intake.drain),
        ("beat", HEARTBEAT_INTERVAL, presence.beat),
        ("watch", HOUSEKEEPING_INTERVAL, watch.turn),
        ("reconcile", RECONCILE_INTERVAL, bells.reconciling.set),
    )
    worker = Worker(
        digest,
        dispatcher,
        refresh=refresh,
        reconcile=reconcile,
        scheduler=scheduler,
        presence=presence,
        bells=bells,
    )
    return Service(
        settings, database, spool, intake, digest, dispatcher, refresh, reconcile, watch, presence, worker, bells
    )


def _not_connected(settings: Settings, handlers: Handlers) -> str | None:
    """Return why OneSpan's API is not used; None if it is."""
    if handlers.onespan.is_connected:
        return None
    if settings.onespan_url:
        return "set ONESPAN_API_KEY, or ONESPAN_CLIENT_ID and ONESPAN_CLIENT_SECRET"
    return "ONESPAN_URL is not set, so missed callbacks cannot be recovered"


def _connection(settings: Settings) -> Connection | None:
    if settings.onespan_url is None:
        return None
    return connection_to(
        settings.onespan_url,
        api_key=_secret(settings.onespan_api_key),
        client_id=settings.onespan_client_id,
        secret=_secret(settings.onespan_client_secret),
        flow=settings.onespan_auth,
    )


def _secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value else None


def _register_edges(app: Flask, service: Service, *, handlers: Handlers, clock: Clock) -> None:
    settings, database = service.settings, service.database

    def spooled() -> int:
        return len(service.spool.waiting())

    answer_errors(app, is_behind=lambda: is_behind(database, MIGRATIONS))
    say_what_browsers_may(app)
    version_assets(app)
    keep_places_for_callbacks(app, threads=settings.web_threads, free_for_all=("door.receive", "health.healthz"))
    keys, tokens = _pairs(settings.onespan_callback_keys), _pairs(settings.api_tokens)
    app.register_blueprint(door(keys=keys, keep=service.intake.keep, wake=service.bells.digesting.set, clock=clock))
    needed = must_be(database, migrations=MIGRATIONS, keys=[label for label, _ in keys])
    here = to_know(database, service.spool, clock=clock, asked=_not_connected(settings, handlers))
    notes = [*of_asking(database), *here]
    waiters = max(1, settings.web_threads // 4)
    bedside = Bedside(
        needed,
        here,
        spooled=spooled,
        every=timedelta(hours=settings.reconcile_hours),
        why_nothing_is_asked=lambda: _not_connected(settings, handlers),
    )
    acts = Acts(
        database,
        clock,
        wake=service.bells.dispatching.set,
        begin=_begin(service),
        is_connected=lambda: handlers.onespan.is_connected,
        make_due=_replay_all(service, clock),
        keep=service.intake.keep,
        digest=service.bells.digesting.set,
    )
    read = api(
        database,
        tokens=tokens,
        clock=clock,
        acts=acts,
        listening=handlers.listening,
        bedside=bedside,
        waiters=waiters,
    )
    app.register_blueprint(read, url_prefix="/api")
    let_pages_read(app, origins=settings.cors_origins)
    app.register_blueprint(metrics(pulse=_pipeline_state(database, clock), spooled=spooled))
    guard = app.extensions["guard"] = open_dashboard(
        app,
        database,
        passwords=Passwords(_secret(settings.dashboard_password), _secret(settings.dashboard_readonly_password)),
        others=[[key for _, key in keys], [token for _, token in tokens]],
        clock=clock,
    )
    frame = Frame(
        database,
        clock,
        acts,
        bedside,
        onespan_url=settings.onespan_url,
        is_open=bool(keys),
        listening=handlers.listening,
    )
    app.register_blueprint(pages(frame, guard))
    teach_templates(app)
    app.register_blueprint(health(checks=needed, notes=notes))
    turns = Turns(service.reconcile, service.refresh, service.digest, service.presence)
    for command in commands(
        settings,
        handlers,
        database=database,
        worker=service.worker,
        turns=turns,
        clock=clock,
        must_be=needed,
        to_know=notes,
    ):
        app.cli.add_command(command)
    app.cli.add_command(with_database(app.cli.commands["db"], lambda: why_no_upgrade(database)))


def _begin(service: Service) -> Begin:
    def begin(*, since: datetime | None, backfill: bool, fires: bool, by: str) -> int | None:
        run = service.reconcile.begin(Asked(since, backfill, fires), by=by)
        service.bells.reconciling.set()
        return run

    return begin


def _replay_all(service: Service, clock: Clock) -> ReplayAll:
    def replay_all(chosen: Choice, *, by: str) -> int:
        count = replaying.replay(service.database, replaying.ExistingDispatches(chosen, by), now=clock())
        service.bells.dispatching.set()
        return count

    return replay_all


def _pipeline_state(database: Database, clock: Clock) -> Callable[[], Pulse | None]:
    def read() -> Pulse | None:
        try:
            with database.read() as connection:
                return queries.pulse(connection, now=clock())
        except SQLAlchemyError:
            return None

    return read


def _pairs(keys: Iterable[Key]) -> list[tuple[str, str]]:
    return [(key.label, key.secret.get_secret_value()) for key in keys]
