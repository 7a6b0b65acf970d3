"""HTTP without sockets: a `requests.Session` talks to a WSGI app in the same process, including simulated faults."""

import io
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit
from wsgiref.types import WSGIApplication

import requests
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse
from werkzeug.test import EnvironBuilder, run_wsgi_app


class InProcess(BaseAdapter):
    """A `requests` adapter that calls a WSGI app: `session.mount("http://onespan.test", InProcess(app))`.

    A cut connection raises `requests.exceptions.ChunkedEncodingError`, as over a socket. Timeouts have no effect.
    """

    def __init__(self, app: WSGIApplication) -> None:
        super().__init__()
        self._app = app

    def send(  # noqa: PLR0917  (signature of requests)
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: FBT001, FBT002  (signature of requests)
        timeout: float | tuple[float, float] | tuple[float, None] | None = None,
        verify: bool | str = True,  # noqa: FBT001, FBT002
        cert: bytes | str | tuple[bytes | str, bytes | str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send a request to the app and return the app's answer."""
        del stream, timeout, verify, cert, proxies
        parts, status, headers = run_wsgi_app(self._app, _environ(request))
        answer = requests.Response()
        answer.status_code, _, answer.reason = int(status.split()[0]), *status.partition(" ")[1:]
        answer.headers.update(headers.items())
        body = io.BufferedReader(_Parts(parts))
        answer.raw = HTTPResponse(body, headers=dict(headers.items()), status=answer.status_code, preload_content=False)
        answer.url, answer.request = str(request.url), request
        answer.encoding = requests.utils.get_encoding_from_headers(answer.headers)
        return answer

    def close(self) -> None:
        """Do nothing, because the adapter holds no connection."""


def _environ(request: requests.PreparedRequest) -> Any:
    address = urlsplit(str(request.url))
    body = request.body or b""
    return EnvironBuilder(
        path=address.path,
        query_string=address.query,
        method=request.method or "GET",
        base_url=f"{address.scheme}://{address.netloc}/",
        headers=list(request.headers.items()),
        data=body if isinstance(body, (bytes, str)) else b"".join(body),
    ).get_environ()


class _Parts(io.RawIOBase):
    """A readable stream over the parts of an answer, which the app produces during the reading."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = iter(parts)
        self._rest = b""

    def readable(self) -> bool:
        """Return True, because the stream is always readable."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes of the answer. Raises the exception with which the app ends a cut answer."""
        self._rest = self._rest or next(filter(None, self._parts), b"")
        view = memoryview(buffer)
        taken, self._rest = self._rest[: len(view)], self._rest[len(view) :]
        view[: len(taken)] = taken
        return len(taken)
