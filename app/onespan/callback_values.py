"""Read single members of a callback that have another type or form than documented, as far as possible.

Each function returns None for a value that it cannot read. The values of a repeated member are tried in their order.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from urllib.parse import unquote

from app.onespan.callback_dates import date_of
from app.onespan.callback_members import Members, Repeated
from app.onespan.event_catalogue import CATALOGUE, wire_name
from app.types import clean

# Maximum lengths in characters. OneSpan documents them, except those of `name` and `newRoleId`.
MAX_LENGTHS = {"name": 255, "packageId": 255, "sessionUser": 255, "documentId": 256, "newRoleId": 256}
NAME_ALIASES = ("event", "eventName", "eventType", "type")  # what some ValidSign accounts send instead of `name`
MESSAGE_TEXTS = ("content", "message", "text", "name")  # members of an object that may have the text of a message
MAX_ENCODINGS = 3  # times that an id may have been percent-encoded
BLANKS = " \t\r\n\0\u00a0\u2007\u200b\u202f\u3000\ufeff"  # what may be around a package id

_USUAL_NAME = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")
_PLAIN_ID = re.compile(r"[\w.~=+/-]+", re.ASCII)


def event_name(members: Members) -> tuple[str | None, str]:
    """Return the event's name and the member that has it.

    A known name comes before an unknown one. Other members than `name` count only if `name` is no name of an event.
    """
    values = ((value, member) for member in ("name", *NAME_ALIASES) for value in _values(members, member))
    found = [(text, member) for value, member in values if (text := _name(value))]
    named = [pair for pair in found if pair[1] == "name"]
    candidates = named if any(is_usual_name(text) for text, _ in named) else found
    known = next((pair for pair in candidates if pair[0] in CATALOGUE), None)
    return known or next(iter(found), (None, "name"))


def is_usual_name(text: str) -> bool:
    """Whether a text has the form of OneSpan's event names."""
    return bool(_USUAL_NAME.fullmatch(text))


def is_plain_id(text: str) -> bool:
    """Whether a package id has only letters, digits and the punctuation of base64, as OneSpan's ids."""
    return len(text) <= MAX_LENGTHS["packageId"] and bool(_PLAIN_ID.fullmatch(text))


def true_id(text: str) -> str:
    """Return a package id without blanks around it, and decoded if it is percent-encoded.

    It is percent-encoded if decoding leaves only letters, digits and the punctuation of base64, as in OneSpan's ids.
    """
    decoded = text
    for _ in range(MAX_ENCODINGS if "%" in text else 0):
        decoded = unquote(decoded)
    return (decoded if _PLAIN_ID.fullmatch(decoded.strip(BLANKS)) else text).strip(BLANKS)


def read_member(members: Members, member: str) -> str | None:
    """Return the text that `READERS` reads from a member."""
    return next((text for value in _values(members, member) if (text := READERS[member](value))), None)


def read_date(members: Members) -> datetime | None:
    """Return the first date that `createdDate` has, in any form of `date_of`."""
    return next((date for value in _values(members, "createdDate") if (date := date_of(value))), None)


def _values(members: Members, member: str) -> Iterator[object]:
    value = members.get(member)
    yield from value if isinstance(value, Repeated) else [value]


def _plain(value: object) -> str | None:
    """Return a text, or the text of a number."""
    if isinstance(value, str):
        return value.strip("\0")
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _id(value: object, limit: int) -> str | None:
    text = _id_text(value)
    return text if text and len(text) <= limit and clean(text) == text else None


def _id_text(value: object) -> str | None:
    """Return the text of an id, which may be in a list of one or in an object."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return _plain(value.get("id") if isinstance(value, dict) else value)


def _package_id(value: object) -> str | None:
    return _id(true_id(_id_text(value) or ""), MAX_LENGTHS["packageId"])


def _name(value: object) -> str | None:
    text = wire_name(clean(_plain(value) or "").strip())
    return text if 0 < len(text) <= MAX_LENGTHS["name"] else None


def _message(value: object) -> str | None:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        value = next((value[name] for name in MESSAGE_TEXTS if isinstance(value.get(name), str)), None)
    text = value if isinstance(value, str) else _plain(value)
    return clean(text) if text else None


READERS: Mapping[str, Callable[[object], str | None]] = {
    "packageId": _package_id,
    "sessionUser": partial(_id, limit=MAX_LENGTHS["sessionUser"]),
    "documentId": partial(_id, limit=MAX_LENGTHS["documentId"]),
    "newRoleId": partial(_id, limit=MAX_LENGTHS["newRoleId"]),
    "message": _message,
}
