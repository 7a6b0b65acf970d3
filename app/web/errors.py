"""Errors as every edge says them: `{"error": {"code", "message"}}` and the right status."""

import traceback
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

import structlog
from flask import Flask, Response, jsonify
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import OperationalError, TimeoutError  # noqa: A004  (of waiting for a connection)
from werkzeug.exceptions import HTTPException

log = structlog.get_logger()


def refuse(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as JSON."""
    response = jsonify(error={"code": code, "message": message})
    response.status_code = status
    response.headers.update(headers or {})
    return response


def answer_errors(app: Flask) -> None:
    """Let every error of this app be JSON, and none of them tell secrets."""

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

    @app.errorhandler(Exception)
    def our_fault(error: Exception) -> ResponseReturnValue:
        # Only where, not what: an error's text may quote a row, and with it a person or a key.
        frames = traceback.extract_tb(error.__traceback__)[-5:]
        where = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames]
        log.error("request.failed", error=type(error).__name__, where=where)
        return refuse(500, "our_fault", "Something went wrong here. It is logged; nothing was changed.")
