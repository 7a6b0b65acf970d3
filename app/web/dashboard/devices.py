"""Device cookies: browsers in which someone logged in before, so that wrong passwords of others do not lock them out.

After OWASP's "Slow Down Online Guessing Attacks with Device Cookies".
"""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from flask import Response, current_app, g, request
from itsdangerous import BadSignature, URLSafeSerializer

from app.web.dashboard.user import User

COOKIE = "onespan_receiver_device"
LIFETIME = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Device:
    """A browser, and the account that last logged in with it."""

    id: str
    account: str


def known_device(*, now: datetime) -> Device | None:
    """Return the device that this request's cookie names, or None without a valid cookie."""
    try:
        content = _serializer().loads(request.cookies.get(_cookie_name(), ""))
    except BadSignature:
        return None
    is_valid = now < datetime.fromtimestamp(content["at"], UTC) + LIFETIME
    return Device(content["id"], content["account"]) if is_valid else None


def remember_device(user: User, *, now: datetime) -> None:
    """Set the cookie that names this user in the answer. A known device of the user keeps its id, and its failures."""
    known = known_device(now=now)
    device_id = known.id if known and known.account == user.account else secrets.token_urlsafe(16)
    g.device_cookie = _serializer().dumps({"id": device_id, "account": user.account, "at": int(now.timestamp())})


def set_device_cookie(response: Response) -> None:
    """Add the cookie to an answer after a login. Scripts cannot read it, and over TLS it is secure."""
    if content := g.pop("device_cookie", None):
        response.set_cookie(
            _cookie_name(), content, max_age=LIFETIME, secure=request.is_secure, httponly=True, samesite="Lax"
        )


def _cookie_name() -> str:
    return f"{'__Host-' * request.is_secure}{COOKIE}"


def _serializer() -> URLSafeSerializer:
    return URLSafeSerializer(current_app.secret_key or b"", salt="device")
