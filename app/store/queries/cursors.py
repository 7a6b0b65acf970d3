"""Cursors of lists that can be sorted: a place in the order, and which way to read from there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from app.store.queries.places import read_parts, write_parts
from app.store.queries.shown import BadCursor

HIGHEST = "\U0010ffff"  # comes after every id


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands: what the list is sorted by, and the row's id; and whether to read backwards from there."""

    value: object
    id: str
    backwards: bool = False


def cursors(
    sort: str, shown: Sequence[Place], *, asked: Place | None, ahead: Place | None
) -> tuple[str | None, str | None]:
    """The cursors to the next page and to the one before, of a page that was `asked` for.

    `ahead` is from where there is more, in the direction in which it was read; None where it came to the end. What
    fitted when we came by may do so no more. Where nothing does, the way back begins beyond all that was read, with
    the very row that the cursor stood for.
    """
    if asked is None:
        return _cursor(sort, ahead), None
    back = (shown[-1] if asked.backwards else shown[0]) if shown else ahead or _end(sort, asked)
    if asked.backwards:
        return _cursor(sort, back), _cursor(sort, ahead, backwards=True)
    return _cursor(sort, ahead), _cursor(sort, back, backwards=True)


def _end(sort: str, asked: Place) -> Place:
    """The end of those rows ahead that have the same value."""
    return replace(asked, id=HIGHEST if sort.startswith("-") == asked.backwards else "")


def _cursor(sort: str, place: Place | None, *, backwards: bool = False) -> str | None:
    return write_cursor(sort, replace(place, backwards=backwards)) if place else None


def write_cursor(sort: str, place: Place) -> str:
    """A cursor that leads on from this place, for this order only."""
    value = place.value.isoformat() if isinstance(place.value, datetime) else place.value
    return write_parts(sort, value, place.id, place.backwards)


def read_cursor(cursor: str, sort: str) -> Place:
    """The place that a cursor stands for. Raises `BadCursor` where it is none of ours, or one of another order."""
    try:
        made_for, value, last_id, backwards = read_parts(cursor)
        if made_for != sort or not isinstance(last_id, str) or not isinstance(backwards, bool):
            raise BadCursor
        return Place(_value(value, sort), _text(last_id), backwards)
    except (OverflowError, ValueError, TypeError):
        raise BadCursor from None


def _value(value: object, sort: str) -> object:
    if not sort.endswith("_at"):
        return _text(value)
    return None if value is None else _instant(_text(value))


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise BadCursor
    value.encode()  # half of a surrogate pair is in no cursor of ours
    return value


def _instant(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise BadCursor
    return moment.astimezone(UTC)
