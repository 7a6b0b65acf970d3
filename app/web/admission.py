"""Threads that are kept for callbacks, however many others ask something."""

import threading
from collections.abc import Collection

from flask import Flask, Response, g, request
from flask.typing import ResponseReturnValue

from app.web.errors import refuse

FOR_CALLBACKS = 4  # one thread in so many is never given to anybody else


def keep_places_for_callbacks(app: Flask, *, threads: int, free_for_all: Collection[str]) -> None:
    """Let most endpoints have most of this process's `threads` and no more; those that are `free_for_all` need none.

    A database that is slow to answer holds the threads of those who read, and a client that is slow to take holds the
    one that writes to it; OneSpan must still be answered.
    """
    free = threading.BoundedSemaphore(threads - max(1, threads // FOR_CALLBACKS))

    @app.before_request
    def take() -> ResponseReturnValue | None:
        if request.endpoint in free_for_all:
            return None
        if not free.acquire(blocking=False):
            return refuse(503, "busy", "Too many requests at once; try again.", {"Retry-After": "1"})
        g.has_place = True
        return None

    @app.after_request
    def keep_while_it_is_written(response: Response) -> Response:
        is_file = response.direct_passthrough  # short, and nobody would tell us of its end
        if response.is_streamed and not is_file and g.pop("has_place", False):
            response.call_on_close(free.release)
        return response

    @app.teardown_request
    def give_back(_: BaseException | None) -> None:
        if g.pop("has_place", False):
            free.release()
