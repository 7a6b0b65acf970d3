"""POST requests of OneSpan to an address that is nearly, or not at all, the receiver's."""

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from urllib.parse import unquote
from wsgiref.types import StartResponse, WSGIEnvironment

import structlog
from flask import Flask, Response, request
from sqlalchemy.exc import SQLAlchemyError

from app.onespan.registration import RECEIVER_PATH, is_receiver_path
from app.store import misdirected
from app.store.db import Database
from app.web.auth import authenticate

log = structlog.get_logger()

RECEIVER = "receiver.receive"  # the endpoint that takes callbacks
BUSY = 503  # the status of a request that admission control refuses


def accept_near_addresses(app: Flask) -> None:
    """Take a POST to `/onespan/callback/`, in other case or with doubled slashes, like one to `/onespan/callback`.

    OneSpan may not follow a redirect, so the path is replaced before routing.
    """
    wsgi_app = app.wsgi_app

    def replace_near_path(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("REQUEST_METHOD") == "POST" and is_receiver_path(environ.get("PATH_INFO", "")):
            environ["PATH_INFO"] = RECEIVER_PATH
        return wsgi_app(environ, start_response)

    app.wsgi_app = replace_near_path  # type: ignore[method-assign]


def count_misdirected_callbacks(
    app: Flask, database: Database, *, keys: Sequence[tuple[str, str]], clock: Callable[[], datetime]
) -> None:
    """Log and count each POST with a valid callback key to a path that is not the receiver's.

    `keys` are (label, key) pairs. The answer does not change.
    """

    @app.after_request
    def count(response: Response) -> Response:
        if request.method != "POST" or request.endpoint == RECEIVER or response.status_code == BUSY:
            return response
        key = authenticate(request.headers.get("Authorization"), scheme="basic", keys=keys)
        if key is not None:
            path = shown_path(request.path, secrets=[secret for _, secret in keys])
            log.warning("callback.misdirected", path=path, key=key, status=response.status_code)
            _record(database, path, now=clock())
        return response


def shown_path(path: str, *, secrets: Sequence[str]) -> str:
    """Return a path without callback keys, email addresses and characters that a log or database refuses.

    A key or address is recognised however often it is percent-encoded.
    """
    shown, decoded = None, path
    while shown != decoded:
        shown = decoded
        for secret in secrets:
            shown = shown.replace(secret, "***")
        decoded = unquote(shown)
    printable = "".join(character if character.isprintable() else "?" for character in shown)
    return re.sub(r"[^/]*@[^/]*", "***", printable)[: misdirected.MAX_PATH_LENGTH]


def _record(database: Database, path: str, *, now: datetime) -> None:
    try:
        with database.write() as connection:
            misdirected.record(connection, path, now=now)
    except SQLAlchemyError as error:  # the log line remains
        log.error("callback.not_counted", error=type(error).__name__)
