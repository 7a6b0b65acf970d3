"""Sessions of users. A signed cookie holds the user and the times; the database holds the logged-out sessions."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from flask import Flask, Response, request, session
from flask.sessions import SecureCookieSessionInterface, SessionMixin

from app.store import ended_sessions
from app.store.db import Database
from app.web.dashboard.devices import set_device_cookie
from app.web.dashboard.user import User

SESSION_LIFETIME = timedelta(hours=12)  # time from the login to the end of the session
IDLE_TIMEOUT = timedelta(hours=1)  # time without opening a page until the session ends
LAST_USE_RESOLUTION = timedelta(minutes=1)  # resolution of the time of the last page in the cookie


class CookieSessionInterface(SecureCookieSessionInterface):
    """Flask's session cookie. Over TLS the cookie is secure and has a name that only this host can set."""

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002  (Flask passes it)
        """Return whether browsers may send the cookie over TLS only."""
        return request.is_secure

    def get_cookie_name(self, app: Flask) -> str:
        """Return the cookie's name. Browsers accept the prefix `__Host-` only over TLS and from this host."""
        return f"{'__Host-' * request.is_secure}{super().get_cookie_name(app)}"

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Add the session's cookie to an answer, and after a login the device's."""
        super().save_session(app, session, response)
        set_device_cookie(response)


class Sessions:
    """The sessions of all users. Without a full-access password no session has full access."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime], allow_full_access: bool) -> None:
        self._database = database
        self._clock = clock
        self._allow_full_access = allow_full_access

    def begin(self, user: User) -> None:
        """Begin a new session in place of any earlier session."""
        now = self._clock().timestamp()
        session.clear()
        session.update(id=secrets.token_urlsafe(16), who=user.name, acts=user.has_full_access, began=now, seen=now)
        # Flask-WTF would make the CSRF token on first use, so two pages opened at once would make two tokens.
        session["csrf_token"] = secrets.token_hex(20)

    def user(self) -> User | None:
        """Return the user of this request's session, or None if there is no session or the session has ended."""
        if "id" not in session or self._has_expired():
            return None
        with self._database.read() as connection:
            if ended_sessions.has_ended(connection, session["id"]):
                return None
        return User(session["who"], has_full_access=session["acts"] and self._allow_full_access)

    def touch(self) -> None:
        """Record the time at which the user opened a page."""
        if self._clock() - _time("seen") >= LAST_USE_RESOLUTION:
            session["seen"] = self._clock().timestamp()

    def end(self) -> None:
        """End the session for good, including any copy of its cookie."""
        with self._database.write() as connection:
            ended_sessions.end(connection, session["id"], until=_time("began") + SESSION_LIFETIME, now=self._clock())
        session.clear()

    def _has_expired(self) -> bool:
        now = self._clock()
        return now - _time("began") >= SESSION_LIFETIME or now - _time("seen") >= IDLE_TIMEOUT


def _time(name: str) -> datetime:
    return datetime.fromtimestamp(session[name], UTC)
