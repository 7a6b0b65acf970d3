"""Checks an answer against the API document."""

import copy
import re
from typing import Any

from jsonschema import Draft202012Validator


def assert_documented(document: dict[str, Any], method: str, answer: Any) -> None:
    """Assert that the API document describes the answer's status and body, and every member of the body."""
    places = [place for place in document["paths"] if re.fullmatch(re.sub(r"{\w+}", ".+", place), answer.request.path)]
    path = answer.request.path
    operation = document["paths"][path if path in places else max(places, key=len)][method]
    assert str(answer.status_code) in operation["responses"], answer.text
    if answer.status_code == 304:
        assert answer.data == b""
        return
    assert answer.content_type == "application/json"
    schema = operation["responses"][str(answer.status_code)]["content"]["application/json"]["schema"]
    closed = copy.deepcopy({**schema, "components": document["components"]})
    _close(closed)
    Draft202012Validator(closed).validate(answer.json)


def _close(schema: Any) -> None:
    """Forbid members that the schema does not name."""
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            schema["additionalProperties"] = False
        for inner in schema.values():
            _close(inner)
    elif isinstance(schema, list):
        for inner in schema:
            _close(inner)
