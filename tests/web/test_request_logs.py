"""Tests of the request id and the client's address that log lines and answers carry."""

import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr
from typing import Any

import pytest

from app import EXTENSION
from config import Settings
from tests.conftest import on_sqlite
from tests.support.shared_apps import new_app

pytestmark = on_sqlite

NGINX, UUID = "0123456789abcdef0123456789abcdef", "6f1b7c9e-8a9b-4a5c-9d5e-000000000001"
HAPROXY = "7F000001:8296_7F00000A:1F90_4F7B0A69_0003:790E"


@pytest.fixture
def refuse(settings: Settings, handlers, clock) -> Callable[..., tuple[str, dict[str, Any]]]:
    """Post a callback without a key, with `proxies` in front; return the answer's request id and the log line."""

    def refuse(headers: dict[str, str], *, proxies: int = 0, peer: str = "198.51.100.1") -> tuple[str, dict[str, Any]]:
        stream = io.StringIO()
        with redirect_stderr(stream):
            app = new_app(settings.model_copy(update={"proxies": proxies}), handlers=handlers, clock=clock)
            answer = app.test_client().post(
                "/onespan/callback", headers=headers, environ_overrides={"REMOTE_ADDR": peer}
            )
        app.extensions[EXTENSION].database.close()
        (line,) = [json.loads(line) for line in stream.getvalue().splitlines()]
        return answer.headers["X-Request-ID"], line

    return refuse


@pytest.mark.parametrize("given", [NGINX, UUID, HAPROXY])
def test_request_id_of_a_proxy_is_kept(refuse, given):
    """Behind a proxy, its id of the request is in the log line and in the answer."""
    answered, line = refuse({"X-Request-ID": given}, proxies=1)

    assert (answered, line["request_id"]) == (given, given)


@pytest.mark.parametrize(
    ("given", "proxies"),
    [(NGINX, 0), ("my-secret-password", 1), ("ada@example.com", 1), ("abc", 1), ("a" * 65, 1), ("", 1)],
)
def test_other_request_ids_are_replaced(refuse, given, proxies):
    """Without a proxy, or for an id that no proxy makes, the service makes a new one."""
    (answered, line), (other, _) = (refuse({"X-Request-ID": given}, proxies=proxies) for _ in range(2))

    assert answered == line["request_id"] not in (given, other)
    assert len(answered) == 32


@pytest.mark.parametrize(
    ("forwarded", "proxies", "peer", "shown"),
    [
        ("203.0.113.9", 0, "198.51.100.1", "198.51.100.1"),
        ("192.0.2.1, 203.0.113.9", 1, "127.0.0.1", "203.0.113.9"),
        ("203.0.113.9:4711", 1, "127.0.0.1", "203.0.113.9"),
        ("[2001:db8::1]:443", 1, "127.0.0.1", "2001:db8::1"),
        ("a-secret", 1, "127.0.0.1", "unknown"),
        ("", 0, "::ffff:203.0.113.9", "203.0.113.9"),
        ("", 0, "", "unknown"),
    ],
)
def test_address_is_that_of_the_client(refuse, forwarded, *, proxies, peer, shown):
    """The address in a line is the client's as PROXIES resolves it, and never a text that is no address."""
    _, line = refuse({"X-Forwarded-For": forwarded}, proxies=proxies, peer=peer)

    assert line["address"] == shown


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        (None, "no Authorization header"),
        ("Basic a-guess", "unknown key"),
        ("basic", "another scheme than Basic"),
        ("Bearer the-callback-key", "another scheme than Basic"),
    ],
)
def test_refused_callback_says_why(refuse, authorization, reason):
    """The line of a refused callback says what is wrong with the key, and not what was sent."""
    _, line = refuse({"Authorization": authorization} if authorization else {})

    assert (line["event"], line["reason"]) == ("callback.refused", reason)
    assert "a-guess" not in str(line)
