"""Values in the JSON of a request. Each function raises `BadRequest` for a value of another type."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from app.simulator.packages import Approval, Document, Role
from app.simulator.routes import BadRequest

Json = Mapping[str, object]
Identified = TypeVar("Identified", Role, Document, Approval)


def objects(json: Json, name: str) -> list[Json]:
    """Return the objects in an array. Raises `BadRequest` for anything but an array of objects."""
    return as_objects(json.get(name) or [], name)


def as_objects(parts: object, name: str) -> list[Json]:
    """Return an array of objects as such. Raises `BadRequest` for anything else."""
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise BadRequest(f"{name} must be an array of objects")
    return parts


def child(json: Json, name: str) -> Json:
    """Return the object in a member; an empty object if the member is missing or null."""
    value = json.get(name) or {}
    if not isinstance(value, dict):
        raise BadRequest(f"{name} must be an object")
    return value


def text(json: Json, name: str, default: str = "") -> str:
    """Return the text of a member, or the default if the member is missing or null."""
    value = json.get(name)
    if not (value is None or isinstance(value, str)):
        raise BadRequest(f"{name} must be a text")
    return default if value is None else value


def number(json: Json, name: str, default: int) -> int:
    """Return the integer of a member, or the default if the member is missing or null."""
    value = json.get(name)
    if value is not None and type(value) is not int:
        raise BadRequest(f"{name} must be a number")
    return default if value is None else value


def moment(json: Json, name: str) -> datetime | None:
    """Return the time of a member, in UTC if it names no zone."""
    try:
        at = datetime.fromisoformat(text(json, name)) if json.get(name) else None
        return at and at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadRequest(f"{name} is not a date") from None


def others(json: Json, known: Iterable[str]) -> dict[str, object]:
    """Return the members that are not `known`, without nulls, which SDKs send for members that are not set."""
    return {name: value for name, value in json.items() if name not in known and value is not None}


def unique(name: str, parts: Iterable[Identified]) -> tuple[Identified, ...]:
    """Return the parts of a package. Raises `BadRequest` if two of them have the same id."""
    given = tuple(parts)
    if len({part.id for part in given}) < len(given):
        raise BadRequest(f"two {name} have the same id")
    return given
