"""The API's document and its page, what browsers of other sites may do, and what every endpoint has in common."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from flask import Flask
from jsonschema import Draft202012Validator

from app import EXTENSION, create_app
from app.handling import Handlers
from config import Settings, SettingsError, load_settings
from tests.conftest import KEY, TOKEN, on_sqlite

PORTAL = "https://portal.example.com"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Path, method and description of all there is."""
    return [(path, method, one) for path, methods in document["paths"].items() for method, one in methods.items()]


def test_every_operation_has_a_name_of_its_own_and_a_tag(promises):
    """So that clients can be made from it."""
    names = [one["operationId"] for *_, one in operations(promises)]
    tags = {tag["name"] for tag in promises["tags"]}

    assert len(set(names)) == len(names)
    assert all(len(one["tags"]) == 1 and one["tags"][0] in tags for *_, one in operations(promises))
    assert tags == {tag for *_, one in operations(promises) for tag in one["tags"]}


def test_every_answer_and_every_body_has_an_example_that_fits(promises):
    """An example that lies is worse than none."""
    for path, method, one in operations(promises):
        contents = [
            (status, media)
            for status, answer in one["responses"].items()
            for media in answer.get("content", {}).values()
        ]
        contents += [("body", media) for media in one.get("requestBody", {}).get("content", {}).values()]
        for status, media in contents:
            if path in ("/api/", "/api/openapi.json") and status == "200":
                continue
            examples = [media["example"]] if "example" in media else [x["value"] for x in media["examples"].values()]
            assert examples, (path, method, status)
            for example in examples:
                schema = {**media["schema"], "components": promises["components"]}
                Draft202012Validator(schema).validate(example)


def test_every_answer_that_can_be_kept_has_its_tag(promises):
    """All GETs say so."""
    for path, method, one in operations(promises):
        assert (method == "get") == ("304" in one["responses"]), path
        assert (method == "get") == (
            "ETag" in one["responses"].get("200", one["responses"].get("202")).get("headers", {})
        )


@on_sqlite
def test_every_get_has_an_etag_and_knows_it_again(app: Flask, client, tell, work, *, clock):
    """HEAD says the same; OPTIONS says what else there is, to anyone."""
    clock.now = datetime.now(UTC)  # or one would tell by how much we are off
    tell("PACKAGE_CREATE")
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
        if got.status_code == 404:  # there is no run and no dispatch of this number
            continue
        tag = got.headers["ETag"]
        head = client.head(path, headers=BEARER)
        assert (head.status_code, head.data, head.headers["ETag"]) == (200, b"", tag)
        again = client.get(path, headers={**BEARER, "If-None-Match": tag})
        assert (again.status_code, again.data) == (304, b""), path


class Page(HTMLParser):
    """What a page has in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A tag begins."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """What stands between tags."""
        self.text += data


@on_sqlite
def test_the_reference_page_tells_of_all_and_needs_nobody_else(client, promises):
    """Everyone may read it; it has no script and no style within it, and no address of another site."""
    answer = client.get("/api/")
    page = Page(answer.text)

    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    for path, method, one in operations(promises):
        assert f"{method.upper()} {path}" in page.text
        assert all(parameter["name"] in page.text for parameter in one["parameters"])
    assert all(name in page.text for name in promises["components"]["schemas"])
    assert not [tag for tag, attributes in page.tags if tag == "style" or "style" in attributes]
    assert all("src" in attributes for tag, attributes in page.tags if tag == "script")
    linked = [attributes.get("href") or attributes.get("src") for _, attributes in page.tags]
    assert not [one for one in linked if one and re.match(r"(?:[a-z]+:)?//", one)]
    anchors = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert [one for one in linked if one and one.startswith("#") and one[1:] not in anchors] == []
    assert len([one for _, one in page.tags if "id" in one]) == len(anchors)


@on_sqlite
def test_the_address_without_its_slash_leads_to_the_page(client):
    """People type it so."""
    assert client.get("/api").headers["Location"].endswith("/api/")


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"dry_run": true}', "application/x-www-form-urlencoded", 200),  # as curl -d sends it
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
    ids=lambda one: repr(one)[:30],
)
@on_sqlite
def test_a_body_is_json_and_of_a_decent_size(client, body, kind, status):
    """Or the answer says so, in JSON."""
    answer = client.post("/api/dispatches/replay", data=body, content_type=kind, headers=BEARER)

    assert (answer.status_code, answer.content_type) == (status, "application/json"), answer.text
    assert ("error" in answer.json) == (status != 200)


@pytest.fixture
def portal(settings: Settings) -> Any:
    """The service, open to two origins."""
    app = create_app(
        settings.model_copy(update={"cors_origins": (PORTAL, "http://localhost:3000")}), handlers=Handlers()
    )
    yield app.test_client()
    app.extensions[EXTENSION].database.close()


@on_sqlite
def test_a_page_of_a_named_origin_may_read(portal):
    """Errors too, or it could not tell what is wrong."""
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
def test_a_browser_that_asks_first_is_answered_without_a_token(portal):
    """It has none to send at that time."""
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization,if-none-match"}

    answer = portal.options("/api/packages", headers={"Origin": "http://localhost:3000", **asked})

    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert {"GET", "POST"} <= set(answer.headers["Access-Control-Allow-Methods"].split(", "))
    assert {"Authorization", "If-None-Match"} <= set(answer.headers["Access-Control-Allow-Headers"].split(", "))


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", f"{PORTAL}.evil.example", "null", PORTAL.upper(), "http://portal.example.com", ""],
)
@on_sqlite
def test_a_page_of_another_origin_may_not(portal, origin):
    """Nor may one be answered with what was kept for another."""
    answer = portal.get("/api/packages", headers={**BEARER, "Origin": origin})

    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "Origin" in answer.headers["Vary"]


@on_sqlite
def test_nothing_but_the_api_is_open_to_other_origins(portal, client):
    """Not the door, not what operators ask; and without the setting nothing at all."""
    for path in ("/healthz", "/readyz", "/metrics", "/onespan/callback"):
        answer = portal.options(path, headers={"Origin": PORTAL, "Access-Control-Request-Method": "GET"})
        assert "Access-Control-Allow-Origin" not in answer.headers
    answer = client.get("/api/packages", headers={**BEARER, "Origin": PORTAL})
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    "origins",
    ["*", f"{PORTAL},*", f"{PORTAL}/", f"{PORTAL}/app", "portal.example.com", "null", "https://u:p@x.example"],
)
def test_origins_are_named_one_by_one(monkeypatch, origins):
    """What would open it to any page, or to none, is a mistake that is told at the start."""
    monkeypatch.setenv("CORS_ORIGINS", origins)
    with pytest.raises(SettingsError, match="CORS_ORIGINS: takes no" if "*" in origins else "CORS_ORIGINS: must be"):
        load_settings()
    monkeypatch.setenv("CORS_ORIGINS", f" {PORTAL}, http://[::1]:3000 ,")
    assert load_settings().cors_origins == (PORTAL, "http://[::1]:3000")


@on_sqlite
def test_law_11_no_example_is_a_secret(client):
    """What anyone may read has nothing of ours in it."""
    for path in ("/api/", "/api/openapi.json"):
        text = client.get(path).text
        assert TOKEN not in text
        assert KEY not in text
