"""Reading of request bodies. An incomplete body is an error."""

import zlib

from flask import request
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge

from app.onespan.callback_members import GZIP_START

MAX_BODY_BYTES = 64 * 1024
# The window bits with which zlib reads each content encoding. Senders of "deflate" omit the header of zlib, or not.
WINDOW_BITS = {"gzip": (31,), "x-gzip": (31,), "deflate": (15, -15)}


def request_body() -> bytes:
    """Return the request's body.

    Raises `RequestEntityTooLarge` beyond `MAX_BODY_BYTES` and `BadRequest` if the body breaks off. The reading limit is
    one byte higher, because a chunked body is cut at the limit without an error.
    """
    request.max_content_length = MAX_BODY_BYTES + 1
    try:
        body = request.get_data(cache=False)
    except HTTPException:
        raise
    except Exception:  # noqa: BLE001  (the server's own error for malformed chunks)
        raise BadRequest("The request body is incomplete or malformed.") from None
    if len(body) > MAX_BODY_BYTES:
        raise RequestEntityTooLarge
    return body


def decompressed(body: bytes, encoding: str) -> bytes:
    """Return a body without its content encodings, such as `gzip`.

    A body in an unknown encoding, and one that is not what `encoding` says, is returned as it is. Raises
    `RequestEntityTooLarge` if the result has more than `MAX_BODY_BYTES`.
    """
    for name in reversed(encoding.lower().split(",")):
        body = _inflated(body, WINDOW_BITS.get(name.strip(), ()))
    return _inflated(body, WINDOW_BITS["gzip"]) if body.startswith(GZIP_START) else body


def _inflated(body: bytes, window_bits: tuple[int, ...]) -> bytes:
    """Return what zlib makes of a body with the first window bits that suit it; the body itself if none do."""
    for bits in window_bits:
        inflater = zlib.decompressobj(bits)
        try:
            plain = inflater.decompress(body, MAX_BODY_BYTES + 1)
        except zlib.error:
            continue
        if len(plain) > MAX_BODY_BYTES:
            raise RequestEntityTooLarge
        if inflater.eof:
            return plain
    return body
