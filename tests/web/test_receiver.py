"""The door: who comes in, what is taken, and what is answered."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError
from structlog.testing import capture_logs
from werkzeug.serving import make_server

from app import EXTENSION, Service, create_app
from app.store.models import Journal
from app.work.dispatch import Handlers
from config import Settings
from tests.conftest import CLEO, KEY, NOON, Clock, on_sqlite, onespan_time

LIMIT = 65536  # bytes the door takes
CALLBACK = {"name": "PACKAGE_ACTIVATE", "packageId": "pkg-1", "sessionUser": CLEO, "createdDate": onespan_time(NOON)}
BODY = json.dumps(CALLBACK).encode()


@pytest.fixture
def journal(service: Service) -> Callable[[], list[Any]]:
    """All journal rows, oldest first."""

    def journal() -> list[Any]:
        with service.database.read() as connection:
            return list(connection.execute(select(*Journal.__table__.c).order_by(Journal.id)))

    return journal


@pytest.fixture
def door_with(settings: Settings, tmp_path: Any) -> Iterator[Callable[..., Any]]:
    """Post to a door with other keys: `door_with(keys, header)` gives the status."""
    made: list[Flask] = []

    def door_with(keys: str, header: str | None) -> int:
        given = Settings(
            database_url=settings.database_url.get_secret_value(),
            onespan_callback_keys=keys,
            spool_dir=tmp_path / "spool",
        )
        app = create_app(given, handlers=Handlers(), clock=Clock())
        made.append(app)
        headers = {} if header is None else {"Authorization": header}
        return app.test_client().post("/onespan/callback", data=BODY, headers=headers).status_code

    yield door_with
    for app in made:
        app.extensions[EXTENSION].database.close()


@pytest.fixture
def address(app: Flask) -> Iterator[tuple[str, int]]:
    """Where a real server with our app listens."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield "127.0.0.1", server.server_port
    server.shutdown()
    thread.join(5)
    server.server_close()


def on_the_wire(header: str) -> str:
    """A header as WSGI hands it over: its UTF-8 bytes read as latin-1."""
    return header.encode().decode("latin-1")


def assert_refused(answer: Any, status: int, code: str) -> None:
    """Every refusal has one shape."""
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/json"
    assert set(answer.json) == {"error"}
    assert set(answer.json["error"]) == {"code", "message"}
    assert answer.json["error"]["code"] == code
    assert answer.json["error"]["message"]


def test_law_1_what_is_answered_with_200_stands_in_the_journal_byte_for_byte(post, journal):
    """The answer names the journal row, and the row holds what came."""
    body = b'\n {"packageId" : "pkg-1",\t"name":"PACKAGE_ACTIVATE" , "message":"\xc3\xa9\\u0000"}  '

    answer = post(body)

    (row,) = journal()
    assert (answer.status_code, answer.json) == (200, {"callback": row.id})
    assert (row.kind, bytes(row.body), row.key, row.package_id) == ("callback", body, "test", "pkg-1")
    assert (row.received_at, row.error, row.digested_at) == (NOON, None, None)


@on_sqlite
@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        " ",
        "Basic",
        "Basic ",
        "Basic  ",
        "Basic not-the-key",
        f"Basic {KEY}x",
        f"Basic x{KEY}",
        f"Basic {KEY.upper()}",
        f"Basic {KEY[:-1]}",
        f"Basic test={KEY}",
        f"Bearer {KEY}",
        f"Basic{KEY}",
        KEY,
        "Basic dGhlLWNhbGxiYWNrLWtleQ==",  # the key in base64, which OneSpan does not send
        "Basic OnRoZS1jYWxsYmFjay1rZXk=",  # the key as a password
    ],
)
def test_law_2_nobody_comes_in_without_a_key(post, journal, header):
    """Whoever carries none of our keys is told so, and leaves no trace."""
    answer = post(BODY, authorization=header)

    assert_refused(answer, 401, "not_onespan")
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert journal() == []


@on_sqlite
@pytest.mark.parametrize("header", [f"Basic {KEY}", f"basic {KEY}", f"BASIC   {KEY}", f"Basic {KEY}  "])
def test_the_scheme_may_be_written_in_any_case(post, header):
    """HTTP says that a scheme has no case, and blanks around a key mean nothing."""
    assert post(BODY, authorization=header).status_code == 200


@on_sqlite
@pytest.mark.parametrize(
    ("keys", "carried"),
    [
        ("c2VjcmV0LXNlY3JldA==", "c2VjcmV0LXNlY3JldA=="),
        ("prod=c2VjcmV0LXNlY3JldA==", "c2VjcmV0LXNlY3JldA=="),
        ("prod=with=equals=inside", "with=equals=inside"),
        ("a key with blanks", "a key with blanks"),
        ("prod=ключ", "ключ"),
        ("prod=clef-déjà-vu", "clef-déjà-vu"),
        ("prod=voilà", "voilà"),
        ("prod=blåbærÅ", "blåbærÅ"),
        ("user:password", "user:password"),
    ],
)
def test_any_key_that_onespan_can_be_given_opens_the_door(door_with, keys, carried):
    """OneSpan sends whatever an administrator typed, as it is."""
    assert door_with(keys, on_the_wire(f"Basic {carried}")) == 200
    assert door_with(keys, on_the_wire(f"Basic {carried}x")) == 401
    assert door_with(keys, on_the_wire(f"Basic x{carried}")) == 401


def test_law_11_every_key_is_compared_and_the_row_has_its_label(app, settings, tmp_path, journal):
    """While a key is changed the old and the new one both open; the journal says which came."""
    keys = "new=first-key,old=second-key,third-key"
    url = settings.database_url.get_secret_value()
    given = Settings(database_url=url, onespan_callback_keys=keys, spool_dir=tmp_path / "spool")
    door = create_app(given, handlers=Handlers(), clock=Clock())

    answers = [
        door.test_client().post("/onespan/callback", data=BODY, headers={"Authorization": f"Basic {key}"}).status_code
        for key in ("third-key", "first-key", "second-key", "first-key,second-key", "fourth-key", "new=first-key")
    ]
    door.extensions[EXTENSION].database.close()

    assert answers == [200, 200, 200, 401, 401, 401]
    assert [row.key for row in journal()] == ["key-3", "new", "old"]


@on_sqlite
@pytest.mark.parametrize("keys", ["", " ", ",", " , ,", "\t"])
def test_law_2_a_blank_key_setting_authenticates_nobody(door_with, keys):
    """Blank entries are nobody's key, least of all that of a blank header."""
    for header in (None, "", "Basic", "Basic ", "Basic ,", "Basic key-1", "Basic None", "Bearer "):
        assert door_with(keys, header) == 401, header


@on_sqlite
@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "text/plain",
        "application/json",
        "application/json; charset=utf-8",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "nonsense",
    ],
)
def test_the_content_type_says_nothing(post, journal, content_type):
    """Whatever a proxy makes of it: a body that can be read is read."""
    assert post(BODY, content_type=content_type).status_code == 200
    assert bytes(journal()[-1].body) == BODY


@on_sqlite
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"not json", "not JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'"PACKAGE_CREATE"', "not a JSON object"),
        (b"{}", "there is no name"),
        (b'{"name":"PACKAGE_CREATE"}', "there is no packageId"),
        (b'{"name":"PACKAGE_CREATE","packageId":null}', "there is no packageId"),
        (b'{"name":"PACKAGE_CREATE","packageId":""}', "there is no packageId"),
        (b'{"name":"","packageId":"p"}', "there is no name"),
        (b'{"name":7,"packageId":"p"}', "name is not a text"),
        (b'{"name":"A","packageId":["p"]}', "packageId is not a text"),
        (b'{"name":"A","packageId":"p","createdDate":"yesterday"}', "createdDate is not a date"),
        (b'{"name":"A","packageId":"p","createdDate":1772452800}', "createdDate is not a text"),
        (b'{"name":"A","packageId":"p\\u0000"}', "packageId has characters that no id has"),
        (b'{"name":"A","packageId":"p","documentId":"\\ud800"}', "documentId has characters that no id has"),
        (b'{"name":"A","packageId":"' + b"p" * 256 + b'"}', "packageId is longer than 255"),
        (b'{"name":"' + b"n" * 256 + b'","packageId":"p"}', "name is longer than 255"),
        (b'{"name":"A","name":"B","packageId":"p"}', "twice"),
        (b'{"name":"A","packageId":"p","n":NaN}', "NaN"),
        (b'{"name":"A","packageId":"p","n":-Infinity}', "-Infinity"),
        (b'{"name":"A","packageId":"p","deep":' + b"[" * 30 + b"]" * 30 + b"}", "nests too deep"),
        (b"[" * 60000, "nests too deep"),
    ],
)
def test_law_2_what_cannot_be_read_is_refused_and_kept_with_its_reason(post, journal, work, body, reason):
    """A form we cannot read is 400, but nothing is lost: the bytes and the reason are in the journal."""
    answer = post(body)
    work()

    (row,) = journal()
    assert_refused(answer, 400, "unreadable_callback")
    assert reason in answer.json["error"]["message"]
    assert reason in row.error
    assert (bytes(row.body), row.key, row.package_id, row.event_id) == (body, "test", None, None)
    assert row.digested_at is not None


def test_the_largest_body_that_is_taken_has_65536_bytes(post, journal):
    """One byte more is too large, and is not kept; the answer and the log say how much there may be."""
    largest = BODY + b" " * (LIMIT - len(BODY))

    assert post(largest).status_code == 200
    with capture_logs() as lines:
        refused = post(largest + b" ")

    assert_refused(refused, 413, "request_entity_too_large")
    assert "65536 bytes" in refused.json["error"]["message"]
    assert [(one["event"], one["limit"]) for one in lines] == [("callback.too_large", 65536)]
    assert [bytes(row.body) for row in journal()] == [largest]


@on_sqlite
def test_law_2_who_has_no_key_hears_that_and_not_that_the_body_is_large(post, journal):
    """Who may not come in is told so before anything is read."""
    assert_refused(post(b"x" * (LIMIT + 1), authorization="Basic no"), 401, "not_onespan")
    assert journal() == []


@on_sqlite
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD"])
def test_the_door_takes_post_only(client, journal, method):
    """Any other method is 405 and says which one is meant."""
    answer = client.open("/onespan/callback", method=method, headers={"Authorization": f"Basic {KEY}"}, data=BODY)

    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]
    if method != "HEAD":
        assert_refused(answer, 405, "method_not_allowed")
    assert journal() == []


def test_law_2_503_only_when_neither_database_nor_spool_takes_it(service, post, settings, journal):
    """A fault of ours is never a 4xx, and what is not kept is said not to be."""
    with service.database.write() as connection:
        connection.execute(text("ALTER TABLE journal RENAME TO hidden"))

    spooled = post(BODY)
    spool = settings.spool_dir
    spool.rename(spool.with_name("moved"))
    spool.write_text("a file where the folder should be")
    refused = post(BODY)
    unreadable = post(b"not json")
    spool.unlink()
    spool.with_name("moved").rename(spool)
    with service.database.write() as connection:
        connection.execute(text("ALTER TABLE hidden RENAME TO journal"))
    service.intake.drain()

    assert (spooled.status_code, spooled.json) == (200, {"callback": None})
    assert_refused(refused, 503, "not_kept")
    assert_refused(unreadable, 503, "not_kept")
    assert refused.headers["Retry-After"].isdigit()
    assert [bytes(row.body) for row in journal()] == [BODY]


def test_law_2_an_unreadable_callback_is_spooled_with_its_reason(service, post, journal):
    """While the database is away too, a form we cannot read is 400 and kept."""
    with service.database.write() as connection:
        connection.execute(text("ALTER TABLE journal RENAME TO hidden"))
    answer = post(b"{}")
    with service.database.write() as connection:
        connection.execute(text("ALTER TABLE hidden RENAME TO journal"))
    service.intake.drain()

    (row,) = journal()
    assert_refused(answer, 400, "unreadable_callback")
    assert (bytes(row.body), row.key, row.error) == (b"{}", "test", "there is no name")


def test_law_1_a_spooled_callback_is_forgotten_only_when_the_journal_has_it(service, post, journal):
    """A journal that refuses a row has not taken it, whatever its reason."""
    first, second = BODY, BODY + b" "
    post(first)
    with service.database.write() as connection:
        connection.execute(text("CREATE UNIQUE INDEX refuses ON journal (key)"))

    spooled = post(second)
    with suppress(SQLAlchemyError):
        service.intake.drain()
    with service.database.write() as connection:
        connection.execute(text("DROP INDEX refuses"))
    service.intake.drain()

    assert (spooled.status_code, spooled.json) == (200, {"callback": None})
    assert [bytes(row.body) for row in journal()] == [first, second]


def test_law_11_the_journal_keeps_no_authorization_header(service, post, tell, work):
    """No table has the key in any column, only its label."""
    tell("PACKAGE_ACTIVATE")
    post(b"unreadable")
    work()

    with service.database.read() as connection:
        for table in Journal.metadata.sorted_tables:
            for row in connection.execute(select(table)):
                assert KEY not in repr(tuple(row)), table.name


def test_received_at_is_our_clock(tell, journal, clock):
    """The moment at the door is the caller's clock, with its microseconds."""
    clock.forward(timedelta(microseconds=123456))
    tell("PACKAGE_ACTIVATE")

    assert journal()[0].received_at == NOON + timedelta(microseconds=123456)


def send(address: tuple[str, int], head: list[str], parts: list[bytes]) -> tuple[int, dict[str, Any]]:
    """Speak HTTP with a server by hand; gives the status and the JSON."""
    with socket.create_connection(address, timeout=10) as connection:
        lines = ["POST /onespan/callback HTTP/1.1", "Host: localhost", "Connection: close", *head, "", ""]
        connection.sendall("\r\n".join(lines).encode())
        try:
            for part in parts:
                connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
            received = b"".join(iter(lambda: connection.recv(65536), b""))
        except (BrokenPipeError, ConnectionResetError):  # it answered without reading to the end
            received = connection.recv(65536)
    status, _, rest = received.partition(b"\r\n")
    return int(status.split()[1]), json.loads(rest.partition(b"\r\n\r\n")[2])


def chunked(body: bytes, size: int = 8000) -> list[bytes]:
    """A body in chunks, as HTTP/1.1 sends what it does not know the length of."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n\r\n"]


CHUNKED = [f"Authorization: Basic {KEY}", "Transfer-Encoding: chunked"]


def test_law_1_a_body_in_chunks_is_kept_whole(address, journal):
    """A sender, or a proxy, need not say how long its body is."""
    largest = BODY + b" " * (LIMIT - len(BODY))

    small_answer = send(address, CHUNKED, chunked(BODY, 10))
    large_answer = send(address, CHUNKED, chunked(largest))

    assert [small_answer[0], large_answer[0]] == [200, 200]
    assert [bytes(row.body) for row in journal()] == [BODY, largest]


def test_law_2_a_body_in_chunks_that_is_too_large_is_refused_not_cut(address, journal):
    """The first 65536 bytes of something longer are not what was sent."""
    status, answer = send(address, CHUNKED, chunked(BODY + b" " * (LIMIT + 1 - len(BODY))))

    assert (status, answer["error"]["code"]) == (413, "request_entity_too_large")
    assert journal() == []


@on_sqlite
def test_law_2_a_server_refuses_large_bodies_without_a_key_with_401(address, journal):
    """Through a real server too."""
    head = ["Authorization: Basic no", f"Content-Length: {LIMIT * 4}"]

    status, answer = send(address, head, [b"x" * LIMIT] * 4)

    assert (status, answer["error"]["code"]) == (401, "not_onespan")
    assert journal() == []
