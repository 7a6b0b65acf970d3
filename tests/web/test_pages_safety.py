"""What pages and answers let browsers do, and how it is said that something went wrong."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.exc import OperationalError
from werkzeug.exceptions import Conflict

from app import EXTENSION
from app.web.dashboard.access import BODY_LIMIT
from config import Settings
from tests.conftest import KEY, TOKEN, on_sqlite
from tests.support.logins import ACTING, LOOKING, act, add_probe, log_in, token_in, with_passwords

pytestmark = on_sqlite  # none of this touches a table

OPEN_TO_ALL = {  # endpoints that need no session: each is authenticated otherwise, or tells nothing
    "static",
    "login.ask",
    "login.come_in",
    "login.leave",
    "door.receive",
    "health.healthz",
    "health.readyz",
    "metrics.scrape",
}
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
FAILURES: dict[str, Exception] = {
    "/fails": ZeroDivisionError("canary"),
    "/away": OperationalError("SELECT canary", {}, Exception("canary")),
    "/later": Conflict("It is under way."),
}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With a dashboard."""
    return with_passwords(settings)


@pytest.fixture
def app(get_app: Callable[..., Flask]) -> Flask:
    """With two pages, and some that fail."""
    return get_app(add_failures)


def add_failures(app: Flask) -> None:
    """And the probe."""
    add_probe(app)

    def fails(path: str) -> Any:
        def fail() -> None:
            raise FAILURES[path]

        return fail

    for path in FAILURES:
        app.add_url_rule(path, path[1:], fails(path))


def pages(app: Flask) -> list[tuple[str, str]]:
    """Every method and path that is for people who have logged in."""
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint not in OPEN_TO_ALL]
    return [
        (method, re.sub(r"<int:[^>]+>", "1", re.sub(r"<(?!int:)[^>]+>", "x", rule.rule)))
        for rule in rules
        for method in sorted((rule.methods or set()) - {"OPTIONS"})
        if not rule.rule.startswith("/api") and rule.rule not in FAILURES
    ]


def test_no_page_is_seen_without_a_session(app, client):
    """Whichever there are: who only looks is sent to log in, whatever changes something is refused."""
    found = pages(app)

    assert ("GET", "/probe") in found
    for method, path in found:
        answer = client.open(path, method=method)
        expected = 302 if method in ("GET", "HEAD") else 401
        assert answer.status_code == expected, (method, path)
        assert answer.location is None or answer.location.startswith("/login?next=")


def test_nothing_is_changed_without_a_token_of_the_page(app, client):
    """Whichever page it is; and by nobody who may only look."""
    log_in(client)
    changing = [(method, path) for method, path in pages(app) if method not in ("GET", "HEAD")]

    assert ("POST", "/probe") in changing
    for method, path in changing:
        assert client.open(path, method=method).status_code == 400, (method, path)
    looking = app.test_client()
    log_in(looking, LOOKING)
    token = looking.get("/probe").json["token"]
    for method, path in changing:
        answer = looking.open(path, method=method, data={"csrf_token": token})
        assert answer.status_code == 403, (method, path)


def test_a_token_of_somebody_else_is_none(app, client):
    """Nor is one that was made up; the page says what to do."""
    log_in(client)
    other = app.test_client()
    log_in(other)

    for token in ("", "x", other.get("/probe").json["token"]):
        answer = client.post("/probe", data={"csrf_token": token}, headers=BROWSER)
        assert answer.status_code == 400
        assert "Reload the page, and try again." in answer.text
    assert act(client).status_code == 200


def test_a_script_of_a_page_sends_the_token_as_a_header(client):
    """With a JSON body or with none."""
    log_in(client)
    token = client.get("/probe").json["token"]

    assert client.post("/probe", headers={"X-CSRFToken": token}).status_code == 200


@pytest.mark.parametrize(
    ("site", "status"),
    [("cross-site", 400), ("same-site", 400), ("x", 400), ("same-origin", 200), ("none", 200), (None, 200)],
)
def test_a_browser_says_which_site_asks(client, site, status):
    """A neighbour under the same domain is another site, too."""
    log_in(client)

    answer = act(client, headers={"Sec-Fetch-Site": site} if site else {})

    assert answer.status_code == status


def test_nobody_is_logged_in_by_another_site(client):
    """Without the form's token there is the form again, and no session."""
    refused = [
        client.post("/login", data={"password": ACTING}),
        client.post("/login", data={"password": ACTING, "csrf_token": "x"}),
        log_in(client, environ={"headers": {"Sec-Fetch-Site": "cross-site"}}),
    ]

    for answer in refused:
        assert answer.status_code == 400
        assert "Reload the page" in answer.text
        assert token_in(answer.text)
    assert client.get("/probe").status_code == 302


def test_nobody_is_logged_out_by_another_site(client):
    """It is a change as any other."""
    log_in(client)

    assert client.post("/logout").status_code == 400
    assert client.get("/probe").status_code == 200


def test_door_and_api_need_no_token_of_a_page(client, tell):
    """They have their own keys, and no cookie counts there."""
    log_in(client)

    assert tell("PACKAGE_CREATE")
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
def test_every_answer_says_what_browsers_may(client, method, path, status):
    """Good ones and bad ones; strict transport only where it came over TLS."""
    log_in(client, environ={"base_url": "https://sign.example.com"})

    secure = client.open(path, method=method, base_url="https://sign.example.com", buffered=True)
    log_in(client)
    plain = client.open(path, method=method, buffered=True)

    for answer in (secure, plain):
        assert answer.status_code == status
        policy = dict(one.strip().split(" ", 1) for one in answer.headers["Content-Security-Policy"].split(";"))
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


def test_what_names_people_is_kept_nowhere(client, tell, read):
    """Pages, errors and the login; the API has a word of its own, which lets a reader ask whether it changed."""
    tell("PACKAGE_CREATE")
    log_in(client)

    for path in ("/probe", "/login", "/nowhere", "/fails", "/healthz"):
        assert client.get(path).headers["Cache-Control"] == "no-store", path
    answer = client.get("/api/packages", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.headers["Cache-Control"] == "private, no-cache"


def test_style_and_script_are_kept_for_a_year_under_their_version(client):
    """Another one is another address; without it a browser asks again each time."""
    page = client.get("/login").text
    named = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)

    def get(address: str, **headers: str) -> Any:
        return client.get(address, headers=headers, buffered=True)

    assert {one.partition("?")[0] for one in named} == {"/static/app.css", "/static/app.js", "/static/icon.svg"}
    for address in named:
        assert re.fullmatch(r"/static/\S+\?v=[0-9a-f]{12}", address)
        bare = address.partition("?")[0]
        kept, asked_again = get(address), get(bare)
        assert kept.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert get(f"{address}x").headers["Cache-Control"] == "no-cache"
        assert asked_again.headers["Cache-Control"] == "no-cache"
        assert get(bare, **{"If-None-Match": asked_again.headers["ETag"]}).status_code == 304
        assert "Set-Cookie" not in kept.headers
    assert get("/static/nothing.css").headers["Cache-Control"] == "no-store"
    assert get("/static/../base.html").status_code == 404


def test_templates_have_no_script_and_no_style_in_them(app):
    """The policy would not let them run."""
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
    ("GET", "/later", 409, "It is under way."),
)


@pytest.mark.parametrize(("method", "path", "status", "said"), PROBLEMS)
def test_a_person_gets_a_page(client, method, path, status, said):
    """Which says what went wrong, and nothing of the inside; a script gets what it asked for."""
    for headers in (BROWSER, {"Accept": "*/*"}, {}):
        page = client.open(path, method=method, headers=headers)
        assert (page.status_code, page.mimetype) == (status, "text/html")
        assert said in page.text
        assert "<main" in page.text
    script = client.open(path, method=method, headers={"Accept": "application/json"})

    assert (script.status_code, script.mimetype) == (status, "application/json")
    assert script.json["error"]["message"]
    for answer in (page, script):
        assert not re.search("canary|Traceback|SELECT|ZeroDivision", answer.text)


@pytest.mark.parametrize(
    "path", ["/api/nowhere", "/api/packages", "/onespan/callback", "/onespan/x", "/metrics/x", "/healthz/x"]
)
def test_a_machine_gets_json_whatever_it_says_it_takes(client, path):
    """As documented."""
    answer = client.get(path, headers=BROWSER)

    assert answer.status_code in (401, 404, 405)
    assert set(answer.json["error"]) == {"code", "message"}


def test_what_is_too_much_is_refused(client):
    """Before it is read."""
    log_in(client)
    token = client.get("/probe").json["token"]

    answer = client.post("/probe", data={"csrf_token": token, "more": "x" * BODY_LIMIT})

    assert (answer.status_code, answer.mimetype) == (413, "text/html")


def test_pages_show_a_name_as_text(client):
    """Whatever somebody calls themselves."""
    wrong = log_in(client, "wrong", name='"><script>alert(1)</script>')

    assert wrong.status_code == 401
    assert "<script>alert" not in wrong.text


def test_the_database_may_be_away_while_an_error_is_shown(app, client, monkeypatch):
    """The page needs none."""
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
