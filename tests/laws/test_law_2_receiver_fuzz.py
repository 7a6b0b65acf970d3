"""Law 2 with random input: the receiver answers as documented and keeps every byte; no body breaks the digest."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select

from app import EXTENSION, Service
from app.handling import Handlers
from app.onespan.callbacks import parse_callback
from app.onespan.event_catalogue import CATALOGUE
from app.store import journal
from app.store.journal import Entry
from app.store.models import Dispatch, Event, Fetch, Journal
from app.web.auth import authenticate
from app.work.digest import Digest
from tests.conftest import KEY, NOON
from tests.support import fixtures
from tests.support.strategies import any_json, examples

# All examples of a test share one database, so no example may affect the next example.
SNAPSHOT = json.dumps(fixtures.package("SENT")).encode()
FUZZ = {"suppress_health_check": [HealthCheck.function_scoped_fixture]}

# Text that may break databases and encoders: NUL, halves of surrogate pairs, characters beyond the BMP.
TEXTS = st.text(st.one_of(st.characters(), st.sampled_from("\0\ud800\udfff\x7f\u2028😀\ufeff")), max_size=300)
NAMES = st.one_of(st.sampled_from([*CATALOGUE, "PACKAGE_READY_FOR_COMPLETION", "PACKAGE_HATCHED"]), TEXTS)
TIMES = st.one_of(
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.sampled_from(
        [
            "0001-01-01T00:00:00.000+14:00",
            "9999-12-31T23:59:59.999999-14:00",
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "2026-01-31",
            "20260131T120000Z",
            "",
        ]
    ),
    TEXTS,
)
NUMBERS = st.one_of(st.integers(), st.integers(10**18, 10**400), st.floats(), st.just(1e308 * 10))
VALUES = any_json(NUMBERS, TEXTS, keys=TEXTS)
IDS = st.one_of(st.sampled_from(["pkg-1", "PKG-1", "x/y=", "%2F", "é"]), TEXTS)
CALLBACKS = st.fixed_dictionaries(
    {"name": NAMES, "packageId": IDS},
    optional={
        "sessionUser": st.one_of(st.none(), IDS, VALUES),
        "documentId": st.one_of(st.none(), IDS, VALUES),
        "message": st.one_of(st.none(), TEXTS, VALUES),
        "createdDate": st.one_of(st.none(), TIMES, VALUES),
        "newRoleId": st.one_of(IDS, VALUES),
        "@class": VALUES,
        "extra": VALUES,
        "\0\ud800": VALUES,
    },
).map(lambda members: json.dumps(members).encode())
RAW = st.one_of(
    st.binary(max_size=400),
    TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.integers(1, 3000).map(lambda depth: b'{"name":"A","packageId":"p","d":' + b"[" * depth + b"]" * depth + b"}"),
    st.integers(1, 6000).map(lambda digits: b'{"name":"A","packageId":"p","n":' + b"9" * digits + b"}"),
    st.integers(1, 400).map(lambda digits: b'{"name":"A","packageId":"p","n":1e' + b"9" * digits + b"}"),
)

# Callbacks in which any member but the package id has any value or is repeated, and which may break off.
MEMBERS = st.sampled_from(["name", "event", "type", "sessionUser", "documentId", "message", "createdDate", "newRoleId"])
JSON_TEXTS = st.one_of(VALUES, TIMES, NAMES, IDS).map(json.dumps) | st.sampled_from(["NaN", "-Infinity", '"\n"'])
MUTATED = st.tuples(
    st.lists(st.tuples(MEMBERS | st.sampled_from(["@class", "x"]), JSON_TEXTS), max_size=8),
    st.sampled_from(['"pkg-1"', '" pkg-1 "', '"pkg%2D1"', '"pkg\\u002d1"', '"pkg-1\\u0000"']),
    st.sampled_from(["}", "", ",}", '}{"packageId":"other"}', "}\0", ',"x":"breaks o', ',"x":[[[']),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
)


def mutated(members: list[tuple[str, str]], package_id: str, end: str, encoding: str) -> bytes:
    """Write the body of a mutated callback."""
    text = ",".join(f'"{name}":{value}' for name, value in [("packageId", package_id), *members])
    return f"{{{text}{end}".encode(encoding)


@pytest.fixture
def handlers(handlers: Handlers) -> Handlers:
    """A registry with one handler for all events."""

    @handlers.on("*")
    def take(event: Any, package: Any) -> None:
        assert event.package_id == package.id

    return handlers


def newest(service: Service) -> int:
    """The id of the newest journal row."""
    with service.database.read() as connection:
        return connection.scalar(select(func.max(Journal.id))) or 0


def assert_kept_and_answered(service: Service, answer: Any, body: bytes) -> None:
    """Assert that the answer is 200 or 400, and that the journal has the exact bytes."""
    with service.database.read() as connection:
        row = connection.execute(select(*Journal.__table__.c).order_by(Journal.id.desc()).limit(1)).one()
    assert answer.status_code in (200, 400), answer.text
    assert bytes(row.body) == body
    assert (row.error is None) == (answer.status_code == 200)
    if answer.status_code == 200:
        assert answer.json == {"callback": row.id}
    else:
        assert answer.json["error"]["code"] == "unreadable_callback"


def assert_digested(service: Service, work: Callable[[], None]) -> None:
    """Assert that no journal row is pending, and that no acknowledged callback failed in the digest."""
    work()
    with service.database.read() as connection:
        pending = connection.scalar(select(func.count()).where(Journal.digested_at.is_(None)))
        set_aside = connection.scalars(select(Journal.error).where(Journal.state == "failed")).all()
        lost = connection.scalar(select(func.count()).where(Journal.error.is_(None), Journal.event_id.is_(None)))
        undone = connection.scalars(select(Dispatch.error).where(Dispatch.state != "done")).all()
        events, dispatches = (connection.scalar(select(func.count()).select_from(model)) for model in (Event, Dispatch))
    assert (pending, set_aside, lost, undone) == (0, [], 0, [])
    assert events == dispatches


def test_law_2_any_bytes_are_kept_and_answered_as_documented(service, post, work):
    """The receiver keeps any bytes and answers as documented, even if the bytes are no callback."""

    @settings(max_examples=examples(150), **FUZZ)
    @given(body=RAW)
    def send_callback(body: bytes) -> None:
        assert_kept_and_answered(service, post(body), body)

    send_callback()
    assert_digested(service, work)


def test_law_2_any_callback_is_kept_digested_and_shown(service, post, work, client, read):
    """A callback with any content is kept and digested, and every list of the API still answers afterwards."""

    @settings(max_examples=examples(250), **FUZZ)
    @given(body=CALLBACKS)
    def send_callback(body: bytes) -> None:
        assert_kept_and_answered(service, post(body), body)

    send_callback()
    assert_digested(service, work)
    for path in ("/api/packages", "/api/events", "/api/changes"):
        read(path, limit=200)


def test_law_2_any_callback_that_names_a_package_is_taken_and_fetched(service, post, handlers, clock):
    """A callback with a recognisable package id gets 200, and one that cannot be read fully wants a fetch."""
    digest = Digest(service.database, handlers, clock=clock, can_fetch=True)
    with service.database.write() as connection:
        journal.add(connection, [Entry("snapshot", NOON, SNAPSHOT, package_id="pkg-1", read_at=NOON)])
    digest.turn()

    @settings(max_examples=examples(300), **FUZZ)
    @given(MUTATED)
    def send_callback(parts: Any) -> None:
        body = mutated(*parts)
        assert_kept_and_answered(service, answer := post(body), body)
        assert answer.status_code == 200, body
        with service.database.write() as connection:
            connection.execute(delete(Fetch))
            is_repeated = connection.scalar(select(func.count()).where(Journal.body == body)) > 1
        digest.turn()
        with service.database.read() as connection:
            row = connection.execute(select(*Journal.__table__.c).order_by(Journal.id.desc()).limit(1)).one()
            fetches = connection.scalars(select(Fetch.package_id)).all()
            repeats = connection.scalar(select(Event.repeats).where(Event.id == row.event_id))
        assert (row.package_id, row.state) == ("pkg-1", "digested")
        assert fetches == ["pkg-1"] or is_repeated or repeats or not parse_callback(body).is_partly_read

    send_callback()


def test_law_2_only_the_right_header_is_accepted(app: Flask, service, client):
    """A callback without the right `Authorization` header is answered 401 and not stored."""

    @settings(max_examples=examples(200), **FUZZ)
    @given(header=st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=80))
    def post_with(header: str) -> None:
        answer = client.post("/onespan/callback", data=b"{}", headers={"Authorization": header})
        assert (answer.status_code, answer.json["error"]["code"]) == (401, "not_onespan")

    post_with()
    assert newest(app.extensions[EXTENSION]) == 0


@settings(max_examples=examples(300))
@given(
    key=st.text(st.characters(exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")), min_size=1, max_size=60),
    other=st.text(max_size=60),
)
def test_law_11_every_key_is_accepted_and_no_other(key, other):
    """The receiver accepts exactly its keys, with any characters; WSGI reads a key's UTF-8 bytes as latin-1."""

    def accepted_label(secret: str) -> str | None:
        header = f"Basic {secret}".encode("utf-8", "surrogatepass").decode("latin-1")
        return authenticate(header, scheme="basic", keys=[("other", KEY), ("right", key)])

    assert accepted_label(key) == "right"
    assert accepted_label(key + "x") is None
    if other.strip() not in (key, KEY):
        assert accepted_label(other) is None


def test_law_2_largest_and_strangest_bodies_are_kept(service, post, work):
    """Bodies at or just beyond a limit are kept, and answered 200 or 400 as documented."""
    bodies = [
        b"",
        b"\xef\xbb\xbf" + b'{"name":"A","packageId":"p"}',
        b'{"name":"A","packageId":"p","createdDate":"0001-01-01T00:00:00Z"}',
        b'{"name":"A","packageId":"p","createdDate":"9999-12-31T23:59:59.999Z"}',
        b'{"name":"' + b"n" * 255 + b'","packageId":"' + b"p" * 255 + b'"}',
        b'{"name":"' + "é".encode() * 255 + b'","packageId":"' + "😀".encode() * 255 + b'"}',
        b'{"name":"DOCUMENT_SIGNED","packageId":"p","documentId":"' + b"d" * 256 + b'"}',
        b'{"name":"DOCUMENT_SIGNED","packageId":"p","documentId":"' + b"d" * 257 + b'"}',
        b'{"name":"ROLE_REASSIGN","packageId":"p","sessionUser":"s","newRoleId":"' + b"r" * 256 + b'"}',
        b'{"name":"ROLE_REASSIGN","packageId":"p","newRoleId":7}',
        b'{"name":"PACKAGE_ATTACHMENT","packageId":"p","sessionUser":"s","message":"' + b"m" * 65000 + b'"}',
        b'{"name":"EMAIL_BOUNCE","packageId":"p","sessionUser":"s","message":"\\u0000\\ud800"}',
        b'{"name":"KBA_FAILURE","packageId":"p","sessionUser":" "}',
    ]

    answers = []
    for body in bodies:
        answer = post(body)
        assert_kept_and_answered(service, answer, body)
        answers.append(answer.status_code)

    assert answers == [400, *[200] * 12]
    assert_digested(service, work)
