"""Callbacks as OneSpan sends them: what they say. No I/O.

A callback's body is one JSON object with `name`, `packageId` and, mostly,
`sessionUser`, `createdDate`, `message`, `documentId`; there is no id, no signature and no state in it.
"""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from app.errors import UnreadableCallback
from app.onespan.catalogue import ABOUT_SIGNER, wire_name
from app.types import clean

# OneSpan's documented sizes, in characters; those of `name` and `newRoleId` are ours, it documents none.
SIZES = {"name": 255, "packageId": 255, "sessionUser": 255, "documentId": 256, "newRoleId": 256}
IDS = tuple(SIZES)
KNOWN = ("name", "packageId", "sessionUser", "documentId", "message", "createdDate")
DIGITS = 18  # of a whole number that fits 64 bits
DEPTH = 20  # levels of nesting we read; OneSpan's own callbacks have two


@dataclass(frozen=True, slots=True)
class Callback:
    """What one callback says. Times are aware and UTC; `happened_at` is None where OneSpan gave no `createdDate`."""

    name: str
    package_id: str
    session_user: str | None
    document_id: str | None
    message: str | None
    happened_at: datetime | None
    extra: dict[str, object]

    @property
    def signer_id(self) -> str | None:
        """The signer it is about, where OneSpan's documentation says that `sessionUser` names one."""
        return self.session_user if self.name in ABOUT_SIGNER else None

    @property
    def fingerprint(self) -> str:
        """64 hex digits, the same for every telling of one fact, whatever its white space or order of members."""
        said = [
            self.name,
            self.package_id,
            self.session_user,
            self.document_id,
            self.message,
            self.happened_at.isoformat() if self.happened_at else None,
            self.extra,
        ]
        text = json.dumps(said, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def read_callback(body: bytes) -> Callback:
    """Read one callback's body.

    Nulls count as absent, `@class` is OneSpan's Java speaking and says nothing, members we do not know are kept
    in `extra`. Raises `UnreadableCallback`, whose text says what is wrong with the body.
    """
    members = _members(body)
    for name in ("name", "packageId"):
        if not members.get(name):
            raise UnreadableCallback(f"there is no {name}")
    for name in (*KNOWN, "newRoleId"):
        _check(name, members.get(name))
    message = members.get("message")
    return Callback(
        name=wire_name(str(members["name"])),
        package_id=str(members["packageId"]),
        session_user=_text(members.get("sessionUser")),
        document_id=_text(members.get("documentId")),
        message=clean(str(message)) if message else None,
        happened_at=_instant(members.get("createdDate")),
        extra={clean(k): _cleaned(v) for k, v in sorted(members.items()) if k not in KNOWN and k != "@class"},
    )


def _members(body: bytes) -> dict[str, object]:
    try:
        value = json.loads(
            body.decode("utf-8-sig"),
            object_pairs_hook=_once_each,
            parse_int=_whole,
            parse_float=_number,
            parse_constant=_no_number,
        )
    except UnicodeDecodeError:
        raise UnreadableCallback("it is not UTF-8") from None
    except RecursionError:
        raise UnreadableCallback("it nests too deep") from None
    except ValueError as error:
        raise UnreadableCallback(f"it is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise UnreadableCallback("it is not a JSON object")
    _check_depth(value)
    return {name: member for name, member in value.items() if member is not None}


def _once_each(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise UnreadableCallback("a member is there twice, so it is not clear which one is meant")
    return members


def _whole(text: str) -> int | str:
    return int(text) if len(text) <= DIGITS else text  # what no database column holds stays as it was written


def _number(text: str) -> float | str:
    return float(text) if math.isfinite(float(text)) else text


def _no_number(text: str) -> object:
    raise UnreadableCallback(f"{text} is not a JSON number")


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(DEPTH):
        level = [item for inner in level for item in _inside(inner)]
        if not level:
            return
    raise UnreadableCallback("it nests too deep")


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _check(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise UnreadableCallback(f"{name} is not a text")
    if len(value) > SIZES.get(name, len(value)):
        raise UnreadableCallback(f"{name} is longer than {SIZES[name]} characters")
    if name in IDS and clean(value) != value:
        raise UnreadableCallback(f"{name} has characters that no id has")


def _text(value: object) -> str | None:
    return str(value) if value else None


def _instant(value: object) -> datetime | None:
    if not value:
        return None
    try:
        moment = datetime.fromisoformat(str(value).strip().upper())  # RFC 3339 takes a z for a Z
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UnreadableCallback("createdDate is not a date") from None


def is_id(text: str) -> bool:
    """Whether a package may have this id."""
    return 0 < len(text) <= SIZES["packageId"] and clean(text) == text


def _cleaned(value: object) -> object:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, dict):
        return {clean(key): _cleaned(item) for key, item in value.items()}
    return value
