"""The OpenAPI document, the API reference page, CORS, and what all endpoints have in common."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any, get_args

import pytest
from flask import Flask
from jsonschema import Draft202012Validator

from app import EXTENSION, create_app
from app.handling import Handlers
from app.store.states import DispatchState, EventSource, MissedCause
from app.web.api import parameters
from config import Settings, SettingsError, load_settings
from tests.conftest import KEY, TOKEN, on_sqlite

PORTAL = "https://portal.example.com"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """The path, method and operation object of every operation in the OpenAPI document."""
    paths = document["paths"].items()
    return [(path, method, operation) for path, methods in paths for method, operation in methods.items()]


def test_every_operation_has_a_unique_id_and_a_tag(api_document):
    """Client generators need a unique id and a tag for every operation."""
    names = [operation["operationId"] for *_, operation in operations(api_document)]
    tags = {tag["name"] for tag in api_document["tags"]}

    assert len(set(names)) == len(names)
    used = [operation["tags"] for *_, operation in operations(api_document)]
    assert all(len(names) == 1 for names in used)
    assert tags == {tag for names in used for tag in names}


def test_every_answer_and_body_has_a_valid_example(api_document):
    """Every documented answer and request body has an example that matches its schema."""
    for path, method, operation in operations(api_document):
        contents = [
            (status, media)
            for status, answer in operation["responses"].items()
            for media in answer.get("content", {}).values()
        ]
        contents += [("body", media) for media in operation.get("requestBody", {}).get("content", {}).values()]
        for status, media in contents:
            if path in ("/api/", "/api/openapi.json") and status == "200":
                continue
            examples = [media["example"]] if "example" in media else [x["value"] for x in media["examples"].values()]
            assert examples, (path, method, status)
            for example in examples:
                schema = {**media["schema"], "components": api_document["components"]}
                Draft202012Validator(schema).validate(example)


def test_every_get_documents_its_etag(api_document):
    """The OpenAPI document describes an ETag and the status 304 for GET, and for no other method."""
    for path, method, operation in operations(api_document):
        responses = operation["responses"]
        assert (method == "get") == ("304" in responses), path
        assert (method == "get") == ("ETag" in responses.get("200", responses.get("202")).get("headers", {}))


@on_sqlite
def test_every_get_has_an_etag_and_answers_304_for_it(app: Flask, client, send_callback, work, *, clock):
    """The answer to HEAD has the same ETag as GET; OPTIONS lists the methods and needs no token."""
    clock.now = datetime.now(UTC)  # otherwise the health report has a clock difference, which varies
    send_callback("PACKAGE_CREATE")
    work()
    for rule in app.url_map.iter_rules():
        if not rule.rule.startswith("/api/"):
            continue
        path = re.sub(r"<id:\w+>", "pkg-1", re.sub(r"<int:\w+>", "1", rule.rule))
        options = client.options(path)
        assert (options.status_code, options.data) == (200, b"")
        assert set(options.headers["Allow"].split(", ")) >= rule.methods
        if "GET" not in rule.methods:
            continue
        got = client.get(path, headers=BEARER)
        if got.status_code == 404:  # no reconcile run and no dispatch has the id 1
            continue
        tag = got.headers["ETag"]
        head = client.head(path, headers=BEARER)
        assert (head.status_code, head.data, head.headers["ETag"]) == (200, b"", tag)
        again = client.get(path, headers={**BEARER, "If-None-Match": tag})
        assert (again.status_code, again.data) == (304, b""), path


class Page(HTMLParser):
    """The tags and the text of an HTML page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect a start tag and its attributes."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Collect the text between two tags."""
        self.text += data


@on_sqlite
def test_reference_page_is_complete_and_self_contained(client, api_document):
    """The API reference needs no token, and has no inline script, no inline style and no link to another site."""
    answer = client.get("/api/")
    page = Page(answer.text)

    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    for path, method, operation in operations(api_document):
        assert f"{method.upper()} {path}" in page.text
        assert all(parameter["name"] in page.text for parameter in operation["parameters"])
    assert all(name in page.text for name in api_document["components"]["schemas"])
    assert not [tag for tag, attributes in page.tags if tag == "style" or "style" in attributes]
    assert all("src" in attributes for tag, attributes in page.tags if tag == "script")
    links = [attributes.get("href") or attributes.get("src") or "" for _, attributes in page.tags]
    assert not [link for link in links if re.match(r"(?:[a-z]+:)?//", link)]
    anchors = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert [link for link in links if link.startswith("#") and link[1:] not in anchors] == []
    assert len([attributes for _, attributes in page.tags if "id" in attributes]) == len(anchors)


@on_sqlite
def test_path_without_its_slash_redirects_to_the_page(client):
    """The path `/api` redirects to the reference page at `/api/`, because people type it without the slash."""
    assert client.get("/api").headers["Location"].endswith("/api/")


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"dry_run": true}', "application/x-www-form-urlencoded", 200),  # the content type that curl -d sends
        (b'{"dry_run": true}', "application/json", 200),
        (b"", "application/json", 200),
        (b"dry_run=true", "application/x-www-form-urlencoded", 400),
        (b"<dry_run/>", "text/xml", 400),
        (b"[]", "application/json", 400),
        (b"null", "application/json", 400),
        (b'{"dry_run": ', "application/json", 400),
        (b'{"handler": "\\u0000"}', "application/json", 400),
        (b'{"handler": "\xff"}', "application/json", 400),
        (b'{"handler": "\\ud800"}', "application/json", 400),
        (b'{"expect": 1e400}', "application/json", 400),
        (b"[" * 60_000, "application/json", 400),
        (b" " * 64 * 1024, "application/json", 200),
        (b" " * (64 * 1024 + 1), "application/json", 413),
    ],
    ids=lambda value: repr(value)[:30],
)
@on_sqlite
def test_body_must_be_json_of_limited_size(client, body, kind, status):
    """A request body that is not a JSON object or is longer than 64 KiB gets an error in JSON."""
    answer = client.post("/api/dispatches/replay", data=body, content_type=kind, headers=BEARER)

    assert (answer.status_code, answer.content_type) == (status, "application/json"), answer.text
    assert ("error" in answer.json) == (status != 200)


@pytest.fixture
def portal(settings: Settings) -> Any:
    """A client of a service that allows requests from pages of two origins."""
    app = create_app(
        settings.model_copy(update={"cors_origins": (PORTAL, "http://localhost:3000")}), handlers=Handlers()
    )
    yield app.test_client()
    app.extensions[EXTENSION].database.close()


@on_sqlite
def test_page_of_an_allowed_origin_may_read(portal):
    """A page of an allowed origin may read all answers of the API, including errors."""
    for path, headers, status in (
        ("/api/packages", BEARER, 200),
        ("/api/packages", {}, 401),
        ("/api/nothing", BEARER, 404),
    ):
        answer = portal.get(path, headers={**headers, "Origin": PORTAL})
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == PORTAL
        assert "ETag" in answer.headers["Access-Control-Expose-Headers"]
        assert "Origin" in answer.headers["Vary"]


@on_sqlite
def test_preflight_request_needs_no_token(portal):
    """A preflight request needs no token, because browsers send it without a token."""
    preflight = {
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization,if-none-match",
    }

    answer = portal.options("/api/packages", headers={"Origin": "http://localhost:3000", **preflight})

    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert {"GET", "POST"} <= set(answer.headers["Access-Control-Allow-Methods"].split(", "))
    assert {"Authorization", "If-None-Match"} <= set(answer.headers["Access-Control-Allow-Headers"].split(", "))


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", f"{PORTAL}.evil.example", "null", PORTAL.upper(), "http://portal.example.com", ""],
)
@on_sqlite
def test_page_of_another_origin_may_not_read(portal, origin):
    """Other origins get no permission, and `Vary` keeps caches from reusing an answer for a different origin."""
    answer = portal.get("/api/packages", headers={**BEARER, "Origin": origin})

    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "Origin" in answer.headers["Vary"]


@on_sqlite
def test_only_the_api_is_open_to_other_origins(portal, client):
    """The receiver and the probes allow no other origin, and without `CORS_ORIGINS` the API allows none either."""
    for path in ("/healthz", "/readyz", "/metrics", "/onespan/callback"):
        answer = portal.options(path, headers={"Origin": PORTAL, "Access-Control-Request-Method": "GET"})
        assert "Access-Control-Allow-Origin" not in answer.headers
    answer = client.get("/api/packages", headers={**BEARER, "Origin": PORTAL})
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    "origins",
    ["*", f"{PORTAL},*", f"{PORTAL}/", f"{PORTAL}/app", "portal.example.com", "null", "https://u:p@x.example"],
)
def test_origins_must_be_listed_individually(monkeypatch, origins):
    """A wildcard in `CORS_ORIGINS`, or a value that matches no origin, is an error at start."""
    monkeypatch.setenv("CORS_ORIGINS", origins)
    with pytest.raises(SettingsError, match="CORS_ORIGINS: cannot be" if "*" in origins else "CORS_ORIGINS: must be"):
        load_settings()
    monkeypatch.setenv("CORS_ORIGINS", f" {PORTAL}, http://[::1]:3000 ,")
    assert load_settings().cors_origins == (PORTAL, "http://[::1]:3000")


@on_sqlite
def test_law_11_public_pages_contain_no_secret(client):
    """The examples on the public API pages contain no key and no token of the service."""
    for path in ("/api/", "/api/openapi.json"):
        text = client.get(path).text
        assert TOKEN not in text
        assert KEY not in text


def test_parameters_offer_every_state_of_the_store():
    """The parameters of the API offer exactly the states, sources and causes that rows of the store have."""
    fields = {
        DispatchState: parameters.DispatchQuery.model_fields["state"],
        EventSource: parameters.EventQuery.model_fields["source"],
        MissedCause: parameters.MissedQuery.model_fields["cause"],
    }

    for states, field in fields.items():
        offered = {value for choice in get_args(field.annotation) for value in get_args(choice)}
        assert offered == set(states), states
