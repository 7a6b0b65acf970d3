"""Security headers, CSRF checks, and error pages."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.exc import OperationalError
from werkzeug.exceptions import Conflict

from app import EXTENSION
from app.web.dashboard.access import MAX_BODY_BYTES
from config import Settings
from tests.conftest import KEY, TOKEN, on_sqlite
from tests.support.logins import (
    PASSWORD,
    VIEW_ONLY_PASSWORD,
    add_probe,
    log_in,
    post_probe,
    token_in,
    with_passwords,
)

pytestmark = on_sqlite  # the tests of this file do not depend on the kind of database

WITHOUT_SESSION = {  # endpoints that need no session: they have other keys or reveal nothing
    "static",
    "login.show_form",
    "login.log_in",
    "login.log_out",
    "receiver.receive",
    "probes.healthz",
    "probes.readyz",
    "metrics.scrape",
}
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
FAILURES: dict[str, Exception] = {
    "/fails": ZeroDivisionError("canary"),
    "/away": OperationalError("SELECT canary", {}, Exception("canary")),
    "/later": Conflict("A sync is running."),
}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with both passwords of the dashboard."""
    return with_passwords(settings)


@pytest.fixture
def app(get_app: Callable[..., Flask]) -> Flask:
    """The app with the two test views at `/probe`, and views that fail."""
    return get_app(add_failures)


def add_failures(app: Flask) -> None:
    """Add the two test views at `/probe`, and a failing view for each path in `FAILURES`."""
    add_probe(app)

    def fails(path: str) -> Any:
        def fail() -> None:
            raise FAILURES[path]

        return fail

    for path in FAILURES:
        app.add_url_rule(path, path[1:], fails(path))


def pages(app: Flask) -> list[tuple[str, str]]:
    """Every method and path that needs a login."""
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint not in WITHOUT_SESSION]
    return [
        (method, re.sub(r"<int:[^>]+>", "1", re.sub(r"<(?!int:)[^>]+>", "x", rule.rule)))
        for rule in rules
        for method in sorted((rule.methods or set()) - {"OPTIONS"})
        if not rule.rule.startswith("/api") and rule.rule not in FAILURES
    ]


def test_every_page_needs_a_session(app, client):
    """Without a session, reading a page redirects to the login, and any change is refused."""
    found = pages(app)

    assert ("GET", "/probe") in found
    for method, path in found:
        answer = client.open(path, method=method)
        expected = 302 if method in ("GET", "HEAD") else 401
        assert answer.status_code == expected, (method, path)
        assert answer.location is None or answer.location.startswith("/login?next=")


def test_every_change_needs_a_csrf_token_and_full_access(app, client):
    """On every page, a change needs a CSRF token and full access."""
    log_in(client)
    changing = [(method, path) for method, path in pages(app) if method not in ("GET", "HEAD")]

    assert ("POST", "/probe") in changing
    for method, path in changing:
        assert client.open(path, method=method).status_code == 400, (method, path)
    view_only = app.test_client()
    log_in(view_only, VIEW_ONLY_PASSWORD)
    token = view_only.get("/probe").json["token"]
    for method, path in changing:
        answer = view_only.open(path, method=method, data={"csrf_token": token})
        assert answer.status_code == 403, (method, path)


def test_foreign_or_forged_token_is_refused(app, client):
    """A CSRF token that is forged or belongs to another session is refused, and the page says what to do."""
    log_in(client)
    other = app.test_client()
    log_in(other)

    for token in ("", "x", other.get("/probe").json["token"]):
        answer = client.post("/probe", data={"csrf_token": token}, headers=BROWSER)
        assert answer.status_code == 400
        assert "Reload the page and try again." in answer.text
    assert post_probe(client).status_code == 200


def test_script_may_send_the_token_as_a_header(client):
    """A script may send the CSRF token as a header instead of a form field."""
    log_in(client)
    token = client.get("/probe").json["token"]

    assert client.post("/probe", headers={"X-CSRFToken": token}).status_code == 200


@pytest.mark.parametrize(
    ("site", "status"),
    [("cross-site", 400), ("same-site", 400), ("x", 400), ("same-origin", 200), ("none", 200), (None, 200)],
)
def test_change_from_another_site_is_refused(client, site, status):
    """A change from another site is refused, and another subdomain of the same domain is another site, too."""
    log_in(client)

    answer = post_probe(client, headers={"Sec-Fetch-Site": site} if site else {})

    assert answer.status_code == status


def test_another_site_cannot_log_a_user_in(client):
    """A login without the form's CSRF token shows the form again, and no session begins."""
    refused = [
        client.post("/login", data={"password": PASSWORD}),
        client.post("/login", data={"password": PASSWORD, "csrf_token": "x"}),
        log_in(client, environ={"headers": {"Sec-Fetch-Site": "cross-site"}}),
    ]

    for answer in refused:
        assert answer.status_code == 400
        assert "Reload the page" in answer.text
        assert token_in(answer.text)
    assert client.get("/probe").status_code == 302


def test_another_site_cannot_log_a_user_out(client):
    """A logout needs a CSRF token like any other change."""
    log_in(client)

    assert client.post("/logout").status_code == 400
    assert client.get("/probe").status_code == 200


def test_callback_endpoint_and_api_need_no_csrf_token(client, send_callback):
    """The callback endpoint and the API have their own keys, ignore cookies, and need no CSRF token."""
    log_in(client)

    assert send_callback("PACKAGE_CREATE")
    authorized = {"Authorization": f"Bearer {TOKEN}"}
    assert client.post("/api/dispatches/1/replay", headers=authorized).status_code == 404
    assert client.post("/api/dispatches/1/replay").status_code == 401
    assert client.get("/api/packages").status_code == 401


ANSWERS = (
    ("GET", "/probe", 200),
    ("GET", "/login", 302),
    ("GET", "/nowhere", 404),
    ("POST", "/probe", 400),
    ("GET", "/fails", 500),
    ("GET", "/static/app.css", 200),
    ("GET", "/healthz", 200),
    ("GET", "/metrics", 200),
    ("GET", "/api/packages", 401),
    ("GET", "/api/openapi.json", 200),
    ("POST", "/onespan/callback", 401),
)


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS)
def test_every_response_has_security_headers(client, method, path, status):
    """Every response has security headers, even an error; Strict-Transport-Security comes only over TLS."""
    log_in(client, environ={"base_url": "https://sign.example.com"})

    secure = client.open(path, method=method, base_url="https://sign.example.com", buffered=True)
    log_in(client)
    plain = client.open(path, method=method, buffered=True)

    for answer in (secure, plain):
        assert answer.status_code == status
        policy = dict(rule.strip().split(" ", 1) for rule in answer.headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["form-action"] == "'self'"
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert secure.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert "Strict-Transport-Security" not in plain.headers


def test_pages_are_not_cached(client, send_callback, read):
    """Browsers must not store pages, while API clients may store answers and revalidate them."""
    send_callback("PACKAGE_CREATE")
    log_in(client)

    for path in ("/probe", "/login", "/nowhere", "/fails", "/healthz"):
        assert client.get(path).headers["Cache-Control"] == "no-store", path
    answer = client.get("/api/packages", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.headers["Cache-Control"] == "private, no-cache"


def test_versioned_assets_are_cached_for_a_year(client):
    """A static file with a version in its URL is cached for a year; without a version, browsers revalidate it."""
    page = client.get("/login").text
    named = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)

    def get(address: str, **headers: str) -> Any:
        return client.get(address, headers=headers, buffered=True)

    assert {address.partition("?")[0] for address in named} == {"/static/app.css", "/static/app.js", "/static/icon.svg"}
    for address in named:
        assert re.fullmatch(r"/static/\S+\?v=[0-9a-f]{12}", address)
        bare = address.partition("?")[0]
        cached, revalidated = get(address), get(bare)
        assert cached.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert get(f"{address}x").headers["Cache-Control"] == "no-cache"
        assert revalidated.headers["Cache-Control"] == "no-cache"
        assert get(bare, **{"If-None-Match": revalidated.headers["ETag"]}).status_code == 304
        assert "Set-Cookie" not in cached.headers
    assert get("/static/nothing.css").headers["Cache-Control"] == "no-store"
    assert get("/static/../base.html").status_code == 404


def test_templates_have_no_inline_script_or_style(app):
    """Templates have no inline scripts or styles, because the content security policy would block them."""
    for file in app.jinja_env.list_templates():
        text = app.jinja_env.loader.get_source(app.jinja_env, file)[0]
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:|\|\s*safe\b", text), file
        assert not re.search(r"<script(?![^>]*\ssrc=)", text), file


PROBLEMS = (
    ("GET", "/nowhere", 404, "Not found"),
    ("POST", "/login/", 404, "Not found"),
    ("DELETE", "/login", 405, "Not allowed"),
    ("POST", "/probe", 401, "Please log in"),
    ("GET", "/fails", 500, "Something went wrong"),
    ("GET", "/away", 503, "Temporarily unavailable"),
    ("GET", "/later", 409, "A sync is running."),
)


@pytest.mark.parametrize(("method", "path", "status", "text"), PROBLEMS)
def test_people_get_error_pages(client, method, path, status, text):
    """Error pages give the problem and no internals; a client that accepts only JSON gets JSON."""
    for headers in (BROWSER, {"Accept": "*/*"}, {}):
        page = client.open(path, method=method, headers=headers)
        assert (page.status_code, page.mimetype) == (status, "text/html")
        assert text in page.text
        assert "<main" in page.text
    script = client.open(path, method=method, headers={"Accept": "application/json"})

    assert (script.status_code, script.mimetype) == (status, "application/json")
    assert script.json["error"]["message"]
    for answer in (page, script):
        assert not re.search("canary|Traceback|SELECT|ZeroDivision", answer.text)


@pytest.mark.parametrize(
    "path", ["/api/nowhere", "/api/packages", "/onespan/callback", "/onespan/x", "/metrics/x", "/healthz/x"]
)
def test_machine_endpoints_always_answer_json(client, path):
    """Endpoints for machines answer errors in JSON, whatever the Accept header says."""
    answer = client.get(path, headers=BROWSER)

    assert answer.status_code in (401, 404, 405)
    assert set(answer.json["error"]) == {"code", "message"}


def test_large_form_is_refused(client):
    """A form that is too large is refused before the service reads it."""
    log_in(client)
    token = client.get("/probe").json["token"]

    answer = client.post("/probe", data={"csrf_token": token, "more": "x" * MAX_BODY_BYTES})

    assert (answer.status_code, answer.mimetype) == (413, "text/html")


def test_user_name_is_escaped(client):
    """A user name with markup in it is shown as text."""
    wrong = log_in(client, "wrong", name='"><script>alert(1)</script>')

    assert wrong.status_code == 401
    assert "<script>alert" not in wrong.text


def test_error_page_needs_no_database(app, client, monkeypatch):
    """The error page needs no database, and says that the database does not respond."""
    log_in(client)
    database = app.extensions[EXTENSION].database

    def away() -> Any:
        raise OperationalError("", {}, Exception())

    monkeypatch.setattr(database, "read", away)

    answer = client.get("/probe", headers=BROWSER)
    assert (answer.status_code, answer.mimetype) == (503, "text/html")
    assert "The database does not respond" in answer.text
    wrong_key = client.post("/onespan/callback", headers={"Authorization": f"Basic {KEY}"})
    assert wrong_key.status_code == 400
