"""Cursors of lists that can be sorted: a place in the order, and which way to read from there."""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from app.store.queries.shown import BadCursor


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands: what the list is sorted by, and the row's id; and whether to read backwards from there."""

    value: object
    id: str
    backwards: bool = False


def cursors(sort: str, shown: Sequence[Place], *, asked: Place | None, more: bool) -> tuple[str | None, str | None]:
    """The cursors to the next page and to the one before, of a page that was `asked` for and has `more` behind it."""
    backwards = asked is not None and asked.backwards
    first, last = (shown[0], shown[-1]) if shown else (asked, asked)
    goes_on, goes_back = (True, more) if backwards else (more, asked is not None)
    return (
        write_cursor(sort, replace(last, backwards=False)) if last and goes_on else None,
        write_cursor(sort, replace(first, backwards=True)) if first and goes_back else None,
    )


def write_cursor(sort: str, place: Place) -> str:
    """A cursor that leads on from this place, for this order only."""
    value = place.value.isoformat() if isinstance(place.value, datetime) else place.value
    text = json.dumps([sort, value, place.id, place.backwards], ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str, sort: str) -> Place:
    """The place that a cursor stands for. Raises `BadCursor` where it is none of ours, or one of another order."""
    try:
        padded = cursor.encode() + b"=" * (-len(cursor) % 4)
        made_for, value, last_id, backwards = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if made_for != sort or not isinstance(value, str) or not isinstance(last_id, str) or "\0" in value + last_id:
            raise BadCursor
        if not isinstance(backwards, bool):
            raise BadCursor
        (value + last_id).encode()  # half of a surrogate pair is in no cursor of ours
        return Place(_instant(value) if sort.endswith("_at") else value, last_id, backwards)
    except (OverflowError, RecursionError, ValueError, TypeError, binascii.Error):
        raise BadCursor from None


def _instant(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise BadCursor
    return moment.astimezone(UTC)
