"""How views become endpoints: what they take is checked, what they give is written as JSON, and both are documented."""

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
from app.web.api.parameters import no_parameters, read_body, read_parameters
from app.web.api.schemas import shape_of
from app.web.request_body import whole_body

Item = TypeVar("Item")
View = Callable[..., Any]


class NoSuchThing(ReceiverError):
    """There is no such thing here."""


class Endpoints:
    """The endpoints of a blueprint that lives under `/api`, and their document."""

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
        """A view that answers GET; it is given `asked` where it takes a query. Without `bearer` it is for anyone."""
        shape = shape_of(answer)

        def route(view: View) -> View:
            self.document.describe(
                Endpoint("GET", path, view, answer=answer, query=query, errors=errors, bearer=bearer)
            )

            @wraps(view)
            def show(**place: Any) -> ResponseReturnValue:
                asked = {"asked": read_parameters(query, request.args)} if query else no_parameters(request.args)
                return shown(json_of(shape.dump_json(view(**place, **asked))))

            self._blueprint.get(path.removeprefix("/api"))(show)
            return view

        return route

    def post(
        self,
        path: str,
        *,
        answer: Any,
        body: type[BaseModel] | None = None,
        errors: tuple[int, ...] = (),
        status: int = HTTPStatus.OK,
    ) -> Callable[[View], View]:
        """A view that answers POST; it is given `asked` where it takes a body, all of which may be left out."""
        shape = shape_of(answer)

        def route(view: View) -> View:
            told = (*errors, HTTPStatus.REQUEST_ENTITY_TOO_LARGE) if body else errors
            self.document.describe(Endpoint("POST", path, view, answer=answer, body=body, errors=told, status=status))

            @wraps(view)
            def do(**place: Any) -> ResponseReturnValue:
                no_parameters(request.args)
                asked = {"asked": read_body(body, whole_body())} if body else {}
                return json_of(shape.dump_json(view(**place, **asked)), status)

            self._blueprint.post(path.removeprefix("/api"))(do)
            return view

        return route


def page_of(items: list[Item], limit: int) -> Page[Item]:
    """The first `limit` items; one more than that says that there is a next page."""
    last: Any = items[limit - 1] if len(items) > limit else None
    return Page(items[:limit], str(last.id) if last else None)


def id_in(cursor: str | None) -> int | None:
    """The id that a cursor of a list by ids stands for. Raises `BadCursor`."""
    if cursor is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", cursor):
        raise BadCursor
    return int(cursor)


def shown(response: Response) -> ResponseReturnValue:
    """The answer to a GET: with an ETag, and empty (304) where whoever asks has it already."""
    response.headers["Cache-Control"] = "private, no-cache"
    response.add_etag()
    if request.if_none_match.contains_weak(response.get_etag()[0] or ""):
        response.status_code = HTTPStatus.NOT_MODIFIED
        response.set_data(b"")
        response.headers.pop("Content-Length", None)
        response.headers.pop("Content-Type", None)
    return response


def json_of(body: bytes, status: int = HTTPStatus.OK) -> Response:
    """An answer in JSON."""
    return current_app.response_class(body + b"\n", status, mimetype="application/json")
