"""Law 11: keys, tokens, passwords and people never reach a log line, a metric or an error page."""

import io
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.cli import FlaskGroup
from sqlalchemy import make_url, text

from app import EXTENSION, Service, create_app
from app.handling import Discard, Event, GiveUp, Handlers, Package, RetryAfter
from app.onespan.client import OneSpan
from app.work.scheduler import Scheduler
from config import Settings
from tests.conftest import NOON, Clock, on_sqlite, onespan_time
from tests.support.logins import add_probe, log_in

KEY, TOKEN, PASSWORD = "canary-callback-key", "canary-api-token", "canary-dashboard"
LOOKING, GUESS = "canary-dashboard-looking", "canary-guess"
API_KEY, DATABASE, WRONG = "canary-onespan-key", "canary-database", "canary-wrong-key"
PERSON, MESSAGE = "canary-ada@example.com", "canary: my husband is ill"
BROKEN = ("packages", "events", "dispatches", "changes")  # tables that are taken away for a while


@pytest.fixture
def handlers() -> Handlers:
    """Handlers that fail in every way, each naming a person."""
    handlers = Handlers()
    handlers.onespan = OneSpan(backoff=0)

    @handlers.on("*")
    def breaks(event: Event, package: Package) -> None:
        raise ValueError(f"no mailbox for {PERSON}: {event.message}")

    @handlers.on("*")
    def gives_up(event: Event, package: Package) -> None:
        raise GiveUp(f"{PERSON} said {event.message}")

    @handlers.on("*")
    def discards(event: Event, package: Package) -> None:
        raise Discard(f"{PERSON} said {event.message}")

    @handlers.on("*")
    def waits(event: Event, package: Package) -> None:
        raise RetryAfter(60, f"{PERSON} said {event.message}")

    @handlers.on("*")
    def leaves(event: Event, package: Package) -> None:
        raise SystemExit(PERSON)

    return handlers


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Where our lines are written; it is there before the app is."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    return stream


@pytest.fixture
def settings(database_url: str, tmp_path: Path, stream: io.StringIO) -> Settings:
    """Every secret that there is."""
    url = make_url(database_url)
    if url.get_backend_name() == "postgresql":
        url = url.set(password=DATABASE)
    return Settings(
        database_url=url.render_as_string(hide_password=False),
        onespan_callback_keys=f"test={KEY}",
        onespan_url="http://127.0.0.1:9",
        onespan_api_key=API_KEY,
        api_tokens=f"test={TOKEN}",
        dashboard_password=PASSWORD,
        dashboard_readonly_password=LOOKING,
        spool_dir=tmp_path / "spool",
    )


@pytest.fixture
def said(stream: io.StringIO, caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """All that was written so far: our lines, and the log records of every library with their tracebacks."""
    caplog.set_level(logging.INFO)
    return lambda: stream.getvalue() + caplog.text


@pytest.fixture
def call(client: Any) -> Callable[..., Any]:
    """A callback with a person and a message in it."""

    def call(name: str = "PACKAGE_DECLINE", key: str = KEY, **members: Any) -> Any:
        body = {
            "name": name,
            "packageId": "pkg-1",
            "sessionUser": PERSON,
            "message": MESSAGE,
            "createdDate": onespan_time(NOON),
            **members,
        }
        return client.post("/onespan/callback", data=json.dumps(body), headers={"Authorization": f"Basic {key}"})

    return call


@pytest.fixture
def broken(service: Service) -> Iterator[Callable[[str], None]]:
    """Take a table away, and bring all back at the end."""
    gone: list[str] = []

    def broken(table: str) -> None:
        with service.database.write() as connection:
            connection.execute(text(f"ALTER TABLE {table} RENAME TO hidden_{table}"))
        gone.append(table)

    yield broken
    with service.database.write() as connection:
        for table in gone:
            connection.execute(text(f"ALTER TABLE hidden_{table} RENAME TO {table}"))


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def test_law_11_the_door_tells_nothing(call, client, work, said):
    """Good, bad, unreadable and too large; and handlers that fail with a person's name on their lips."""
    answers = [
        call(),
        call("EMAIL_BOUNCE"),
        call("PACKAGE_HATCHED", phone=PERSON),
        call(key=WRONG),
        call(key=""),
        call(packageId=""),
        call(createdDate=MESSAGE),
        call(documentId=[PERSON]),
        call(filling="x" * 65536),
        client.post("/onespan/callback", data=PERSON.encode(), headers={"Authorization": f"Basic {KEY}"}),
        client.post("/onespan/callback", data=b"\xff" + PERSON.encode(), headers={"Authorization": f"Basic {KEY}"}),
        client.get("/onespan/callback", headers={"Authorization": f"Basic {KEY}"}),
    ]
    work()

    assert [one.status_code for one in answers] == [200, 200, 200, 401, 401, 400, 400, 400, 413, 400, 400, 405]
    assert not [one.text for one in answers if "canary" in one.text]
    written = said()
    assert "handler.failed" in written
    assert "handler.parked" in written
    assert "handler.discarded" in written
    assert "canary" not in written


def test_law_11_error_pages_tell_nothing(call, client, work, broken, said):
    """400, 401, 404, 405 and 500 of every page, whatever was asked."""
    call()
    work()
    right, wrong = {"Authorization": f"Bearer {TOKEN}"}, {"Authorization": f"Bearer {WRONG}"}
    pages = ("/api/packages", "/api/packages/pkg-1", "/api/packages/pkg-1/history", "/api/events", "/api/changes")
    answers = [
        *(client.get(page, headers=wrong) for page in pages),
        client.get("/api/packages", query_string={"limit": PERSON}, headers=right),
        client.get(
            "/api/packages", query_string={"attention": PERSON, "sort": PERSON, "trashed": PERSON}, headers=right
        ),
        client.get("/api/packages", query_string={"cursor": PERSON, "q": PERSON}, headers=right),
        client.get("/api/packages", query_string={"q": PERSON * 20}, headers=right),
        client.get("/api/events/99", headers=right),
        client.put("/api/packages", headers=right),
        client.get("/nowhere", headers=right),
    ]
    for table in BROKEN:
        broken(table)
    asked = {"q": PERSON, "signer": PERSON}
    broken_answers = [
        client.get("/api/packages", query_string=asked, headers=right),
        *(client.get(page, headers=right) for page in pages),
        client.post("/api/dispatches/1/replay", headers=right),
    ]

    assert {one.status_code for one in answers} == {400, 401, 404, 405}
    # SQLite calls a missing table what it calls a database that does not answer.
    assert {one.status_code for one in broken_answers} <= {500, 503}
    for one in broken_answers:
        assert one.content_type == "application/json"
        assert one.json["error"]["code"] in ("our_fault", "database_unavailable")
        assert "Traceback" not in one.text
        assert "SELECT" not in one.text
    assert not [one.text for one in (*answers, *broken_answers) if "canary" in one.text]
    written = said()
    assert written.count("request.failed") + written.count("database.unavailable") == len(broken_answers)
    assert "canary" not in written


def test_law_11_a_worker_that_fails_tells_nothing(call, service, broken, said):
    """The database refuses a row with a person in it; the log says that a turn failed, not at which row."""
    call()
    broken("events")

    service.worker.start()
    try:
        until(lambda: "turn.failed" in said() or "journal.set_aside" in said())
    finally:
        service.worker.stop(grace=5)

    assert "canary" not in said()


def test_law_11_a_drain_that_fails_tells_nothing(call, service, said):
    """The scheduler's own log line would quote the row that could not be written."""
    with service.database.write() as connection:
        connection.execute(text("ALTER TABLE journal RENAME COLUMN body TO content"))
    assert call().json == {"callback": None}
    scheduler = Scheduler(("drain", timedelta(milliseconds=200), service.intake.drain))

    scheduler.start()
    try:
        until(lambda: "turn.failed" in said())
    finally:
        scheduler.stop()
    with service.database.write() as connection:
        connection.execute(text("ALTER TABLE journal RENAME COLUMN content TO body"))

    assert service.intake.drain() == 1
    assert "canary" not in said()


def test_law_11_health_and_metrics_tell_nothing(app: Flask, call, client, *, work, broken, said):
    """They need no login."""
    call()
    work()
    paths = [path for path in ("/healthz", "/readyz", "/metrics") if app.url_map.bind("").test(path, "GET")]

    well = [client.get(path).text for path in paths]
    broken("journal")
    ill = [client.get(path).text for path in paths]

    assert not [one for one in (*well, *ill) if "canary" in one]
    assert "canary" not in said()


def test_law_11_logging_in_tells_nothing(app: Flask, call, broken, said):
    """Right, wrong and too often, forged and broken: no answer, no address to go to and no line has a password."""
    add_probe(app)
    call()
    answers = []
    for password in (PASSWORD, LOOKING, *[GUESS] * 12, PASSWORD):
        client = app.test_client()
        answers += [client.get("/login"), log_in(client, password, next=f"/probe?q={GUESS}")]
        answers += [client.post("/login", data={"password": password}), client.get("/probe")]
        answers += [client.get("/login", query_string={"password": password}), client.post("/probe")]
        answers += [client.post("/logout", data={"password": password})]
    for table in ("logins", "ended_sessions"):
        broken(table)
    client = app.test_client()
    failing = [client.get("/login"), log_in(client, GUESS), log_in(client, PASSWORD)]

    assert {one.status_code for one in answers} == {200, 302, 303, 400, 401, 429}
    assert {one.status_code for one in failing} <= {200, 500, 503}
    for one in (*answers, *failing):
        shown = f"{one.text} {one.headers}".replace(f"/probe?q={GUESS}", "")  # where they themselves wanted to go
        assert "canary" not in shown
    assert "login.failed" in said()
    assert "login.refused" in said()
    assert "canary" not in said()


def test_law_11_commands_and_settings_tell_no_secret(app: Flask, call, work, settings, said):
    """What an operator sees, and pastes into a question."""
    call()
    work()
    runner = app.test_cli_runner()
    for words in (["replay", "--state", "parked"], ["rebuild", "--check"], ["rebuild"], ["routes"]):
        shown = runner.invoke(FlaskGroup(create_app=lambda: app), words)
        assert shown.exit_code == 0, (words, shown.output)
        assert "canary" not in shown.output

    service = app.extensions[EXTENSION]
    for shown in (repr(settings), str(settings), repr(service), repr(service.database.engine), repr(app.config)):
        assert "canary" not in shown
    assert "canary" not in said()


@on_sqlite
def test_law_11_a_database_that_does_not_answer_is_told_without_its_password(tmp_path, database_url, stream, said):
    """Callbacks go to the spool; the log says that, and not where the database was sought."""
    given = Settings(
        database_url=f"postgresql://cleo:{DATABASE}@127.0.0.1:1/status",
        onespan_callback_keys=KEY,
        api_tokens=TOKEN,
        spool_dir=tmp_path / "spool",
    )
    with redirect_stderr(stream):
        app = create_app(given, handlers=Handlers(), clock=Clock())
    client = app.test_client()

    kept = client.post(
        "/onespan/callback",
        data=json.dumps({"name": "PACKAGE_CREATE", "packageId": "pkg-1", "sessionUser": PERSON}),
        headers={"Authorization": f"Basic {KEY}"},
    )
    shown = [
        client.get("/readyz"),
        client.get("/api/packages", headers={"Authorization": f"Bearer {TOKEN}"}),
    ]
    app.extensions[EXTENSION].database.close()

    assert (kept.status_code, kept.json) == (200, {"callback": None})
    assert {one.status_code for one in shown} <= {500, 503}
    assert not [one.text for one in shown if "canary" in one.text]
    assert "callback.spooled" in said()
    assert "canary" not in said()
