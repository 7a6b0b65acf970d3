"""Unusual forms of callbacks, which integrators have received or must expect: one part of a body differs.

Every form still names event and package. The quirk `odd_members` chooses the form.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType
from urllib.parse import quote

Members = dict[str, object]
Odd = Callable[[Members], Members | bytes | None]  # returns None for a callback that cannot have the form

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
GZIP_MAGIC, ZLIB_MAGIC = b"\x1f\x8b", b"\x78"


def dump(members: Members) -> bytes:
    """Return a body in its usual form."""
    return _text(members).encode()


def odd_body(members: Members, form: str) -> bytes:
    """Return a body in an unusual form, or in its usual form if it cannot have this one.

    The form `mixed` chooses another form for each body, by its content. What the body says stays the same.
    """
    if form != "mixed":
        return _in_form(form, members) or dump(members)
    number = zlib.crc32(dump(members))
    possible = [odd for name in LOSSLESS if (odd := _in_form(name, members)) and _keeps_date(name, members)]
    return possible[number % len(possible)]


def content_encoding(body: bytes) -> Mapping[str, str]:
    """Return the header that says how a body is compressed, if it is."""
    if body.startswith(GZIP_MAGIC):
        return {"Content-Encoding": "gzip"}
    return {"Content-Encoding": "deflate"} if body.startswith(ZLIB_MAGIC) else {}


def decompressed(body: bytes) -> bytes:
    """Return a body without compression."""
    if body.startswith(GZIP_MAGIC):
        return gzip.decompress(body)
    return zlib.decompress(body) if body.startswith(ZLIB_MAGIC) else body


def decoded(body: bytes) -> str:
    """Return the text of a body, which may be compressed and need not be in UTF-8."""
    raw = decompressed(body)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("cp1252")


def _in_form(form: str, members: Members) -> bytes | None:
    odd = FORMS[form](members)
    return dump(odd) if isinstance(odd, dict) else odd


def _keeps_date(form: str, members: Members) -> bool:
    """Whether a form does not lose the milliseconds of a date."""
    return form not in WHOLE_SECONDS or str(members.get("createdDate")).endswith(".000Z")


def _text(members: Members) -> str:
    return json.dumps(members, ensure_ascii=False, separators=(",", ":"))


def _with_date(write: Callable[[datetime], object], members: Members) -> Members | None:
    date = members.get("createdDate")
    return {**members, "createdDate": write(datetime.fromisoformat(str(date)))} if date else None


def _milliseconds(moment: datetime) -> int:
    return round((moment - EPOCH).total_seconds() * 1000)


def _date_twice(members: Members) -> bytes | None:
    """Repeat the date at the end of the body, which JSON allows."""
    date = members.get("createdDate")
    return f'{_text(members)[:-1]},"createdDate":{json.dumps(date)}}}'.encode() if date else None


def _name_under(name: str, members: Members) -> Members:
    return {(name if member == "name" else member): value for member, value in members.items()}


def _encoded_id(members: Members) -> Members:
    return {**members, "packageId": quote(str(members["packageId"]), safe="")}


def _padded_id(members: Members) -> Members:
    return {**members, "packageId": f" {members['packageId']} "}


def _message_object(members: Members) -> Members:
    return {**members, "message": {"name": members.get("message") or "id.pdf"}}


def _user_object(members: Members) -> Members | None:
    user = members.get("sessionUser")
    return {**members, "sessionUser": {"id": user}} if user else None


def _document_number(members: Members) -> Members | None:
    return None if members.get("documentId") else {**members, "documentId": 3}


def _document_object(members: Members) -> Members | None:
    document = members.get("documentId")
    return {**members, "documentId": {"id": document}} if document else None


def _in_charset(charset: str, members: Members) -> bytes | None:
    try:
        return _text(members).encode(charset)
    except UnicodeEncodeError:
        return None


FORMS: Mapping[str, Odd] = MappingProxyType(
    {
        "date-ms": partial(_with_date, _milliseconds),
        "date-ms-text": partial(_with_date, lambda moment: str(_milliseconds(moment))),
        "date-s": partial(_with_date, lambda moment: _milliseconds(moment) // 1000),
        "date-s-text": partial(_with_date, lambda moment: str(_milliseconds(moment) // 1000)),
        "date-java": partial(_with_date, lambda moment: f"{moment:%a %b %d %H:%M:%S} UTC {moment:%Y}"),
        "date-net": partial(_with_date, lambda moment: f"/Date({_milliseconds(moment)})/"),
        "date-zone": lambda members: _with_date(lambda _: f"{members['createdDate']}[UTC]", members),
        "date-twice": _date_twice,
        "name-event": partial(_name_under, "event"),
        "name-type": partial(_name_under, "type"),
        "name-eventName": partial(_name_under, "eventName"),
        "name-eventType": partial(_name_under, "eventType"),
        "id-encoded": _encoded_id,
        "id-padded": _padded_id,
        "message-object": _message_object,
        "user-object": _user_object,
        "document-object": _document_object,
        "document-number": _document_number,
        "latin-1": partial(_in_charset, "latin-1"),
        "cp1252": partial(_in_charset, "cp1252"),
        "gzip": lambda members: gzip.compress(dump(members), mtime=0),
        "deflate": lambda members: zlib.compress(dump(members)),
    }
)
WHOLE_SECONDS = frozenset({"date-s", "date-s-text", "date-java"})  # forms that lose the milliseconds of a date
LOSSLESS = [form for form in FORMS if form != "document-number"]  # forms that `mixed` uses
