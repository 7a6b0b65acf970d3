"""Limits of OneSpan's answers, so that no server can hold a thread or fill the memory: size, and time per size."""

import http.client
import io
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection

from app.errors import OneSpanUnavailable

MEBIBYTE = 1024 * 1024
MAX_JSON_BYTES = 16 * MEBIBYTE  # of an answer that is read into memory
MAX_FILE_BYTES = 1024 * MEBIBYTE  # of a file that is saved
# An answer may take this long, and longer the more of it has arrived.
ANSWER_SECONDS = 60.0
BYTES_PER_SECOND = 64 * 1024


class _LimitedReader(io.RawIOBase):
    """The bytes of one answer as they come from the socket. Raises `TimeoutError` beyond the limits."""

    def __init__(self, source: io.RawIOBase, connection: socket.socket) -> None:
        self.max_bytes = MAX_JSON_BYTES
        self._source = source
        self._socket = connection
        self._began_at = time.monotonic()
        self._received = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read the next bytes; wait no longer than the answer may still take."""
        left = self._began_at + ANSWER_SECONDS + self._received / BYTES_PER_SECOND - time.monotonic()
        if left <= 0 or self._received > self.max_bytes:
            raise TimeoutError("the answer is too long or too slow")
        usual = self._socket.gettimeout()
        self._socket.settimeout(min(left, usual or left))
        try:
            count: int | None = self._source.readinto(buffer)
        finally:
            self._socket.settimeout(usual)
        self._received += count or 0
        return count

    def close(self) -> None:
        """Close the connection's side of this answer."""
        self._source.close()
        super().close()


class _LimitedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.reader = _LimitedReader(self.fp.detach(), sock)
        self.fp = io.BufferedReader(self.reader)


class _Connection(HTTPConnection):
    response_class = _LimitedResponse


class _TlsConnection(HTTPSConnection):
    response_class = _LimitedResponse


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


POOLS = {"http": _Pool, "https": _TlsPool}


class LimitedAdapter(HTTPAdapter):
    """An adapter of the library `requests` whose answers have limits. The session needs the hook `limit_answer` too."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Create the pools of connections."""
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        """Return the pools of connections through a proxy."""
        manager = super().proxy_manager_for(*arguments, **options)
        if isinstance(manager, ProxyManager):
            manager.pool_classes_by_scheme = POOLS
        return manager


def limit_answer(answer: requests.Response, *, stream: bool = False, **_: Any) -> None:
    """Limit the size of an answer before its body is read. A streamed answer is a file, which may be larger.

    The limit applies to the bytes that arrive, and to what they are once decompressed.
    """
    max_bytes = MAX_FILE_BYTES if stream else MAX_JSON_BYTES
    received = getattr(answer.raw, "_original_response", None)
    if isinstance(received, _LimitedResponse):
        received.reader.max_bytes = max_bytes
    read = partial(_limited, answer, answer.iter_content, max_bytes)
    answer.iter_content = read  # type: ignore[method-assign]


def _limited(
    answer: requests.Response,
    read: Callable[..., Iterator[bytes]],
    max_bytes: int,
    chunk_size: int | None = 1,
) -> Iterator[bytes]:
    size = 0
    for chunk in read(chunk_size):
        size += len(chunk)
        if size > max_bytes:
            answer.close()
            raise OneSpanUnavailable(f"its answer has more than {max_bytes // MEBIBYTE} MiB")
        yield chunk
