"""Parse the callbacks that OneSpan sends. The functions do no I/O.

The body of a callback is a JSON object with `name`, `packageId` and usually `sessionUser`, `createdDate`,
`message` and `documentId`. The body has no id, no signature and no state.
"""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from app.errors import UnreadableCallback
from app.onespan.event_catalogue import event_type, wire_name
from app.types import clean

# Maximum lengths in characters. OneSpan documents them, except those of `name` and `newRoleId`.
MAX_LENGTHS = {"name": 255, "packageId": 255, "sessionUser": 255, "documentId": 256, "newRoleId": 256}
ID_MEMBERS = tuple(MAX_LENGTHS)
COMMON_MEMBERS = ("name", "packageId", "sessionUser", "documentId", "message", "createdDate")
MAX_INTEGER_CHARACTERS = 18  # every integer of this length fits into 64 bits
MAX_DEPTH = 20  # levels of nesting that are accepted; OneSpan's callbacks have two


@dataclass(frozen=True, slots=True)
class Callback:
    """A parsed callback. `happened_at` is aware and in UTC, or None if the callback has no `createdDate`."""

    name: str
    package_id: str
    session_user: str | None
    document_id: str | None
    message: str | None
    happened_at: datetime | None
    extra: dict[str, object]

    @property
    def signer_id(self) -> str | None:
        """The id of the signer concerned; None unless OneSpan documents that this event's `sessionUser` is a signer."""
        return self.session_user if event_type(self.name).names_signer else None

    @property
    def fingerprint(self) -> str:
        """64 hex digits that identify the event, independent of the white space and order of members in the body."""
        fields = [
            self.name,
            self.package_id,
            self.session_user,
            self.document_id,
            self.message,
            self.happened_at.isoformat() if self.happened_at else None,
            self.extra,
        ]
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def parse_callback(body: bytes) -> Callback:
    """Parse the body of one callback.

    A member that is null counts as absent. `@class`, the name of OneSpan's Java class, is dropped. Unknown members go
    into `extra`. Raises `UnreadableCallback`, whose message says what is wrong with the body.
    """
    members = _members(body)
    for name in ("name", "packageId"):
        if not members.get(name):
            raise UnreadableCallback(f"there is no {name}")
    for name in (*COMMON_MEMBERS, "newRoleId"):
        _check(name, members.get(name))
    message = members.get("message")
    return Callback(
        name=wire_name(str(members["name"])),
        package_id=str(members["packageId"]),
        session_user=_text(members.get("sessionUser")),
        document_id=_text(members.get("documentId")),
        message=clean(str(message)) if message else None,
        happened_at=_instant(members.get("createdDate")),
        extra={clean(k): _cleaned(v) for k, v in sorted(members.items()) if k not in COMMON_MEMBERS and k != "@class"},
    )


def _members(body: bytes) -> dict[str, object]:
    try:
        value = json.loads(
            body.decode("utf-8-sig"),
            object_pairs_hook=_reject_duplicates,
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_reject_constant,
        )
    except UnicodeDecodeError:
        raise UnreadableCallback("it is not UTF-8") from None
    except RecursionError:
        raise UnreadableCallback("it is nested too deeply") from None
    except ValueError as error:
        raise UnreadableCallback(f"it is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise UnreadableCallback("it is not a JSON object")
    _check_depth(value)
    return {name: member for name, member in value.items() if member is not None}


def _reject_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise UnreadableCallback("a member occurs twice")
    return members


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


def _check(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise UnreadableCallback(f"{name} is not a text")
    if len(value) > MAX_LENGTHS.get(name, len(value)):
        raise UnreadableCallback(f"{name} is longer than {MAX_LENGTHS[name]} characters")
    if name in ID_MEMBERS and clean(value) != value:
        raise UnreadableCallback(f"{name} has characters that are not allowed in an id")


def _text(value: object) -> str | None:
    return str(value) if value else None


def _instant(value: object) -> datetime | None:
    if not value:
        return None
    try:
        moment = datetime.fromisoformat(str(value).strip().upper())  # RFC 3339 allows a lower-case z for UTC
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UnreadableCallback("createdDate is not a date") from None


def is_id(text: str) -> bool:
    """Whether the text is a valid package id."""
    return 0 < len(text) <= MAX_LENGTHS["packageId"] and clean(text) == text


def _cleaned(value: object) -> object:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, dict):
        return {clean(key): _cleaned(item) for key, item in value.items()}
    return value
