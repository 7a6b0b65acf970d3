"""Errors as every edge says them: `{"error": {"code", "message"}}` and the right status."""

from collections.abc import Callable, Mapping
from http import HTTPStatus

import structlog
from flask import Flask, Response, jsonify
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import OperationalError, ProgrammingError, TimeoutError  # noqa: A004  (of waiting for a connection)
from werkzeug.exceptions import HTTPException

from app.logs import what_and_where

log = structlog.get_logger()


def refuse(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as JSON."""
    response = jsonify(error={"code": code, "message": message})
    response.status_code = status
    response.headers.update(headers or {})
    return response


def answer_errors(app: Flask, *, is_behind: Callable[[], bool]) -> None:
    """Let every error of this app be JSON, and none of them tell secrets. `is_behind`: migrations are missing."""

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
