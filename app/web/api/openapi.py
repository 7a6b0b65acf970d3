"""The OpenAPI document, built from the declarations of the endpoints."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.web.api.examples import CODES, example_of
from app.web.api.schemas import adapter_of, with_published_names

TITLE = "OneSpan Sign receiver"
VERSION = "1"
REFERENCE = "#/components/schemas/{model}"
ERRORS = {
    400: "A parameter or the body is invalid. The message names it.",
    401: "The bearer token is missing or invalid, or has ended.",
    403: "The bearer token can only read.",
    404: "Not found.",
    409: "Not possible in the current state. The message says why.",
    413: "The body is larger than 64 KiB.",
    500: "An unexpected error. It is logged.",
    503: "The database does not respond, or there are too many concurrent requests. Retry after `Retry-After` seconds.",
}
BEARER_ERRORS = (400, 401, 500, 503)
ACTION_ERRORS = (*BEARER_ERRORS, 403)
PUBLIC_ERRORS = (500, 503)  # public endpoints have no parameters and need no token
PATH_PARAMETERS = {
    "package_id": "Package id, percent-encoded: it may contain slashes.",
    "event_id": "Event id.",
    "journal_id": "Journal id: the `id` of a callback, or of the cause of a change.",
    "dispatch_id": "Dispatch id.",
    "run_id": "Id of the reconcile run.",
}
TAGS = {
    "packages": "The current state of OneSpan's packages (transactions).",
    "attention": "Packages that need a person to act.",
    "events": "What happened to packages: each event once, however often it was reported.",
    "callbacks": "Raw callbacks, as received.",
    "changes": "The change feed: every change of every package, in order.",
    "handlers": "The functions that run for events.",
    "dispatches": "Runs of handlers, one per event and handler.",
    "reconciles": "Reconcile runs: synchronization with OneSpan.",
    "missed": "Events that no callback reported in time.",
    "health": "Health report and callback rates.",
    "document": "The OpenAPI document and the API reference.",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method and path with its view, parameters, answer and errors."""

    method: str
    path: str
    view: Callable[..., Any]
    answer: Any
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    errors: tuple[int, ...] = ()
    status: int = 200
    bearer: bool = True
    mimetype: str = "application/json"

    @property
    def openapi_path(self) -> str:
        """The path of the endpoint in OpenAPI's syntax."""
        return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", self.path)

    @property
    def tag(self) -> str:
        """The OpenAPI tag of the endpoint, which is the noun in the path."""
        noun = self.path.split("/")[2]
        return {"counts": "packages", "flow": "health", "": "document", "openapi.json": "document"}.get(noun, noun)

    @property
    def summary(self) -> str:
        """The docstring of the endpoint's view, on one line."""
        return " ".join((self.view.__doc__ or "").split())

    @property
    def all_errors(self) -> tuple[int, ...]:
        """The HTTP statuses of all errors of the endpoint."""
        common = PUBLIC_ERRORS if not self.bearer else BEARER_ERRORS if self.method == "GET" else ACTION_ERRORS
        return tuple(sorted({*self.errors, *common}))


@dataclass
class Document:
    """The OpenAPI document, built from a collection of endpoints."""

    endpoints: list[Endpoint] = field(default_factory=list)

    def add(self, endpoint: Endpoint) -> None:
        """Add an endpoint to the document."""
        self.endpoints.append(endpoint)

    def as_json(self) -> dict[str, Any]:
        """Return the document as OpenAPI 3.1."""
        schemas: dict[str, Any] = {"Error": _ERROR}
        paths: dict[str, Any] = {}
        for endpoint in self.endpoints:
            paths.setdefault(endpoint.openapi_path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
        return {
            "openapi": "3.1.0",
            "info": {"title": TITLE, "version": VERSION, "description": _DESCRIPTION},
            "tags": [{"name": name, "description": about} for name, about in TAGS.items()],
            "paths": with_published_names(paths),
            "components": {
                "schemas": dict(sorted(with_published_names(schemas).items())),
                "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            },
        }


_DESCRIPTION = (
    "The status of OneSpan Sign packages, with the events and changes behind it. Times are ISO 8601 in UTC."
    ' Lists return {"items", "next", "previous"}: pass `next` as `cursor` to get the next page.'
    ' Errors are {"error": {"code", "message"}}.'
)
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
        }
    },
}
_ETAG = {
    "ETag": {"description": "Version of the answer. Send it back in `If-None-Match`.", "schema": {"type": "string"}}
}


def _operation(endpoint: Endpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.view.__name__,
        "tags": [endpoint.tag],
        "summary": endpoint.summary,
        "security": [{"bearer": []}] if endpoint.bearer else [],
        "parameters": [*_path_parameters(endpoint.path), *_query_parameters(endpoint.query, schemas)],
        "responses": {
            str(endpoint.status): _success(endpoint, schemas),
            **{str(status): _error(status) for status in endpoint.all_errors},
        },
    }
    if endpoint.body:
        content = {"schema": _body_schema(endpoint.body, schemas), "example": example_of(endpoint.body)}
        operation["requestBody"] = {"required": False, "content": {"application/json": content}}
    if endpoint.method == "GET":
        operation["responses"]["304"] = {"description": "Not modified: the client has the current version."}
    return operation


def _success(endpoint: Endpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    content = {"schema": _answer_schema(endpoint.answer, schemas)}
    if (example := example_of(endpoint.answer)) is not None:
        content["example"] = example
    headers = {"headers": _ETAG} if endpoint.method == "GET" else {}
    return {"description": "OK", **headers, "content": {endpoint.mimetype: content}}


def _error(status: int) -> dict[str, Any]:
    examples = {
        code: {"value": {"error": {"code": code, "message": message}}} for code, message in CODES[status].items()
    }
    schema = {"$ref": REFERENCE.format(model="Error")}
    return {"description": ERRORS[status], "content": {"application/json": {"schema": schema, "examples": examples}}}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": PATH_PARAMETERS[name],
            "schema": {"type": "integer", "minimum": 0} if kind == "int:" else {"type": "string", "minLength": 1},
        }
        for kind, name in re.findall(r"<(\w+:)?(\w+)>", path)
    ]


def _query_parameters(query: type[BaseModel] | None, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    if query is None:
        return []
    _, definitions = models_json_schema([(query, "validation")], ref_template=REFERENCE)
    described = definitions["$defs"][query.__name__]
    schemas.update({name: schema for name, schema in definitions["$defs"].items() if name != query.__name__})
    return [
        {"name": name, "in": "query", "description": schema.pop("description", ""), "schema": schema}
        for name, schema in described["properties"].items()
    ]


def _body_schema(body: type[BaseModel], schemas: dict[str, Any]) -> dict[str, Any]:
    schema = body.model_json_schema(ref_template=REFERENCE)
    schemas.update(schema.pop("$defs", {}))
    return schema


def _answer_schema(answer: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    schema = adapter_of(answer).json_schema(ref_template=REFERENCE, mode="serialization")
    schemas.update(schema.pop("$defs", {}))
    return schema
