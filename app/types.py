"""Small types and conversions that every layer uses."""

import math
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]  # returns the current time, aware and in UTC


def iso(moment: datetime) -> str:
    """Format a time in UTC with microseconds. The width is fixed, so the texts compare as the times do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def clean(text: str) -> str:
    """Replace the characters that a database refuses in text: NUL and unpaired surrogates."""
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def clean_json(value: object) -> object:
    """Clean all texts in a JSON value; a number that is not finite becomes a text."""
    match value:
        case str():
            return clean(value)
        case float() if not math.isfinite(value):
            return str(value)
        case list():
            return [clean_json(item) for item in value]
        case dict():
            return {clean(key): clean_json(item) for key, item in value.items()}
    return value
