"""Which other sites' pages may read the API: browsers ask, and are told."""

from collections.abc import Collection

from flask import Flask, Response, request

UNDER = "/api/"
ANSWER = {"Access-Control-Expose-Headers": "ETag, Retry-After"}
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, If-None-Match",
    "Access-Control-Max-Age": "600",  # seconds a browser need not ask again
}


def let_pages_read(app: Flask, *, origins: Collection[str]) -> None:
    """Let pages of these origins read the API. They send a token of theirs; cookies are not for them."""
    if not origins:
        return

    @app.after_request
    def say_who_may(response: Response) -> Response:
        if not request.path.startswith(UNDER):
            return response
        response.vary.add("Origin")
        origin = request.headers.get("Origin")
        if origin in origins:
            preflight = PREFLIGHT if request.method == "OPTIONS" else {}
            response.headers.update({"Access-Control-Allow-Origin": origin, **ANSWER, **preflight})
        return response
