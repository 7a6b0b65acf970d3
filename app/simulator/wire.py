"""How events travel: the exact body and headers of a callback.

Both follow the captures that are public: `@class` and explicit nulls in the body, the bare key behind `Basic` and an
empty User-Agent in the headers. Members that only some events have come last, and are not there on the others.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from app.simulator.packages import Event

JAVA_CLASS = "com.silanis.esl.packages.event.ESLProcessEvent"


def body(event: Event) -> bytes:
    """The callback's body, UTF-8."""
    members = {
        "@class": JAVA_CLASS,
        "name": event.name,
        "sessionUser": event.session_user,
        "packageId": event.package_id,
        "message": event.message,
        "documentId": event.document_id,
        "createdDate": timestamp(event.at),
        **event.more,
    }
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()


def headers(key: str) -> Mapping[str, str]:
    """The callback's headers; the key goes as it is, not in base64."""
    return {
        "Accept-Encoding": "gzip,deflate",
        "User-Agent": "",
        "Authorization": f"Basic {key}",
        "Content-Type": "application/json; charset=utf-8",
    }


def timestamp(moment: datetime) -> str:
    """A time as OneSpan writes it: UTC, milliseconds, `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
