"""The exact body and headers of a callback.

Body and headers follow public captures. The body has `@class` and explicit nulls; the headers have the bare key after
`Basic` and an empty User-Agent. Members that only some events have come last; other events lack these members.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from app.simulator.odd_callbacks import decoded, dump, odd_body
from app.simulator.packages import Event
from app.simulator.quirks import DEFAULT_QUIRKS, Quirks

JAVA_CLASS = "com.silanis.esl.packages.event.ESLProcessEvent"
READY = "PACKAGE_READY_FOR_COMPLETE"


def body(event: Event, *, quirks: Quirks = DEFAULT_QUIRKS) -> bytes:
    """Return the body of a callback, in UTF-8 unless the quirk `odd_members` sets another form."""
    members: dict[str, object] = {
        "@class": JAVA_CLASS,
        "name": quirks.ready_name if event.name == READY else event.name,
        "sessionUser": event.session_user,
        "packageId": event.package_id,
        **_optional({"message": event.message, "documentId": event.document_id}, quirks),
        **_date(event.at, quirks),
        **event.extra,
    }
    return dump(members) if quirks.odd_members == "none" else odd_body(members, quirks.odd_members)


def reformatted(sent: bytes) -> bytes:
    """Return a callback's body with other white space and escapes, as when a person posts it again from a mail."""
    return json.dumps(json.loads(decoded(sent)), indent=2).encode()


def headers(key: str) -> Mapping[str, str | bytes]:
    """Return the headers of a callback. The key is not base64-encoded; an empty key sends no Authorization header."""
    return {
        "Accept-Encoding": "gzip,deflate",
        "User-Agent": "",
        **({"Authorization": f"Basic {key}".encode()} if key else {}),
        "Content-Type": "application/json; charset=utf-8",
    }


def timestamp(moment: datetime) -> str:
    """Return a time as OneSpan writes it: in UTC, with milliseconds and `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _date(at: datetime | None, quirks: Quirks) -> Mapping[str, str | None]:
    if at is None:
        return {"createdDate": None} if quirks.undated == "null" else {}
    return {"createdDate": timestamp(at)}


def _optional(members: Mapping[str, str | None], quirks: Quirks) -> Mapping[str, str | None]:
    if quirks.unused_fields == "null":
        return members
    return {name: value for name, value in members.items() if value is not None}
