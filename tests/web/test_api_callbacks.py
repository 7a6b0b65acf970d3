"""What came in, as the API shows it: raw beside what was understood, and which event it told."""

import json
from typing import Any

import pytest
from sqlalchemy import text

from app.store import journal
from app.store.journal import Entry
from tests.conftest import ADA, CLEO, HOUR, NOON, on_both


@pytest.fixture
def post_all(tell, post, work) -> dict[str, int]:
    """Callbacks of every kind, oldest first; gives their numbers."""
    numbers = {
        "first": tell("PACKAGE_CREATE", happened_at=NOON - HOUR),
        "again": tell("PACKAGE_CREATE", happened_at=NOON - HOUR),
        "strange": tell("PACKAGE_LAMINATED", package="pkg-2", message="glossy"),
        "strange again": tell("PACKAGE_LAMINATED", package="pkg-2", message="glossy"),
    }
    assert post(b"{not json").status_code == 400
    work()
    numbers["unreadable"] = numbers["strange again"] + 1
    numbers["waiting"] = tell("DOCUMENT_SIGNED", package="pkg-3", sessionUser=ADA, documentId="lease")
    return numbers


def ids(answer: Any) -> list[int]:
    """The numbers that a list shows."""
    return [one["id"] for one in answer.json["items"]]


def test_a_callback_is_shown_as_it_came_and_as_it_was_understood(ask, post_all):
    """With the event it told, and whether another had told that before."""
    first, again = (ask(f"/api/callbacks/{post_all[name]}").json for name in ("first", "again"))

    assert (first["kind"], first["key"], first["received_at"]) == ("callback", "test", "2026-03-02T12:00:00Z")
    assert json.loads(first["body"])["packageId"] == first["package_id"] == "pkg-1"
    assert (first["event_name"], first["repeat"], again["repeat"]) == ("PACKAGE_CREATE", False, True)
    assert first["event_id"] == again["event_id"]
    assert ask(f"/api/events/{first['event_id']}").json["name"] == "PACKAGE_CREATE"
    assert first["understood"] == {
        "name": "PACKAGE_CREATE",
        "package_id": "pkg-1",
        "session_user": CLEO,
        "document_id": None,
        "message": None,
        "happened_at": "2026-03-02T11:00:00Z",
        "extra": {},
    }


def test_one_that_nobody_can_read_says_why(ask, post_all):
    """Its body is there all the same."""
    shown = ask(f"/api/callbacks/{post_all['unreadable']}").json

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
def test_callbacks_are_filtered(ask, post_all, query, found):
    """Newest first; an unknown event is shown by the callback that told it first."""
    assert ids(ask("/api/callbacks", **query)) == [post_all[name] for name in found]


def test_callbacks_are_paged(ask, tell, work):
    """Each once, whatever is asked for; no cursor of another list fits."""
    for number in range(5):
        tell("PACKAGE_LAMINATED", package=f"pkg-{number}")
        tell("PACKAGE_EMBOSSED", package=f"pkg-{number}")
    work()

    for query in ({}, {"state": "unknown"}, {"key": "test", "state": "digested"}):
        whole, walked, cursor = ids(ask("/api/callbacks", **query)), [], {}
        for _ in range(10):
            page = ask("/api/callbacks", limit=3, **query, **cursor)
            walked += ids(page)
            if page.json["next"] is None:
                break
            cursor = {"cursor": page.json["next"]}
        assert walked == whole == sorted(whole, reverse=True)
        assert len(whole) == 10
    assert ask("/api/callbacks", cursor="7").status_code == 400


def test_law_8_the_reading_that_caused_a_change_can_be_looked_up(ask, service):
    """Under the number that the change names; it is in no list of callbacks."""
    with service.database.write() as connection:
        shown = json.dumps({"id": "pkg-1", "name": "Lease", "status": "SENT"}).encode()
        journal.add(connection, [Entry("snapshot", NOON, shown, key="api", package_id="pkg-1", read_at=NOON)])
    service.digest.turn()
    cause = ask("/api/changes").json["items"][0]["cause"]

    reading = ask(f"/api/callbacks/{cause['id']}").json

    assert cause["kind"] == reading["kind"] == "snapshot"
    assert (reading["body"], reading["understood"], reading["repeat"]) == (shown.decode(), None, False)
    assert ids(ask("/api/callbacks")) == []


@pytest.mark.usefixtures("post_all")
def test_pages_of_one_key_are_full(ask, tell, work, service):
    """Whatever came with other keys between."""
    for number in range(6):
        tell("PACKAGE_EMBOSSED", package=f"pkg-{number}")
    work()
    with service.database.write() as connection:
        connection.execute(text("UPDATE journal SET key = 'old' WHERE package_id IN ('pkg-0', 'pkg-3', 'pkg-5')"))

    first = ask("/api/callbacks", state="unknown", key="old", limit=2).json
    second = ask("/api/callbacks", state="unknown", key="old", limit=2, cursor=first["next"]).json

    assert [callback["package_id"] for callback in first["items"]] == ["pkg-5", "pkg-3"]
    assert ([callback["package_id"] for callback in second["items"]], second["next"]) == (["pkg-0"], None)
    assert ask("/api/callbacks", state="unknown", key="older").json["items"] == []
