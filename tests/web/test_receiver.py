"""The receiver of callbacks: its authentication, what it stores, and its answers."""

import gzip
import json
import socket
import threading
import zlib
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
from app.handling import Handlers
from app.store.models import Journal
from config import Settings
from tests.conftest import CLEO, KEY, NOON, Clock, on_sqlite, onespan_time

MAX_BODY_BYTES = 65536
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
def post_with_keys(settings: Settings, tmp_path: Any) -> Iterator[Callable[..., Any]]:
    """Post a callback to a receiver with other keys: `post_with_keys(keys, header)` returns the status."""
    apps: list[Flask] = []

    def post_with_keys(keys: str, header: str | None) -> int:
        given = Settings(
            database_url=settings.database_url.get_secret_value(),
            onespan_callback_keys=keys,
            spool_dir=tmp_path / "spool",
        )
        app = create_app(given, handlers=Handlers(), clock=Clock())
        apps.append(app)
        headers = {} if header is None else {"Authorization": header}
        return app.test_client().post("/onespan/callback", data=BODY, headers=headers).status_code

    yield post_with_keys
    for app in apps:
        app.extensions[EXTENSION].database.close()


@pytest.fixture
def address(app: Flask) -> Iterator[tuple[str, int]]:
    """The host and port of a real HTTP server that serves the app."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield "127.0.0.1", server.server_port
    server.shutdown()
    thread.join(5)
    server.server_close()


def on_the_wire(header: str) -> str:
    """An HTTP header as WSGI passes it: its UTF-8 bytes decoded as latin-1."""
    return header.encode().decode("latin-1")


def assert_refused(answer: Any, status: int, code: str) -> None:
    """Assert that an answer is an error with the given status and code; all errors have the same format."""
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/json"
    assert set(answer.json) == {"error"}
    assert set(answer.json["error"]) == {"code", "message"}
    assert answer.json["error"]["code"] == code
    assert answer.json["error"]["message"]


def test_law_1_acknowledged_callback_is_in_the_journal_byte_for_byte(post, journal):
    """The answer to a callback has the id of its journal row, and the row has the raw body."""
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
        "Basic OnRoZS1jYWxsYmFjay1rZXk=",  # the key as the password of an empty user name
    ],
)
def test_law_2_request_without_a_valid_key_is_401(post, journal, header):
    """A callback without a valid key gets 401 and leaves no row in the journal."""
    answer = post(BODY, authorization=header)

    assert_refused(answer, 401, "not_onespan")
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert journal() == []


@on_sqlite
@pytest.mark.parametrize("header", [f"Basic {KEY}", f"basic {KEY}", f"BASIC   {KEY}", f"Basic {KEY}  "])
def test_scheme_is_case_insensitive(post, header):
    """The authentication scheme is case-insensitive, as HTTP defines it, and blanks around the key are ignored."""
    assert post(BODY, authorization=header).status_code == 200


@on_sqlite
@pytest.mark.parametrize(
    ("keys", "sent"),
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
def test_any_text_can_be_a_key(post_with_keys, keys, sent):
    """Any text can be a callback key, because OneSpan sends the key exactly as an administrator entered it."""
    assert post_with_keys(keys, on_the_wire(f"Basic {sent}")) == 200
    assert post_with_keys(keys, on_the_wire(f"Basic {sent}x")) == 401
    assert post_with_keys(keys, on_the_wire(f"Basic x{sent}")) == 401


@on_sqlite
@pytest.mark.parametrize("sent", ["the-key", "Basic the-key"])
def test_key_that_was_pasted_with_its_scheme_is_accepted(post_with_keys, sent):
    """A key in the settings may begin with `Basic `, whether or not the key in OneSpan does."""
    assert post_with_keys("prod=Basic the-key", f"Basic {sent}") == 200
    assert post_with_keys("prod=Basic the-key", f"Basic {sent}x") == 401
    assert post_with_keys("prod=the-key", "Basic Basic the-key") == 401


def test_law_11_every_key_is_accepted_and_the_row_has_its_label(app, settings, tmp_path, journal):
    """During a key change the old and the new key are both valid, and the journal has the label of the used key."""
    keys = "new=first-key,old=second-key,third-key"
    url = settings.database_url.get_secret_value()
    given = Settings(database_url=url, onespan_callback_keys=keys, spool_dir=tmp_path / "spool")
    other = create_app(given, handlers=Handlers(), clock=Clock())

    answers = [
        other.test_client().post("/onespan/callback", data=BODY, headers={"Authorization": f"Basic {key}"}).status_code
        for key in ("third-key", "first-key", "second-key", "first-key,second-key", "fourth-key", "new=first-key")
    ]
    other.extensions[EXTENSION].database.close()

    assert answers == [200, 200, 200, 401, 401, 401]
    assert [row.key for row in journal()] == ["key-3", "new", "old"]


@on_sqlite
@pytest.mark.parametrize("keys", ["", " ", ",", " , ,", "\t"])
def test_law_2_blank_key_setting_refuses_every_request(post_with_keys, keys):
    """A setting with only blank callback keys refuses every request, even a request with a blank header."""
    for header in (None, "", "Basic", "Basic ", "Basic ,", "Basic key-1", "Basic None", "Bearer "):
        assert post_with_keys(keys, header) == 401, header


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
def test_content_type_is_ignored(post, journal, content_type):
    """The receiver ignores the content type of a callback, because a proxy may change it."""
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
        (b'[{"name":"A"},{"name":"B"}]', "not a JSON object"),
        (b"{}", "there is no packageId"),
        (b'{"name":"PACKAGE_CREATE"}', "there is no packageId"),
        (b'{"name":"PACKAGE_CREATE","packageId":null}', "there is no packageId"),
        (b'{"name":"PACKAGE_CREATE","packageId":""}', "there is no packageId"),
        (b'{"name":"PACKAGE_CREATE","packageId":" "}', "packageId is blank"),
        (b'{"name":"A","packageId":["p","q"]}', "packageId is not a text"),
        (b'{"name":"A","packageId":"p\\u0000q"}', "packageId has characters that are not allowed in an id"),
        (b'{"name":"A","packageId":"' + b"p" * 256 + b'"}', "packageId is longer than 255"),
        (b'{"name":"A","packageId":"p', "not JSON"),
        (b"[" * 60000, "is nested too deeply"),
    ],
)
def test_law_2_callback_without_a_package_is_400_and_kept_with_the_reason(post, journal, work, body, reason):
    """A callback that names no package gets 400, but its bytes and the reason are in the journal."""
    answer = post(body)
    work()

    (row,) = journal()
    assert_refused(answer, 400, "unreadable_callback")
    assert reason in answer.json["error"]["message"]
    assert reason in row.error
    assert (bytes(row.body), row.key, row.package_id, row.event_id) == (body, "test", None, None)
    assert row.digested_at is not None


@on_sqlite
def test_array_of_callbacks_is_one_row_each(post, journal, work, read):
    """An array of several callbacks is stored as one row each, including those that name no package."""
    answer = post(b"[%b, %b, {}]" % (BODY, BODY.replace(b"pkg-1", b"pkg-2")))
    work()

    assert (answer.status_code, answer.json) == (200, {"callback": journal()[0].id})
    assert [(row.package_id, row.error) for row in journal()] == [
        ("pkg-1", None),
        ("pkg-2", None),
        (None, "there is no packageId"),
    ]
    assert {event["package_id"] for event in read("/api/events")["items"]} == {"pkg-1", "pkg-2"}


def raw_deflate(body: bytes) -> bytes:
    """Compress a body without the header of zlib."""
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(body) + compressor.flush()


COMPRESSED = [
    ("gzip", gzip.compress(BODY)),
    ("x-gzip", gzip.compress(BODY)),
    ("GZIP", gzip.compress(BODY)),
    ("deflate", zlib.compress(BODY)),
    ("deflate", raw_deflate(BODY)),
    ("deflate, gzip", gzip.compress(zlib.compress(BODY))),
    ("", gzip.compress(BODY)),
    ("", zlib.compress(BODY)),
    ("gzip", zlib.compress(BODY)),
    ("gzip", raw_deflate(BODY)),
    ("deflate", gzip.compress(BODY)),
    ("gzip", gzip.compress(BODY[:30]) + gzip.compress(BODY[30:])),
    ("gzip", gzip.compress(BODY)[:-4]),  # breaks off inside the checksum
    ("gzip", gzip.compress(BODY)[:-8] + b"checksum"),
    ("gzip", gzip.compress(BODY) + b"garbage"),
    ("gzip", BODY),
    ("deflate", BODY),
    ("identity", BODY),
    ("br", BODY),
]


@on_sqlite
@pytest.mark.parametrize(("encoding", "sent"), COMPRESSED)
def test_compressed_body_is_stored_as_the_json_that_it_contains(post, journal, encoding, sent):
    """The journal has a compressed body as plain JSON; a body that is not compressed, whatever it says, is kept."""
    answer = post(sent, environ_overrides={"HTTP_CONTENT_ENCODING": encoding})

    assert answer.status_code == 200
    assert [(bytes(row.body), row.package_id) for row in journal()] == [(BODY, "pkg-1")]


@on_sqlite
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_law_2_broken_compressed_body_is_400_and_kept(post, journal, encoding):
    """A compressed body that breaks off gets 400, and the journal keeps it as received."""
    sent = (gzip.compress(BODY) if encoding == "gzip" else raw_deflate(BODY))[:20]

    answer = post(sent, environ_overrides={"HTTP_CONTENT_ENCODING": encoding})

    (row,) = journal()
    assert_refused(answer, 400, "unreadable_callback")
    assert bytes(row.body) == sent
    assert row.error in answer.json["error"]["message"]


@on_sqlite
@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_limit_holds_for_the_decompressed_body(post, journal, encoding, compress):
    """A small compressed body that expands beyond the limit gets 413, and one that just fits is stored."""
    largest = BODY + b" " * (MAX_BODY_BYTES - len(BODY))
    header = {"HTTP_CONTENT_ENCODING": encoding}

    accepted = post(compress(largest), environ_overrides=header)
    refused = post(compress(largest + b" "), environ_overrides=header)
    bomb = post(compress(b" " * 50_000_000), environ_overrides=header)

    assert accepted.status_code == 200
    assert_refused(refused, 413, "request_entity_too_large")
    assert_refused(bomb, 413, "request_entity_too_large")
    assert [bytes(row.body) for row in journal()] == [largest]


def test_largest_accepted_body_has_65536_bytes(post, journal):
    """A body of more than 65,536 bytes is not kept, and the answer and the log contain the limit."""
    largest = BODY + b" " * (MAX_BODY_BYTES - len(BODY))

    assert post(largest).status_code == 200
    with capture_logs() as lines:
        refused = post(largest + b" ")

    assert_refused(refused, 413, "request_entity_too_large")
    assert "65536 bytes" in refused.json["error"]["message"]
    assert [(line["event"], line["limit"]) for line in lines] == [("callback.too_large", 65536)]
    assert [bytes(row.body) for row in journal()] == [largest]


@on_sqlite
def test_law_2_missing_key_is_reported_before_a_large_body(post, journal):
    """The receiver checks the key before it reads the body, so a large body without a valid key gets 401."""
    assert_refused(post(b"x" * (MAX_BODY_BYTES + 1), authorization="Basic no"), 401, "not_onespan")
    assert journal() == []


@on_sqlite
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD"])
def test_receiver_accepts_post_only(client, journal, method):
    """The callback endpoint answers any method other than POST with 405 and an `Allow` header."""
    answer = client.open("/onespan/callback", method=method, headers={"Authorization": f"Basic {KEY}"}, data=BODY)

    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]
    if method != "HEAD":
        assert_refused(answer, 405, "method_not_allowed")
    assert journal() == []


def test_law_2_503_only_when_neither_database_nor_spool_can_keep_it(service, post, settings, journal):
    """If neither database nor spool can keep a callback, the answer is 503, never a 4xx or an acknowledgement."""
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


def test_law_2_unreadable_callback_is_spooled_with_the_reason(service, post, journal):
    """An unreadable callback gets 400 and is kept, even while the database is down."""
    with service.database.write() as connection:
        connection.execute(text("ALTER TABLE journal RENAME TO hidden"))
    answer = post(b"{}")
    with service.database.write() as connection:
        connection.execute(text("ALTER TABLE hidden RENAME TO journal"))
    service.intake.drain()

    (row,) = journal()
    assert_refused(answer, 400, "unreadable_callback")
    assert (bytes(row.body), row.key, row.error) == (b"{}", "test", "there is no packageId")


def test_law_1_spooled_callback_is_deleted_only_once_it_is_in_the_journal(service, post, journal):
    """A spooled callback stays in the spool while the journal refuses its row, for any reason."""
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


def test_law_11_no_table_contains_a_callback_key(service, post, send_callback, work):
    """No table contains a callback key; the journal has only the label of the key."""
    send_callback("PACKAGE_ACTIVATE")
    post(b"unreadable")
    work()

    with service.database.read() as connection:
        for table in Journal.metadata.sorted_tables:
            for row in connection.execute(select(table)):
                assert KEY not in repr(tuple(row)), table.name


def test_received_at_comes_from_the_service_clock(send_callback, journal, clock):
    """The time of receipt comes from the service's clock and keeps its microseconds."""
    clock.forward(timedelta(microseconds=123456))
    send_callback("PACKAGE_ACTIVATE")

    assert journal()[0].received_at == NOON + timedelta(microseconds=123456)


def send(address: tuple[str, int], head: list[str], parts: list[bytes]) -> tuple[int, dict[str, Any]]:
    """Send a raw HTTP request. Returns the status and the JSON of the answer."""
    with socket.create_connection(address, timeout=10) as connection:
        lines = ["POST /onespan/callback HTTP/1.1", "Host: localhost", "Connection: close", *head, "", ""]
        connection.sendall("\r\n".join(lines).encode())
        try:
            for part in parts:
                connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
            received = b"".join(iter(lambda: connection.recv(65536), b""))
        except (BrokenPipeError, ConnectionResetError):  # the server answered before it had read the whole body
            received = connection.recv(65536)
    status, _, rest = received.partition(b"\r\n")
    return int(status.split()[1]), json.loads(rest.partition(b"\r\n\r\n")[2])


def chunked(body: bytes, size: int = 8000) -> list[bytes]:
    """A body in chunks, as HTTP/1.1 sends a body of unknown length."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n\r\n"]


CHUNKED = [f"Authorization: Basic {KEY}", "Transfer-Encoding: chunked"]


def test_law_1_chunked_body_is_kept_whole(address, journal):
    """The journal keeps a chunked body whole, because a sender or a proxy may omit the length."""
    largest = BODY + b" " * (MAX_BODY_BYTES - len(BODY))

    small_answer = send(address, CHUNKED, chunked(BODY, 10))
    large_answer = send(address, CHUNKED, chunked(largest))

    assert [small_answer[0], large_answer[0]] == [200, 200]
    assert [bytes(row.body) for row in journal()] == [BODY, largest]


def test_law_2_too_large_chunked_body_is_refused_not_cut(address, journal):
    """A chunked body that is too large is refused: its first 65,536 bytes are not the callback that was sent."""
    status, answer = send(address, CHUNKED, chunked(BODY + b" " * (MAX_BODY_BYTES + 1 - len(BODY))))

    assert (status, answer["error"]["code"]) == (413, "request_entity_too_large")
    assert journal() == []


@on_sqlite
def test_law_2_large_body_without_a_key_is_401_on_a_real_server(address, journal):
    """On a real server, a request without a valid key gets 401, whatever the size of its body."""
    head = ["Authorization: Basic no", f"Content-Length: {MAX_BODY_BYTES * 4}"]

    status, answer = send(address, head, [b"x" * MAX_BODY_BYTES] * 4)

    assert (status, answer["error"]["code"]) == (401, "not_onespan")
    assert journal() == []
