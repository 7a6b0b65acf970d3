"""Tests of the limits of OneSpan's answers: servers that never end, never hurry, or send what explodes."""

import gzip
import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from app.errors import OneSpanUnavailable
from app.onespan import answer_limits
from app.onespan.answer_limits import MEBIBYTE
from app.onespan.auth import ApiConnection, ApiKey, api_connection
from app.onespan.client import OneSpan
from tests.conftest import in_all

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
SECONDS = 0.5  # the time for an answer in these tests
Send = Callable[[bytes], None]
Serve = Callable[[Callable[[Send], None]], str]


@pytest.fixture(autouse=True)
def short_time(monkeypatch):
    """Give answers little time, so that the tests need not wait a minute."""
    monkeypatch.setattr(answer_limits, "ANSWER_SECONDS", SECONDS)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve each connection with a function that gets `send`, until the client hangs up."""
    listeners: list[socket.socket] = []

    def serve(answer: Callable[[Send], None]) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def one_connection(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.recv(65536)
                answer(connection.sendall)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=one_connection, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield serve
    for listener in listeners:
        listener.close()


def client_of(address: str) -> OneSpan:
    """A client of the server at the address."""
    onespan = OneSpan(backoff=0)
    onespan.connect(ApiConnection(address, ApiKey("key")))
    return onespan


def drip(send: Send, data: bytes = b" ") -> None:
    """Send bytes slowly and without end."""
    for _ in range(2000):
        send(data)
        time.sleep(SECONDS / 20)


def slow_status(send: Send) -> None:
    """Send a status line that never ends."""
    drip(send, b"H")


def slow_header(send: Send) -> None:
    """Send a header that never ends."""
    send(HEAD + b"X-Slow: ")
    drip(send)


def slow_body(send: Send) -> None:
    """Send a long body slowly."""
    send(HEAD + b"Content-Length: 100000\r\n\r\n{")
    drip(send)


def slow_chunks(send: Send) -> None:
    """Send a body in chunks, slowly."""
    send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    drip(send, b"1\r\n \r\n")


def slow_until_the_end(send: Send) -> None:
    """Send a body without a length, slowly."""
    send(HEAD + b"Connection: close\r\n\r\n")
    drip(send)


@pytest.mark.parametrize("answer", [slow_body, *in_all(slow_status, slow_header, slow_chunks, slow_until_the_end)])
def test_slow_answer_is_cut_off(serve, answer, tmp_path):
    """A server that sends a byte now and then is cut off after the whole time, like a server that sends nothing."""
    address = serve(answer)
    for call in (
        lambda: client_of(address).package("pkg-1"),
        lambda: client_of(address).evidence("pkg-1", to=tmp_path / "evidence.pdf"),
    ):
        began = time.monotonic()
        with pytest.raises(OneSpanUnavailable):
            call()
        assert time.monotonic() - began < 20 * SECONDS  # with three retries
    assert not list(tmp_path.iterdir())


def test_slow_token_is_cut_off(serve):
    """A slow server of tokens is cut off too."""
    onespan = OneSpan(backoff=0)
    onespan.connect(api_connection(serve(slow_body), api_key=None, client_id="client", secret="secret", flow="oauth2"))

    with pytest.raises(OneSpanUnavailable):
        onespan.package("pkg-1")


def test_endless_json_is_cut_off(serve, monkeypatch):
    """An answer without end is cut off at its limit, however fast it comes, and says so."""
    monkeypatch.setattr(answer_limits, "ANSWER_SECONDS", 60)

    def endless(send: Send) -> None:
        send(HEAD + b"\r\n[")
        while True:
            send(b"[" * 65536)

    with pytest.raises(OneSpanUnavailable, match=r"more than 16 MiB|no answer"):
        client_of(serve(endless)).package("pkg-1")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_bomb_is_cut_off(serve, monkeypatch, encoding):
    """A small answer that decompresses to a gigabyte is cut off before it fills the memory."""
    monkeypatch.setattr(answer_limits, "ANSWER_SECONDS", 60)
    zeros = bytes(8 * MEBIBYTE)
    packer = zlib.compressobj(9, wbits=31 if encoding == "gzip" else 15)
    bomb = b"".join(packer.compress(zeros) for _ in range(64)) + packer.flush()
    assert len(bomb) < MEBIBYTE

    def explode(send: Send) -> None:
        send(HEAD + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (encoding.encode(), len(bomb)))
        send(bomb)

    tracemalloc.start()
    try:
        with pytest.raises(OneSpanUnavailable, match="more than 16 MiB"):
            client_of(serve(explode)).package("pkg-1")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * MEBIBYTE


def test_endless_compressed_nothing_is_cut_off(serve, monkeypatch):
    """Compressed blocks that are empty are cut off by the size that arrives."""
    monkeypatch.setattr(answer_limits, "ANSWER_SECONDS", 60)
    empty = gzip.compress(b"") * 3000

    def endless(send: Send) -> None:
        send(HEAD + b"Content-Encoding: gzip\r\n\r\n")
        while True:
            send(empty)

    with pytest.raises(OneSpanUnavailable):
        client_of(serve(endless)).package("pkg-1")


def test_huge_file_is_cut_off(serve, tmp_path, monkeypatch):
    """A file beyond its limit is cut off and leaves nothing on the disk."""
    monkeypatch.setattr(answer_limits, "ANSWER_SECONDS", 60)
    monkeypatch.setattr(answer_limits, "MAX_FILE_BYTES", 2 * MEBIBYTE)

    def endless(send: Send) -> None:
        send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            send(b"x" * 65536)

    with pytest.raises(OneSpanUnavailable):
        client_of(serve(endless)).signed_documents("pkg-1", to=tmp_path / "zip")
    assert not list(tmp_path.iterdir())


def test_steady_download_may_take_longer(serve, tmp_path):
    """A file that arrives steadily may take longer than the time of a small answer."""
    content = b"x" * (300 * 1024)

    def steady(send: Send) -> None:
        send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content))
        for start in range(0, len(content), 30 * 1024):
            send(content[start : start + 30 * 1024])
            time.sleep(SECONDS / 5)

    saved = client_of(serve(steady)).signed_documents("pkg-1", to=tmp_path / "zip")

    assert saved.read_bytes() == content


def test_connection_is_reused_after_an_answer(serve):
    """The time begins again with each answer of a connection that is kept open."""
    connections = []

    def keep_alive(send: Send) -> None:
        connections.append(1)
        for _ in range(4):
            send(HEAD + b"Content-Length: 2\r\n\r\n{}")
            time.sleep(SECONDS * 0.4)

    onespan = client_of(serve(keep_alive))
    for _ in range(4):
        assert onespan.package("pkg-1").json == {}

    assert len(connections) == 1
