"""Fixtures for all tests: a database, an app that uses the database, and functions that call the app.

The people in the tests: Ada signs, Ben declines, Cleo sends packages.
"""

import gc
import json
import os
import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from click.testing import Result
from flask import Flask
from flask.cli import FlaskGroup
from flask.testing import FlaskClient, FlaskCliRunner

from app import EXTENSION, Service, create_app
from app.handling import Handlers, Package
from app.store import queries
from config import Settings
from tests.support.databases import PostgresqlDatabase, SqliteDatabase, migrate, postgresql_server
from tests.support.openapi_check import assert_documented
from tests.support.shared_apps import SharedApps, new_app

# The PostgreSQL wheel needs `XDG_RUNTIME_DIR` and warns when the variable is missing.
os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
# Tests must not read settings from environment variables or from a settings file of the machine.
for name in Settings.model_fields:
    os.environ.pop(name.upper(), None)
os.environ["SETTINGS_FILE"] = os.devnull

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEY = "the-callback-key"
TOKEN = "the-bearer-token"
CLEO, ADA, BEN = "cleo-the-sender", "ada-who-signs", "ben-who-declines"


# These marks choose the databases of a test. An unmarked test runs on SQLite in `make test`, and on SQLite and
# PostgreSQL in `make test-all`.
# `on_both` is for tests about SQL, locks or processes; slow ones are `on_sqlite_first` or left to `make test-all` by
# `pytest.mark.all`.
on_sqlite = pytest.mark.databases("sqlite")
on_postgresql = pytest.mark.databases("postgresql")
on_both = pytest.mark.databases("sqlite", "postgresql")
on_sqlite_first = pytest.mark.databases()  # as if unmarked, in a module whose tests are marked


def in_all(*parameters: Any) -> list[Any]:
    """Mark parameters that only `make test-all` runs; a tuple holds the arguments of one test."""
    several = [values if isinstance(values, tuple) else (values,) for values in parameters]
    return [pytest.param(*values, marks=pytest.mark.all) for values in several]


class Clock:
    """A clock that moves only when a test moves it."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """Return the time of the clock."""
        return self.now

    def forward(self, by: timedelta) -> None:
        """Move the clock forward."""
        self.now += by


# A lower threshold would spend a tenth of the run time of the tests on the search for reference cycles.
gc.set_threshold(100_000)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `--tier` to pytest; `make test-all` sets the option to `all`."""
    parser.addoption("--tier", choices=["quick", "all"], default="quick", help="how much to test (default: quick)")


def pytest_configure(config: pytest.Config) -> None:
    """Register the pytest marks, and set the number of hypothesis examples for the value of `--tier`."""
    config.addinivalue_line("markers", "databases(*kinds): run on these databases in every tier; see `on_sqlite`")
    config.addinivalue_line("markers", "own_database: get a new database and app, as threads may outlive the test")
    config.addinivalue_line("markers", "all: run in `make test-all` only")
    # A test that is named on the command line, as in `file.py::test`, runs in every tier.
    config.is_quick = config.getoption("tier") == "quick" and not any("::" in argument for argument in config.args)
    hypothesis.settings.register_profile("dev", max_examples=10, deadline=None, print_blob=True)
    hypothesis.settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True, print_blob=True)
    hypothesis.settings.load_profile("dev" if config.is_quick else "ci")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a database test on each database that its mark names, or on each database of the tier without a mark."""
    chosen = any("database_url" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "database_url" in metafunc.fixturenames and not chosen:
        mark = metafunc.definition.get_closest_marker("databases")
        usual = ("sqlite",) if metafunc.config.is_quick else ("sqlite", "postgresql")
        kinds = (mark.args if mark else ()) or usual
        metafunc.parametrize("database_url", kinds, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--tier=quick`, deselect the tests that only `make test-all` runs."""
    deselected = [item for item in items if config.is_quick and item.get_closest_marker("all")]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if not item.get_closest_marker("all")]


def pytest_xdist_auto_num_workers() -> int:
    """Use one test process more than there are cores, as many tests wait for other processes and for browsers."""
    return (os.cpu_count() or 1) + 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the totals of the random schedules that all test processes ran."""
    passed = terminalreporter.getreports("passed")
    counts = [Counter(value) for report in passed for name, value in report.user_properties if name == "schedules"]
    if total := sum(counts, Counter()):
        terminalreporter.write_line(", ".join(f"{number} {name}" for name, number in total.items()))


@pytest.fixture(scope="session")
def tier(pytestconfig: pytest.Config) -> str:
    """The amount of tests to run: `quick` or `all`."""
    return "quick" if pytestconfig.is_quick else "all"


@pytest.fixture(scope="session")
def postgresql(request: pytest.FixtureRequest) -> Iterator[str]:
    """A PostgreSQL server with a migrated database `template`, shared by all processes of a test run."""
    run = getattr(request.config, "workerinput", {}).get("testrunuid", uuid.uuid4().hex)
    with postgresql_server(Path(tempfile.gettempdir()) / f"pg-{run}") as url:
        yield url


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with migrated tables and without rows."""
    file = tmp_path_factory.mktemp("sqlite") / "template.db"
    migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def shared_sqlite(migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> SqliteDatabase:
    """The SQLite file that the tests of one process share."""
    return SqliteDatabase(tmp_path_factory.mktemp("shared"), migrated_sqlite)


@pytest.fixture(scope="session")
def shared_postgresql(postgresql: str) -> Iterator[PostgresqlDatabase]:
    """The PostgreSQL database that the tests of one process share."""
    database = PostgresqlDatabase(postgresql, f"shared_{uuid.uuid4().hex[:12]}")
    yield database
    database.drop()


@pytest.fixture(scope="session")
def shared_apps() -> Iterator[SharedApps]:
    """The apps that the tests of one process share."""
    apps = SharedApps()
    yield apps
    apps.close()


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a migrated database without rows.

    All tests of a process share the database, except tests that are marked with `own_database`.
    """
    if request.node.get_closest_marker("own_database") is None:
        database = request.getfixturevalue(f"shared_{request.param}")
        database.reset()
        request.getfixturevalue("shared_apps").databases[database.url] = database
        yield database.url
    elif request.param == "sqlite":
        yield f"sqlite:///{shutil.copy(request.getfixturevalue('migrated_sqlite'), tmp_path / 'status.db')}"
    else:
        database = PostgresqlDatabase(request.getfixturevalue("postgresql"), f"own_{uuid.uuid4().hex[:12]}")
        database.reset()
        yield database.url
        database.drop()


@pytest.fixture
def handlers(shared_apps: SharedApps) -> Handlers:
    """An empty registry of handlers; a test registers its handlers before it calls `work`."""
    return shared_apps.reset_handlers()


@pytest.fixture(scope="session")
def shared_clock() -> Clock:
    """The clock of the shared apps."""
    return Clock()


@pytest.fixture
def clock(shared_clock: Clock) -> Clock:
    """A clock that shows noon until the test moves it."""
    shared_clock.now = NOON
    return shared_clock


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the shared apps keep their spool."""
    return tmp_path_factory.mktemp("site")


@pytest.fixture
def settings(database_url: str, shared_folder: Path) -> Settings:
    """Settings with a database, a callback key, an API token and an empty spool folder."""
    shutil.rmtree(shared_folder)
    shared_folder.mkdir()
    return Settings(
        database_url=database_url,
        onespan_callback_keys=f"test={KEY}",
        api_tokens=f"test={TOKEN}",
        spool_dir=shared_folder / "spool",
    )


@pytest.fixture
def get_app(
    settings: Settings, handlers: Handlers, clock: Clock, shared_clock: Clock, shared_apps: SharedApps
) -> Iterator[Callable[..., Flask]]:
    """Return a function that returns the app; `prepare` is called with a new app, for example to add routes."""
    own: list[Flask] = []

    def get_app(prepare: Callable[[Flask], object] | None = None) -> Flask:
        app = shared_apps.get(settings, handlers, clock, prepare) if clock is shared_clock else None
        if app is None:
            own.append(app := new_app(settings, handlers=handlers, clock=clock, prepare=prepare))
        return app

    yield get_app
    for app in own:
        app.extensions[EXTENSION].database.close()


@pytest.fixture
def app(get_app: Callable[..., Flask]) -> Flask:
    """The app without a running worker: each test calls the worker's turns itself."""
    return get_app()


@pytest.fixture
def service(app: Flask) -> Service:
    """The `Service` object of the app."""
    return app.extensions[EXTENSION]


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A test client that calls the app without a network."""
    return app.test_client()


@pytest.fixture
def runner(app: Flask) -> FlaskCliRunner:
    """A runner for the commands of the app."""
    return app.test_cli_runner()


@pytest.fixture
def flask(app: Flask) -> Callable[..., Result]:
    """Return a function that runs a `flask` command and passes options such as `input` to click's test runner."""

    def flask(*words: str, **more: Any) -> Result:
        return app.test_cli_runner().invoke(FlaskGroup(create_app=lambda: app), words, **more)

    return flask


@pytest.fixture
def post(client: FlaskClient) -> Callable[..., Any]:
    """Post a body to the callback endpoint, with the right key unless `authorization` is given."""

    def post(body: bytes | dict[str, Any], *, authorization: str | None = f"Basic {KEY}", **more: Any) -> Any:
        headers = {"Authorization": authorization} if authorization is not None else {}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return client.post("/onespan/callback", data=data, headers=headers, **more)

    return post


@pytest.fixture
def send_callback(post: Callable[..., Any], clock: Clock) -> Callable[..., int]:
    """Send a callback as OneSpan does and return its journal id. `happened_at=None` omits the date."""

    def send_callback(name: str, *, package: str = "pkg-1", happened_at: datetime | None = NOON, **members: Any) -> int:
        body = {"name": name, "packageId": package, "sessionUser": CLEO, "message": None, "documentId": None}
        if happened_at is not None:
            body["createdDate"] = onespan_time(happened_at)
        answer = post({**body, **members})
        assert answer.status_code == 200, answer.text
        return answer.json["callback"]

    return send_callback


@pytest.fixture
def work(service: Service) -> Callable[[], None]:
    """Run the turns of the digest and the dispatcher, handlers included, until no work is left."""

    def work() -> None:
        for _ in range(1000):
            digested, dispatched = service.digest.turn(), service.dispatcher.turn()
            if not digested and not dispatched:
                if service.dispatcher.idle.is_set():
                    return
                service.wakeups.dispatching.wait(10)  # waits until the running handler ends
                service.wakeups.dispatching.clear()
        raise AssertionError("the work never ends")

    return work


@pytest.fixture
def stored_package(service: Service, work: Callable[[], None]) -> Callable[[str], Package]:
    """Digest all pending journal rows, run their handlers, and return a package of the status store."""

    def stored_package(package_id: str) -> Package:
        work()
        with service.database.read() as connection:
            return queries.packages(connection, [package_id])[package_id]

    return stored_package


@pytest.fixture
def read(client: FlaskClient) -> Callable[..., Any]:
    """Send a GET request to the JSON API with a token, assert status 200, and return the JSON."""

    def read(path: str, **query: Any) -> Any:
        answer = client.get(path, query_string=query, headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 200, answer.text
        return answer.json

    return read


@pytest.fixture(scope="session")
def api_document(migrated_sqlite: Path) -> Any:
    """The OpenAPI document of the JSON API, which is the same for every app."""
    app = create_app(Settings(database_url=f"sqlite:///{migrated_sqlite}"), handlers=Handlers())
    yield app.test_client().get("/api/openapi.json").json
    app.extensions[EXTENSION].database.close()


@pytest.fixture
def api_get(client: FlaskClient, api_document: Any) -> Callable[..., Any]:
    """Send a GET request with a token, check the answer against the OpenAPI document, and return the answer."""

    def api_get(path: str, **query: Any) -> Any:
        answer = client.get(path, query_string=query, headers={"Authorization": f"Bearer {TOKEN}"})
        assert_documented(api_document, "get", answer)
        return answer

    return api_get


@pytest.fixture
def api_post(client: FlaskClient, api_document: Any) -> Callable[..., Any]:
    """POST members as JSON with a token, check the answer against the OpenAPI document, and return the answer."""

    def api_post(path: str, **members: Any) -> Any:
        answer = client.post(path, json=members or None, headers={"Authorization": f"Bearer {TOKEN}"})
        assert_documented(api_document, "post", answer)
        return answer

    return api_post


def onespan_time(moment: datetime) -> str:
    """Format a time as OneSpan does, in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
