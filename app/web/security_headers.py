"""HTTP headers that restrict what browsers do with the responses."""

from flask import Flask, Response, request

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # other sites do not see URLs, which contain package ids
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
HSTS = "max-age=31536000"  # one year in seconds, for this host without its subdomains


def add_security_headers(app: Flask) -> None:
    """Add the security headers to every response, and `no-store` to responses without `Cache-Control`."""

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers.extend(SECURITY_HEADERS)  # no view sets one of these
        response.headers.setdefault("Cache-Control", "no-store")
        if request.is_secure:
            response.headers["Strict-Transport-Security"] = HSTS
        return response
