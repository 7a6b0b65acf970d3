"""Tests of the REST client: its requests, authentication and errors."""

import json
import socket
import threading
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random
from typing import Any

import pytest
import requests
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from app.errors import (
    CredentialsRejected,
    FirewallRefused,
    NotPermitted,
    OneSpanError,
    OneSpanNotConfigured,
    OneSpanNotFound,
    OneSpanUnavailable,
    RequestRejected,
    Throttled,
    UnreadableAnswer,
    UnsendableRequest,
    WrongAddress,
)
from app.onespan.auth import ApiConnection, ApiKey, Token, api_connection, parse_client_token, parse_oauth2_token
from app.onespan.client import OneSpan
from app.onespan.clock import OffsetRange
from app.onespan.packages import parse_package
from app.onespan.transport import MAX_RETRIES
from app.simulator.account import Account
from app.simulator.server import api, serve_in_thread
from tests.conftest import NOON
from tests.support.processes import free_port

LATER = NOON + timedelta(hours=1)

ID = "LWsUTvGgE4WpOvaQPT16idnxNj8="
API_KEY = "bWluZTptaW5l"
MEGABYTE = 1024 * 1024
Script = Callable[[Request], Response]


@dataclass
class ScriptedServer:
    """A test server that answers by a script and records its requests."""

    address: str
    script: Script
    requests: list[Request] = field(default_factory=list)

    def answers(self, *answers: Response) -> None:
        """Give these answers in turn, and repeat the last answer afterwards."""
        self.script = lambda _: answers[min(len(self.requests), len(answers)) - 1]


class NoDateHandler(WSGIRequestHandler):
    """A request handler that sends no `Date` header and writes no log."""

    protocol_version = "HTTP/1.1"

    def send_response(self, code: int, message: str | None = None) -> None:
        """Send only the status line of an answer."""
        self.send_response_only(code, message)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A scripted server on this machine."""
    scripted = ScriptedServer("", lambda _: Response("{}", mimetype="application/json"))

    @Request.application
    def app(request: Request) -> Response:
        request.get_data()
        scripted.requests.append(request)
        return scripted.script(request)

    http_server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=NoDateHandler)
    scripted.address = f"http://127.0.0.1:{http_server.server_port}"
    thread = threading.Thread(target=http_server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield scripted
    http_server.shutdown()
    thread.join()
    http_server.server_close()


@pytest.fixture
def onespan(server: ScriptedServer) -> OneSpan:
    """A REST client that uses an API key and is connected to the scripted server."""
    client = OneSpan(backoff=0)
    client.connect(ApiConnection(server.address, ApiKey(API_KEY)))
    return client


def json_answer(body: Any, status: int = 200, **headers: str) -> Response:
    """Return an HTTP answer with a JSON body."""
    return Response(json.dumps(body), status, headers={k.replace("_", "-"): v for k, v in headers.items()})


def test_package_is_fetched_from_the_simulator():
    """The client fetches a package from the simulator, which answers according to OneSpan's schema."""
    account = Account(1, packages=3)
    for _ in range(1000):
        account.step(NOON)
    expected = next(package for package in account.packages() if not package.deleted)
    with serve_in_thread(api(account, api_key=API_KEY, clock=lambda: NOON), port=0) as address:
        client = OneSpan()
        client.connect(ApiConnection(address, ApiKey(API_KEY)))

        answer = client.package(expected.id)

    assert parse_package(answer.json).name == expected.name
    assert json.loads(answer.body) == answer.json
    assert NOON - timedelta(seconds=30) < answer.read_at <= NOON - timedelta(seconds=1)


def test_api_key_is_sent_unchanged(onespan, server):
    """The client sends the API key unchanged, because the key is already in base64."""
    onespan.package("pkg-1")

    assert server.requests[0].headers["Authorization"] == f"Basic {API_KEY}"


def test_netrc_file_is_ignored(onespan, server, tmp_path, monkeypatch):
    """The client ignores a netrc file, whose credentials belong to other programs."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login ada password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    server.script = lambda _: json_answer({"accessToken": "t", "expiresAt": 9e12})
    onespan.package("pkg-1")
    onespan.connect(
        api_connection(server.address, api_key=None, client_id="client", secret="secret", flow="client-app"),
    )
    onespan.package("pkg-1")

    headers = [request.headers.get("Authorization") for request in server.requests]
    assert headers == [f"Basic {API_KEY}", None, "Bearer t"]


@pytest.mark.parametrize("package_id", [ID, "a/b", "...", ".a/b..", "%2e.%2e", "a?b#c", "é ", "%2F", "a;b&c"])
def test_id_is_one_part_of_the_path(onespan, server, package_id):
    """Special characters in a package id do not change the structure of the request path."""
    server.script = lambda request: json_answer({"id": request.environ["RAW_URI"]})

    path = onespan.package(package_id).json["id"]

    assert path.startswith("/api/packages/")
    assert len(path.split("/")) == 4
    assert not set("?#") & set(path)


@pytest.mark.parametrize("package_id", ["", ".", "..", "a/..", "../b", "a/./b", "%2e%2e", "%252E", "..%2fb", "..\\b"])
def test_path_segments_with_meaning_are_not_ids(onespan, server, tmp_path, package_id):
    """The client sends no request, and writes no file, for an id that is empty or has a part `.` or `..`."""
    for call in (
        lambda: onespan.package(package_id),
        lambda: onespan.unlock("pkg-1", package_id),
        lambda: onespan.signed_document("pkg-1", package_id, to=tmp_path / "file"),
    ):
        with pytest.raises(OneSpanNotFound, match="cannot be asked"):
            call()

    assert not server.requests
    assert not list(tmp_path.iterdir())


def test_list_parameters_are_passed_through(onespan, server):
    """The client passes the parameters of a list request to OneSpan under OneSpan's names."""
    server.script = lambda _: json_answer({"count": 0, "results": []})

    answer = onespan.packages(query="trashed", sort="updated", lastUpdatedStartDate="2026-03-02T00:00:00Z", to=99)

    assert answer.json == {"count": 0, "results": []}
    assert server.requests[0].args.to_dict() == {
        "query": "trashed",
        "sort": "updated",
        "lastUpdatedStartDate": "2026-03-02T00:00:00Z",
        "to": "99",
    }


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (json_answer({}, 401), CredentialsRejected),
        (json_answer({}, 403), NotPermitted),
        (json_answer({"code": 403, "messageKey": "error.forbidden"}, 403), NotPermitted),
        (Response("", 403, mimetype="application/json"), NotPermitted),
        (Response("<html>Attention Required!</html>", 403, mimetype="text/html"), FirewallRefused),
        (Response("\n<!DOCTYPE html>", 403), FirewallRefused),
        (Response("error code: 1020", 403, mimetype="text/plain"), FirewallRefused),
        (Response("", 403, mimetype="text/html"), FirewallRefused),
        (json_answer({}, 403, cf_mitigated="challenge"), FirewallRefused),
        (Response("<html></html>", 403, mimetype="application/json"), FirewallRefused),
        (json_answer({}, 404), OneSpanNotFound),
        (json_answer({}, 406), RequestRejected),
        (json_answer({}, 429), Throttled),
        (json_answer({}, 500), OneSpanUnavailable),
        (json_answer({}, 503), OneSpanUnavailable),
        (json_answer({}, 302, Location="https://elsewhere.example/login"), WrongAddress),
        (Response("<html>Log in</html>", mimetype="text/html"), WrongAddress),
        (Response(" <!doctype html>", mimetype="application/json"), WrongAddress),
        (Response('{"id": "pk'), UnreadableAnswer),
        (Response(b"\xff\xfe"), UnreadableAnswer),
        (Response("[" * 100_000), UnreadableAnswer),
        (Response(""), UnreadableAnswer),
    ],
    ids=lambda value: value.status if isinstance(value, Response) else value.__name__,
)
def test_every_failure_has_its_own_error(onespan, server, answer, error):
    """Each kind of failed request raises its own subclass of `OneSpanError`."""
    server.answers(answer)

    with pytest.raises(error) as caught:
        onespan.package("pkg-1")

    assert type(caught.value) is error
    assert isinstance(caught.value, OneSpanError)


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://apps.example.com/login?canary", "a redirect to https://apps.example.com"),
        ("https://canary:canary@apps.example.com:8443/x", "a redirect to https://apps.example.com:8443"),
        ("/login?canary", "a redirect"),
    ],
)
def test_redirect_is_reported_without_its_path(onespan, server, location, shown):
    """The error for a redirect names the server to which it leads, because that may be the right address."""
    server.answers(json_answer({}, 302, Location=location))

    with pytest.raises(WrongAddress) as caught:
        onespan.package("pkg-1")

    assert str(caught.value).endswith(shown)


def test_every_request_names_the_service(server):
    """Every request has the service's User-Agent, because firewalls refuse those of common libraries."""
    tokens = Tokens(server, flow="oauth2")
    tokens.client.package("pkg-1")

    assert {request.headers["User-Agent"] for request in server.requests} == {"onespan-sign-receiver/1"}
    assert len(server.requests) == 2


@pytest.mark.parametrize("flow", ["client-app", "oauth2"])
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (json_answer({"error": "invalid_client"}, 400), CredentialsRejected),
        (json_answer({"error": "invalid_client"}, 401), CredentialsRejected),
        (json_answer({}, 403), CredentialsRejected),
        (Response("<html>", 403, mimetype="text/html"), FirewallRefused),
        (json_answer({}, 404), WrongAddress),
        (Response("<html>", 404, mimetype="text/html"), WrongAddress),
        (json_answer({}, 503), OneSpanUnavailable),
    ],
    ids=lambda value: value.status if isinstance(value, Response) else value.__name__,
)
def test_refusal_of_a_token_concerns_the_credentials(server, flow, answer, error):
    """A token endpoint that refuses says nothing about the package: its 404 is no missing package."""
    client = OneSpan(backoff=0)
    client.connect(api_connection(server.address, api_key=None, client_id="client", secret="secret", flow=flow))
    server.answers(answer)

    with pytest.raises(error) as caught:
        client.package("pkg-1")

    assert type(caught.value) is error


def test_each_request_is_reported_with_its_error(onespan, server):
    """The client reports the error of each request, or None for a good answer, to the service."""
    server.answers(json_answer({"id": "pkg-1"}), json_answer({}, 401), Response("no json"))
    reported = []
    onespan.report = reported.append

    onespan.package("pkg-1")
    for error in (CredentialsRejected, UnreadableAnswer):
        with pytest.raises(error):
            onespan.package("pkg-1")

    assert [type(error) for error in reported] == [type(None), CredentialsRejected, UnreadableAnswer]


def test_error_has_message_key_but_no_message(onespan, server):
    """An error contains OneSpan's message key but not OneSpan's message, which may name a person."""
    server.answers(json_answer({"code": 403, "messageKey": "error.forbidden.noPermission", "message": "not Ada"}, 403))

    with pytest.raises(NotPermitted, match=r"403 error\.forbidden\.noPermission") as caught:
        onespan.package("pkg-1")

    assert "Ada" not in str(caught.value)


@pytest.mark.parametrize(
    "credentials",
    [
        ApiKey("canary\n"),
        ApiKey("canary-\u20ac"),
        Token(lambda: ("canary\n", 9e9), client_id="client"),
        api_connection(
            "http://127.0.0.1:9", api_key=None, client_id="client", secret="canary-\u20ac", flow="oauth2"
        ).credentials,
    ],
)
def test_law_11_secret_invalid_in_a_header_is_not_revealed(server, credentials):
    """The error for an invalid secret does not quote the secret, because handler errors are stored and shown."""
    client = OneSpan(backoff=0)
    client.connect(ApiConnection(server.address, credentials))

    with pytest.raises(UnsendableRequest) as caught:
        client.package("pkg-1")

    assert "canary" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("body", ["", "[]", '"text"', "{", '{"messageKey": 7}', '{"messageKey": "' + "x" * 5000 + '"}'])
def test_error_body_can_be_anything(onespan, server, body):
    """An error answer may have any body; the error contains only the status if the body is unusable."""
    server.answers(Response(body, 404))

    with pytest.raises(OneSpanNotFound, match=r": 404$"):
        onespan.package("pkg-1")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_failed_get_is_retried(onespan, server, status):
    """A failed GET request is retried, and the third attempt succeeds."""
    server.answers(json_answer({}, status, Retry_After="0"), json_answer({}, status), json_answer({"id": "pkg-1"}))

    assert onespan.package("pkg-1").json == {"id": "pkg-1"}
    assert len(server.requests) == 3


def test_retries_are_limited(onespan, server):
    """The client raises an error after the last retry of a request."""
    server.answers(json_answer({}, 503))

    with pytest.raises(OneSpanUnavailable):
        onespan.package("pkg-1")

    assert len(server.requests) == 1 + MAX_RETRIES


@pytest.mark.parametrize("header", ["3600", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_long_wait_raises_at_once(onespan, server, header):
    """A `Retry-After` of an hour raises an error at once, because a thread must not sleep so long."""
    server.answers(json_answer({}, 429, Retry_After=header))

    with pytest.raises(Throttled) as caught:
        onespan.package("pkg-1")

    assert len(server.requests) == 1
    assert caught.value.seconds >= 3600


@pytest.mark.parametrize("header", ["soon", "-5", "1e999", "\u0661"])
def test_invalid_retry_after_is_ignored(onespan, server, header):
    """A request is retried as usual if the `Retry-After` header is invalid."""
    server.answers(Response("{}", 429, headers={"Retry-After": header.encode().decode("latin-1")}))

    with pytest.raises(Throttled) as caught:
        onespan.package("pkg-1")

    assert len(server.requests) == 1 + MAX_RETRIES
    assert caught.value.seconds is None


def test_post_is_not_retried(onespan, server):
    """A failed POST is not retried: it may have taken effect, and a second reminder would be wrong."""
    server.answers(json_answer({}, 503))

    with pytest.raises(OneSpanUnavailable):
        onespan.remind(ID, "role-1")

    assert [(request.method, request.path) for request in server.requests] == [
        ("POST", f"/api/packages/{ID}/roles/role-1/notifications")
    ]


def test_connection_error_reveals_no_id_or_key():
    """The error for a failed connection names only the address, not the package id or the API key."""
    client = OneSpan(backoff=0)
    client.connect(ApiConnection(f"http://127.0.0.1:{free_port()}", ApiKey(API_KEY)))

    with pytest.raises(OneSpanUnavailable) as caught:
        client.package(ID)

    assert ID not in str(caught.value)
    assert API_KEY not in str(caught.value)


def test_cut_connection_leaves_no_file(tmp_path):
    """A download whose connection is cut leaves no incomplete file."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=_cut_short, args=(listener,), daemon=True)
        thread.start()
        client = OneSpan(backoff=0)
        client.connect(ApiConnection(address, ApiKey(API_KEY)))

        with pytest.raises(OneSpanUnavailable):
            client.signed_document(ID, "contract", to=tmp_path / "contract.pdf")
        thread.join(10)

    assert not list(tmp_path.iterdir())


def _cut_short(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n%PDF")


def test_unconfigured_client_says_which_setting_is_missing():
    """The error of a client without settings says to set ONESPAN_URL."""
    with pytest.raises(OneSpanNotConfigured, match="set ONESPAN_URL"):
        OneSpan().package("pkg-1")


FILES = {
    "signed_document": (("contract",), "documents/contract/pdf"),
    "signed_documents": ((), "documents/zip"),
    "evidence": ((), "evidence/summary"),
    "attachment": (("a/1",), "attachment/a%2F1"),
    "attachments": ((), "attachment/zip"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_are_saved_completely(onespan, server, tmp_path, name):
    """A download creates missing folders, replaces an old file and leaves no temporary file."""
    arguments, path = FILES[name]
    content = Random(1).randbytes(300_000)
    server.script = lambda _: Response(content, mimetype="application/octet-stream")
    to = tmp_path / "new" / "file"

    assert getattr(onespan, name)(ID, *arguments, to=to) == to
    assert getattr(onespan, name)(ID, *arguments, to=to).read_bytes() == content

    assert [path.name for path in to.parent.iterdir()] == ["file"]
    assert server.requests[0].environ["RAW_URI"] == f"/api/packages/{ID.replace('=', '%3D')}/{path}"


def test_attachments_of_one_role(onespan, server, tmp_path):
    """The client can save the attachments of a single role as a separate zip."""
    onespan.attachments(ID, to=tmp_path / "zip", role_id="role-1")

    assert server.requests[0].path == f"/api/packages/{ID}/attachment/zip/role-1"


def test_large_file_is_streamed(onespan, server, tmp_path):
    """A large file is streamed, so the memory use of a download does not depend on the file size."""
    chunk = b"x" * MEGABYTE
    server.script = lambda _: Response((chunk for _ in range(48)), mimetype="application/zip")
    tracemalloc.start()
    try:
        onespan.signed_documents(ID, to=tmp_path / "zip")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert (tmp_path / "zip").stat().st_size == 48 * MEGABYTE
    assert peak < 12 * MEGABYTE  # the peak memory of client and test server together


def test_error_keeps_the_old_file(onespan, server, tmp_path):
    """A failed download does not replace an existing file."""
    (tmp_path / "contract.pdf").write_text("the old one")
    server.answers(json_answer({}, 404))

    with pytest.raises(OneSpanNotFound):
        onespan.signed_document(ID, "contract", to=tmp_path / "contract.pdf")

    assert (tmp_path / "contract.pdf").read_text() == "the old one"


def test_the_audit_trail(onespan, server):
    """The client returns the events of the audit trail, or an empty list if OneSpan has no events."""
    server.answers(json_answer({"package-id": ID, "audit-events": [{"type": "Login"}, None]}), json_answer([]))

    assert onespan.audit_trail(ID) == [{"type": "Login"}]
    assert onespan.audit_trail(ID) == []


def test_a_signer_is_unlocked_and_reminded(onespan, server):
    """The requests that unlock and remind a signer name the signer's role and have no body."""
    onespan.unlock(ID, "role-1")
    onespan.remind(ID, "role-1")

    assert [(request.method, request.path) for request in server.requests] == [
        ("POST", f"/api/packages/{ID}/roles/role-1/unlock"),
        ("POST", f"/api/packages/{ID}/roles/role-1/notifications"),
    ]
    for request in server.requests:
        assert (request.get_data(), request.content_length, request.content_type) == (b"", 0, None)


def test_the_callback_is_read_and_registered(onespan, server):
    """The client sends a new callback registration to OneSpan and reads the registration there."""
    server.answers(json_answer({"url": "https://sign.example.com", "key": "k", "events": []}))

    onespan.register_callback(url="https://sign.example.com/onespan/callback", key="k", events=["PACKAGE_COMPLETE"])

    assert onespan.callback().json["key"] == "k"
    assert server.requests[0].get_json() == {
        "url": "https://sign.example.com/onespan/callback",
        "key": "k",
        "events": ["PACKAGE_COMPLETE"],
    }


class Tokens:
    """A test server that issues access tokens and accepts only the newest token."""

    def __init__(self, server: ScriptedServer, *, flow: str) -> None:
        self.issued = 0
        self.accepts = True
        server.script = self.answer
        self.client = OneSpan(backoff=0)
        self.client.connect(
            api_connection(server.address, api_key=None, client_id="client", secret="secret", flow=flow)
        )

    def answer(self, request: Request) -> Response:
        """Answer a token request with a new token, and any other request with a package if its token is valid."""
        if request.path == "/apitoken/clientApp/accessToken":
            assert request.get_json() == {"clientId": "client", "secret": "secret", "type": "OWNER"}
            return json_answer(
                {"accessToken": self._next(), "expiresAt": (datetime.now(UTC).timestamp() + 1800) * 1000}
            )
        if request.path == "/oauth2/token":
            assert (request.authorization.username, request.authorization.password) == ("client", "secret")
            assert request.form.to_dict() == {"grant_type": "client_credentials"}
            return json_answer({"access_token": self._next(), "token_type": "Bearer", "expires_in": 300})
        is_valid = request.headers["Authorization"] == f"Bearer token-{self.issued}"
        return json_answer({"id": "pkg-1"}) if is_valid and self.accepts else json_answer({}, 401)

    def _next(self) -> str:
        self.issued += 1
        return f"token-{self.issued}"


@pytest.mark.parametrize("flow", ["client-app", "oauth2"])
def test_token_is_reused_until_it_expires(server, flow):
    """The client uses an access token for many requests until the token expires."""
    tokens = Tokens(server, flow=flow)

    for _ in range(3):
        assert tokens.client.package("pkg-1").json == {"id": "pkg-1"}

    assert tokens.issued == 1


def test_rejected_token_is_renewed_once(server):
    """A rejected token is renewed once; if the new token is rejected too, the credentials are wrong."""
    tokens = Tokens(server, flow="client-app")
    tokens.client.package("pkg-1")
    tokens.issued += 1  # the server now rejects the client's token

    assert tokens.client.package("pkg-1").json == {"id": "pkg-1"}

    tokens.accepts = False
    sent = len(server.requests)
    with pytest.raises(CredentialsRejected):
        tokens.client.package("pkg-1")
    assert len(server.requests) == sent + 3  # three requests: rejected, token renewed, rejected again


def test_token_is_renewed_before_it_expires():
    """A token is renewed a minute before it expires, or after half of its lifetime if the lifetime is short."""
    now = [0.0]
    fetched = iter([("long", 1800.0), ("short", 1780.0), ("last", 9999.0)])
    token = Token(lambda: next(fetched), client_id="client", clock=lambda: now[0])

    def authorization(at: float) -> str:
        now[0] = at
        return token(requests.Request("GET", "http://127.0.0.1/").prepare()).headers["Authorization"]

    assert [authorization(at) for at in (0.0, 1739.0, 1740.0, 1759.0, 1760.0)] == [
        "Bearer long",
        "Bearer long",
        "Bearer short",
        "Bearer short",
        "Bearer last",
    ]


def test_token_expiry_may_be_in_seconds_or_milliseconds():
    """A token's expiry may be in seconds or milliseconds; the client recognises the unit by the number's size."""
    assert parse_client_token({"accessToken": "t", "expiresAt": 1_800_000_000}) == ("t", 1_800_000_000)
    assert parse_client_token({"accessToken": "t", "expiresAt": 1_800_000_000_000}) == ("t", 1_800_000_000)


@pytest.mark.parametrize("answer", [{}, [], None, {"accessToken": "", "expiresAt": 1}, {"accessToken": "t"}])
def test_invalid_token_answer_is_rejected(answer):
    """An invalid answer to a token request raises `UnreadableAnswer`."""
    with pytest.raises(UnreadableAnswer):
        parse_client_token(answer)
    with pytest.raises(UnreadableAnswer):
        parse_oauth2_token(answer, now=0)


def test_threads_share_one_token(server):
    """Threads share an access token: all threads wait until the first thread has requested the token."""
    tokens = Tokens(server, flow="oauth2")
    threads = [threading.Thread(target=tokens.client.package, args=("pkg-1",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert tokens.issued == 1


@pytest.mark.parametrize(
    ("date", "earliest", "latest"),
    [
        ("Mon, 02 Mar 2026 12:00:00 GMT", NOON - timedelta(seconds=11), NOON - timedelta(seconds=1)),
        ("Mon, 02 Mar 2026 12:00:00 -0000", NOON - timedelta(seconds=11), NOON - timedelta(seconds=1)),
        ("yesterday", LATER - timedelta(seconds=11), LATER - timedelta(seconds=1)),
        ("", LATER - timedelta(seconds=11), LATER - timedelta(seconds=1)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LATER - timedelta(seconds=11), LATER - timedelta(seconds=1)),
    ],
)
def test_read_at_is_before_onespan_read_the_package(onespan, server, date, earliest, latest):
    """`read_at` follows OneSpan's clock, or the local clock if the `Date` header is missing, invalid or far ahead."""
    onespan.connect(ApiConnection(server.address, ApiKey(API_KEY)), clock=lambda: LATER)
    answer = json_answer({})
    answer.headers["Date"] = date
    server.answers(answer)

    assert earliest < onespan.package("pkg-1").read_at <= latest


def dated(moment: datetime) -> Response:
    """Return an answer with this time in its `Date` header."""
    return json_answer({}, Date=format_datetime(moment, usegmt=True))


@pytest.mark.parametrize("ahead", [timedelta(minutes=10), timedelta(minutes=-10), timedelta(hours=3)])
def test_offset_of_onespans_clock_is_measured(onespan, server, ahead):
    """An answer shows how far OneSpan's clock is ahead, to within the resolution of the `Date` header."""
    onespan.connect(ApiConnection(server.address, ApiKey(API_KEY)), clock=lambda: LATER)
    server.answers(dated(LATER + ahead))

    answer = onespan.package("pkg-1")

    assert answer.offset == OffsetRange(ahead, ahead + timedelta(seconds=1))
    assert LATER + ahead - timedelta(seconds=11) < answer.read_at < LATER + ahead


def test_offset_that_no_second_answer_confirms_is_ignored(onespan, server):
    """An offset that suddenly differs much counts only if a second answer confirms it."""
    onespan.connect(ApiConnection(server.address, ApiKey(API_KEY)), clock=lambda: LATER)
    right, wrong = dated(LATER), dated(LATER + timedelta(hours=1))
    server.answers(wrong, right, wrong, wrong, right)

    unconfirmed, confirmed = onespan.package("pkg-1"), onespan.package("pkg-1")

    assert unconfirmed.offset is None
    assert unconfirmed.read_at < LATER
    assert confirmed.offset == OffsetRange(timedelta(hours=1), timedelta(hours=1, seconds=1))
    assert len(server.requests) == 4


def test_not_found_measures_the_offset_too(onespan, server):
    """A 404 shows how far OneSpan's clock is ahead, as it dates the deletion of the package."""
    onespan.connect(ApiConnection(server.address, ApiKey(API_KEY)), clock=lambda: LATER)
    server.script = lambda _: json_answer({}, 404, Date=format_datetime(LATER - timedelta(hours=1), usegmt=True))

    with pytest.raises(OneSpanNotFound) as missing:
        onespan.package("pkg-1")

    assert missing.value.answer.offset == OffsetRange(-timedelta(hours=1), -timedelta(minutes=59, seconds=59))


def test_repr_reveals_no_secret():
    """The `repr` of a connection and of its credentials contains no secret."""
    connection = api_connection(
        "https://sandbox.esignlive.com", api_key=API_KEY, client_id=None, secret=None, flow="oauth2"
    )

    assert API_KEY not in repr(connection)
    assert api_connection("https://x.example", api_key=None, client_id=None, secret=None, flow="oauth2") is None
