"""Parse the callbacks that OneSpan sends. The functions do no I/O.

The body of a callback is a JSON object with `name`, `packageId` and usually `sessionUser`, `createdDate`,
`message` and `documentId`. The body has no id, no signature and no state. Other forms are read as far as possible.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime

from app.errors import UnreadableCallback
from app.onespan.callback_dates import date_of, iso_date
from app.onespan.callback_members import Members, strict_members, tolerant_members, within_depth
from app.onespan.callback_values import (
    MAX_LENGTHS,
    READERS,
    event_name,
    is_plain_id,
    is_usual_name,
    read_date,
    read_member,
    true_id,
)
from app.onespan.event_catalogue import event_type, wire_name
from app.types import clean, clean_json

COMMON_MEMBERS = ("name", "packageId", "sessionUser", "documentId", "message", "createdDate")
FIELDS = {
    "sessionUser": "session_user",
    "documentId": "document_id",
    "message": "message",
    "createdDate": "happened_at",
}
ROLE_AS_SENT = "newRoleId as sent"  # `newRoleId` in `extra` is a text; this is the member in another form
UNKNOWN_NAME = "UNKNOWN"  # the name of an event whose callback has no readable name; the event claims nothing


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
    def is_partly_read(self) -> bool:
        """Whether the body may say more than could be read."""
        return not is_usual_name(self.name)

    @property
    def fingerprint(self) -> str:
        """64 hex digits that identify the event, independent of the white space and order of members in the body."""
        return _fingerprint(self)


@dataclass(frozen=True, slots=True)
class UnusualCallback(Callback):
    """A callback whose body is not as documented.

    `extra` has the members in another form as they were sent. `is_unread` says that a part could not be read.
    `known_as` is the fingerprint of earlier versions, if they read the callback differently.
    """

    is_unread: bool = False
    known_as: str | None = None

    @property
    def is_partly_read(self) -> bool:
        """Whether the body may say more than could be read."""
        return self.is_unread or not is_usual_name(self.name)

    @property
    def fingerprint(self) -> str:
        """64 hex digits that identify the event: what was read of it, in whatever form it was sent."""
        return self.known_as or _fingerprint(self)


def _fingerprint(callback: Callback) -> str:
    read = {member for member, field in FIELDS.items() if getattr(callback, field) is not None}
    fields = [
        callback.name,
        callback.package_id,
        callback.session_user,
        callback.document_id,
        callback.message,
        callback.happened_at.isoformat() if callback.happened_at else None,
        {name: value for name, value in callback.extra.items() if name not in read},
    ]
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def parse_callback(body: bytes) -> Callback:
    """Parse the body of one callback.

    A member that is null counts as absent. `@class`, the name of OneSpan's Java class, is dropped. Unknown members go
    into `extra`. Of a body that is not as documented, everything is read that can be. Raises `UnreadableCallback` if
    no package can be recognised; its message says what is wrong with the body.
    """
    try:
        members = strict_members(body)
    except UnreadableCallback as problem:
        return _first_readable(body, problem)
    try:
        return _corrected(_documented(members), members)
    except UnreadableCallback as problem:
        try:
            return _unusual(members)
        except UnreadableCallback:
            return _first_readable(body, problem)


def usual_package(body: bytes) -> str | None:
    """Return the package id of a body that is one callback with a plain id; None for a body that needs a closer look.

    `package_of` returns the same id, but takes longer.
    """
    try:
        members = strict_members(body)
    except UnreadableCallback:
        return None
    package_id = members.get("packageId")
    is_usual = members.get("name") and isinstance(package_id, str) and is_plain_id(package_id)
    return str(package_id) if is_usual else None


def package_of(body: bytes) -> str:
    """Return the id of the package that the body of a callback names. Raises `UnreadableCallback` if it names none."""
    package_id = parse_callback(body).package_id
    if not package_id.strip():
        raise UnreadableCallback("packageId is blank")
    return package_id


def _documented(members: Members) -> Callback:
    """Read a callback whose members all have the documented form. Raises `UnreadableCallback` for any other."""
    for name in ("packageId", "name"):
        if not members.get(name):
            raise UnreadableCallback(f"there is no {name}")
    for name in (*COMMON_MEMBERS, "newRoleId"):
        _check(name, members.get(name))
    message, date = members.get("message"), str(members.get("createdDate") or "")
    happened_at = iso_date(date)
    if date and happened_at is None:
        raise UnreadableCallback("createdDate is not a date")
    return Callback(
        name=wire_name(str(members["name"])),
        package_id=str(members["packageId"]),
        session_user=_text(members.get("sessionUser")),
        document_id=_text(members.get("documentId")),
        message=clean(str(message)) if message else None,
        happened_at=happened_at,
        extra={
            clean(k): clean_json(v) for k, v in sorted(members.items()) if k not in COMMON_MEMBERS and k != "@class"
        },
    )


def _check(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise UnreadableCallback(f"{name} is not a text")
    if len(value) > MAX_LENGTHS.get(name, len(value)):
        raise UnreadableCallback(f"{name} is longer than {MAX_LENGTHS[name]} characters")
    if name in MAX_LENGTHS and clean(value) != value:
        raise UnreadableCallback(f"{name} has characters that are not allowed in an id")


def _corrected(callback: Callback, members: Members) -> Callback:
    """Return a callback with the true name, package id and date, under the fingerprint that it has without them."""
    name = event_name(members)[0] or UNKNOWN_NAME
    package_id = true_id(callback.package_id) or callback.package_id
    date = str(members.get("createdDate", ""))
    happened_at = (
        callback.happened_at if "-" in date else date_of(date)
    )  # digits may be seconds, not a year and a month
    if (name, package_id, happened_at) == (callback.name, callback.package_id, callback.happened_at):
        return callback
    read = (name, package_id, callback.session_user, callback.document_id, callback.message, happened_at)
    return UnusualCallback(*read, callback.extra, known_as=callback.fingerprint)


def _first_readable(body: bytes, problem: UnreadableCallback) -> Callback:
    """Return the first callback that can be recognised in a body; raise the `problem` if there is none."""
    for members in tolerant_members(body):
        try:
            return _unusual(members, is_unread=True)
        except UnreadableCallback:
            continue
    raise problem


def _unusual(members: Members, *, is_unread: bool = False) -> UnusualCallback:
    """Read each member as far as possible. Raises `UnreadableCallback` if there is no package id."""
    texts = {member: read_member(members, member) for member in READERS}
    if not texts["packageId"]:
        raise UnreadableCallback("there is no packageId")
    name, name_member = event_name(members)
    date = read_date(members)
    read = {**texts, "name": name if name_member == "name" else None, "createdDate": date}
    odd = {member for member, value in read.items() if _is_odd(member, members.get(member), value)}
    extra = {member: value for member, value in members.items() if member not in {*read, name_member, "@class"}}
    extra |= {ROLE_AS_SENT if member == "newRoleId" else member: members[member] for member in odd}
    extra |= {"newRoleId": texts["newRoleId"]} if texts["newRoleId"] else {}
    return UnusualCallback(
        name=name or UNKNOWN_NAME,
        package_id=texts["packageId"],
        session_user=texts["sessionUser"],
        document_id=texts["documentId"],
        message=texts["message"],
        happened_at=date,
        extra={clean(member): clean_json(within_depth(value)) for member, value in sorted(extra.items())},
        is_unread=is_unread or any(read[member] is None for member in odd),
    )


def _is_odd(member: str, sent: object, read: object) -> bool:
    """Whether a member has another form than documented."""
    if sent in (None, ""):
        return False
    return not isinstance(sent, str) or read is None or (member == "createdDate" and iso_date(sent) is None)


def _text(value: object) -> str | None:
    return str(value) if value else None


def is_id(text: str) -> bool:
    """Whether the text is a valid package id."""
    return 0 < len(text) <= MAX_LENGTHS["packageId"] and clean(text) == text
