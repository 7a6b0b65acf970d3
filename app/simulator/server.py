"""The REST API of a simulated account, as a WSGI app with faults, and a server for the app."""

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

from app.simulator import (
    action_routes,
    approval_routes,
    document_routes,
    read_routes,
    rest_json,
    role_routes,
    sender_routes,
    sending_routes,
    signer_sessions,
    signing_routes,
    tokens,
)
from app.simulator.account import Account
from app.simulator.auth import CLIENT_ID, CLIENT_SECRET, SESSION_COOKIE, Authenticator, Forbidden, Unauthorized
from app.simulator.faults import CORRUPTIONS, HTML_REFUSALS, MAINTENANCE_PAGE, REFUSALS, Faults
from app.simulator.listing import BadQuery
from app.simulator.packages import Event, ImpossibleAction
from app.simulator.routes import BadRequest, NotFound, RouteContext

JSON = "application/json; esl-api-version=11"
SHUTDOWN_POLL_SECONDS = 0.05
# The paths that need no API key or token; the last two need a token or session of a signer.
PUBLIC_PATHS = frozenset({"/apitoken/clientApp/accessToken", "/oauth2/token", "/auth", signer_sessions.CEREMONY})

# The answer to each error: HTTP status, key of the error, message.
ERRORS: dict[type[Exception], tuple[int, str, str]] = {
    Unauthorized: (401, "unauthorized", "The credentials are not of this account."),
    Forbidden: (403, "forbidden.noPermission", "You do not have permission to see that."),
    NotFound: (404, "notFound", "The specified resource was not found."),
    BadQuery: (400, "validation", "The parameter {} has an invalid value."),
    BadRequest: (400, "validation", "The request cannot be read: {}."),
    ImpossibleAction: (422, "unprocessableEntity", "The action is not possible: {}."),
}


class ConnectionCut(ConnectionError):
    """The connection ends in the middle of an answer."""


def api(
    account: Account,
    *,
    api_key: str,
    clock: Callable[[], datetime],
    client_id: str = CLIENT_ID,
    client_secret: str = CLIENT_SECRET,
    faults: Faults | None = None,
    sleep: Callable[[float], None] = time.sleep,
    notify: Callable[[Iterable[Event]], None] = lambda _: None,
) -> Flask:
    """Return the WSGI app. Requests need an API key (`api_key` is the owner's) or a token of the account.

    `notify` receives the events of actions over REST. `sleep` receives the seconds by which a fault delays an answer.
    """
    app = Flask("simulated-onespan", static_folder=None)
    context = RouteContext(
        account,
        Authenticator(account, api_key=api_key, client_id=client_id, client_secret=client_secret),
        clock,
        notify,
    )
    sessions = signer_sessions.Sessions()
    _add_date_header(app, clock)
    _add_faults(app, faults or Faults(Random(0)), clock=clock, sleep=sleep)
    _add_authentication(app, context)
    for blueprint in (
        read_routes.routes(context),
        read_routes.file_routes(context),
        action_routes.routes(context),
        sending_routes.routes(context),
        document_routes.routes(context),
        document_routes.document_routes(context),
        approval_routes.routes(context),
        approval_routes.field_routes(context),
        role_routes.routes(context),
        signer_sessions.routes(context, sessions),
        signing_routes.routes(context, sessions),
        sender_routes.routes(context),
        tokens.routes(context),
    ):
        app.register_blueprint(blueprint)
    return app


def _add_date_header(app: Flask, clock: Callable[[], datetime]) -> None:
    @app.after_request
    def date(response: Response) -> Response:
        response.headers["Date"] = format_date_time(clock().timestamp())
        if response.status_code == 200 and response.mimetype == "application/json":  # noqa: PLR2004
            response.headers["Content-Type"] = JSON
        return response


def _add_faults(app: Flask, faults: Faults, *, clock: Callable[[], datetime], sleep: Callable[[float], None]) -> None:
    @app.before_request
    def refuse() -> ResponseReturnValue | None:
        g.fault = faults.draw()
        if g.fault == "404" and not request.path.startswith("/api/packages/"):
            g.fault = None  # only a package can be missing
        if g.fault == "slow":
            sleep(faults.slow_seconds())
        return _refuse(g.fault, faults, clock()) if g.fault in REFUSALS else None

    @app.after_request
    def corrupt(response: Response) -> Response:
        if g.fault == "cut":
            return _cut(response)
        is_json = response.mimetype == "application/json"
        if g.fault in CORRUPTIONS and is_json and response.status_code == 200:  # noqa: PLR2004
            response.set_data(faults.corrupt(g.fault, response.get_data()))
        if g.fault == "html":
            response.set_data(MAINTENANCE_PAGE)
            response.content_type = "text/html"
        return response


def _refuse(fault: str, faults: Faults, now: datetime) -> ResponseReturnValue:
    code, key, message = REFUSALS[fault]
    if not key:
        page, headers = HTML_REFUSALS[fault]
        return Response(page, code, headers=headers, content_type="text/html")
    if fault != "429-wait":
        return rest_json.dump_error(code, key, message), code
    seconds, as_date = faults.retry_after()
    retry_after = format_date_time((now + timedelta(seconds=seconds)).timestamp()) if as_date else str(seconds)
    return rest_json.dump_error(code, key, message), code, {"Retry-After": retry_after}


def _cut(response: Response) -> Response:
    """Let the response send only its beginning and then close the connection."""
    parts = iter(response.response)
    first: object = next(parts, b"")
    raw = first if isinstance(first, bytes) else str(first).encode()
    response.headers.setdefault("Content-Length", str(len(raw) + 1))
    response.headers["Connection"] = "close"

    def broken() -> Iterator[bytes]:
        yield raw[: len(raw) // 2]
        raise ConnectionCut

    response.response = broken()
    return response


def _add_authentication(app: Flask, context: RouteContext) -> None:
    @app.before_request
    def authenticate() -> None:
        """Find the caller. A signer's session is no caller; the routes for signing know its cookie."""
        authorization = request.headers.get("Authorization", "")
        if request.path not in PUBLIC_PATHS and (authorization or SESSION_COOKIE not in request.cookies):
            g.caller = context.authenticator.caller(authorization, now=context.clock())

    for kind in ERRORS:
        app.register_error_handler(kind, _error_response)

    @app.errorhandler(HTTPException)
    def http_error(problem: HTTPException) -> ResponseReturnValue:
        return rest_json.dump_error(problem.code or 500, "request", problem.name), problem.code or 500


def _error_response(problem: Exception) -> ResponseReturnValue:
    code, key, message = ERRORS[type(problem)]
    return rest_json.dump_error(code, key, message.format(problem)), code


class _QuietHandler(WSGIRequestHandler):
    """A request handler that keeps connections open and logs no requests."""

    protocol_version = "HTTP/1.1"

    def send_response(self, code: int, message: str | None = None) -> None:
        """Send only the status line, because the app sets `Date` from its own clock."""
        self.send_response_only(code, message)


@contextmanager
def serve_in_thread(app: Flask, *, port: int) -> Iterator[str]:
    """Serve the app on 127.0.0.1 in a thread while the block runs, and yield the server's address.

    Port 0 means any free port. Raises `OSError` if the port is not available.
    """
    # `create_server` raises `OSError` where `make_server` would exit the process.
    with socket.create_server(("127.0.0.1", port)) as bound:
        port = bound.getsockname()[1]
        server = make_server("127.0.0.1", port, app, threaded=True, request_handler=_QuietHandler, fd=bound.fileno())
    thread = threading.Thread(
        target=server.serve_forever, args=(SHUTDOWN_POLL_SECONDS,), name="simulated-onespan", daemon=True
    )
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
