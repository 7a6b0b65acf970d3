"""How answers are written as JSON and described: learnt once a process, since it takes a while."""

from functools import cache
from typing import Any

from pydantic import TypeAdapter


@cache
def shape_of(answer: Any) -> TypeAdapter[Any]:
    """What pydantic knows of this type."""
    return TypeAdapter(answer)
