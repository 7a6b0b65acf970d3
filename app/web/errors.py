"""Errors as every edge says them: `{"error": {"code", "message"}}`, or a page, and the right status."""

from collections.abc import Callable, Mapping
from http import HTTPStatus

import structlog
from flask import Flask, Response, jsonify, make_response, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import OperationalError, ProgrammingError, TimeoutError  # noqa: A004  (of waiting for a connection)
from werkzeug.exceptions import HTTPException

from app.logs import what_and_where

log = structlog.get_logger()

OF_MACHINES = ("/api/", "/onespan", "/healthz", "/readyz", "/metrics")  # paths that no person looks at
TITLES = {
    400: "That did not work",
    401: "Please log in",
    403: "This is not for you to do",
    404: "There is nothing here",
    405: "That cannot be done here",
    409: "Not now",
    413: "That is too much",
    429: "Too many tries",
    500: "Something went wrong here",
    503: "Not available now",
}


def refuse(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error, as JSON for machines and as a page for people."""
    if _is_for_people():
        title = TITLES.get(status, HTTPStatus(status).phrase)
        response = make_response(render_template("error.html", status=status, title=title, message=message))
    else:
        response = jsonify(error={"code": code, "message": message})
    response.status_code = status
    response.headers.update(headers or {})
    return response


def _is_for_people() -> bool:
    if request.path == "/api" or request.path.startswith(OF_MACHINES):
        return False
    return request.accept_mimetypes.best_match(("text/html", "application/json"), "text/html") == "text/html"


def answer_errors(app: Flask, *, is_behind: Callable[[], bool]) -> None:
    """Answer every error of this app with `refuse`, and let none tell secrets. `is_behind`: migrations are missing."""

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> ResponseReturnValue:
        status = error.code or 500
        code = error.name.lower().replace(" ", "_")
        kept = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}
        return refuse(status, code, error.description or HTTPStatus(status).description, kept)

    @app.errorhandler(OperationalError)
    @app.errorhandler(TimeoutError)
    def database_away(error: OperationalError | TimeoutError) -> ResponseReturnValue:
        log.error("database.unavailable", error=type(error).__name__)
        return refuse(503, "database_unavailable", "The database does not answer; try again.", {"Retry-After": "5"})

    @app.errorhandler(ProgrammingError)
    def database_of_another_time(error: ProgrammingError) -> ResponseReturnValue:
        if not is_behind():
            return our_fault(error)
        log.error("database.behind")
        return refuse(503, "database_behind", "The database is not at this version: run `flask db upgrade`.")

    @app.errorhandler(Exception)
    def our_fault(error: Exception) -> ResponseReturnValue:
        log.error("request.failed", **what_and_where(error))
        return refuse(500, "our_fault", "Something went wrong here. It is logged; nothing was changed.")
