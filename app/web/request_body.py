"""The body of a request, whole or not at all."""

from flask import request
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge

LIMIT = 64 * 1024  # bytes


def whole_body() -> bytes:
    """The request's body. A chunked one is cut at the limit without a word, so we ask for one byte more.

    Raises `RequestEntityTooLarge`, and `BadRequest` where it breaks off.
    """
    request.max_content_length = LIMIT + 1
    try:
        body = request.get_data(cache=False)
    except HTTPException:
        raise
    except Exception:  # noqa: BLE001  (the server's own error for chunks that are none)
        raise BadRequest("The body cannot be read to its end.") from None
    if len(body) > LIMIT:
        raise RequestEntityTooLarge
    return body
