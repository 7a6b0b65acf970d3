"""Callbacks that are not as documented, from the request to the status store, and unreadable callbacks read again."""

# ruff: noqa: PLR0917  (pytest passes fixtures by name)

import getpass
import gzip
import json
import zlib
from typing import Any

import pytest
from sqlalchemy import select, update
from structlog.testing import capture_logs

from app.handling import Handlers
from app.onespan.compression import MAX_BODY_BYTES
from app.store import journal
from app.store.journal import Entry
from app.store.models import Fetch, Journal
from app.work.digest import Digest
from config import Settings
from tests.conftest import CLEO, HOUR, NOON, on_both
from tests.support.fixtures import callback, package
from tests.support.logins import VIEW_ONLY_PASSWORD, log_in, token_in, with_passwords

UNUSUAL = {
    "no name": b'{"packageId":"pkg-1"}',
    "a number as name": b'{"name":7,"packageId":"pkg-1"}',
    "an unreadable date": b'{"name":"PACKAGE_EXPIRE","packageId":"pkg-1","createdDate":"yesterday"}',
    "an unreadable id": b'{"name":"PACKAGE_EXPIRE","packageId":"pkg-1","documentId":true}',
    "a long id": b'{"name":"DOCUMENT_VIEWED","packageId":"pkg-1","documentId":"' + b"d" * 257 + b'"}',
    "a list as message": b'{"name":"PACKAGE_EXPIRE","packageId":"pkg-1","message":["a","b"]}',
    "a repeated member": b'{"name":"A","name":"B","packageId":"pkg-1"}',
    "NaN": b'{"name":"PACKAGE_EXPIRE","packageId":"pkg-1","n":NaN}',
    "deep nesting": b'{"name":"PACKAGE_EXPIRE","packageId":"pkg-1","deep":' + b"[" * 30 + b"]" * 30 + b"}",
    "Latin-1": '{"name":"PACKAGE_EXPIRE","packageId":"pkg-1","message":"é"}'.encode("latin-1"),
    "UTF-16": '{"name":"PACKAGE_EXPIRE","packageId":"pkg-1"}'.encode("utf-16"),
    "an end inside a date": b'{"name":"PACKAGE_EXPIRE","packageId":"pkg-1","createdDate":"2026-',
    "garbage after it": b'{"name":"PACKAGE_EXPIRE","packageId":"pkg-1"}garbage',
    "an array": b'[{"name":"PACKAGE_EXPIRE","packageId":"pkg-1"}]',
}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with both passwords of the dashboard."""
    return with_passwords(settings)


@pytest.fixture
def handlers(handlers: Handlers) -> Handlers:
    """A registry with a handler for all events, which notes the names of events."""
    handlers.seen = []  # type: ignore[attr-defined]

    @handlers.on("*")
    def note(event: Any, package: Any) -> None:
        handlers.seen.append(event.name)  # type: ignore[attr-defined]

    return handlers


@pytest.fixture
def refuse(service: Any) -> Any:
    """Store bodies in the journal as an earlier version did, which could not read them. Returns their journal ids."""

    def refuse(*bodies: bytes) -> list[int]:
        entries = [Entry("callback", NOON, body, key="test", error="createdDate is not a text") for body in bodies]
        with service.database.write() as connection:
            return journal.add(connection, entries)

    return refuse


@pytest.fixture
def rows(service: Any) -> Any:
    """The state, package and error of each journal row."""

    def rows() -> list[tuple[Any, ...]]:
        with service.database.read() as connection:
            found = connection.execute(select(Journal.state, Journal.package_id, Journal.error).order_by(Journal.id))
            return [tuple(row) for row in found]

    return rows


@on_both
@pytest.mark.parametrize("body", UNUSUAL.values(), ids=UNUSUAL)
def test_law_2_unusual_callback_is_an_event_and_fetches_its_package(service, post, handlers, clock, rows, body):
    """A callback that names a package is stored and given to "*", and the package is fetched although it is known."""
    digest = Digest(service.database, handlers, clock=clock, can_fetch=True)
    shown = json.dumps(package("EXPIRED")).encode()
    with service.database.write() as connection:
        journal.add(connection, [Entry("snapshot", NOON, shown, package_id="pkg-1", read_at=NOON, emit="none")])
    digest.turn()

    answer = post(body)
    digest.turn()

    with service.database.read() as connection:
        row = connection.execute(select(*Journal.__table__.c).order_by(Journal.id.desc()).limit(1)).one()
        wanted = connection.execute(select(Fetch.package_id, Fetch.reason)).all()
    assert (answer.status_code, answer.json) == (200, {"callback": row.id})
    assert (bytes(row.body), row.package_id, row.error) == (body, "pkg-1", None)
    assert row.event_id is not None
    assert wanted == [("pkg-1", "unread")]


@pytest.mark.parametrize(
    ("members", "status_at"),
    [
        ({"createdDate": 1772452800000}, "2026-03-02T12:00:00Z"),
        ({"createdDate": "Mon Mar 02 12:00:00 UTC 2026"}, "2026-03-02T12:00:00Z"),
        ({"message": {"name": "id.pdf"}}, "2026-03-02T12:00:00Z"),
        ({"documentId": 3}, "2026-03-02T12:00:00Z"),
        ({"sessionUser": {"id": CLEO}}, "2026-03-02T12:00:00Z"),
        ({"createdDate": None}, "2026-03-02T13:00:00Z"),
        ({"createdDate": "yesterday"}, "2026-03-02T13:00:00Z"),
    ],
)
def test_unusual_member_does_not_hide_the_event(post, work, read, clock, handlers, members, status_at):
    """A callback that names its event and package is understood, whatever another member is."""
    clock.forward(HOUR)

    assert post(callback("PACKAGE_ACTIVATE", **members)).status_code == 200
    work()

    shown = read("/api/packages/pkg-1")
    assert (shown["status"], shown["status_at"]) == ("SENT", status_at)
    (event,) = read("/api/events")["items"]
    assert event["extra"] == {name: value for name, value in members.items() if value is not None}
    assert handlers.seen == ["PACKAGE_ACTIVATE"]


def test_law_10_callback_without_a_name_is_shown_and_claims_nothing(post, work, read, handlers, send_callback):
    """An event without a name is shown as unknown, given to "*", and leaves the package as it is."""
    send_callback("PACKAGE_COMPLETE")
    work()
    before = read("/api/packages/pkg-1")

    post({"packageId": "pkg-1", "createdDate": "2026-03-02T12:30:00Z"})
    work()

    assert read("/api/events")["items"][0]["name"] == "UNKNOWN"
    (shown,) = read("/api/callbacks", state="unknown")["items"]
    assert shown["event_name"] == "UNKNOWN"
    assert shown["understood"] == {
        "name": "UNKNOWN",
        "package_id": "pkg-1",
        "session_user": None,
        "document_id": None,
        "message": None,
        "happened_at": "2026-03-02T12:30:00Z",
        "extra": {},
    }
    assert handlers.seen == ["PACKAGE_COMPLETE", "UNKNOWN"]
    assert read("/api/packages/pkg-1")["status"] == before["status"]


@pytest.mark.parametrize("sent", [" pkg-1= ", "pkg-1%3D", "pkg-1%3d", "pkg-1=\t"])
def test_package_id_in_another_form_is_the_same_package(post, send_callback, work, read, flask, sent):
    """A callback whose package id is padded or percent-encoded is about the package with the true id."""
    send_callback("PACKAGE_ACTIVATE", package="pkg-1=")
    post(callback("PACKAGE_COMPLETE", NOON + HOUR, packageId=sent))
    work()

    assert [shown["id"] for shown in read("/api/packages")["items"]] == ["pkg-1="]
    assert read("/api/packages/pkg-1=")["status"] == "COMPLETED"
    assert flask("rebuild", "--check").exit_code == 0


def test_law_3_repeat_across_an_upgrade_runs_no_handler(service, post, work, handlers, read, flask):
    """A callback that an earlier version stored under a percent-encoded id stays that package's after an upgrade."""
    post(callback("PACKAGE_ACTIVATE", packageId="pkg-1%3D"))
    with service.database.write() as connection:
        connection.execute(update(Journal).values(package_id="pkg-1%3D"))
    work()

    post(callback("PACKAGE_ACTIVATE", packageId="pkg-1%3D"))
    work()

    assert handlers.seen == ["PACKAGE_ACTIVATE"]
    assert [event["package_id"] for event in read("/api/events")["items"]] == ["pkg-1%3D"]
    assert flask("rebuild", "--check").exit_code == 0


READABLE = json.dumps(callback("PACKAGE_COMPLETE", createdDate=1772452800000)).encode()
UNNAMED = b'{"name":"PACKAGE_COMPLETE"}'


@on_both
def test_unreadable_callbacks_are_read_again(refuse, rows, work, read, clock, flask, handlers):
    """`flask replay --unreadable` digests what this version can read, with its time of arrival, and says why not."""
    refuse(READABLE, UNNAMED)
    clock.forward(HOUR)

    dry_run = flask("replay", "--unreadable", "--dry-run")
    before = rows()
    replay = flask("replay", "--unreadable")
    work()
    again = flask("replay", "--unreadable")

    reason = "Callback 2 names no package: there is no packageId\n"
    assert dry_run.output == f"{reason}1 of 2 unreadable callbacks would be digested.\n"
    assert [state for state, _, _ in before] == ["unreadable", "unreadable"]
    assert replay.output == f"{reason}1 of 2 unreadable callbacks will be digested.\n"
    assert again.output == f"{reason}0 of 1 unreadable callback will be digested.\n"
    assert rows() == [("digested", "pkg-1", None), ("unreadable", None, "there is no packageId")]
    assert read("/api/packages/pkg-1")["status"] == "COMPLETED"
    assert read("/api/events")["items"][0]["first_received_at"] == "2026-03-02T12:00:00Z"
    assert handlers.seen == ["PACKAGE_COMPLETE"]
    assert flask("rebuild", "--check").exit_code == 0


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress, lambda body: zlib.compress(body, wbits=-15)])
def test_compressed_body_is_read_again(refuse, rows, work, read, flask, *, compress):
    """A body that an earlier version stored compressed is read, and the journal then has it as plain JSON."""
    refuse(compress(READABLE), compress(UNNAMED), compress(READABLE + b" " * MAX_BODY_BYTES))

    flask("replay", "--unreadable")
    work()

    assert [state for state, _, _ in rows()] == ["digested", "unreadable", "unreadable"]
    assert read("/api/packages/pkg-1")["status"] == "COMPLETED"
    assert read("/api/callbacks")["items"][-1]["body"] == READABLE.decode()


@on_both
def test_every_callback_of_an_unreadable_body_is_read_again(refuse, rows, work, read, flask, handlers):
    """A body of several callbacks, which an earlier version refused as a whole, becomes several rows."""
    bodies = [json.loads(READABLE), {**json.loads(READABLE), "packageId": "pkg-2"}, json.loads(UNNAMED)]
    refuse(json.dumps(bodies).encode())

    output = flask("replay", "--unreadable").output
    work()

    assert "1 of 2 unreadable callbacks will be digested." in output
    reason = "there is no packageId"
    assert rows() == [("digested", "pkg-1", None), ("digested", "pkg-2", None), ("unreadable", None, reason)]
    assert [event["first_received_at"] for event in read("/api/events")["items"]] == ["2026-03-02T12:00:00Z"] * 2
    assert handlers.seen == ["PACKAGE_COMPLETE"] * 2
    assert flask("rebuild", "--check").exit_code == 0


def test_body_that_is_too_large_stays_unreadable_with_its_reason(refuse, rows, flask):
    """A body that is too large once it is decompressed is reported each time, and its row says why."""
    refuse(gzip.compress(READABLE + b" " * MAX_BODY_BYTES))

    first, again = (flask("replay", "--unreadable").output for _ in range(2))

    reason = "it has more than 65536 bytes"
    assert rows() == [("unreadable", None, reason)]
    assert first == again
    assert first == f"Callback 1 names no package: {reason}\n0 of 1 unreadable callback will be digested.\n"


def test_many_unreadable_callbacks_are_read_again(refuse, rows, flask, work):
    """More callbacks than fit into one transaction are read again."""
    refuse(*(READABLE.replace(b"pkg-1", b"pkg-%d" % number) for number in range(230)), *[UNNAMED] * 3)

    assert "230 of 233 unreadable callbacks will be digested." in flask("replay", "--unreadable").output
    work()

    assert [state for state, _, _ in rows()].count("digested") == 230


@pytest.mark.parametrize("more", [("--set-aside",), ("--missing",), ("--event", "PACKAGE_COMPLETE")])
def test_reading_again_is_not_combined_with_filters(flask, more):
    """`flask replay --unreadable` reads all unreadable callbacks, so a filter is an error."""
    assert flask("replay", "--unreadable", *more).exit_code == 2


def test_reading_again_is_recorded(refuse, send_callback, work, read, flask, monkeypatch):
    """The history of a known package and the log name the person who read a callback again."""
    monkeypatch.setattr(getpass, "getuser", lambda: "cleo")
    send_callback("PACKAGE_ACTIVATE")
    work()
    (journal_id,) = refuse(READABLE)

    with capture_logs() as lines:
        flask("replay", "--unreadable")

    change = read("/api/packages/pkg-1/history")["items"][-1]
    assert (change["attribute"], change["new"], change["cause"]) == (
        "reread",
        journal_id,
        {"kind": "person", "id": "cli:cleo"},
    )
    assert {"event": "callback.read_again", "package_id": "pkg-1", "by": "cli:cleo"}.items() <= lines[0].items()


def test_page_reads_one_callback_again(client, refuse, rows, work, read):
    """The page of an unreadable callback has a button that reads it again, and the history names the user."""
    readable, unnamed = refuse(READABLE, UNNAMED)
    log_in(client, name="Mia")
    page = client.get(f"/callbacks/{readable}").text
    token = token_in(page)

    first = client.post(f"/callbacks/{readable}/read", data={"csrf_token": token})
    second = client.post(f"/callbacks/{unnamed}/read", data={"csrf_token": token}, follow_redirects=True)
    work()

    assert f'action="/callbacks/{readable}/read"' in page
    assert (first.status_code, first.location) == (303, f"/callbacks/{readable}")
    assert "The request still names no transaction." in second.text
    assert [state for state, _, _ in rows()] == ["digested", "unreadable"]
    assert "Read again" not in client.get(f"/callbacks/{readable}").text


def test_page_reads_all_unreadable_callbacks_again(client, refuse, send_callback, work, rows):
    """The list of unreadable callbacks has a button that reads all of them again, recorded in the history."""
    send_callback("PACKAGE_ACTIVATE")
    work()
    refuse(READABLE, UNNAMED)
    log_in(client, name="Mia")
    page = client.get("/callbacks?state=unreadable").text

    answer = client.post("/callbacks/read", data={"csrf_token": token_in(page)}, follow_redirects=True)
    work()

    assert 'action="/callbacks/read"' in page
    assert 'action="/callbacks/read"' not in client.get("/callbacks").text
    assert "1 of 2 unreadable callbacks queued for processing." in answer.text
    assert [state for state, _, _ in rows()] == ["digested", "digested", "unreadable"]
    assert "Mia read callback 2 again" in client.get("/transactions/pkg-1").text


def test_only_users_with_full_access_read_callbacks_again(client, refuse, rows):
    """A view-only user has no button, and a form without a valid token changes nothing."""
    refuse(READABLE)
    log_in(client, VIEW_ONLY_PASSWORD)
    token = token_in(client.get("/").text)

    assert 'action="/callbacks/read"' not in client.get("/callbacks?state=unreadable").text
    assert "Read again" not in client.get("/callbacks/1").text
    for path in ("/callbacks/read", "/callbacks/1/read"):
        assert client.post(path, data={"csrf_token": token}).status_code == 403
    mia = client.application.test_client()
    log_in(mia, name="Mia")
    for path in ("/callbacks/read", "/callbacks/1/read"):
        mia.post(path)
    assert [state for state, _, _ in rows()] == ["unreadable"]
