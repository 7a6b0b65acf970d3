"""Read the JSON members in the body of a callback: strictly, or as far as possible."""

import codecs
import json
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from urllib.parse import parse_qsl, unquote_plus

from app.errors import UnreadableCallback

MAX_INTEGER_CHARACTERS = 18  # every integer of this length fits into 64 bits
MAX_DEPTH = 20  # levels of nesting that are kept; OneSpan's callbacks have two
CUT = "…"  # replaces what is nested deeper
GZIP_START = b"\x1f\x8b"  # no text begins with these bytes
_BLANK = "\ufeff\0 \t\r\n"  # characters that may come before a JSON value

Members = dict[str, object]


class Repeated(list[object]):
    """The different values of a member that occurs more than once, in their order."""


def strict_members(body: bytes) -> Members:
    """Return the members of a JSON object in UTF-8; members that are null are left out.

    Raises `UnreadableCallback` for any other body, for a repeated member, and for more than `MAX_DEPTH` levels.
    """
    try:
        value = _STRICT.decode(body.decode("utf-8-sig"))
    except UnicodeDecodeError:
        is_gzip = body.startswith(GZIP_START)
        raise UnreadableCallback("its gzip stream is broken" if is_gzip else "it is not UTF-8") from None
    except RecursionError:
        raise UnreadableCallback("it is nested too deeply") from None
    except ValueError as error:
        raise UnreadableCallback(f"it is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise UnreadableCallback("it is not a JSON object")
    _check_depth(value)
    return {name: member for name, member in value.items() if member is not None}


def tolerant_members(body: bytes) -> Iterator[Members]:
    """Yield the objects that may be the callback in a body that is not as documented, the most certain first.

    These are the JSON value at the beginning, in any encoding: an object, an object in an array or in a JSON text.
    Then come the same objects with member names in another case or spelling, such as `PackageId`, and the fields of a
    form. The last are made of texts that look like members, for JSON that breaks off, is percent-encoded or is inside
    another object.
    """
    respelled = []
    text = _decode(body).lstrip(_BLANK)
    for _ in range(2):  # the second time for JSON in a JSON text
        value = _first_value(text)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                members = {name: member for name, member in item.items() if member is not None}
                respelled.append({_SPELLINGS.get(_folded(name), name): member for name, member in members.items()})
                yield members
        if not isinstance(value, str):
            break
        text = value
    yield from respelled
    yield dict(parse_qsl(text, errors="replace"))
    yield _apparent_members(text)
    if "%22" in text:
        yield _apparent_members(unquote_plus(text))


def callback_bodies(body: bytes) -> list[bytes]:
    """Return the bodies of the callbacks in one request: the body itself, or one for each of several different objects.

    The objects may be in an array, in another object, or one after the other. OneSpan documents one callback per
    request.
    """
    objects = [item for value in _all_values(_decode(body)) for item in _callbacks(value)]
    if len(objects) <= 1:
        return [body]
    bodies = list(dict.fromkeys(json.dumps(within_depth(item)).encode() for item in objects))
    return bodies if len(bodies) > 1 else [body]


def within_depth(value: object, levels: int = MAX_DEPTH - 1) -> object:
    """Return a member's value, in which what is nested too deeply is replaced by `CUT`."""
    if levels <= 0:
        return CUT
    if isinstance(value, list):
        return [within_depth(item, levels - 1) for item in value]
    if isinstance(value, dict):
        return {name: within_depth(item, levels - 1) for name, item in value.items()}
    return value


def _decode(body: bytes) -> str:
    """Decode a text in UTF-8, UTF-16 or UTF-32; other bytes are in the Windows or ISO encoding of Western Europe."""
    body = body.removeprefix(codecs.BOM_UTF8)
    encoding = "utf-8" if b"packageId" in body else json.detect_encoding(body)
    try:
        return body.decode(encoding)
    except UnicodeDecodeError as error:
        if "utf-8" not in encoding or error.reason == "unexpected end of data":  # breaks off inside a character
            return body.decode(encoding, "ignore")
    try:
        return body.decode("cp1252")
    except UnicodeDecodeError:
        return body.decode("latin-1")


def _first_value(text: str) -> object:
    """Return the JSON value at the beginning of a text; None if there is none."""
    try:
        return _TOLERANT.raw_decode(text)[0]
    except (ValueError, RecursionError):
        return None


def _all_values(text: str) -> Iterator[object]:
    """Yield the JSON values that follow one another in a text, until something else follows."""
    position = 0
    with suppress(ValueError, RecursionError):
        while separators := _SEPARATORS.match(text, position):
            value, position = _TOLERANT.raw_decode(text, separators.end())
            yield value


def _callbacks(value: object, levels: int = MAX_DEPTH) -> Iterator[Members]:
    """Yield the objects in a JSON value that name an event and a package, and any other objects in arrays."""
    if isinstance(value, dict) and value.get("packageId") and any(map(value.get, _EVENT_NAMES)):
        yield value
    elif isinstance(value, dict) and levels:
        for item in value.values():
            yield from _callbacks(item, levels - 1)
    elif isinstance(value, list) and levels:
        for item in value:
            yield from list(_callbacks(item, levels - 1)) or ([item] if isinstance(item, dict) else [])


def _folded(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _apparent_members(text: str) -> Members:
    """Return the texts and numbers that follow a member's name anywhere in a text."""
    found = []
    for match in _MEMBER.finditer(text):
        value = match["value"]
        found.append((match["name"], value[1:-1] if value[0] == "'" else _first_value(value)))
    return _collect_duplicates([(name, value) for name, value in found if value is not None])


def _reject_duplicates(pairs: list[tuple[str, object]]) -> Members:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise UnreadableCallback("a member occurs twice")
    return members


def _collect_duplicates(pairs: list[tuple[str, object]]) -> Members:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    values: dict[str, dict[str, object]] = {}
    for name, value in pairs:
        values.setdefault(name, {}).setdefault(json.dumps(value), value)
    return {name: members[name] if len(found) == 1 else Repeated(found.values()) for name, found in values.items()}


def _integer(text: str) -> int | str:
    # An integer that may not fit into a database column stays a text.
    return int(text) if len(text) <= MAX_INTEGER_CHARACTERS else text


def _number(text: str) -> float | str:
    return float(text) if math.isfinite(float(text)) else text


def _reject_constant(text: str) -> object:
    raise UnreadableCallback(f"{text} is not a JSON number")


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [item for parent in level for item in _children(parent)]
        if not level:
            return
    raise UnreadableCallback("it is nested too deeply")


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


_STRICT = json.JSONDecoder(
    object_pairs_hook=_reject_duplicates, parse_constant=_reject_constant, parse_int=_integer, parse_float=_number
)
# Constants such as NaN become texts. Control characters may occur in texts.
_TOLERANT = json.JSONDecoder(
    object_pairs_hook=_collect_duplicates, parse_constant=str, parse_int=_integer, parse_float=_number, strict=False
)
_SEPARATORS = re.compile(r"[\ufeff\0\x1e\s,]*")  # what may be between two JSON values
_EVENT_NAMES = ("name", "event", "eventName", "eventType", "type")
_NAMES = (*_EVENT_NAMES, "packageId", "sessionUser", "documentId", "message", "createdDate", "newRoleId")
_SPELLINGS = {_folded(name): name for name in _NAMES}
# The name of a documented member, in quotes that are not escaped, and its value: a text or a number.
_MEMBER = re.compile(
    rf"""(?<!\\)(?P<quote>["'])
    (?P<name>{"|".join(_NAMES)})
    (?P=quote)\s*:\s*(?P<value>"(?:[^"\\]|\\.)*"|'[^'\\]*'|-?\d+(?=\s*[,}}\]]))""",
    re.VERBOSE | re.DOTALL,
)
