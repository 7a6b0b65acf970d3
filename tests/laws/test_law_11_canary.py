"""Law 11, on a real server: whatever a client, OneSpan, a handler or the database does, no log line has a secret."""

import base64
import contextlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import requests
from sqlalchemy import create_engine, make_url, text

from tests.support.logins import token_in
from tests.support.processes import Process, Site, Web, callback, until

pytestmark = pytest.mark.own_database

KEY, TOKEN, READING_TOKEN = "canary-callback-key", "canary-api-token-1", "canary-api-token-2"
PASSWORD, READONLY_PASSWORD, API_KEY = "canary-full-access", "canary-view-only-1", "canary-onespan-api-key"
CLIENT_SECRET, DATABASE = "canary-client-secret", "canary-database"
# The password is `canary-of-cleo-1`.
HASH = "pbkdf2:sha256:1$canarysalt$c2728d1d34e11d91449cd65a1e2ac8ac21d28615e0930da7fa0b14585ecbbf06"
GUESS, PERSON = "canary-guess", "canary-ada@example.com"
BASE64 = base64.b64encode(f"cleo:{GUESS}".encode()).decode()
FORWARDED, REQUEST_ID = "203.0.113.9", "0123456789abcdef0123456789abcdef"
HANDLERS = """
import logging
import threading
import warnings

import structlog

from app.handling import GiveUp

PERSON = "canary-ada@example.com"


@handlers.on("*")
def breaks(event, package):
    logging.getLogger("billing").info("invoice for %s", PERSON)
    structlog.get_logger().info("invoice.sent", to=PERSON, package=package)
    warnings.warn(f"old mailbox of {PERSON}")
    threading.Thread(target=fails).start()
    try:
        fails()
    except ValueError:
        logging.exception("invoice for %s", PERSON)
        structlog.get_logger().exception("invoice.not_sent")
    logging.info("%d invoices", "canary")
    raise ValueError(f"no mailbox for {PERSON}")


@handlers.on("*")
def gives_up(event, package):
    raise GiveUp(f"{PERSON} said {event.message}")


def fails():
    raise ValueError("canary: no mailbox")
"""
EXPECTED_LINES = {
    *("gunicorn.logged", "settings.unsafe", "worker.started", "worker.stopped"),
    *("callback.accepted", "callback.refused", "callback.unreadable", "callback.too_large", "callback.misdirected"),
    *("token.refused", "login.failed", "login.succeeded", "session.ended", "packages.exported"),
    *("package.fetch_requested", "dispatch.replayed", "dispatches.replayed", "reconcile.requested"),
    *("handler.failed", "handler.parked", "invoice.sent", "invoice.not_sent", "thread.failed", "python.warned"),
    *("onespan.refused", "callback.spooled", "journal.unavailable", "spool.drained", "lines.held_back"),
}
POST_HEAD = b"POST /onespan/callback HTTP/1.1\r\nHost: x\r\n"
KEY_HEADER = b"Authorization: Basic canary-callback-key\r\n"
MALFORMED = (
    b"GET /canary HTTP/1.1\r\nAuthor ization: Basic canary\r\n\r\n",
    b"GET /canary HTTP/9.9\r\nHost: canary\r\n\r\n",
    b"canary\r\n\r\n",
    b"GET /?key=canary" + b"y" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nCookie: canary\x00\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"".join(b"X-Canary-%d: canary\r\n" % number for number in range(200)) + b"\r\n",
    POST_HEAD + b"Transfer-Encoding: canary\r\n\r\n",
    POST_HEAD + KEY_HEADER + b"Transfer-Encoding: chunked\r\n\r\ncanary\r\ncanary",
    POST_HEAD + KEY_HEADER + b"Content-Length: 99\r\n\r\ncanary",
    POST_HEAD + b"Expect: canary\r\nContent-Length: canary\r\n\r\n",
    b"PROXY TCP4 canary canary 1 2\r\n\r\n",
)


class _Refusal(BaseHTTPRequestHandler):
    """A OneSpan that refuses the credentials and repeats the request in its answer."""

    def do_GET(self) -> None:
        """Answer 401."""
        echo = {"code": 401, "messageKey": "error.unauthorised", "message": f"{self.headers} {self.path} {PERSON}"}
        body = json.dumps(echo).encode()
        self.send_response(401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815  (the name that http.server calls)

    def log_message(self, *_: Any) -> None:
        """Write nothing."""


@pytest.fixture
def onespan() -> Iterator[str]:
    """The address of a OneSpan that refuses every request."""
    server = HTTPServer(("127.0.0.1", 0), _Refusal)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def site(tmp_path, database_url, onespan) -> Iterator[Site]:
    """An installation in which every secret is a canary."""
    url = make_url(database_url)
    if url.get_backend_name() == "postgresql":
        url = url.set(password=DATABASE)
    secrets = {
        "ONESPAN_CALLBACK_KEYS": f"new={KEY},old={KEY}-2",
        "API_TOKENS": f"crm={TOKEN},portal:read={READING_TOKEN},gone:act:2020-01-01={TOKEN}-3",
        "DASHBOARD_PASSWORD": PASSWORD,
        "DASHBOARD_READONLY_PASSWORD": READONLY_PASSWORD,
        "DASHBOARD_USERS": f"cleo:{HASH}",
        "ONESPAN_API_KEY": API_KEY,
        "ONESPAN_CLIENT_ID": "canary-client",
        "ONESPAN_CLIENT_SECRET": CLIENT_SECRET,
    }
    others = {"ONESPAN_URL": onespan, "PROXIES": "1", "CALLBACK_URL": "http://sign.example.com/onespan/callback"}
    with Site(tmp_path, url.render_as_string(hide_password=False), handlers=HANDLERS, **secrets, **others) as site:
        yield site


def lines_of(process: Process) -> list[dict[str, Any]]:
    """Parse what a process has written; every line must be a JSON object."""
    return [json.loads(line) for line in process.output().splitlines()]


def events_of(process: Process) -> set[str]:
    """The names of the lines that a process has written."""
    return {line["event"] for line in lines_of(process)}


def send_raw(web: Web, head: bytes) -> None:
    """Send bytes to the server and wait until it answers or closes the connection, or for a moment."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", web.port), timeout=1) as connection:
        connection.sendall(head)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1000)


def post_callbacks(web: Web) -> None:
    """Post callbacks with every form of authorization, in good and bad order, with addresses everywhere."""
    known = {"Authorization": f"Basic {KEY}", "X-Request-ID": REQUEST_ID, "X-Forwarded-For": f"{GUESS}, {FORWARDED}"}
    body = callback("PACKAGE_DECLINE", package="pkg-1", sessionUser=PERSON, message=PERSON, phone=PERSON)
    assert web.request("POST", f"/onespan/callback?key={GUESS}", body=body, headers=known)[0] == 200
    named = callback("EMAIL_BOUNCE", package=PERSON, message=PERSON)
    assert web.request("POST", "/onespan/callback", body=named, headers=known | {"Cookie": GUESS})[0] == 200
    for unreadable in (PERSON.encode(), b"\xff" + PERSON.encode(), b"{}"):
        assert web.request("POST", "/onespan/callback", body=unreadable, headers=known)[0] == 400
    assert web.request("POST", "/onespan/callback", body=GUESS.encode() * 6000, headers=known)[0] == 413
    assert web.request("POST", f"/api/{KEY}", body=body, headers=known)[0] == 404
    forms = (
        f"Basic {GUESS}",
        f"Basic {BASE64}",
        f"Bearer {KEY}",
        GUESS,
        f"Digest username={GUESS}",
        f"Basic {KEY}x",
        "",
    )
    for form in forms * 6:  # more than the limit of lines, whichever process answers
        status, _ = web.request("POST", "/onespan/callback", body=body, headers={"Authorization": form})
        assert (form, status) == (form, 401)


def use_api(web: Web) -> None:
    """Call the API with wrong, ended and right tokens, and with canaries in query, path and body."""
    for authorization in (f"Bearer {GUESS}", f"Basic {TOKEN}", f"Bearer {TOKEN}-3", ""):
        answer = web.request("GET", f"/api/packages?q={PERSON}", headers={"Authorization": authorization})
        assert (authorization, answer[0]) == (authorization, 401)
    reading, acting = {"Authorization": f"Bearer {READING_TOKEN}"}, {"Authorization": f"Bearer {TOKEN}"}
    assert web.request("POST", "/api/dispatches/1/replay", headers=reading)[0] == 403
    assert web.request("GET", f"/api/packages?q={PERSON}", headers=acting)[0] == 200
    assert web.request("GET", f"/api/packages/{PERSON}x?cursor={GUESS}", headers=acting)[0] in (400, 404)
    assert web.request("POST", "/api/reconciles", body=f'{{"{GUESS}": 1}}'.encode(), headers=acting)[0] == 400
    assert web.request("POST", "/api/packages/pkg-1/read", headers=acting)[0] == 202
    assert web.request("POST", "/api/reconciles", headers=acting)[0] == 200
    until(lambda: "handler.parked" in events_of(web) and "handler.failed" in events_of(web))
    parked = json.loads(web.request("GET", "/api/events?state=parked", headers=acting)[1])["items"][0]["dispatches"]
    dispatch = next(run["id"] for run in parked if run["state"] == "parked")
    assert web.request("POST", f"/api/dispatches/{dispatch}/replay", headers=acting)[0] == 200
    assert web.request("POST", "/api/dispatches/replay", body=b'{"state": "parked"}', headers=acting)[0] == 200


def use_pages(web: Web) -> None:
    """Log in with wrong and right passwords, export, and log out."""
    address = f"http://127.0.0.1:{web.port}"
    with requests.Session() as browser:
        browser.headers["X-Forwarded-For"] = FORWARDED
        for name, password, status in (
            *(("", GUESS, 401), (GUESS, GUESS, 401), ("cleo", GUESS, 401)),
            *(("cleo", "canary-of-cleo-1", 303), ("", PASSWORD, 303)),
        ):
            browser.cookies.clear()
            form = {"csrf_token": token_in(browser.get(f"{address}/login?next=/{GUESS}").text)}
            form |= {"name": name, "password": password, "next": f"/?q={PERSON}"}
            assert browser.post(f"{address}/login", data=form, allow_redirects=False).status_code == status
        assert browser.post(f"{address}/login", data={"password": GUESS}).status_code == 400
        assert PERSON in browser.get(f"{address}/transactions.csv").text
        assert browser.get(f"{address}/{GUESS}?{GUESS}={GUESS}").status_code == 404
        token = re.search(r'name="csrf_token" value="([^"]+)"', browser.get(address).text)[1]
        assert browser.post(f"{address}/logout", data={"csrf_token": token}, allow_redirects=False).status_code == 303


def break_database(web: Web, database_url: str) -> None:
    """Post a callback and use the API while tables lack a column or are gone."""
    engine = create_engine(database_url)
    known, acting = {"Authorization": f"Basic {KEY}"}, {"Authorization": f"Bearer {TOKEN}"}
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE journal RENAME COLUMN body TO content"))
        connection.execute(text("ALTER TABLE changes RENAME TO hidden_changes"))
    body = callback("PACKAGE_COMPLETE", package="pkg-2", sessionUser=PERSON, message=GUESS)
    assert web.request("POST", "/onespan/callback", body=body, headers=known) == (200, b'{"callback":null}\n')
    assert web.request("GET", f"/api/changes?after={PERSON}", headers=acting)[0] == 400
    assert web.request("GET", "/api/packages/pkg-1/history", headers=acting)[0] in (500, 503)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE journal RENAME COLUMN content TO body"))
        connection.execute(text("ALTER TABLE hidden_changes RENAME TO changes"))
    engine.dispose()
    until(lambda: "spool.drained" in events_of(web))


@pytest.mark.all
def test_law_11_no_line_of_a_real_server_has_a_secret(site: Site, database_url: str):
    """After every kind of request, error and action no line has a canary, and each expected line is there."""
    web = site.gunicorn(workers=2)
    post_callbacks(web)
    use_api(web)
    use_pages(web)
    for head in MALFORMED:
        send_raw(web, head)
    break_database(web, database_url)
    until(lambda: "onespan.refused" in events_of(web))
    web.terminate()
    web.wait()

    output, lines = web.output(), lines_of(web)
    assert "canary" not in output.lower()
    assert BASE64 not in output
    assert EXPECTED_LINES - events_of(web) == set()
    for line in lines:
        assert {"timestamp", "level", "event", "process", "host", "version"} <= line.keys()
    check_fields(lines)


def check_fields(lines: list[dict[str, Any]]) -> None:
    """Check ids, addresses and users in the lines of the server above."""
    by_event = {line["event"]: line for line in lines}
    accepted = [line for line in lines if line["event"] == "callback.accepted"]
    first = accepted[0]
    assert (first["journal_id"], first["package_id"], first["key"]) == (1, "pkg-1", "new")
    assert {(line["request_id"], line["address"]) for line in accepted} == {(REQUEST_ID, FORWARDED)}
    assert len({line["request_id"] for line in lines if line["event"] == "callback.refused"}) > 10
    assert {line.get("reason") for line in lines if line["event"] == "token.refused"} == {
        *("unknown token", "no token", "its last day is over", "it can only read"),
    }
    assert {"user:cleo", "shared passwords"} == {line["account"] for line in lines if line["event"] == "login.failed"}
    assert {"cleo", "dashboard"} == {line["by"] for line in lines if line["event"] == "login.succeeded"}
    assert all(by_event[name]["address"] == FORWARDED for name in ("login.failed", "login.succeeded", "session.ended"))
    assert by_event["packages.exported"]["by"] == "dashboard"
    for action in ("package.fetch_requested", "dispatch.replayed", "dispatches.replayed", "reconcile.requested"):
        assert by_event[action]["by"] == "api:crm"
    assert {"package_id", "event_id", "dispatch_id", "handler"} <= by_event["invoice.sent"].keys()
    assert by_event["invoice for ***"]["event_id"] == by_event["invoice.sent"]["event_id"]
    started = {line["process"] for line in lines if line["event"] == "worker.started"}
    assert len(started) == 1, started
    assert started.isdisjoint(line["process"] for line in accepted)
