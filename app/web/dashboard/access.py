"""Who comes to a page must have logged in, and what is changed must have been asked for on a page of ours."""

from urllib.parse import urlencode

from flask import Blueprint, g, redirect, request
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError, CSRFProtect
from werkzeug.exceptions import BadRequest

from app.web.dashboard.session import Sessions
from app.web.errors import refuse

LIVE = "X-Live"  # the header of a page that asks by itself whether anything is new
BODY_LIMIT = 64 * 1024  # bytes
LOOKING = ("GET", "HEAD")
FROM_US = ("same-origin", "none")  # what browsers say of requests from our pages, and of what a person typed
CLOSED = (
    "The dashboard is closed, for there is no password yet. Set DASHBOARD_PASSWORD for those who may act, or "
    "DASHBOARD_READONLY_PASSWORD for those who may look, and start the service again."
)
NOT_LOGGED_IN = "Your session has ended, so nothing was done. Log in, and try again."
STALE = (
    "Nothing was changed. This page was open for too long, or its session has ended, or the browser keeps no cookies. "
    "Reload the page, and try again."
)


class Guard:
    """Lets visitors into pages. Without passwords it `is_open` to nobody: that is ours to mend, so a 503 says how."""

    def __init__(self, sessions: Sessions, csrf: CSRFProtect, *, is_open: bool) -> None:
        self.sessions = sessions
        self._csrf = csrf
        self._is_open = is_open

    def protect(self, blueprint: Blueprint) -> None:
        """Show the pages of this blueprint to visitors only; `g.visitor` is who. Others are sent to log in.

        A request with the header `X-Live` is no use of the session, and is answered rather than sent elsewhere.
        """
        self.watch(blueprint)

        @blueprint.before_request
        def let_in() -> ResponseReturnValue | None:
            visitor = self.sessions.visitor()
            if visitor is None:
                return _ask_to_log_in()
            g.visitor = visitor
            if LIVE not in request.headers:
                self.sessions.keep()
            if request.method not in LOOKING:
                self.believe()
            return None

    def watch(self, blueprint: Blueprint) -> None:
        """Open this blueprint when the dashboard is, and to requests of a decent size."""

        @blueprint.before_request
        def open_or_not() -> ResponseReturnValue | None:
            request.max_content_length = BODY_LIMIT
            return None if self._is_open else refuse(503, "dashboard_closed", CLOSED)

    def believe(self) -> None:
        """Make sure that a page of ours asks for this. Raises `BadRequest` where it may be another site's."""
        if request.headers.get("Sec-Fetch-Site", "none") not in FROM_US:
            raise BadRequest(STALE)
        try:
            self._csrf.protect()
        except CSRFError:
            raise BadRequest(STALE) from None


def _ask_to_log_in() -> ResponseReturnValue:
    if request.method not in LOOKING or LIVE in request.headers:
        return refuse(401, "not_logged_in", NOT_LOGGED_IN)
    wanted = request.full_path if request.query_string else request.path
    return redirect(f"/login?{urlencode({'next': wanted})}")
