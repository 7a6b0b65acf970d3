"""The API's document, made from the code that answers: each view declares what it takes and what it gives."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

TITLE = "OneSpan Sign receiver"
VERSION = "1"
REFERENCE = "#/components/schemas/{model}"
ERRORS = {
    400: "A parameter is not right; the message names it.",
    401: "No valid bearer token.",
    404: "There is no such thing.",
    409: "Not now; the message says why.",
    500: "Something went wrong here.",
    503: "The database does not answer, or too many ask at once; try again after `Retry-After` seconds.",
}
ALWAYS = (400, 500, 503)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method and path: its query parameters and its body, what it answers, and with which errors."""

    method: str
    path: str
    summary: str
    query: type[BaseModel] | None
    body: type[BaseModel] | None
    answer: Any
    errors: tuple[int, ...]
    bearer: bool


@dataclass
class Document:
    """Collects the endpoints and writes the OpenAPI document."""

    endpoints: list[Endpoint] = field(default_factory=list)

    def describe(
        self,
        method: str,
        path: str,
        *,
        answer: Any,
        query: type[BaseModel] | None = None,
        body: type[BaseModel] | None = None,
        errors: tuple[int, ...] = (),
        bearer: bool = True,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Note a view's place in the document; its docstring is the summary."""

        def note(view: Callable[..., Any]) -> Callable[..., Any]:
            summary = " ".join((view.__doc__ or "").split())
            told = (*ALWAYS, *((401,) if bearer else ()), *errors)
            self.endpoints.append(Endpoint(method, path, summary, query, body, answer, told, bearer))
            return view

        return note

    def as_json(self) -> dict[str, Any]:
        """OpenAPI 3.1."""
        schemas: dict[str, Any] = {"Error": _ERROR}
        paths: dict[str, Any] = {}
        for endpoint in self.endpoints:
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", endpoint.path)
            paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
        return {
            "openapi": "3.1.0",
            "info": {"title": TITLE, "version": VERSION, "description": _ABOUT},
            "paths": paths,
            "components": {
                "schemas": dict(sorted(schemas.items())),
                "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            },
        }


_ABOUT = (
    "What the receiver believes of OneSpan Sign packages, and why. Times are UTC, ISO 8601. Lists answer"
    ' {"items", "next", "previous"}; pass `next` on as `cursor` to read further.'
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


def _operation(endpoint: Endpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "parameters": [*_path_parameters(endpoint.path), *_query_parameters(endpoint.query, schemas)],
        "responses": {
            "200": {
                "description": "OK",
                "content": {"application/json": {"schema": _schema(endpoint.answer, schemas)}},
            },
            **{str(status): _error(status) for status in endpoint.errors},
        },
    }
    if endpoint.body:
        schema = _taken(endpoint.body, schemas)
        operation["requestBody"] = {"required": False, "content": {"application/json": {"schema": schema}}}
    if endpoint.bearer:
        operation["security"] = [{"bearer": []}]
    if endpoint.bearer and endpoint.method == "GET":
        operation["responses"]["304"] = {"description": "Not modified since the answer with this ETag."}
    return operation


def _error(status: int) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": REFERENCE.format(model="Error")}}}
    return {"description": ERRORS[status], "content": content}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "integer" if kind == "int:" else "string"}}
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
    schema = TypeAdapter(answer).json_schema(ref_template=REFERENCE, mode="serialization")
    schemas.update(schema.pop("$defs", {}))
    return schema
