"""The API endpoints of raw callbacks: the body, its parsed fields and its event."""

import json
from typing import Any

import pytest
from sqlalchemy import text

from app.store import journal
from app.store.journal import Entry
from tests.conftest import ADA, CLEO, HOUR, NOON, on_both


@pytest.fixture
def post_all(send_callback, post, work) -> dict[str, int]:
    """Post callbacks of every kind, oldest first. Returns their journal ids by name."""
    journal_ids = {
        "first": send_callback("PACKAGE_CREATE", happened_at=NOON - HOUR),
        "again": send_callback("PACKAGE_CREATE", happened_at=NOON - HOUR),
        "strange": send_callback("PACKAGE_LAMINATED", package="pkg-2", message="glossy"),
        "strange again": send_callback("PACKAGE_LAMINATED", package="pkg-2", message="glossy"),
    }
    assert post(b"{not json").status_code == 400
    work()
    journal_ids["unreadable"] = journal_ids["strange again"] + 1
    journal_ids["waiting"] = send_callback("DOCUMENT_SIGNED", package="pkg-3", sessionUser=ADA, documentId="lease")
    return journal_ids


def ids(answer: Any) -> list[int]:
    """The journal ids of the callbacks in a list."""
    return [callback["id"] for callback in answer.json["items"]]


def test_callback_has_its_body_and_parsed_fields(api_get, post_all):
    """A callback has its body, parsed fields and event, and says whether it repeats an earlier callback."""
    first, again = (api_get(f"/api/callbacks/{post_all[name]}").json for name in ("first", "again"))

    assert (first["kind"], first["key"], first["received_at"]) == ("callback", "test", "2026-03-02T12:00:00Z")
    assert json.loads(first["body"])["packageId"] == first["package_id"] == "pkg-1"
    assert (first["event_name"], first["repeat"], again["repeat"]) == ("PACKAGE_CREATE", False, True)
    assert first["event_id"] == again["event_id"]
    assert api_get(f"/api/events/{first['event_id']}").json["name"] == "PACKAGE_CREATE"
    assert first["understood"] == {
        "name": "PACKAGE_CREATE",
        "package_id": "pkg-1",
        "session_user": CLEO,
        "document_id": None,
        "message": None,
        "happened_at": "2026-03-02T11:00:00Z",
        "extra": {},
    }


def test_unreadable_callback_says_why(api_get, post_all):
    """For an unreadable callback, the API gives the body and the reason why it is unreadable."""
    shown = api_get(f"/api/callbacks/{post_all['unreadable']}").json

    assert shown["body"] == "{not json"
    assert "not JSON" in shown["unreadable"]
    assert (shown["understood"], shown["event_id"], shown["package_id"]) == (None, None, None)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["waiting", "unreadable", "strange again", "strange", "again", "first"]),
        ({"state": "waiting"}, ["waiting"]),
        ({"state": "digested"}, ["strange again", "strange", "again", "first"]),
        ({"state": "unreadable"}, ["unreadable"]),
        ({"state": "unknown"}, ["strange"]),
        ({"state": "unknown", "package": "pkg-2"}, ["strange"]),
        ({"state": "unknown", "package": "pkg-1"}, []),
        ({"state": "unknown", "key": "test"}, ["strange"]),
        ({"state": "unknown", "key": "old"}, []),
        ({"package": "pkg-1"}, ["again", "first"]),
        ({"package": "pkg-1", "state": "waiting"}, []),
        ({"key": "test", "state": "unreadable"}, ["unreadable"]),
        ({"key": "old"}, []),
    ],
    ids=str,
)
@on_both
def test_callbacks_are_filtered(api_get, post_all, query, found):
    """Callbacks are listed newest first; the state `unknown` shows the first callback of each unknown event."""
    assert ids(api_get("/api/callbacks", **query)) == [post_all[name] for name in found]


def test_callbacks_are_paged(api_get, send_callback, work):
    """The pages of the callback list contain each callback once; a cursor of another list is refused."""
    for number in range(5):
        send_callback("PACKAGE_LAMINATED", package=f"pkg-{number}")
        send_callback("PACKAGE_EMBOSSED", package=f"pkg-{number}")
    work()

    for query in ({}, {"state": "unknown"}, {"key": "test", "state": "digested"}):
        whole, paged, cursor = ids(api_get("/api/callbacks", **query)), [], {}
        for _ in range(10):
            page = api_get("/api/callbacks", limit=3, **query, **cursor)
            paged += ids(page)
            if page.json["next"] is None:
                break
            cursor = {"cursor": page.json["next"]}
        assert paged == whole == sorted(whole, reverse=True)
        assert len(whole) == 10
    assert api_get("/api/callbacks", cursor="7").status_code == 400


def test_law_8_snapshot_that_caused_a_change_can_be_read(api_get, service):
    """A snapshot can be read by its journal id, which a change gives as its cause, but is not a listed callback."""
    with service.database.write() as connection:
        body = json.dumps({"id": "pkg-1", "name": "Lease", "status": "SENT"}).encode()
        journal.add(connection, [Entry("snapshot", NOON, body, key="api", package_id="pkg-1", read_at=NOON)])
    service.digest.turn()
    cause = api_get("/api/changes").json["items"][0]["cause"]

    snapshot = api_get(f"/api/callbacks/{cause['id']}").json

    assert cause["kind"] == snapshot["kind"] == "snapshot"
    assert (snapshot["body"], snapshot["understood"], snapshot["repeat"]) == (body.decode(), None, False)
    assert ids(api_get("/api/callbacks")) == []


@pytest.mark.usefixtures("post_all")
def test_pages_of_one_key_are_full(api_get, send_callback, work, service):
    """A page of callbacks filtered by key is full, even if callbacks with other keys come in between."""
    for number in range(6):
        send_callback("PACKAGE_EMBOSSED", package=f"pkg-{number}")
    work()
    with service.database.write() as connection:
        connection.execute(text("UPDATE journal SET key = 'old' WHERE package_id IN ('pkg-0', 'pkg-3', 'pkg-5')"))

    first = api_get("/api/callbacks", state="unknown", key="old", limit=2).json
    second = api_get("/api/callbacks", state="unknown", key="old", limit=2, cursor=first["next"]).json

    assert [callback["package_id"] for callback in first["items"]] == ["pkg-5", "pkg-3"]
    assert ([callback["package_id"] for callback in second["items"]], second["next"]) == (["pkg-0"], None)
    assert api_get("/api/callbacks", state="unknown", key="older").json["items"] == []
