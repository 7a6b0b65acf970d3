"""Threads that are kept for callbacks, however many others ask something."""

import threading

from flask import Flask, g, request
from flask.typing import ResponseReturnValue

from app.web.errors import refuse

FOR_CALLBACKS = 4  # one thread in so many is never given to anybody else


def keep_places_for_callbacks(app: Flask, *, threads: int, door: str) -> None:
    """Let others have most of this process's `threads` and no more; `door` is the endpoint that takes callbacks.

    A database that is slow to answer holds the threads of those who read; OneSpan must still be answered.
    """
    free = threading.BoundedSemaphore(threads - max(1, threads // FOR_CALLBACKS))

    @app.before_request
    def take() -> ResponseReturnValue | None:
        if request.endpoint == door:
            return None
        if not free.acquire(blocking=False):
            return refuse(503, "busy", "Too many requests at once; try again.", {"Retry-After": "1"})
        g.has_place = True
        return None

    @app.teardown_request
    def give_back(_: BaseException | None) -> None:
        if g.pop("has_place", False):
            free.release()
