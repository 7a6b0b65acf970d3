"""Admission control, which keeps threads free for callbacks, however many other requests arrive."""

import threading
from collections.abc import Collection

from flask import Flask, Response, g, request
from flask.typing import ResponseReturnValue

from app.web.errors import error_response

RESERVED_SHARE = 4  # one thread in four, and at least one, is reserved for callbacks


def unreserved(threads: int) -> int:
    """Return how many of the threads of a process all other requests may use."""
    return threads - max(1, threads // RESERVED_SHARE)


def reserve_threads_for_callbacks(app: Flask, *, threads: int, exempt: Collection[str]) -> None:
    """Answer 503 to a request while all unreserved `threads` of this process are busy.

    Requests to endpoints in `exempt` may use the reserved threads. A slow database holds the threads of readers, and a
    slow client holds the database connection of an export. OneSpan must still get an answer.
    """
    slots = threading.BoundedSemaphore(unreserved(threads))

    @app.before_request
    def acquire_slot() -> ResponseReturnValue | None:
        if request.endpoint in exempt:
            return None
        if not slots.acquire(blocking=False):
            return error_response(503, "busy", "Too many concurrent requests. Try again.", {"Retry-After": "1"})
        g.has_slot = True
        return None

    @app.after_request
    def hold_slot_while_streaming(response: Response) -> Response:
        response.direct_passthrough = False  # a file, too, then calls its close callbacks
        if response.is_streamed and g.pop("has_slot", False):
            response.call_on_close(slots.release)
        return response

    @app.teardown_request
    def release_slot(_: BaseException | None) -> None:
        if g.pop("has_slot", False):
            slots.release()
