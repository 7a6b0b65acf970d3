"""Reading of request bodies. An incomplete body is an error."""

from flask import request
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge

from app.errors import BodyTooLarge
from app.onespan.compression import MAX_BODY_BYTES, decompressed


def request_body() -> bytes:
    """Return the request's body.

    Raises `RequestEntityTooLarge` beyond `MAX_BODY_BYTES` and `BadRequest` if the body breaks off. The reading limit is
    one byte higher, because a chunked body is cut at the limit without an error.
    """
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise RequestEntityTooLarge
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


def plain_body() -> bytes:
    """Return the request's body without its content encodings. Raises like `request_body`."""
    body = request_body()
    try:
        return decompressed(body, request.headers.get("Content-Encoding", ""))
    except BodyTooLarge:
        raise RequestEntityTooLarge from None
