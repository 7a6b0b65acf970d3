"""Cross-origin requests (CORS): which origins may read the API from a browser."""

from collections.abc import Collection

from flask import Flask, Response, request

API_PATH = "/api/"
HEADERS = {"Access-Control-Expose-Headers": "ETag, Retry-After"}
PREFLIGHT_HEADERS = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, If-None-Match",
    "Access-Control-Max-Age": "600",  # seconds for which a browser keeps the answer to a preflight
}


def add_cors_headers(app: Flask, *, origins: Collection[str]) -> None:
    """Let pages of these origins read the API with an API token of their own. Cookies are not allowed."""
    if not origins:
        return

    @app.after_request
    def add_headers(response: Response) -> Response:
        if not request.path.startswith(API_PATH):
            return response
        response.vary.add("Origin")
        origin = request.headers.get("Origin")
        if origin in origins:
            preflight = PREFLIGHT_HEADERS if request.method == "OPTIONS" else {}
            response.headers.update({"Access-Control-Allow-Origin": origin, **HEADERS, **preflight})
        return response
