"""gunicorn's worker class of the service. An event loop owns all connections, so no client can hold a thread."""

import asyncio
import os
import resource
import sys
from typing import Any

import structlog
from gunicorn.asgi.parser import ParseError
from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.workers.gasgi import ASGIWorker

from app.onespan.compression import MAX_BODY_BYTES
from app.web.whole_requests import WholeRequests

log = structlog.get_logger()

ARRIVAL_SECONDS = 10.0  # time for a request to arrive whole, and for a new connection to send its first byte
DRAIN_SECONDS = 10.0  # time for a client to read `DRAIN_BYTES` of an answer, or all that is left
DRAIN_BYTES = 16 * 1024
READ_BYTES = 16 * 1024  # bytes that the event loop reads from a connection before it does other work
MAX_PIECES = 1024  # of one body: each chunk takes the event loop some time, however short it is
NEW_SECONDS = 1.0  # a connection that is younger is not ended for others
STOPPING_SECONDS = 1.0  # how long a stopping worker waits for a request on an idle connection
CHECK_SECONDS = 1.0  # time between two checks of all connections
ACCEPTS_AT_ONCE = 16  # connections that the event loop accepts before it does other work
SWITCH_SECONDS = 0.0005  # after this time, a thread that computes lets the event loop go on
MAX_CONNECTIONS = 2048  # of one process, to limit its memory
FILES_PER_THREAD = 4  # a database connection, which is three files with SQLite, and a spool file
OTHER_FILES = 128  # bound sockets, logs, handlers, the worker's turns, and connections that are being accepted


def connection_limit(open_files: int, *, threads: int) -> int:
    """Return how many connections a process accepts that may open `open_files` files."""
    return max(threads, min(MAX_CONNECTIONS, open_files - threads * FILES_PER_THREAD - OTHER_FILES))


class Connection(ASGIProtocol):  # type: ignore[misc]  # gunicorn has no types
    """A connection that ends if its client lets the service wait for too long."""

    worker: "ReceiverWorker"

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Start with the first request; at the limit, end the connection whose client has let us wait longest."""
        self._unread, self._unread_since = 0, 0.0
        self._has_eof = False
        self._await_request(ARRIVAL_SECONDS)
        self.opened_at = self._awaited_since
        super().connection_made(transport)
        self._max_buffer_size = 2 * MAX_BODY_BYTES
        if hasattr(transport, "max_size"):  # TLS has its own sizes
            transport.max_size = READ_BYTES
        self.worker.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End what waits for the client: the loop that reads requests, and answers that it does not read."""
        self.worker.connections.discard(self)
        super().connection_lost(exc)
        self._request_ready.set()
        self._flow_control.resume_writing()

    def eof_received(self) -> bool:
        """Keep the connection of a client that sends no more, but still waits for an answer."""
        self._has_eof = True
        return self._is_answering

    @property
    def waiting_since(self) -> float | None:
        """Since when the service waits for the client; None while the client waits for the service."""
        if self._unread:
            return self._unread_since
        return None if self._is_answering else self._awaited_since

    def check(self, now: float) -> None:
        """End the connection if the service has waited for too long. Call it every second."""
        self._measure_unread(now)
        if self._unread:
            if now >= self._unread_since + DRAIN_SECONDS:
                self.end()
        elif not self._is_answering and now >= self._awaited_since + self._patience():
            if self._is_arriving and not self._is_answered:
                self._send_error_response(408, "The request did not arrive in time.")
            self._close()

    def end(self) -> None:
        """Close the connection at once, whatever the client has yet to read."""
        self.worker.connections.discard(self)
        self.transport.abort()

    def _close_transport(self) -> None:
        """Close the connection, also if the client has reset it, which gunicorn takes for closed."""
        super()._close_transport()
        if self.transport and not self.transport.is_closing():
            self.transport.abort()

    def _close(self) -> None:
        self._close_transport()
        self._request_ready.set()

    def resume_writing(self) -> None:
        """Count it as progress that the client has read most of what was left."""
        self._unread = 0
        super().resume_writing()

    def _measure_unread(self, now: float) -> None:
        unread = self.transport.get_write_buffer_size()
        if not unread or not self._unread or unread <= self._unread - DRAIN_BYTES:
            self._unread, self._unread_since = unread, now

    def _patience(self) -> float:
        return self._allowed if self.worker.alive or self._is_arriving else STOPPING_SECONDS

    def _await_request(self, seconds: float, *, is_arriving: bool = False) -> None:
        self._awaited_since, self._allowed = self.worker.loop.time(), seconds
        self._is_arriving, self._pieces = is_arriving, 0
        self._is_answering = self._is_answered = False

    def _feed_callback_parser(self, data: bytes) -> bool:
        """Start the time of a request with its first byte."""
        is_between_requests = self._current_request is None
        if is_between_requests and not self._is_arriving:
            self._await_request(ARRIVAL_SECONDS, is_arriving=True)
        return bool(super()._feed_callback_parser(data))

    def _on_body(self, chunk: bytes) -> None:
        """Refuse a body in very many chunks, which would keep the event loop from other connections."""
        self._pieces += 1
        if self._pieces > MAX_PIECES:
            raise ParseError("The body has too many chunks.")
        super()._on_body(chunk)

    def _send_error_response(self, status: int, message: str, *args: Any) -> None:
        """Answer a request that is malformed or late. The message may quote the request, so no log line has it."""
        address = self.transport.get_extra_info("peername") if self.transport else None
        log.warning("request.malformed", status=status, address=address[0] if address else None)
        super()._send_error_response(status, message, *args)

    def _on_message_complete(self) -> None:
        self._is_arriving, self._is_answering = False, True
        super()._on_message_complete()

    def _send_response_start(self, *args: Any, **options: Any) -> None:
        self._is_answered = True
        super()._send_response_start(*args, **options)

    def _arm_keepalive_timer(self) -> None:
        """Wait for the next request, unless its first bytes are there. `check` replaces gunicorn's timer."""
        if self._has_eof:
            self._close()
        elif not self._is_arriving:
            self._await_request(self._keepalive)

    def _cancel_task_if_pending(self) -> None:
        """Let a request end by itself: its thread would go on, and would never give back what it holds."""

    def _will_close(self, request: Any, response_requires_close: Any) -> bool:
        """Close after HTTP/1.0, where the end of a stream is the end of the connection."""
        return request.version < (1, 1) or bool(super()._will_close(request, response_requires_close))

    def _is_websocket_upgrade(self, _: Any) -> bool:
        return False


class ReceiverWorker(ASGIWorker):  # type: ignore[misc]
    """A worker that serves a WSGI app. `threads` requests run at once, each only when it has arrived whole."""

    alive: bool
    wsgi: Any
    asgi: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.connections: set[Connection] = set()

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Accept `threads`, of which gunicorn's ASGI worker warns."""

    def load_wsgi(self) -> None:
        """Load the app, which is WSGI and not ASGI."""
        super().load_wsgi()
        self.wsgi = self.asgi
        self.asgi = WholeRequests(self.wsgi, threads=self.cfg.threads)

    def add(self, connection: Connection) -> None:
        """Add a connection; at the limit, end the one whose client has let the service wait longest."""
        if len(self.connections) >= self.worker_connections:
            self.close_idle()
        self.connections.add(connection)

    def close_idle(self) -> None:
        """End the connection whose client has let the service wait longest.

        A new connection may be about to send a callback. So if only new ones wait, and most connections are answered,
        the connection that is open longest ends.
        """
        now = self.loop.time()
        waiting = [connection for connection in self.connections if connection.waiting_since is not None]
        old = [connection for connection in self.connections if now - connection.opened_at >= NEW_SECONDS]
        long_waiting = [connection for connection in old if connection.waiting_since is not None]
        if long_waiting or len(waiting) > len(old):
            min(long_waiting or waiting, key=lambda connection: connection.waiting_since or 0).end()
        elif old:
            min(old, key=lambda connection: connection.opened_at).end()

    async def _serve(self) -> None:
        """Serve until the worker must stop, then let running requests finish."""
        open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.worker_connections = connection_limit(open_files, threads=self.cfg.threads)
        for bound in self.sockets:
            server = await self.loop.create_server(
                lambda: Connection(self), sock=bound.sock, backlog=ACCEPTS_AT_ONCE, ssl=self._get_ssl_context()
            )
            bound.sock.listen(self.cfg.backlog)  # asyncio uses its own `backlog` for this, too
            self.servers.append(server)
        sys.setswitchinterval(SWITCH_SECONDS)
        self._check_connections()
        while self.alive and self.ppid == os.getppid():
            self.notify()
            await asyncio.sleep(CHECK_SECONDS)
        self.alive = False
        await self._shutdown()

    def _check_connections(self) -> None:
        self.loop.call_later(CHECK_SECONDS, self._check_connections)
        now = self.loop.time()
        for connection in list(self.connections):
            connection.check(now)
