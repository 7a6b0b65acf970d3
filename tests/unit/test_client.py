"""The client: what it asks OneSpan, whom it shows itself as, and how it tells what went wrong."""

import json
import socket
import threading
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
import requests
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from app.errors import (
    KeyRefused,
    NoOneSpan,
    NotPermitted,
    NotThere,
    OneSpanDown,
    OneSpanError,
    RefusedByOneSpan,
    Throttled,
    UnreadableAnswer,
    UnsendableRequest,
    WrongAddress,
)
from app.onespan.auth import ApiKey, Connection, Token, connection_to, read_client_token, read_oauth2_token
from app.onespan.client import OneSpan
from app.onespan.packages import read_package
from app.onespan.transport import TRIES_AGAIN
from app.simulator.account import Account
from app.simulator.server import answering, api
from tests.conftest import NOON
from tests.support.processes import free_port

LATER = NOON + timedelta(hours=1)

ID = "LWsUTvGgE4WpOvaQPT16idnxNj8="
API_KEY = "bWluZTptaW5l"
MEGABYTE = 1024 * 1024
Script = Callable[[Request], Response]


@dataclass
class Scripted:
    """A server that answers by a script and remembers what it was asked."""

    address: str
    script: Script
    asked: list[Request] = field(default_factory=list)

    def answers(self, *answers: Response) -> None:
        """Give these answers, one after another, and the last of them for ever."""
        self.script = lambda _: answers[min(len(self.asked), len(answers)) - 1]


class Undated(WSGIRequestHandler):
    """Says no date by itself, and writes no log."""

    protocol_version = "HTTP/1.1"

    def send_response(self, code: int, message: str | None = None) -> None:
        """The status alone."""
        self.send_response_only(code, message)


@pytest.fixture
def server() -> Iterator[Scripted]:
    """A server on this machine."""
    scripted = Scripted("", lambda _: Response("{}", mimetype="application/json"))

    @Request.application
    def app(request: Request) -> Response:
        request.get_data()
        scripted.asked.append(request)
        return scripted.script(request)

    listening = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Undated)
    scripted.address = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield scripted
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture
def onespan(server: Scripted) -> OneSpan:
    """The client, with an API key."""
    client = OneSpan(backoff=0)
    client.connect(Connection(server.address, ApiKey(API_KEY)))
    return client


def said(what: Any, status: int = 200, **headers: str) -> Response:
    """A JSON answer."""
    return Response(json.dumps(what), status, headers={k.replace("_", "-"): v for k, v in headers.items()})


def test_a_package_is_read_as_it_is_shown():
    """With the simulator, which answers as OneSpan's schema says."""
    account = Account(1, packages=3)
    for _ in range(1000):
        account.step(NOON)
    shown = next(one for one in account.packages() if not one.deleted)
    with answering(api(account, api_key=API_KEY, clock=lambda: NOON), port=0) as address:
        client = OneSpan()
        client.connect(Connection(address, ApiKey(API_KEY)))

        answer = client.package(shown.id)

    assert read_package(answer.json).name == shown.name
    assert json.loads(answer.body) == answer.json
    assert NOON - timedelta(seconds=30) < answer.read_at <= NOON - timedelta(seconds=1)


def test_the_key_goes_as_it_is(onespan, server):
    """It looks like base64 and is sent so; nothing is made of it."""
    onespan.package("pkg-1")

    assert server.asked[0].headers["Authorization"] == f"Basic {API_KEY}"


def test_a_netrc_file_says_nothing(onespan, server, tmp_path, monkeypatch):
    """What is in it belongs to other programs."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login ada password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    server.script = lambda _: said({"accessToken": "t", "expiresAt": 9e12})
    onespan.package("pkg-1")
    onespan.connect(
        connection_to(server.address, api_key=None, client_id="us", secret="ours", flow="client-app"),
    )
    onespan.package("pkg-1")

    told = [request.headers.get("Authorization") for request in server.asked]
    assert told == [f"Basic {API_KEY}", None, "Bearer t"]


@pytest.mark.parametrize("package_id", [ID, "a/b", "...", "a?b#c", "é ", "%2F", "a;b&c"])
def test_ids_are_one_part_of_the_path(onespan, server, package_id):
    """Whatever they are made of, they lead nowhere else."""
    server.script = lambda request: said({"id": request.environ["RAW_URI"]})

    path = onespan.package(package_id).json["id"]

    assert path.startswith("/api/packages/")
    assert len(path.split("/")) == 4
    assert not set("?#") & set(path)


@pytest.mark.parametrize("package_id", ["", ".", ".."])
def test_what_means_another_place_is_no_id(onespan, server, package_id):
    """Nothing is asked."""
    with pytest.raises(NotThere):
        onespan.package(package_id)

    assert not server.asked


def test_lists_are_asked_for_with_onespans_own_parameters(onespan, server):
    """No name of ours is between."""
    server.script = lambda _: said({"count": 0, "results": []})

    answer = onespan.packages(query="trashed", sort="updated", lastUpdatedStartDate="2026-03-02T00:00:00Z", to=99)

    assert answer.json == {"count": 0, "results": []}
    assert server.asked[0].args.to_dict() == {
        "query": "trashed",
        "sort": "updated",
        "lastUpdatedStartDate": "2026-03-02T00:00:00Z",
        "to": "99",
    }


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (said({}, 401), KeyRefused),
        (said({}, 403), NotPermitted),
        (said({}, 404), NotThere),
        (said({}, 406), RefusedByOneSpan),
        (said({}, 429), Throttled),
        (said({}, 500), OneSpanDown),
        (said({}, 503), OneSpanDown),
        (said({}, 302, Location="https://elsewhere.example/login"), WrongAddress),
        (Response("<html>Log in</html>", mimetype="text/html"), WrongAddress),
        (Response('{"id": "pk'), UnreadableAnswer),
        (Response(b"\xff\xfe"), UnreadableAnswer),
        (Response("[" * 100_000), UnreadableAnswer),
        (Response(""), UnreadableAnswer),
    ],
    ids=lambda one: one.status if isinstance(one, Response) else one.__name__,
)
def test_every_fault_has_an_error_of_its_own(onespan, server, answer, error):
    """They say what to do, and are all errors of OneSpan's API."""
    server.answers(answer)

    with pytest.raises(error) as caught:
        onespan.package("pkg-1")

    assert type(caught.value) is error
    assert isinstance(caught.value, OneSpanError)


def test_an_error_has_onespans_key_and_none_of_its_words(onespan, server):
    """A sentence may name a person."""
    server.answers(said({"code": 403, "messageKey": "error.forbidden.noPermission", "message": "not Ada"}, 403))

    with pytest.raises(NotPermitted, match=r"403 error\.forbidden\.noPermission") as caught:
        onespan.package("pkg-1")

    assert "Ada" not in str(caught.value)


@pytest.mark.parametrize(
    "access",
    [
        ApiKey("canary\n"),
        ApiKey("canary-\u20ac"),
        Token(lambda: ("canary\n", 9e9), of="us"),
        connection_to("http://127.0.0.1:9", api_key=None, client_id="us", secret="canary-\u20ac", flow="oauth2").access,
    ],
)
def test_law_11_a_secret_that_no_header_can_carry_is_not_told(server, access):
    """The library's error would quote it, and what a handler fails of is kept and shown."""
    client = OneSpan(backoff=0)
    client.connect(Connection(server.address, access))

    with pytest.raises(UnsendableRequest) as caught:
        client.package("pkg-1")

    assert "canary" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("body", ["", "[]", '"text"', "{", '{"messageKey": 7}', '{"messageKey": "' + "x" * 5000 + '"}'])
def test_an_error_can_be_anything(onespan, server, body):
    """Then the status says it all."""
    server.answers(Response(body, 404))

    with pytest.raises(NotThere, match=r": 404$"):
        onespan.package("pkg-1")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_read_that_fails_is_tried_again(onespan, server, status):
    """A moment later all is well."""
    server.answers(said({}, status, Retry_After="0"), said({}, status), said({"id": "pkg-1"}))

    assert onespan.package("pkg-1").json == {"id": "pkg-1"}
    assert len(server.asked) == 3


def test_a_read_is_not_tried_for_ever(onespan, server):
    """In the end somebody else must decide."""
    server.answers(said({}, 503))

    with pytest.raises(OneSpanDown):
        onespan.package("pkg-1")

    assert len(server.asked) == 1 + TRIES_AGAIN


@pytest.mark.parametrize("told", ["3600", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_who_is_told_to_wait_long_says_so_at_once(onespan, server, told):
    """A thread that sleeps for an hour is of no use to anybody."""
    server.answers(said({}, 429, Retry_After=told))

    with pytest.raises(Throttled) as caught:
        onespan.package("pkg-1")

    assert len(server.asked) == 1
    assert caught.value.seconds >= 3600


@pytest.mark.parametrize("told", ["soon", "-5", "1e999", "\u0661"])
def test_a_wait_that_cannot_be_read_is_none(onespan, server, told):
    """It is tried again all the same."""
    server.answers(Response("{}", 429, headers={"Retry-After": told.encode().decode("latin-1")}))

    with pytest.raises(Throttled) as caught:
        onespan.package("pkg-1")

    assert len(server.asked) == 1 + TRIES_AGAIN
    assert caught.value.seconds is None


def test_what_was_told_is_told_once(onespan, server):
    """It may have been done; a second reminder would be one too many."""
    server.answers(said({}, 503))

    with pytest.raises(OneSpanDown):
        onespan.remind(ID, "role-1")

    assert [(one.method, one.path) for one in server.asked] == [
        ("POST", f"/api/packages/{ID}/roles/role-1/notifications")
    ]


def test_nobody_there():
    """The error does not say whom we asked for."""
    client = OneSpan(backoff=0)
    client.connect(Connection(f"http://127.0.0.1:{free_port()}", ApiKey(API_KEY)))

    with pytest.raises(OneSpanDown) as caught:
        client.package(ID)

    assert ID not in str(caught.value)
    assert API_KEY not in str(caught.value)


def test_a_connection_that_is_cut_is_a_fault_of_onespan(tmp_path):
    """Half a file is no file."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=_cut_short, args=(listening,), daemon=True)
        thread.start()
        client = OneSpan(backoff=0)
        client.connect(Connection(address, ApiKey(API_KEY)))

        with pytest.raises(OneSpanDown):
            client.signed_document(ID, "contract", to=tmp_path / "contract.pdf")
        thread.join(10)

    assert not list(tmp_path.iterdir())


def _cut_short(listening: socket.socket) -> None:
    line, _ = listening.accept()
    with line:
        line.recv(65536)
        line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n%PDF")


def test_without_a_onespan_every_call_says_what_is_missing():
    """A handler that needs it is retried until it is there."""
    with pytest.raises(NoOneSpan, match="set ONESPAN_URL"):
        OneSpan().package("pkg-1")


FILES = {
    "signed_document": (("contract",), "documents/contract/pdf"),
    "signed_documents": ((), "documents/zip"),
    "evidence": ((), "evidence/summary"),
    "attachment": (("a/1",), "attachment/a%2F1"),
    "attachments": ((), "attachment/zip"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_are_saved_whole(onespan, server, tmp_path, name):
    """Folders are made; what was there before is replaced; nothing else is left behind."""
    more, path = FILES[name]
    content = Random(1).randbytes(300_000)
    server.script = lambda _: Response(content, mimetype="application/octet-stream")
    to = tmp_path / "new" / "file"

    assert getattr(onespan, name)(ID, *more, to=to) == to
    assert getattr(onespan, name)(ID, *more, to=to).read_bytes() == content

    assert [one.name for one in to.parent.iterdir()] == ["file"]
    assert server.asked[0].environ["RAW_URI"] == f"/api/packages/{ID.replace('=', '%3D')}/{path}"


def test_attachments_of_one_role(onespan, server, tmp_path):
    """As a zip of their own."""
    onespan.attachments(ID, to=tmp_path / "zip", role_id="role-1")

    assert server.asked[0].path == f"/api/packages/{ID}/attachment/zip/role-1"


def test_a_large_file_does_not_fill_the_memory(onespan, server, tmp_path):
    """It is streamed, however large it is."""
    chunk = b"x" * MEGABYTE
    server.script = lambda _: Response((chunk for _ in range(48)), mimetype="application/zip")
    tracemalloc.start()
    try:
        onespan.signed_documents(ID, to=tmp_path / "zip")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert (tmp_path / "zip").stat().st_size == 48 * MEGABYTE
    assert peak < 12 * MEGABYTE  # the server of this test is in there too


def test_a_file_that_is_not_there_leaves_what_was_there(onespan, server, tmp_path):
    """An error replaces nothing."""
    (tmp_path / "contract.pdf").write_text("the old one")
    server.answers(said({}, 404))

    with pytest.raises(NotThere):
        onespan.signed_document(ID, "contract", to=tmp_path / "contract.pdf")

    assert (tmp_path / "contract.pdf").read_text() == "the old one"


def test_the_audit_trail(onespan, server):
    """Its steps, and nothing where there are none."""
    server.answers(said({"package-id": ID, "audit-events": [{"type": "Login"}, None]}), said([]))

    assert onespan.audit_trail(ID) == [{"type": "Login"}]
    assert onespan.audit_trail(ID) == []


def test_a_signer_is_unlocked(onespan, server):
    """By the role they sit in."""
    onespan.unlock(ID, "role-1")

    assert [(one.method, one.path) for one in server.asked] == [("POST", f"/api/packages/{ID}/roles/role-1/unlock")]


def test_the_callback_is_read_and_registered(onespan, server):
    """What is registered replaces what was."""
    server.answers(said({"url": "https://sign.example.com", "key": "k", "events": []}))

    onespan.register_callback(url="https://sign.example.com/onespan/callback", key="k", events=["PACKAGE_COMPLETE"])

    assert onespan.callback().json["key"] == "k"
    assert server.asked[0].get_json() == {
        "url": "https://sign.example.com/onespan/callback",
        "key": "k",
        "events": ["PACKAGE_COMPLETE"],
    }


class Tokens:
    """A server that gives tokens and takes the last one it gave."""

    def __init__(self, server: Scripted, *, flow: str) -> None:
        self.given = 0
        self.taken = True
        server.script = self.answer
        self.client = OneSpan(backoff=0)
        self.client.connect(connection_to(server.address, api_key=None, client_id="us", secret="ours", flow=flow))

    def answer(self, request: Request) -> Response:
        """A token, or a package for one."""
        if request.path == "/apitoken/clientApp/accessToken":
            assert request.get_json() == {"clientId": "us", "secret": "ours", "type": "OWNER"}
            return said({"accessToken": self._next(), "expiresAt": (datetime.now(UTC).timestamp() + 1800) * 1000})
        if request.path == "/oauth2/token":
            assert (request.authorization.username, request.authorization.password) == ("us", "ours")
            assert request.form.to_dict() == {"grant_type": "client_credentials"}
            return said({"access_token": self._next(), "token_type": "Bearer", "expires_in": 300})
        fits = request.headers["Authorization"] == f"Bearer token-{self.given}"
        return said({"id": "pkg-1"}) if fits and self.taken else said({}, 401)

    def _next(self) -> str:
        self.given += 1
        return f"token-{self.given}"


@pytest.mark.parametrize("flow", ["client-app", "oauth2"])
def test_a_token_is_fetched_once_and_used_until_it_ends(server, flow):
    """One request for many."""
    tokens = Tokens(server, flow=flow)

    for _ in range(3):
        assert tokens.client.package("pkg-1").json == {"id": "pkg-1"}

    assert tokens.given == 1


def test_a_token_that_is_refused_is_renewed_once(server):
    """It may have been withdrawn; when the new one is refused too, the credentials are wrong."""
    tokens = Tokens(server, flow="client-app")
    tokens.client.package("pkg-1")
    tokens.given += 1  # so the one we have is the wrong one

    assert tokens.client.package("pkg-1").json == {"id": "pkg-1"}

    tokens.taken = False
    asked = len(server.asked)
    with pytest.raises(KeyRefused):
        tokens.client.package("pkg-1")
    assert len(server.asked) == asked + 3  # refused, fetched, refused


def test_a_token_is_renewed_before_it_ends():
    """A minute earlier, or after half of its life where that is short."""
    now = [0.0]
    fetched = iter([("long", 1800.0), ("short", 1780.0), ("last", 9999.0)])
    token = Token(lambda: next(fetched), of="us", clock=lambda: now[0])

    def shown(at: float) -> str:
        now[0] = at
        return token(requests.Request("GET", "http://127.0.0.1/").prepare()).headers["Authorization"]

    assert [shown(at) for at in (0.0, 1739.0, 1740.0, 1759.0, 1760.0)] == [
        "Bearer long",
        "Bearer long",
        "Bearer short",
        "Bearer short",
        "Bearer last",
    ]


def test_the_end_of_a_token_is_told_in_seconds_or_in_milliseconds():
    """OneSpan's own sources disagree, so its size decides."""
    assert read_client_token({"accessToken": "t", "expiresAt": 1_800_000_000}) == ("t", 1_800_000_000)
    assert read_client_token({"accessToken": "t", "expiresAt": 1_800_000_000_000}) == ("t", 1_800_000_000)


@pytest.mark.parametrize("answer", [{}, [], None, {"accessToken": "", "expiresAt": 1}, {"accessToken": "t"}])
def test_a_token_that_is_none_is_refused(answer):
    """It is said rather than used."""
    with pytest.raises(UnreadableAnswer):
        read_client_token(answer)
    with pytest.raises(UnreadableAnswer):
        read_oauth2_token(answer, now=0)


def test_many_threads_fetch_one_token(server):
    """They wait for the first."""
    tokens = Tokens(server, flow="oauth2")
    threads = [threading.Thread(target=tokens.client.package, args=("pkg-1",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert tokens.given == 1


@pytest.mark.parametrize(
    ("date", "earliest", "latest"),
    [
        ("Mon, 02 Mar 2026 12:00:00 GMT", NOON - timedelta(seconds=11), NOON - timedelta(seconds=1)),
        ("Mon, 02 Mar 2026 12:00:00 -0000", NOON - timedelta(seconds=11), NOON - timedelta(seconds=1)),
        ("yesterday", LATER - timedelta(seconds=11), LATER - timedelta(seconds=1)),
        ("", LATER - timedelta(seconds=11), LATER - timedelta(seconds=1)),
        ("Mon, 02 Mar 2026 13:16:10 GMT", LATER - timedelta(seconds=11), LATER - timedelta(seconds=1)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LATER - timedelta(seconds=11), LATER - timedelta(seconds=1)),
    ],
)
def test_a_reading_is_dated_before_onespan_looked(onespan, server, date, earliest, latest):
    """By OneSpan's clock; by ours where it does not say, or says what is far ahead of ours."""
    onespan.connect(Connection(server.address, ApiKey(API_KEY)), clock=lambda: LATER)
    answer = said({})
    answer.headers["Date"] = date
    server.answers(answer)

    assert earliest < onespan.package("pkg-1").read_at <= latest


def test_secrets_are_in_no_repr():
    """Nor in that of what holds them."""
    connection = connection_to(
        "https://sandbox.esignlive.com", api_key=API_KEY, client_id=None, secret=None, flow="oauth2"
    )

    assert API_KEY not in repr(connection)
    assert connection_to("https://x.example", api_key=None, client_id=None, secret=None, flow="oauth2") is None
