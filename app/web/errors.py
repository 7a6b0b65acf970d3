"""Error responses: a page for people, `{"error": {"code", "message"}}` for machines."""

from collections.abc import Callable, Mapping
from http import HTTPStatus

import structlog
from flask import Flask, Response, jsonify, make_response, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import OperationalError, ProgrammingError, TimeoutError  # noqa: A004  (no free connection in time)
from werkzeug.exceptions import HTTPException, NotFound

from app.logs import error_fields

log = structlog.get_logger()

MACHINE_PATHS = ("/api/", "/onespan", "/healthz", "/readyz", "/metrics")  # paths that always answer errors in JSON
TITLES = {
    400: "Invalid request",
    401: "Please log in",
    403: "Not allowed",
    404: "Not found",
    405: "Not allowed",
    409: "Not possible right now",
    413: "Request too large",
    429: "Too many attempts",
    500: "Something went wrong",
    503: "Temporarily unavailable",
}


def error_response(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error response: JSON for machines, a page for people."""
    if _wants_page():
        title = TITLES.get(status, HTTPStatus(status).phrase)
        response = make_response(render_template("error.html", status=status, title=title, message=message))
    else:
        response = jsonify(error={"code": code, "message": message})
    response.status_code = status
    response.headers.update(headers or {})
    return response


def _wants_page() -> bool:
    if request.path == "/api" or request.path.startswith(MACHINE_PATHS):
        return False
    return request.accept_mimetypes.best_match(("text/html", "application/json"), "text/html") == "text/html"


def _description(error: HTTPException) -> str:
    """Return the message of an error; an unknown URL gets one that fits the client."""
    if error.description == NotFound.description:
        return "There is no page at this address." if _wants_page() else "There is no such endpoint."
    return error.description or HTTPStatus(error.code or 500).description


def register_error_handlers(app: Flask, *, is_behind: Callable[[], bool]) -> None:
    """Answer every error of this app with `error_response`, without secrets. Unexpected errors become 500.

    `is_behind` returns whether the database lacks a migration.
    """

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> ResponseReturnValue:
        status = error.code or 500
        code = error.name.lower().replace(" ", "_")
        headers = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}
        return error_response(status, code, _description(error), headers)

    @app.errorhandler(OperationalError)
    @app.errorhandler(TimeoutError)
    def database_unavailable(error: OperationalError | TimeoutError) -> ResponseReturnValue:
        log.error("database.unavailable", error=type(error).__name__)
        return error_response(
            503, "database_unavailable", "The database does not respond. Try again.", {"Retry-After": "5"}
        )

    @app.errorhandler(ProgrammingError)
    def database_behind(error: ProgrammingError) -> ResponseReturnValue:
        if not is_behind():
            return unexpected_error(error)
        log.error("database.behind")
        return error_response(503, "database_behind", "The database schema is not up to date: run `flask db upgrade`.")

    @app.errorhandler(Exception)
    def unexpected_error(error: Exception) -> ResponseReturnValue:
        log.error("request.failed", **error_fields(error))
        return error_response(500, "our_fault", "Something went wrong. The error is logged. Nothing was changed.")
