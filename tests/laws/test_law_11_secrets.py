"""Law 11: keys, tokens, passwords and personal data never reach a log line, a metric or an error page."""

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
READONLY_PASSWORD, GUESS = "canary-dashboard-looking", "canary-guess"
API_KEY, DATABASE, WRONG = "canary-onespan-key", "canary-database", "canary-wrong-key"
PERSON, MESSAGE = "canary-ada@example.com", "canary: my husband is ill"
HIDDEN_TABLES = ("packages", "events", "dispatches", "changes")  # tables that a test renames for a while


@pytest.fixture
def handlers() -> Handlers:
    """Handlers that fail in every way, each with an error that names a person."""
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
    """A stream in memory that replaces `sys.stderr`, to which the app logs."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    return stream


@pytest.fixture
def settings(database_url: str, tmp_path: Path, stream: io.StringIO) -> Settings:
    """Settings with every kind of secret."""
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
        dashboard_readonly_password=READONLY_PASSWORD,
        spool_dir=tmp_path / "spool",
    )


@pytest.fixture
def log_output(stream: io.StringIO, caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """All log output so far: the app's lines, and the log records of every library with their tracebacks."""
    caplog.set_level(logging.INFO)
    return lambda: stream.getvalue() + caplog.text


@pytest.fixture
def post_callback(client: Any) -> Callable[..., Any]:
    """Post a callback that contains the address and the message of a person."""

    def post_callback(name: str = "PACKAGE_DECLINE", key: str = KEY, **members: Any) -> Any:
        body = {
            "name": name,
            "packageId": "pkg-1",
            "sessionUser": PERSON,
            "message": MESSAGE,
            "createdDate": onespan_time(NOON),
            **members,
        }
        return client.post("/onespan/callback", data=json.dumps(body), headers={"Authorization": f"Basic {key}"})

    return post_callback


@pytest.fixture
def hide_table(service: Service) -> Iterator[Callable[[str], None]]:
    """Rename a table, so that queries fail. The fixture restores all tables after the test."""
    gone: list[str] = []

    def hide_table(table: str) -> None:
        with service.database.write() as connection:
            connection.execute(text(f"ALTER TABLE {table} RENAME TO hidden_{table}"))
        gone.append(table)

    yield hide_table
    with service.database.write() as connection:
        for table in gone:
            connection.execute(text(f"ALTER TABLE hidden_{table} RENAME TO {table}"))


def until(condition: Callable[[], bool]) -> None:
    """Wait at most 20 seconds until another thread has made the condition true."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "not true within 20 s"
        time.sleep(0.02)


def test_law_11_receiver_reveals_nothing(post_callback, client, work, log_output):
    """No answer and no log line contains a secret or personal data, for any kind of callback or handler error."""
    answers = [
        post_callback(),
        post_callback("EMAIL_BOUNCE"),
        post_callback("PACKAGE_HATCHED", phone=PERSON),
        post_callback(key=WRONG),
        post_callback(key=""),
        post_callback(packageId=""),
        post_callback(createdDate=MESSAGE),
        post_callback(documentId=[PERSON]),
        post_callback(filling="x" * 65536),
        client.post("/onespan/callback", data=PERSON.encode(), headers={"Authorization": f"Basic {KEY}"}),
        client.post("/onespan/callback", data=b"\xff" + PERSON.encode(), headers={"Authorization": f"Basic {KEY}"}),
        client.get("/onespan/callback", headers={"Authorization": f"Basic {KEY}"}),
    ]
    work()

    assert [answer.status_code for answer in answers] == [200, 200, 200, 401, 401, 400, 200, 200, 413, 400, 400, 405]
    assert not [answer.text for answer in answers if "canary" in answer.text]
    written = log_output()
    assert "handler.failed" in written
    assert "handler.parked" in written
    assert "handler.discarded" in written
    assert "canary" not in written


def test_law_11_error_pages_reveal_nothing(post_callback, client, work, hide_table, log_output):
    """No error answer contains a secret, a traceback or SQL, whatever the request contains."""
    post_callback()
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
    for table in HIDDEN_TABLES:
        hide_table(table)
    query = {"q": PERSON, "signer": PERSON}
    failed_answers = [
        client.get("/api/packages", query_string=query, headers=right),
        *(client.get(page, headers=right) for page in pages),
        client.post("/api/dispatches/1/replay", headers=right),
    ]

    assert {answer.status_code for answer in answers} == {400, 401, 404, 405}
    # SQLite raises the same error for a missing table and for an unavailable database, so the status may be 503.
    assert {answer.status_code for answer in failed_answers} <= {500, 503}
    for answer in failed_answers:
        assert answer.content_type == "application/json"
        assert answer.json["error"]["code"] in ("our_fault", "database_unavailable")
        assert "Traceback" not in answer.text
        assert "SELECT" not in answer.text
    assert not [answer.text for answer in (*answers, *failed_answers) if "canary" in answer.text]
    written = log_output()
    assert written.count("request.failed") + written.count("database.unavailable") == len(failed_answers)
    assert "canary" not in written


def test_law_11_failing_worker_reveals_nothing(post_callback, service, hide_table, log_output):
    """When the database refuses a row with personal data, the log reports the failure without the row."""
    post_callback()
    hide_table("events")

    service.worker.start()
    try:
        until(lambda: "turn.failed" in log_output() or "journal.set_aside" in log_output())
    finally:
        service.worker.stop(grace=5)

    assert "canary" not in log_output()


def test_law_11_failing_drain_reveals_nothing(post_callback, service, log_output):
    """When a spooled callback cannot be written, the scheduler's log line does not quote its row."""
    with service.database.write() as connection:
        connection.execute(text("ALTER TABLE journal RENAME COLUMN body TO content"))
    assert post_callback().json == {"callback": None}
    scheduler = Scheduler(("drain", timedelta(milliseconds=200), service.intake.drain))

    scheduler.start()
    try:
        until(lambda: "turn.failed" in log_output())
    finally:
        scheduler.stop()
    with service.database.write() as connection:
        connection.execute(text("ALTER TABLE journal RENAME COLUMN content TO body"))

    assert service.intake.drain() == 1
    assert "canary" not in log_output()


def test_law_11_health_and_metrics_reveal_nothing(app: Flask, post_callback, client, *, work, hide_table, log_output):
    """The pages `/healthz`, `/readyz` and `/metrics`, which need no login, contain no secret."""
    post_callback()
    work()
    paths = [path for path in ("/healthz", "/readyz", "/metrics") if app.url_map.bind("").test(path, "GET")]

    healthy = [client.get(path).text for path in paths]
    hide_table("journal")
    failing = [client.get(path).text for path in paths]

    assert not [text for text in (*healthy, *failing) if "canary" in text]
    assert "canary" not in log_output()


def test_law_11_login_reveals_nothing(app: Flask, post_callback, hide_table, log_output):
    """After right, wrong, forged, failing or too many logins, no answer and no log line contains a password."""
    add_probe(app)
    post_callback()
    answers = []
    for password in (PASSWORD, READONLY_PASSWORD, *[GUESS] * 12, PASSWORD):
        client = app.test_client()
        answers += [client.get("/login"), log_in(client, password, next=f"/probe?q={GUESS}")]
        answers += [client.post("/login", data={"password": password}), client.get("/probe")]
        answers += [client.get("/login", query_string={"password": password}), client.post("/probe")]
        answers += [client.post("/logout", data={"password": password})]
    for table in ("logins", "ended_sessions"):
        hide_table(table)
    client = app.test_client()
    failing = [client.get("/login"), log_in(client, GUESS), log_in(client, PASSWORD)]

    assert {answer.status_code for answer in answers} == {200, 302, 303, 400, 401, 429}
    assert {answer.status_code for answer in failing} <= {200, 500, 503}
    for answer in (*answers, *failing):
        # The client itself sent the redirect target, so an answer may repeat that target.
        shown = f"{answer.text} {answer.headers}".replace(f"/probe?q={GUESS}", "")
        assert "canary" not in shown
    assert "login.failed" in log_output()
    assert "login.refused" in log_output()
    assert "canary" not in log_output()


def test_law_11_commands_and_settings_reveal_no_secret(app: Flask, post_callback, work, settings, log_output):
    """Output of commands and `repr` of settings contain no secret, because operators may paste them into a question."""
    post_callback()
    work()
    runner = app.test_cli_runner()
    for words in (["replay", "--state", "parked"], ["rebuild", "--check"], ["rebuild"], ["routes"]):
        shown = runner.invoke(FlaskGroup(create_app=lambda: app), words)
        assert shown.exit_code == 0, (words, shown.output)
        assert "canary" not in shown.output

    service = app.extensions[EXTENSION]
    for shown in (repr(settings), str(settings), repr(service), repr(service.database.engine), repr(app.config)):
        assert "canary" not in shown
    assert "canary" not in log_output()


@on_sqlite
def test_law_11_unreachable_database_is_logged_without_its_password(tmp_path, database_url, stream, log_output):
    """While the database is unreachable, the log reports spooled callbacks but not the database's password."""
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
    assert [answer.status_code for answer in shown] == [200, 503]  # the spool keeps callbacks
    assert not [answer.text for answer in shown if "canary" in answer.text]
    assert "callback.spooled" in log_output()
    assert "canary" not in log_output()
