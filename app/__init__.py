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
from app.captured_logs import capture_records
from app.checks import (
    access_checks,
    credentials_checks,
    keys_check,
    note_checks,
    reconcile_checks,
    schema_check,
    spool_checks,
    upgrade_check,
)
from app.cli import commands, with_database
from app.cli.reconcile import Turns
from app.onespan.auth import ApiConnection, api_connection
from app.readiness import Readiness
from app.registry import Handlers
from app.store import queries
from app.store.db import Database
from app.store.intake import Intake
from app.store.models import Base
from app.store.queries import PipelineState
from app.store.replay_filter import ReplayFilter
from app.store.request_budget import Budget
from app.store.schema import is_behind, load_migrations, upgrade_obstacle
from app.store.spool import Spool
from app.types import Clock
from app.web.actions import Actions, BeginReconcile, ReplayAll
from app.web.admission import reserve_threads_for_callbacks
from app.web.api.blueprint import AnyId, api
from app.web.api.cors import add_cors_headers
from app.web.api.health import HealthSources
from app.web.assets import version_assets
from app.web.auth import ApiToken
from app.web.dashboard import add_dashboard
from app.web.dashboard.layout import Layout
from app.web.dashboard.pages import pages, register_template_helpers
from app.web.dashboard.passwords import NamedUser, Passwords
from app.web.errors import register_error_handlers
from app.web.metrics import metrics
from app.web.misdirected import accept_near_addresses, count_misdirected_callbacks
from app.web.probes import probes
from app.web.receiver import receiver
from app.web.request_logs import log_requests
from app.web.security_headers import add_security_headers
from app.work import replay as replaying
from app.work.access import AccessCheck
from app.work.digest import Digest
from app.work.dispatch import Dispatcher
from app.work.fetch import Fetcher
from app.work.housekeeping import Heartbeat, Housekeeping
from app.work.reconcile import Reconciler, RunRequest
from app.work.reread import reread
from app.work.scheduler import Scheduler
from app.work.upgrade import Upgrader
from app.work.wakeup import Wakeups
from app.work.worker import Worker
from config import ROOT, Key, Settings, SettingsError, load_settings, without_scheme

# Gunicorn stops if a worker exits with this code. After other codes, gunicorn starts the worker again, without end.
EXIT_NOT_LOADED = 4
SPOOL_INTERVAL = timedelta(seconds=5)  # time between two attempts to journal spooled callbacks
RECONCILE_INTERVAL = timedelta(seconds=5)  # time between two checks for a due reconcile run
HOUSEKEEPING_INTERVAL = timedelta(minutes=1)
HELD_LINES_INTERVAL = timedelta(minutes=1)  # time between two reports of log lines that were held back
CANNOT_WAIT = ("receiver.receive", "probes.healthz", "probes.readyz")  # endpoints that are never refused as busy
HEARTBEAT_INTERVAL = timedelta(seconds=15)
MIGRATIONS = ROOT / "migrations"
EXTENSION = "onespan_receiver"


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of the service. Servers, commands and tests find them in `app.extensions["onespan_receiver"]`."""

    settings: Settings
    database: Database
    spool: Spool
    intake: Intake
    digest: Digest
    dispatcher: Dispatcher
    fetcher: Fetcher
    reconcile: Reconciler
    upgrader: Upgrader
    access: AccessCheck
    readiness: Readiness
    housekeeping: Housekeeping
    heartbeat: Heartbeat
    worker: Worker
    wakeups: Wakeups


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def create_app(settings: Settings | None = None, *, handlers: Handlers | None = None, clock: Clock = utc_now) -> Flask:
    """Create the service without its threads, which gunicorn starts after its fork, or which `flask worker` starts."""
    if settings is None:
        try:
            settings = load_settings()
        except SettingsError as problem:
            _exit(problem)
    logs.configure(settings.log_format)
    capture_records()
    load_migrations(MIGRATIONS)
    app = Flask(
        __name__,
        instance_path=str(ROOT / "instance"),
        static_folder="web/static",
        static_url_path="/static",
        template_folder="web/templates",
    )
    proxies = settings.proxies
    if proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies)  # type: ignore[method-assign]
    app.url_map.merge_slashes = False  # ids in URLs may contain `//`
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
    """Import the integrator's `app/handlers.py`; exit with the line and the error if the import fails."""
    try:
        handlers = import_module("app.handlers").handlers
    except Exception as error:  # noqa: BLE001  (the integrator's file may raise anything)
        frames = traceback.extract_tb(error.__traceback__)
        frame = next((frame for frame in frames if _is_handlers_file(frame)), None)
        # A syntax error of the file itself has no frame in it; that of a module which it imports has.
        line = error.lineno if frame is None and isinstance(error, SyntaxError) else (frame or frames[-1]).lineno
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
    wakeups, heartbeat = Wakeups(), Heartbeat(database, clock=clock)
    lines = logs.configure(settings.log_format, process=lambda: heartbeat.name if heartbeat.is_known else None)
    budget = Budget(settings.onespan_requests_per_minute)
    can_fetch = handlers.onespan.is_connected
    digest = Digest(database, handlers, clock=clock, wake=wakeups.dispatching.set, can_fetch=can_fetch)
    fetcher = Fetcher(
        database,
        handlers.onespan,
        clock=clock,
        budget=budget,
        process=lambda: heartbeat.name,
        wake=wakeups.digesting.set,
    )
    reconcile = Reconciler(
        database,
        handlers.onespan,
        clock=clock,
        every=timedelta(hours=settings.reconcile_hours),
        budget=budget,
        process=lambda: heartbeat.name,
        wake=wakeups.digesting.set,
    )
    upgrader = Upgrader(database, clock=clock)
    access = AccessCheck(database, handlers.onespan, clock=clock, budget=budget)
    handlers.onespan.report = access.report
    housekeeping = Housekeeping(database, clock=clock, grace=timedelta(minutes=settings.missed_grace_minutes))
    dispatcher = Dispatcher(
        database, handlers, clock=clock, threads=settings.handler_threads, lease=lease, wake=wakeups.dispatching.set
    )
    scheduler = Scheduler(
        ("renew", lease / 3, dispatcher.renew),
        ("drain", SPOOL_INTERVAL, intake.drain),
        ("beat", HEARTBEAT_INTERVAL, heartbeat.beat),
        ("watch", HOUSEKEEPING_INTERVAL, housekeeping.turn),
        ("report", HELD_LINES_INTERVAL, lines.report),
        ("reconcile", RECONCILE_INTERVAL, wakeups.reconciling.set),
    )
    worker = Worker(
        digest,
        dispatcher,
        fetcher=fetcher,
        reconcile=reconcile,
        upgrader=upgrader,
        access=access,
        scheduler=scheduler,
        heartbeat=heartbeat,
        wakeups=wakeups,
        report_held_lines=lines.report,
    )
    readiness = Readiness(
        database,
        spool,
        schema=schema_check(database, migrations=MIGRATIONS),
        keys=keys_check([key.label for key in settings.onespan_callback_keys]),
        clock=clock,
    )
    return Service(
        settings,
        database,
        spool,
        intake,
        digest,
        dispatcher,
        fetcher,
        reconcile,
        upgrader,
        access,
        readiness,
        housekeeping,
        heartbeat,
        worker,
        wakeups,
    )


def _not_connected(settings: Settings, handlers: Handlers) -> str | None:
    """Return why OneSpan's API is not used; None if the API is used."""
    if handlers.onespan.is_connected:
        return None
    if settings.onespan_url:
        return "set ONESPAN_API_KEY, or ONESPAN_CLIENT_ID and ONESPAN_CLIENT_SECRET"
    return "ONESPAN_URL is not set, so missed callbacks cannot be recovered"


def _connection(settings: Settings) -> ApiConnection | None:
    if settings.onespan_url is None:
        return None
    return api_connection(
        settings.onespan_url,
        api_key=_api_key(settings),
        client_id=settings.onespan_client_id,
        secret=_secret(settings.onespan_client_secret),
        flow=settings.onespan_auth,
    )


def _api_key(settings: Settings) -> str | None:
    key = _secret(settings.onespan_api_key)
    return without_scheme(key) if key else None


def _api_key_length(settings: Settings) -> int | None:
    key = _api_key(settings)
    return len(key) if settings.onespan_url and key else None


def _secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value else None


def _register_edges(app: Flask, service: Service, *, handlers: Handlers, clock: Clock) -> None:
    settings, database = service.settings, service.database

    def spooled() -> int:
        return len(service.spool.waiting())

    log_requests(app, has_proxy=settings.proxies > 0)
    register_error_handlers(app, is_behind=lambda: is_behind(database, MIGRATIONS))
    add_security_headers(app)
    version_assets(app)
    accept_near_addresses(app)
    reserve_threads_for_callbacks(app, threads=settings.web_threads, exempt=CANNOT_WAIT)
    keys, tokens = _pairs(settings.callback_keys), _tokens(settings.api_tokens)
    app.register_blueprint(
        receiver(keys=keys, keep=service.intake.keep, wake=service.wakeups.digesting.set, clock=clock)
    )
    count_misdirected_callbacks(app, database, keys=keys, clock=clock)
    readiness, files = service.readiness, spool_checks(service.spool)
    here = [
        *note_checks(database, clock=clock, why_not_connected=_not_connected(settings, handlers)),
        *access_checks(database, clock=clock),
        *credentials_checks(
            api_key_length=_api_key_length(settings), pasted_schemes=settings.pasted_schemes, clock=clock
        ),
    ]
    notes = [*reconcile_checks(database), upgrade_check(database, clock=clock), *here]
    max_held_requests = max(1, settings.web_threads // 4)
    health_sources = HealthSources(
        readiness.report,
        [*files, *here],
        spooled=spooled,
        every=timedelta(hours=settings.reconcile_hours),
        why_not_connected=lambda: _not_connected(settings, handlers),
    )
    actions = Actions(
        database,
        clock,
        wake=service.wakeups.dispatching.set,
        begin=_begin(service),
        is_connected=lambda: handlers.onespan.is_connected,
        make_due=_replay_all(service, clock),
        keep=service.intake.keep,
        wake_digest=service.wakeups.digesting.set,
        reread=lambda *, only, by: list(reread(database, by=by, now=clock(), only=only)),
    )
    read = api(
        database,
        tokens=tokens,
        clock=clock,
        actions=actions,
        subscriptions=handlers.subscriptions,
        health_sources=health_sources,
        max_held_requests=max_held_requests,
    )
    app.register_blueprint(read, url_prefix="/api")
    add_cors_headers(app, origins=settings.cors_origins)
    app.register_blueprint(
        metrics(readiness=readiness.report, pipeline=_pipeline_state(database, clock), spooled=spooled)
    )
    access = app.extensions["access"] = add_dashboard(
        app,
        database,
        passwords=Passwords(
            _secret(settings.dashboard_password),
            _secret(settings.dashboard_readonly_password),
            tuple(
                NamedUser(user.name, user.password_hash.get_secret_value(), user.has_full_access)
                for user in settings.dashboard_users
            ),
        ),
        other_secrets=[[key for _, key in keys], [token.secret for token in tokens]],
        clock=clock,
    )
    layout = Layout(
        database,
        clock,
        actions,
        health_sources,
        onespan_url=settings.onespan_url,
        accepts_callbacks=bool(keys),
        subscriptions=handlers.subscriptions,
    )
    app.register_blueprint(pages(layout, access))
    register_template_helpers(app)
    app.register_blueprint(probes(readiness=readiness.report, notes=[files, notes]))
    turns = Turns(service.reconcile, service.fetcher, service.digest, service.heartbeat)
    for command in commands(
        settings,
        handlers,
        database=database,
        worker=service.worker,
        turns=turns,
        clock=clock,
        schema_problem=schema_check(database, migrations=MIGRATIONS).problem,
        critical_checks=readiness.checks(),
        note_checks=[readiness.spool_check(), *files, *notes],
    ):
        app.cli.add_command(command)
    app.cli.add_command(with_database(app.cli.commands["db"], lambda: upgrade_obstacle(database)))


def _begin(service: Service) -> BeginReconcile:
    def begin(*, since: datetime | None, backfill: bool, fires: bool, by: str) -> int | None:
        run = service.reconcile.begin(RunRequest(since, backfill, fires), by=by)
        service.wakeups.reconciling.set()
        return run

    return begin


def _replay_all(service: Service, clock: Clock) -> ReplayAll:
    def replay_all(chosen: ReplayFilter, *, by: str) -> int:
        count = replaying.replay(service.database, replaying.ExistingDispatches(chosen, by), now=clock())
        service.wakeups.dispatching.set()
        return count

    return replay_all


def _pipeline_state(database: Database, clock: Clock) -> Callable[[], PipelineState | None]:
    def read() -> PipelineState | None:
        try:
            with database.read() as connection:
                return queries.pipeline_state(connection, now=clock())
        except SQLAlchemyError:
            return None

    return read


def _tokens(keys: Iterable[Key]) -> list[ApiToken]:
    return [ApiToken(key.label, key.secret.get_secret_value(), key.may_act, key.last_day) for key in keys]


def _pairs(keys: Iterable[Key]) -> list[tuple[str, str]]:
    return [(key.label, key.secret.get_secret_value()) for key in keys]
