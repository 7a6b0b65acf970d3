"""How response types become JSON and JSON Schema."""

from functools import cache
from typing import Any

from pydantic import TypeAdapter

# The published names of classes that have another name in the code. Generated clients use the published names.
PUBLISHED_NAMES = {
    "AttentionItem": "Needing",
    "CallbackRates": "Flow",
    "EventCallback": "Telling",
    "FetchQueued": "ReadWanted",
    "HealthReport": "Vitals",
    "OneSpanConnection": "OneSpanSide",
    "OneSpanStatus": "Reach",
    "ReconcileStatus": "Reconciles",
    "ReplayCount": "Replayed",
}


@cache
def adapter_of(answer: Any) -> TypeAdapter[Any]:
    """Return pydantic's adapter for a type. Building an adapter is slow, so each process builds it once."""
    return TypeAdapter(answer)


def with_published_names(node: Any) -> Any:
    """Return JSON Schemas with the published names as titles, keys and references."""
    if isinstance(node, list):
        return [with_published_names(item) for item in node]
    if not isinstance(node, dict):
        return node
    renamed = {PUBLISHED_NAMES.get(key, key): with_published_names(value) for key, value in node.items()}
    if isinstance(reference := node.get("$ref"), str):
        place, slash, name = reference.rpartition("/")
        renamed["$ref"] = f"{place}{slash}{PUBLISHED_NAMES.get(name, name)}"
    if node.get("type") == "object" and isinstance(title := node.get("title"), str):
        renamed["title"] = PUBLISHED_NAMES.get(title, title)
    return renamed
