"""The views of the API's own document: for machines, and as a page for people."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from flask import Blueprint, make_response, render_template
from flask.typing import ResponseReturnValue

from app.web.api.endpoints import Endpoints, shown
from app.web.api.openapi import Endpoint

Schema = dict[str, Any]


def add_views(endpoints: Endpoints, blueprint: Blueprint) -> None:
    """Add them; they show all that was added before, and themselves."""
    document = endpoints.document

    @cache
    def written() -> Schema:
        """The document, written once: nothing is added to it after the start."""
        return document.as_json()

    @endpoints.get("/api/openapi.json", answer=dict[str, Any], bearer=False)
    def openapi() -> dict[str, Any]:
        """This API's description, as OpenAPI 3.1."""
        return written()

    @blueprint.get("/")
    def reference() -> ResponseReturnValue:
        """The same as a page to read."""
        said = {"written": _written, "names": names, "choices": choices, "spoken": spoken}
        return shown(make_response(render_template("reference.html", document=written(), **said)))

    document.describe(Endpoint("GET", "/api/", reference, answer=str, bearer=False, mimetype="text/html"))


def names(schema: Schema) -> list[str]:
    """The shapes that a schema refers to."""
    return [inner["$ref"].rpartition("/")[2] for inner in _within(schema) if "$ref" in inner]


def choices(schema: Schema) -> list[list[str]]:
    """The values to choose from, where there are some."""
    return [inner["enum"] for inner in _within(schema) if "enum" in inner]


def spoken(schema: Schema) -> str:
    """What kind of value it is, in a word or two."""
    kinds = [inner.get("format") or inner.get("type") for inner in _within(schema)]
    return ", ".join(dict.fromkeys(kind for kind in kinds if kind))


def _within(schema: Schema) -> Iterator[Schema]:
    """A schema, what it may be any of, and what it is a list of; no further."""
    yield schema
    for inner in (*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())):
        yield from _within(inner)


def _written(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
