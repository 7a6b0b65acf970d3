"""Callbacks to nearly the right address are taken; those to another address are logged and counted."""

import json
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import func, select
from structlog.testing import capture_logs

from app.store.misdirected import MAX_PATHS
from app.store.models import Journal, MisdirectedCallback
from tests.conftest import KEY, NOON, TOKEN, on_both, on_sqlite

BODY = json.dumps({"name": "PACKAGE_ACTIVATE", "packageId": "pkg-1"}).encode()
AUTHORIZED = {"Authorization": f"Basic {KEY}"}

NEAR = [
    *(
        "/onespan/callback/",
        "/onespan/callback//",
        "/onespan//callback",
        "///onespan///callback/",
    ),
    *(
        "///onespan///callback/",
        "/OneSpan/Callback",
        "/ONESPAN/CALLBACK/",
        "/onespan/%63allback",
        "/%6Fnespan/callback",
    ),
    *(
        "/onespan%2Fcallback",
        "/onespan/callback%20",
        "/onespan/callback/%20",
        "/onespan/callback?tenant=7",
        "/onespan/callback/?tenant=7",
    ),
]
WRONG = [
    "/",
    "/onespan",
    "/callback",
    "/onespan/callbacks",
    "/api/callback",
    "/api/packages",
    "/health",
    "/onespan/call/back",
]


def counted(service: Any) -> dict[str, int]:
    """Return how many callbacks were counted for each path."""
    with service.database.read() as connection:
        rows = connection.execute(select(MisdirectedCallback.path, MisdirectedCallback.number))
        return {row.path: row.number for row in rows}


def kept(service: Any) -> int:
    """Return the number of journal rows."""
    with service.database.read() as connection:
        return connection.scalar(select(func.count()).select_from(Journal)) or 0


def misdirected_notes(client: Any) -> list[str]:
    """Return the notes of `/readyz` about wrong paths."""
    return [note for note in client.get("/readyz").json["notes"] if "posts callbacks to" in note]


@on_sqlite
@pytest.mark.parametrize("path", NEAR)
def test_a_callback_to_nearly_the_right_address_is_taken(client, service, path):
    """Case, blanks, doubled and trailing slashes make no difference, as OneSpan may not follow a redirect."""
    answer = client.post(path, data=BODY, headers=AUTHORIZED)

    assert (answer.status_code, answer.json) == (200, {"callback": 1})
    assert (kept(service), counted(service)) == (1, {})
    for headers in ({}, {"Authorization": "Basic wrong"}):
        refused = client.post(path, data=BODY, headers=headers)
        assert (refused.status_code, refused.json["error"]["code"]) == (401, "not_onespan")


@on_both
def test_a_callback_to_another_address_is_counted_and_noted(client, service, clock, runner):
    """A POST with a valid key to another path keeps its answer, and is logged, counted and noted for a day."""
    plain = [client.post(path, data=BODY).status_code for path in WRONG]
    assert counted(service) == {}

    with capture_logs() as lines:
        answers = [client.post(path, data=BODY, headers=AUTHORIZED).status_code for path in WRONG]
    client.post("/callback", data=BODY, headers=AUTHORIZED)

    assert answers == plain
    assert 200 not in answers
    assert counted(service) == {**dict.fromkeys(WRONG, 1), "/callback": 2}
    assert [line["path"] for line in lines if line["event"] == "callback.misdirected"] == WRONG
    assert kept(service) == 0
    assert f"callbacks_misdirected {len(WRONG) + 1}.0" in client.get("/metrics").text
    (note,) = misdirected_notes(client)
    assert "flask callback register" in note
    assert note in runner.invoke(args=["doctor"]).output
    clock.now = NOON.replace(day=NOON.day + 2)
    assert misdirected_notes(client) == []


@on_sqlite
@pytest.mark.parametrize(
    "header", [None, "", "Basic", "Basic wrong", f"Bearer {KEY}", f"Basic {KEY}x", KEY, f"Bearer {TOKEN}"]
)
def test_a_request_without_a_valid_key_is_not_counted(client, service, header):
    """A request without a valid callback key leaves no trace, whatever its path."""
    with capture_logs() as lines:
        for path in WRONG:
            client.post(path, data=BODY, headers={} if header is None else {"Authorization": header})
            client.get(path, headers=AUTHORIZED)

    assert counted(service) == {}
    assert "callback.misdirected" not in {line["event"] for line in lines}


@on_both
def test_at_most_twenty_paths_are_counted_separately(client, service):
    """Further paths are counted together, so a client with the key cannot fill the table."""
    for number in range(MAX_PATHS + 5):
        client.post(f"/wrong/{number}", data=BODY, headers=AUTHORIZED)
    client.post("/wrong/3", data=BODY, headers=AUTHORIZED)

    paths = counted(service)
    assert len(paths) == MAX_PATHS + 1
    assert (paths["/wrong/3"], paths["other"]) == (2, 5)


@on_both
@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (f"/callback/{KEY}", "/callback/***"),
        (f"/x-{KEY}-y", "/x-***-y"),
        ("/for/cleo@example.com/x", "/for/***/x"),
        ("/for/cleo%40example.com/x", "/for/***/x"),
        ("/for/cleo%2540example.com/x", "/for/***/x"),
        ("/callback/" + "".join(f"%{ord(character):02x}" for character in KEY), "/callback/***"),
        ("/a\x00b\x1b[2Jc", "/a?b?[2Jc"),
        ("/\ud800", None),
        ("/" + "p" * 500, "/" + "p" * 199),
        ("/callback?canary", "/callback"),
    ],
)
def test_law_11_no_secret_of_a_path_is_kept(client, service, path, shown):
    """The log and the table contain no callback key, no email address, and no character that they refuse."""
    with capture_logs() as lines:
        url = quote(path.encode("utf-8", "surrogatepass"), safe="/?")
        answer = client.post(url, data=BODY, headers=AUTHORIZED)

    assert answer.status_code in (404, 405)
    (found,) = counted(service)
    assert shown in (None, found)
    assert KEY not in str(lines)
    assert "cleo" not in str(lines)


@on_sqlite
def test_a_misdirected_callback_is_answered_while_the_database_is_away(client, service, monkeypatch):
    """If the callback cannot be counted, the answer is the same, and the log line remains."""
    service.database.engine.dispose()
    with service.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE misdirected_callbacks RENAME TO hidden")
    try:
        with capture_logs() as lines:
            answer = client.post("/callback", data=BODY, headers=AUTHORIZED)
    finally:
        with service.database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE hidden RENAME TO misdirected_callbacks")

    assert answer.status_code == 404
    assert {"callback.misdirected", "callback.not_counted"} <= {line["event"] for line in lines}
