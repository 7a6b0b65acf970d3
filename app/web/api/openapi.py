"""The API's document, made from the code that answers: each view declares what it takes and what it gives."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.web.api.examples import CODES, example_of
from app.web.api.schemas import shape_of

TITLE = "OneSpan Sign receiver"
VERSION = "1"
REFERENCE = "#/components/schemas/{model}"
ERRORS = {
    400: "A parameter or the body is not right; the message names what.",
    401: "No valid bearer token.",
    404: "There is no such thing.",
    409: "Not now; the message says why.",
    413: "The body is larger than 64 KiB.",
    500: "Something went wrong here.",
    503: "The database does not answer, or too many ask at once; try again after `Retry-After` seconds.",
}
ALWAYS = (400, 500, 503)
OPEN = (500, 503)  # of what takes no parameters and no token
IN_PATH = {
    "package_id": "The package's id, percent-encoded: an id may have a slash in it.",
    "event_id": "The event's id.",
    "journal_id": "The number under which it came in: `id` of a callback, or of the cause of a change.",
    "dispatch_id": "The dispatch's id.",
    "run_id": "The reconcile's id.",
}
TAGS = {
    "packages": "What is believed of OneSpan's packages (transactions).",
    "attention": "What a sender must act on.",
    "events": "What happened, each fact once.",
    "callbacks": "What came in, as it came in.",
    "changes": "The feed: every change, in order.",
    "handlers": "The developers' functions.",
    "dispatches": "Their runs.",
    "reconciles": "Asking OneSpan what changed.",
    "missed": "What callbacks never told.",
    "health": "How the service is.",
    "document": "This document.",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method and path, and the view that answers it: what it takes, what it answers, and with which errors."""

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
    def place(self) -> str:
        """The path as OpenAPI writes it."""
        return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", self.path)

    @property
    def tag(self) -> str:
        """The noun it is about."""
        noun = self.path.split("/")[2]
        return {"counts": "packages", "flow": "health", "": "document", "openapi.json": "document"}.get(noun, noun)

    @property
    def summary(self) -> str:
        """The view's docstring."""
        return " ".join((self.view.__doc__ or "").split())

    @property
    def all_errors(self) -> tuple[int, ...]:
        """The statuses of its errors."""
        return tuple(sorted({*self.errors, *((*ALWAYS, 401) if self.bearer else OPEN)}))


@dataclass
class Document:
    """Collects the endpoints and writes the OpenAPI document."""

    endpoints: list[Endpoint] = field(default_factory=list)

    def describe(self, endpoint: Endpoint) -> None:
        """Note its place in the document."""
        self.endpoints.append(endpoint)

    def as_json(self) -> dict[str, Any]:
        """OpenAPI 3.1."""
        schemas: dict[str, Any] = {"Error": _ERROR}
        paths: dict[str, Any] = {}
        for endpoint in self.endpoints:
            paths.setdefault(endpoint.place, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
        return {
            "openapi": "3.1.0",
            "info": {"title": TITLE, "version": VERSION, "description": _ABOUT},
            "tags": [{"name": name, "description": about} for name, about in TAGS.items()],
            "paths": paths,
            "components": {
                "schemas": dict(sorted(schemas.items())),
                "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            },
        }


_ABOUT = (
    "What the receiver believes of OneSpan Sign packages, and why. Times are UTC, ISO 8601. Lists answer"
    ' {"items", "next", "previous"}; pass next on as cursor to read further.'
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
_ETAG = {"ETag": {"description": "Send it back as `If-None-Match`.", "schema": {"type": "string"}}}


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
        content = {"schema": _taken(endpoint.body, schemas), "example": example_of(endpoint.body)}
        operation["requestBody"] = {"required": False, "content": {"application/json": content}}
    if endpoint.method == "GET":
        operation["responses"]["304"] = {"description": "Not modified since the answer with this ETag."}
    return operation


def _success(endpoint: Endpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    content = {"schema": _schema(endpoint.answer, schemas)}
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
            "description": IN_PATH[name],
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


def _taken(body: type[BaseModel], schemas: dict[str, Any]) -> dict[str, Any]:
    schema = body.model_json_schema(ref_template=REFERENCE)
    schemas.update(schema.pop("$defs", {}))
    return schema


def _schema(answer: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    schema = shape_of(answer).json_schema(ref_template=REFERENCE, mode="serialization")
    schemas.update(schema.pop("$defs", {}))
    return schema
