"""What every log line of a request carries: the request's id, the client's address, and who is logged in."""

import ipaddress
import re
import secrets
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from flask import Flask, Response, g, request
from structlog.contextvars import bind_contextvars, unbind_contextvars

HEADER = "X-Request-ID"
# The ids that proxies make: hexadecimal numbers, UUIDs, and HAProxy's addresses and times.
REQUEST_ID = re.compile(r"[0-9A-Fa-f_:-]{16,64}")
WITH_PORT = re.compile(r"^\[(.*)\](?::\d+)?$|^([\d.]+):\d+$")


def log_requests(app: Flask, *, has_proxy: bool) -> None:
    """Give each request an id, which its log lines and its answer carry.

    The id is that of a proxy in front, if there is one, otherwise a new one. Call this function before any other that
    adds functions to requests.
    """

    @app.before_request
    def begin() -> None:
        given = request.headers.get(HEADER, "") if has_proxy else ""
        g.request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        bind_contextvars(request_id=g.request_id, address=str(ip_address(request.remote_addr) or "unknown"))

    @app.after_request
    def answer(response: Response) -> Response:
        response.headers[HEADER] = g.request_id
        return response

    @app.teardown_request
    def end(_: BaseException | None) -> None:
        unbind_contextvars("request_id", "address", "by")


def log_user(name: str) -> None:
    """Add the name of the user, or the label of the API token, to all further lines of this request."""
    bind_contextvars(by=name)


@lru_cache(maxsize=1024)
def ip_address(text: str | None) -> IPv4Address | IPv6Address | None:
    """Return the IP address in a text such as `[2001:db8::1]:443`, or None; the peer of a Unix socket has none."""
    try:
        address = ipaddress.ip_address(WITH_PORT.sub(r"\1\2", text or ""))
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
