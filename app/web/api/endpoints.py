"""Registration of views as API endpoints, with validated parameters, JSON answers and documentation."""

import re
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any, TypeVar

from flask import Blueprint, Response, current_app, request
from flask.typing import ResponseReturnValue
from pydantic import BaseModel

from app.errors import ReceiverError
from app.store.queries import BadCursor, Page
from app.web.api.openapi import Document, Endpoint
from app.web.api.parameters import parse_body, parse_query, reject_parameters
from app.web.api.schemas import adapter_of
from app.web.request_body import request_body

Item = TypeVar("Item")
View = Callable[..., Any]


class ResourceNotFound(ReceiverError):
    """Not found."""


class Endpoints:
    """The endpoints of a blueprint under `/api`, and their OpenAPI document."""

    def __init__(self, blueprint: Blueprint) -> None:
        self.document = Document()
        self._blueprint = blueprint

    def get(
        self,
        path: str,
        *,
        answer: Any,
        query: type[BaseModel] | None = None,
        errors: tuple[int, ...] = (),
        bearer: bool = True,
    ) -> Callable[[View], View]:
        """Register a view for GET, which gets the parsed parameters as `query`. Without `bearer` no token is needed."""
        adapter = adapter_of(answer)

        def register(view: View) -> View:
            self.document.add(Endpoint("GET", path, view, answer=answer, query=query, errors=errors, bearer=bearer))

            @wraps(view)
            def respond(**path_parameters: Any) -> ResponseReturnValue:
                parsed = {"query": parse_query(query, request.args)} if query else reject_parameters(request.args)
                return conditional(json_response(adapter.dump_json(view(**path_parameters, **parsed))))

            self._blueprint.get(path.removeprefix("/api"))(respond)
            return view

        return register

    def post(
        self,
        path: str,
        *,
        answer: Any,
        body: type[BaseModel] | None = None,
        errors: tuple[int, ...] = (),
        status: int = HTTPStatus.OK,
    ) -> Callable[[View], View]:
        """Register a view for POST, which gets the parsed JSON as `body`. All members of the JSON are optional."""
        adapter = adapter_of(answer)

        def register(view: View) -> View:
            statuses = (*errors, HTTPStatus.REQUEST_ENTITY_TOO_LARGE) if body else errors
            self.document.add(Endpoint("POST", path, view, answer=answer, body=body, errors=statuses, status=status))

            @wraps(view)
            def respond(**path_parameters: Any) -> ResponseReturnValue:
                reject_parameters(request.args)
                parsed = {"body": parse_body(body, request_body())} if body else {}
                return json_response(adapter.dump_json(view(**path_parameters, **parsed)), status)

            self._blueprint.post(path.removeprefix("/api"))(respond)
            return view

        return register


def page_of(items: list[Item], limit: int) -> Page[Item]:
    """Return a page of the first `limit` items. A further item means that there is a next page."""
    last: Any = items[limit - 1] if len(items) > limit else None
    return Page(items[:limit], str(last.id) if last else None)


def id_of_cursor(cursor: str | None) -> int | None:
    """Return the id in the cursor of a list that is sorted by id. Raises `BadCursor` for any other cursor."""
    if cursor is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", cursor):
        raise BadCursor
    return int(cursor)


def conditional(response: Response) -> ResponseReturnValue:
    """Return the response with an ETag, or an empty 304 if the client has the current version."""
    response.headers["Cache-Control"] = "private, no-cache"
    response.add_etag()
    if request.if_none_match.contains_weak(response.get_etag()[0] or ""):
        response.status_code = HTTPStatus.NOT_MODIFIED
        response.set_data(b"")
        response.headers.pop("Content-Length", None)
        response.headers.pop("Content-Type", None)
    return response


def json_response(body: bytes, status: int = HTTPStatus.OK) -> Response:
    """Return a response with a JSON body."""
    return current_app.response_class(body + b"\n", status, mimetype="application/json")
