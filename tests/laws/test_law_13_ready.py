"""Law 13: `/readyz` is 200 exactly when a callback posted now would be kept, and a fault is known within 15 seconds."""

# ruff: noqa: PLR0917  (pytest passes fixtures by name)

import pwd
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, func, make_url, select, text

from app import EXTENSION, Service, create_app, readiness
from app.handling import Handlers
from app.store.models import Journal
from config import Settings
from tests.conftest import KEY, Clock, on_both, on_postgresql, on_sqlite, on_sqlite_first
from tests.support import broken_storage
from tests.support.broken_storage import Disk, small_disk
from tests.support.processes import callback, until

pytestmark = [on_both, pytest.mark.own_database]

BODY = callback("PACKAGE_COMPLETE", package="pkg-1")
KNOWN_AFTER = timedelta(seconds=15)
SERVER_USER = "embedded_postgres"  # the user of the PostgreSQL server of these tests, if they run as root
FAULTS: dict[str, tuple[Callable[..., Any], str]] = {  # faults of the database, and how they are reported
    "unavailable": (broken_storage.unavailable, "check DATABASE_URL"),
    "read-only": (broken_storage.read_only, "it is read-only"),
    "without tables": (broken_storage.without_tables, "run `flask db upgrade`"),
}


@pytest.fixture
def clock() -> Clock:
    """A clock with the real time, because the checks compare the clock with the database's clock."""
    return Clock(datetime.now(UTC))


@pytest.fixture(autouse=True)
def no_probe_outlives_its_test(service: Service) -> Iterator[None]:
    """Wait for probes that a fault has delayed, before the database is closed."""
    yield
    until(lambda: not any(thread.name == "probe" for thread in threading.enumerate()), what="the probes end")


@pytest.fixture
def figures(client) -> Callable[[], dict[str, float]]:
    """Return the figures of `/metrics`."""

    def figures() -> dict[str, float]:
        lines = [line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in lines}

    return figures


@pytest.fixture
def fault_of(database_url: str, service: Service) -> Callable[[str], Any]:
    """Break the database in this way during a `with` block."""
    return lambda name: FAULTS[name][0](database_url, service)


@pytest.mark.parametrize("fault", FAULTS)
def test_law_13_ready_while_the_spool_keeps_callbacks(fault, fault_of, client, post, figures, flask, clock):
    """While only the database is broken, the service is ready, and everything says what to do about the database."""
    assert client.get("/readyz").json["status"] == "ready"
    with fault_of(fault):
        clock.forward(KNOWN_AFTER)
        ready, broken = client.get("/readyz"), figures()
        doctor = flask("doctor")
        kept = post(BODY)
    clock.forward(KNOWN_AFTER)
    repaired = client.get("/readyz").json["notes"]

    (note,) = [note for note in ready.json["notes"] if FAULTS[fault][1] in note]
    assert (ready.status_code, ready.json["reasons"]) == (200, [])
    assert "go to the spool meanwhile" in note
    assert (kept.status_code, kept.json) == (200, {"callback": None})
    assert (broken["ready"], broken["database_writable"], broken["spool_writable"]) == (1, 0, 1)
    assert doctor.exit_code == 1
    assert "FAIL  database" in doctor.output
    assert FAULTS[fault][1] in " ".join(doctor.output.split())
    assert FAULTS[fault][1] not in str(repaired)
    assert figures()["database_writable"] == 1


@pytest.mark.parametrize("fault", FAULTS)
def test_law_13_not_ready_while_neither_keeps_callbacks(fault, fault_of, client, post, figures, settings, clock):
    """While database and spool are broken, the service is not ready, and says why; then it is ready at once."""
    assert client.get("/readyz").status_code == 200
    with broken_storage.file_in_place_of(settings.spool_dir):
        clock.forward(KNOWN_AFTER)
        spool_broken, spool_figures = client.get("/readyz"), figures()
        with fault_of(fault):
            clock.forward(KNOWN_AFTER)
            neither, broken, refused = client.get("/readyz"), figures(), post(BODY)
        again = client.get("/readyz")

    assert spool_broken.status_code == 200
    assert any("SPOOL_DIR is not writable" in note for note in spool_broken.json["notes"])
    assert (spool_figures["ready"], spool_figures["spool_writable"]) == (1, 0)
    assert neither.status_code == 503
    assert FAULTS[fault][1] in neither.json["reasons"][0]
    assert "SPOOL_DIR is not writable" in neither.json["reasons"][1]
    assert (broken["ready"], broken["database_writable"], broken["spool_writable"]) == (0, 0, 0)
    assert refused.status_code == 503
    assert again.status_code == 200


@pytest.mark.parametrize("fault", ["read-only"])
def test_law_13_health_says_what_readyz_says(fault, fault_of, client, read, settings, clock):
    """The health report has the reasons and notes of `/readyz`."""
    with fault_of(fault):
        one = read("/api/health")
        with broken_storage.file_in_place_of(settings.spool_dir):
            clock.forward(KNOWN_AFTER)
            both = read("/api/health")

    assert one["is_ready"]
    assert any("it is read-only" in note for note in one["notes"])
    assert not both["is_ready"]
    assert len(both["reasons"]) == 2


def test_law_13_ready_while_only_a_migration_is_missing(service, client, post, settings, clock):
    """A database that lacks a migration but takes callbacks is a note only, even if the spool is broken."""
    with service.database.write() as connection:
        connection.execute(text("DELETE FROM alembic_version"))
    with broken_storage.file_in_place_of(settings.spool_dir):
        ready, kept = client.get("/readyz"), post(BODY)

    assert (ready.status_code, kept.status_code) == (200, 200)
    assert any("run `flask db upgrade`" in note for note in ready.json["notes"])


def test_law_13_not_ready_without_a_key(settings: Settings, handlers, clock):
    """Without a callback key every callback is refused, so the service is not ready."""
    app = create_app(settings.model_copy(update={"onespan_callback_keys": ()}), handlers=handlers, clock=clock)
    client = app.test_client()
    ready, refused = client.get("/readyz"), client.post("/onespan/callback", data=BODY)
    metrics = client.get("/metrics").text
    app.extensions[EXTENSION].database.close()

    assert (ready.status_code, refused.status_code) == (503, 401)
    assert "ONESPAN_CALLBACK_KEYS" in ready.json["reasons"][0]
    assert "\nready 0.0" in metrics


def test_law_13_probe_leaves_nothing_and_runs_every_few_seconds(service, client, post, settings, clock):
    """A probe writes a row and takes it back, and is not repeated within five seconds."""
    inserts = []

    def see(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.startswith("INSERT INTO journal"):
            inserts.append(statement)

    event.listen(service.database.engine, "before_cursor_execute", see)
    for seconds in (0, 1, 1, 1, 1, 1):
        clock.forward(timedelta(seconds=seconds))
        assert client.get("/readyz").status_code == 200
    event.remove(service.database.engine, "before_cursor_execute", see)

    with service.database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(Journal)) == 0
    assert len(inserts) == 2
    assert list(settings.spool_dir.iterdir()) == []
    assert post(BODY).json == {"callback": 1}


@on_sqlite_first
def test_law_13_hanging_database_delays_readyz_once(service, client, post, clock, monkeypatch):
    """While the database hangs, `/readyz` answers within some seconds, and then at once."""
    go_on = threading.Event()

    @contextmanager
    def hanging(**_: Any) -> Iterator[Any]:
        go_on.wait(60)
        raise TimeoutError
        yield

    monkeypatch.setattr(readiness, "DATABASE_TIMEOUT_SECONDS", 2.0)
    monkeypatch.setattr(service.database, "read", hanging)
    monkeypatch.setattr(service.database, "write", hanging)
    began = time.monotonic()
    try:
        first = client.get("/readyz")
        first_took = time.monotonic() - began
        second, metrics = client.get("/readyz"), client.get("/metrics")
        third = client.get("/readyz")
        threads = [thread for thread in threading.enumerate() if thread.name == "probe"]
        all_took = time.monotonic() - began
    finally:
        go_on.set()

    assert {answer.status_code for answer in (first, second, third, metrics)} == {200}
    for answer in (first, second, third):
        assert any("does not respond" in note for note in answer.json["notes"])
    assert "\ndatabase_up 0.0" in metrics.text
    assert "\ndatabase_writable 0.0" in metrics.text
    assert 2 <= first_took < 4
    assert all_took - first_took < 4  # `/metrics` waits once, too
    assert len(threads) <= 3


def test_law_13_locked_database_is_reported(database_url, service, client, clock, monkeypatch):
    """A database whose lock another program holds takes no callback, which is a note."""
    monkeypatch.setattr(readiness, "DATABASE_TIMEOUT_SECONDS", 0.5)
    with broken_storage.locked(database_url):
        answer = client.get("/readyz")

    assert answer.status_code == 200
    assert any("go to the spool meanwhile" in note for note in answer.json["notes"])


@on_sqlite
def test_law_13_file_that_cannot_grow_is_reported(database_url, service, client, post, figures, clock):
    """A SQLite file that may not grow takes no callbacks, as on a full disk."""
    with broken_storage.page_limit(database_url, service):
        before = figures()["database_writable"]
        _post_until_spooled(post)
        clock.forward(KNOWN_AFTER)
        answer, full = client.get("/readyz"), figures()

    assert before == 1
    assert answer.status_code == 200
    assert any("its disk is full" in note for note in answer.json["notes"])
    assert (full["ready"], full["database_writable"]) == (1, 0)


@on_sqlite
@pytest.mark.parametrize("on_disk", ["database", "spool", "both"])
def test_law_13_full_disk_of_sqlite(on_disk, settings: Settings, migrated_sqlite: Path, clock, tmp_path):
    """With a full disk of the database or the spool the service is ready; with a full disk of both it is not."""
    with small_disk(megabytes=4) as disk:
        folders = {name: disk.folder if on_disk in (name, "both") else tmp_path for name in ("database", "spool")}
        file = folders["database"] / "full.db"
        file.write_bytes(migrated_sqlite.read_bytes())
        changed = settings.model_copy(update={"spool_dir": folders["spool"] / "spool"})
        app = _app_on(f"sqlite:///{file}", changed, clock)
        try:
            _check_full_disk(app, disk, clock, keeps=on_disk != "both", spools=on_disk == "database")
        finally:
            app.extensions[EXTENSION].database.close()


@on_sqlite
def test_law_13_service_starts_on_a_read_only_disk(settings: Settings, migrated_sqlite: Path, clock):
    """A service whose SQLite file is on a read-only disk starts, and its spool keeps callbacks."""
    with small_disk(megabytes=4) as disk:
        file = disk.folder / "status.db"
        file.write_bytes(migrated_sqlite.read_bytes())
        disk.make_read_only()
        app = _app_on(f"sqlite:///{file}", settings, clock)
        service = app.extensions[EXTENSION]
        service.worker.start_scheduler()
        client = app.test_client()
        ready = client.get("/readyz")
        kept = client.post("/onespan/callback", data=BODY, headers={"Authorization": f"Basic {KEY}"})
        service.worker.stop(grace=0)
        service.database.close()

    assert (ready.status_code, ready.json["reasons"]) == (200, [])
    assert any("go to the spool meanwhile" in note for note in ready.json["notes"])
    assert kept.json == {"callback": None}


@on_postgresql
@pytest.mark.parametrize("spool_works", [True, False])
def test_law_13_full_disk_of_postgresql(spool_works, database_url, settings: Settings, clock):
    """With a full disk of PostgreSQL's tables the service is ready as long as the spool keeps callbacks."""
    name = make_url(database_url).database
    in_place = nullcontext() if spool_works else broken_storage.file_in_place_of(settings.spool_dir)
    with (
        small_disk(megabytes=64, owner=_server_user()) as disk,
        psycopg.connect(broken_storage.plain(database_url, database="postgres"), autocommit=True) as server,
        in_place,
    ):
        server.execute(f"CREATE TABLESPACE small LOCATION '{disk.folder}'")
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        server.execute(f"ALTER DATABASE {name} SET TABLESPACE small")
        app = _app_on(database_url, settings, clock)
        try:
            _check_full_disk(app, disk, clock, keeps=spool_works, spools=spool_works)
        finally:
            app.extensions[EXTENSION].database.close()
            server.execute(f"ALTER DATABASE {name} SET TABLESPACE pg_default")
            server.execute("DROP TABLESPACE small")


def _check_full_disk(app: Any, disk: Disk, clock: Clock, *, keeps: bool, spools: bool) -> None:
    """Fill the disk. Then `/readyz` must agree with what happens to a callback, and again when the disk is free."""
    client = app.test_client()

    def post() -> Any:
        return client.post("/onespan/callback", data=BODY, headers={"Authorization": f"Basic {KEY}"})

    assert client.get("/readyz").json["status"] == "ready"
    assert post().json["callback"]
    disk.fill()
    if spools or not keeps:
        _post_until(post, lambda answer: answer.status_code != 200 or answer.json["callback"] is None)
    clock.forward(KNOWN_AFTER)
    full, posted = client.get("/readyz"), post()
    disk.free()
    clock.forward(KNOWN_AFTER)
    free = client.get("/readyz")

    assert (full.status_code, posted.status_code) == ((200, 200) if keeps else (503, 503))
    problems = str(full.json["notes"] + full.json["reasons"])
    assert ("its disk is full" in problems) == (spools or not keeps)
    assert free.status_code == 200
    assert "full" not in str(free.json["notes"])
    assert post().json["callback"]


def _app_on(database_url: str, settings: Settings, clock: Clock) -> Any:
    changed = settings.model_copy(update={"database_url": type(settings.database_url)(database_url)})
    return create_app(changed, handlers=Handlers(), clock=clock)


def _server_user() -> str:
    try:
        return pwd.getpwnam(SERVER_USER).pw_name
    except KeyError:
        pytest.skip(f"the PostgreSQL server of the tests does not run as the user {SERVER_USER}")


def _post_until_spooled(post: Callable[[bytes], Any]) -> None:
    _post_until(lambda: post(BODY), lambda answer: answer.json["callback"] is None)


def _post_until(post: Callable[[], Any], condition: Callable[[Any], bool]) -> None:
    """Post callbacks until the free parts of allocated pages are used up."""
    for _ in range(2000):
        if condition(post()):
            return
    raise AssertionError("the disk never became full")


def test_law_13_readyz_is_not_refused_as_busy(service, app, clock, monkeypatch):
    """`/readyz` answers while people's requests hold all their threads, as a load balancer would stop all callbacks."""
    hang, reading = threading.Event(), threading.Semaphore(0)
    read = service.database.read

    @contextmanager
    def slow(**options: Any) -> Iterator[Any]:
        if threading.current_thread().name.startswith("person"):
            reading.release()
            hang.wait(30)
        with read(**options) as connection:
            yield connection

    monkeypatch.setattr(service.database, "read", slow)
    bearer = {"Authorization": "Bearer the-bearer-token"}
    threads = service.settings.web_threads
    people = threads - max(1, threads // 4)
    with ThreadPoolExecutor(people, thread_name_prefix="person") as pool:
        held = [pool.submit(lambda: app.test_client().get("/api/packages", headers=bearer)) for _ in range(people)]
        try:
            assert all(reading.acquire(timeout=10) for _ in held)
            busy = app.test_client().get("/api/packages", headers=bearer)
            ready = app.test_client().get("/readyz")
        finally:
            hang.set()
        assert {answer.result(10).status_code for answer in held} == {200}

    assert busy.status_code == 503
    assert (ready.status_code, ready.json["status"]) == (200, "ready")
