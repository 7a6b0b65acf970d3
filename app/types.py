"""Small types and conversions that every layer uses."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]  # returns the current time, aware and in UTC


def iso(moment: datetime) -> str:
    """Format a time in UTC with microseconds. The width is fixed, so the texts compare as the times do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def clean(text: str) -> str:
    """Replace the characters that a database refuses in text: NUL and unpaired surrogates."""
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
