"""The API reference: the OpenAPI document, and a page made from it."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from flask import Blueprint, make_response, render_template
from flask.typing import ResponseReturnValue

from app.web.api.endpoints import Endpoints, conditional
from app.web.api.openapi import Endpoint

Schema = dict[str, Any]


def add_views(endpoints: Endpoints, blueprint: Blueprint) -> None:
    """Register the reference endpoints. The reference shows every endpoint of this app, so it is registered last."""
    document = endpoints.document

    @cache
    def document_json() -> Schema:
        """Build the OpenAPI document once, because no endpoint is added after the start."""
        return document.as_json()

    @endpoints.get("/api/openapi.json", answer=dict[str, Any], bearer=False)
    def openapi() -> dict[str, Any]:
        """Return this API's OpenAPI 3.1 document."""
        return document_json()

    @blueprint.get("/")
    def reference() -> ResponseReturnValue:
        """Return the API reference as an HTML page."""
        helpers = {"as_text": _as_text, "schema_names": schema_names, "enums": enums, "type_label": type_label}
        page = render_template("reference.html", document=document_json(), **helpers)
        return conditional(make_response(page))

    document.add(Endpoint("GET", "/api/", reference, answer=str, bearer=False, mimetype="text/html"))


def schema_names(schema: Schema) -> list[str]:
    """Return the names of the schemas that a schema refers to."""
    return [inner["$ref"].rpartition("/")[2] for inner in _parts(schema) if "$ref" in inner]


def enums(schema: Schema) -> list[list[str]]:
    """Return the enumerations within a schema."""
    return [inner["enum"] for inner in _parts(schema) if "enum" in inner]


def type_label(schema: Schema) -> str:
    """Return a short label of a schema's types, such as `date-time, null`."""
    labels = [inner.get("format") or inner.get("type") for inner in _parts(schema)]
    return ", ".join(dict.fromkeys(label for label in labels if label))


def _parts(schema: Schema) -> Iterator[Schema]:
    """Yield a schema, its alternatives and its item schemas, recursively, without the schemas of properties."""
    yield schema
    for inner in (*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())):
        yield from _parts(inner)


def _as_text(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
