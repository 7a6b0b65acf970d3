"""Calls a WSGI app from an event loop. A request gets a thread only once it has arrived whole."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from app.onespan.compression import MAX_BODY_BYTES
from app.onespan.registration import is_receiver_path
from app.web.admission import unreserved

BUSY_SECONDS = 1.0  # time that a request waits for an unreserved thread before it is refused
PIECE_BYTES = 64 * 1024  # a thread prepares this much of an answer, then waits without a thread for the client

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
InThread = Callable[[Callable[[], None]], Awaitable[None]]


class WholeRequests:
    """An ASGI app that runs the requests of a WSGI app in threads. No client can make a thread wait.

    The body of a request is read before a thread is taken. A long answer takes a thread for each of its pieces, and
    none while the client reads.
    """

    def __init__(self, app: Any, *, threads: int) -> None:
        self._app = app
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="web")
        self._unreserved = asyncio.Semaphore(unreserved(threads))

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request. A client that leaves gets no answer, and the rest of its answer is not prepared."""
        headers = dict(scope["headers"])
        is_whole, body = False, b""
        if int(headers.get(b"content-length", 0)) <= MAX_BODY_BYTES:
            is_whole, body = await _read_body(receive)
            if not is_whole and len(body) <= MAX_BODY_BYTES:
                return
        call = _Call(self._app, environ(scope, body))
        await self._answer(call, receive, send, in_thread=self._runner(scope))
        if not is_whole and b"expect" not in headers:
            await _discard_body(receive)  # a client that still sends would lose the answer when we close

    async def _answer(self, call: "_Call", receive: Receive, send: Send, *, in_thread: InThread) -> None:
        await in_thread(call.begin)
        await send({"type": "http.response.start", "status": call.status, "headers": call.headers})
        await send({"type": "http.response.body", "body": call.piece, "more_body": call.has_more})
        if call.has_more:
            await _send_rest(call, receive, send, in_thread)

    def _runner(self, scope: Message) -> InThread:
        """Return what runs a function for this request in a thread. Callbacks never wait for other requests."""
        context, loop = copy_context(), asyncio.get_running_loop()

        async def run(function: Callable[[], None]) -> None:
            await loop.run_in_executor(self._threads, context.run, function)

        async def run_beside_callbacks(function: Callable[[], None]) -> None:
            try:
                async with asyncio.timeout(BUSY_SECONDS):
                    await self._unreserved.acquire()
            except TimeoutError:
                await run(function)  # which refuses the request, as no slot is free
                return
            try:
                await run(function)
            finally:
                self._unreserved.release()

        is_callback = scope["method"] == "POST" and is_receiver_path(scope["path"])
        return run if is_callback or scope["path"] == "/healthz" else run_beside_callbacks


class _Call:
    """One call of the WSGI app: `status`, `headers`, and the next `piece` of the body."""

    status: int
    headers: list[tuple[bytes, bytes]]
    piece = b""
    has_more = False

    def __init__(self, app: Any, request: Message) -> None:
        self._app, self._request = app, request
        self._is_stream = True

    def begin(self) -> None:
        """Call the app, and prepare the first piece."""
        self._body = self._app(self._request, self._start_response)
        self._chunks: Iterator[bytes] = iter(self._body)
        self.proceed()

    def proceed(self) -> None:
        """Prepare the next piece: a chunk of a stream, otherwise up to `PIECE_BYTES`. Closes the answer at its end."""
        try:
            self.piece = b"".join(self._next_chunks())
        except BaseException:
            self.close()
            raise
        if not self.has_more:
            self.close()

    def close(self) -> None:
        """Let the app free what the answer holds."""
        self.has_more = False
        if close := getattr(self._body, "close", None):
            close()

    def _next_chunks(self) -> Iterator[bytes]:
        size = 0
        for chunk in self._chunks:
            yield chunk
            size += len(chunk)
            if size >= (1 if self._is_stream else PIECE_BYTES):
                self.has_more = True
                return
        self.has_more = False

    def _start_response(self, status: str, headers: list[tuple[str, str]], _: object = None) -> Callable[..., None]:
        self.status = int(status.split(" ", 1)[0])
        self.headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        self._is_stream = all(name != b"content-length" for name, _ in self.headers)
        return _no_write


def _no_write(_: bytes) -> None:
    raise NotImplementedError("Flask returns the body, and does not write it.")


async def _send_rest(call: _Call, receive: Receive, send: Send, in_thread: InThread) -> None:
    gone = asyncio.ensure_future(_discard_body(receive))
    try:
        while call.has_more and not gone.done():
            await in_thread(call.proceed)
            await send({"type": "http.response.body", "body": call.piece, "more_body": call.has_more})
    finally:
        gone.cancel()
        if call.has_more:
            await in_thread(call.close)


async def _read_body(receive: Receive) -> tuple[bool, bytes]:
    """Read a body, but stop after `MAX_BODY_BYTES`. Return whether the body is whole."""
    parts, size = [], 0
    while size <= MAX_BODY_BYTES:
        message = await receive()
        if message["type"] != "http.request":
            return False, b""
        parts.append(message["body"])
        size += len(message["body"])
        if not message["more_body"]:
            return True, b"".join(parts)
    return False, b"".join(parts)


async def _discard_body(receive: Receive) -> None:
    """Read what is left of a body, and return at its end or if the client has gone; then only if it has gone."""
    while (message := await receive())["type"] == "http.request" and message["more_body"]:
        pass


def _path_of(url: bytes) -> bytes:
    try:
        return urlsplit(url).path
    except ValueError:
        return b""


def environ(scope: Message, body: bytes) -> Message:
    """Return the WSGI environment of an ASGI request, as gunicorn's other workers set it."""
    path, query = scope["raw_path"], scope["query_string"].decode("latin-1")
    if not path.startswith(b"/"):  # a request to a proxy: `GET http://host/path`
        path = _path_of(path)
    address, port = scope["client"] or ("", "")  # a Unix socket has no address
    server, server_port = scope["server"] if scope["client"] else ("localhost", "80")
    request: Message = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": server,
        "SERVER_PORT": str(server_port),
        "REMOTE_ADDR": address,
        "REMOTE_PORT": str(port),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": BytesIO(body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").upper().replace("-", "_"), raw_value.decode("latin-1")
        key = name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"
        request[key] = f"{request[key]},{value}" if key in request else value
    return request
