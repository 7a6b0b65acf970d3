"""Sessions: a signed cookie says who came, and when; the database which of them were ended."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from flask import Flask, request, session
from flask.sessions import SecureCookieSessionInterface

from app.store import logins
from app.store.db import Database
from app.web.dashboard.user import Visitor

LONGEST = timedelta(hours=12)  # from the login
IDLE = timedelta(hours=1)  # without a page opened
GRAIN = timedelta(minutes=1)  # so exactly it is known when the last one was


class Cookies(SecureCookieSessionInterface):
    """The cookie as the request came: behind TLS only for TLS, and under a name that no neighbour can set."""

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002  (Flask passes it)
        """Whether the browser may send it over TLS only."""
        return request.is_secure

    def get_cookie_name(self, app: Flask) -> str:
        """Its name; browsers take `__Host-` only over TLS, from this very host."""
        return f"{'__Host-' * request.is_secure}{super().get_cookie_name(app)}"


class Sessions:
    """Begins, knows and ends them. Where there is no password to act, `may_act` is False and none of them acts."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime], may_act: bool) -> None:
        self._database = database
        self._clock = clock
        self._may_act = may_act

    def begin(self, visitor: Visitor) -> None:
        """A new session, whatever was there before."""
        now = self._clock().timestamp()
        session.clear()
        session.update(id=secrets.token_urlsafe(16), who=visitor.who, acts=visitor.may_act, began=now, seen=now)
        session["csrf_token"] = secrets.token_hex(20)  # Flask-WTF's; now, for two pages at once would make two

    def visitor(self) -> Visitor | None:
        """Whose session this is; None where there is none, or it has ended."""
        if "id" not in session or self._is_over():
            return None
        with self._database.read() as connection:
            if logins.has_ended(connection, session["id"]):
                return None
        return Visitor(session["who"], may_act=session["acts"] and self._may_act)

    def keep(self) -> None:
        """It is used: somebody opened a page."""
        if self._clock() - _time("seen") >= GRAIN:
            session["seen"] = self._clock().timestamp()

    def end(self) -> None:
        """End it for good, copies of its cookie included."""
        with self._database.write() as connection:
            logins.end(connection, session["id"], until=_time("began") + LONGEST, now=self._clock())
        session.clear()

    def _is_over(self) -> bool:
        now = self._clock()
        return now - _time("began") >= LONGEST or now - _time("seen") >= IDLE


def _time(name: str) -> datetime:
    return datetime.fromtimestamp(session[name], UTC)
