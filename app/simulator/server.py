"""The REST API of a simulated account, as a WSGI app, with the faults of a bad day; and a server for it."""

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from random import Random
from wsgiref.handlers import format_date_time

from flask import Flask, Response, g, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException
from werkzeug.serving import WSGIRequestHandler, make_server

from app.simulator import action_routes, read_routes, rest_json, tokens
from app.simulator.account import Account
from app.simulator.auth import CLIENT_ID, CLIENT_SECRET, Forbidden, Gate, Unauthorized
from app.simulator.faults import PAGE, REFUSALS, SPOILS, Faults
from app.simulator.listing import BadQuery
from app.simulator.packages import Event, Impossible
from app.simulator.routes import BadRequest, Desk, NotFound

JSON = "application/json; esl-api-version=11"
POLL = 0.05  # seconds until it is noticed that the block is left
OPEN = frozenset({"/apitoken/clientApp/accessToken", "/oauth2/token"})  # who has no token yet may ask here

# How what goes wrong is answered: the status, the key of the error, the message.
REFUSED: dict[type[Exception], tuple[int, str, str]] = {
    Unauthorized: (401, "unauthorized", "The credentials are not of this account."),
    Forbidden: (403, "forbidden.noPermission", "You do not have permission to see that."),
    NotFound: (404, "notFound", "The specified resource was not found."),
    BadQuery: (400, "validation", "The parameter {} has a value it cannot have."),
    BadRequest: (400, "validation", "Of the request {} cannot be read."),
    Impossible: (422, "unprocessableEntity", "That cannot be done: {}."),
}


class Cut(ConnectionError):
    """The connection ends here."""


def api(
    account: Account,
    *,
    api_key: str,
    clock: Callable[[], datetime],
    client_id: str = CLIENT_ID,
    client_secret: str = CLIENT_SECRET,
    faults: Faults | None = None,
    sleep: Callable[[float], None] = time.sleep,
    tell: Callable[[Iterable[Event]], None] = lambda _: None,
) -> Flask:
    """The WSGI app. Answers only who shows an API key (`api_key` is the owner's) or a token of this account.

    `tell` is given the events of what callers do by hand, `sleep` the seconds by which a fault delays an answer.
    """
    app = Flask("simulated-onespan", static_folder=None)
    desk = Desk(account, Gate(account, api_key=api_key, client_id=client_id, client_secret=client_secret), clock, tell)
    _dated(app, clock)
    _faulty(app, faults or Faults(Random(0)), clock=clock, sleep=sleep)
    _guarded(app, desk)
    for pages in (
        read_routes.routes(desk),
        read_routes.file_routes(desk),
        action_routes.routes(desk),
        tokens.routes(desk),
    ):
        app.register_blueprint(pages)
    return app


def _dated(app: Flask, clock: Callable[[], datetime]) -> None:
    @app.after_request
    def date(response: Response) -> Response:
        response.headers["Date"] = format_date_time(clock().timestamp())
        if response.status_code == 200 and response.mimetype == "application/json":  # noqa: PLR2004
            response.headers["Content-Type"] = JSON
        return response


def _faulty(app: Flask, faults: Faults, *, clock: Callable[[], datetime], sleep: Callable[[float], None]) -> None:
    @app.before_request
    def refuse() -> ResponseReturnValue | None:
        g.fault = faults.draw()
        if g.fault == "slow":
            sleep(faults.seconds())
        return _refusal(g.fault, faults, clock()) if g.fault in REFUSALS else None

    @app.after_request
    def spoil(response: Response) -> Response:
        if g.fault == "cut":
            return _cut(response)
        if g.fault in SPOILS and response.mimetype == "application/json" and response.status_code == 200:  # noqa: PLR2004
            response.set_data(faults.spoiled(g.fault, response.get_data()))
        if g.fault == "html":
            response.set_data(PAGE)
            response.content_type = "text/html"
        return response


def _refusal(fault: str, faults: Faults, now: datetime) -> ResponseReturnValue:
    code, key, message = REFUSALS[fault]
    if not key:
        return Response(PAGE, code, content_type="text/html")
    if fault != "429-wait":
        return rest_json.error(code, key, message), code
    seconds, as_date = faults.wait()
    until = format_date_time((now + timedelta(seconds=seconds)).timestamp()) if as_date else str(seconds)
    return rest_json.error(code, key, message), code, {"Retry-After": until}


def _cut(response: Response) -> Response:
    """The beginning of the answer, and then nothing: the connection is closed."""
    parts = iter(response.response)
    first: object = next(parts, b"")
    raw = first if isinstance(first, bytes) else str(first).encode()
    response.headers.setdefault("Content-Length", str(len(raw) + 1))
    response.headers["Connection"] = "close"

    def broken() -> Iterator[bytes]:
        yield raw[: len(raw) // 2]
        raise Cut

    response.response = broken()
    return response


def _guarded(app: Flask, desk: Desk) -> None:
    @app.before_request
    def believe() -> None:
        if request.path not in OPEN:
            g.caller = desk.gate.caller(request.headers.get("Authorization", ""), now=desk.clock())

    for kind in REFUSED:
        app.register_error_handler(kind, _refused)

    @app.errorhandler(HTTPException)
    def other(problem: HTTPException) -> ResponseReturnValue:
        return rest_json.error(problem.code or 500, "request", problem.name), problem.code or 500


def _refused(problem: Exception) -> ResponseReturnValue:
    code, key, message = REFUSED[type(problem)]
    return rest_json.error(code, key, message.format(problem)), code


class _Quiet(WSGIRequestHandler):
    """Answers over one connection for as long as the caller likes, and writes no line for each request."""

    protocol_version = "HTTP/1.1"

    def send_response(self, code: int, message: str | None = None) -> None:
        """The status alone; the app says the date by its own clock."""
        self.send_response_only(code, message)


@contextmanager
def answering(app: Flask, *, port: int) -> Iterator[str]:
    """Answer on this machine, from a thread, while the block runs; gives the address. Port 0 takes a free one.

    Raises `OSError` where the port cannot be had.
    """
    with socket.create_server(("127.0.0.1", port)) as listening:  # raises, where the server would end the process
        port = listening.getsockname()[1]
        server = make_server("127.0.0.1", port, app, threaded=True, request_handler=_Quiet, fd=listening.fileno())
    thread = threading.Thread(target=server.serve_forever, args=(POLL,), name="simulated-onespan", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
