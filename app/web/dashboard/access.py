"""Access to the pages: a login to see them, and a CSRF check for every change."""

from urllib.parse import urlencode

from flask import Blueprint, g, redirect, request
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError, CSRFProtect
from werkzeug.exceptions import BadRequest

from app.web.dashboard.session import Sessions
from app.web.errors import error_response
from app.web.request_logs import log_user

LIVE_HEADER = "X-Live"  # request header of an open page that refreshes itself
MAX_BODY_BYTES = 64 * 1024
SAFE_METHODS = ("GET", "HEAD")
TRUSTED_SITES = ("same-origin", "none")  # allowed values of Sec-Fetch-Site: this site, or a URL that the user typed
DASHBOARD_CLOSED = (
    "The dashboard is off because no password is set. Set DASHBOARD_PASSWORD (full access), "
    "DASHBOARD_READONLY_PASSWORD (view only) or DASHBOARD_USERS, and restart the service."
)
SESSION_EXPIRED = "Your session expired. Nothing was changed. Please log in and try again."
CSRF_FAILED = (
    "Nothing was changed. Your session expired, this page was open for too long, or your browser blocks cookies. "
    "Reload the page and try again."
)


class AccessControl:
    """The access control of the pages: only logged-in users see a page. Without a password every page answers 503."""

    def __init__(self, sessions: Sessions, csrf: CSRFProtect, *, has_password: bool) -> None:
        self.sessions = sessions
        self._csrf = csrf
        self._has_password = has_password

    def require_login(self, blueprint: Blueprint) -> None:
        """Show the pages of a blueprint only to logged-in users (`g.user`), and redirect other users to the login.

        A request with the header `X-Live` does not extend the session. Without a session the answer to such a request
        is 401 and not a redirect.
        """
        self.require_password(blueprint)

        @blueprint.before_request
        def check_login() -> ResponseReturnValue | None:
            user = self.sessions.user()
            if user is None:
                return _login_required()
            g.user = user
            log_user(user.name)
            if LIVE_HEADER not in request.headers:
                self.sessions.touch()
            if request.method not in SAFE_METHODS:
                self.check_csrf()
            return None

    def require_password(self, blueprint: Blueprint) -> None:
        """Let a blueprint answer 503 while no password is set, and limit the size of requests."""

        @blueprint.before_request
        def check_password() -> ResponseReturnValue | None:
            request.max_content_length = MAX_BODY_BYTES
            return None if self._has_password else error_response(503, "dashboard_closed", DASHBOARD_CLOSED)

    def check_csrf(self) -> None:
        """Check that the request comes from a page of this service. Raises `BadRequest` otherwise."""
        if request.headers.get("Sec-Fetch-Site", "none") not in TRUSTED_SITES:
            raise BadRequest(CSRF_FAILED)
        try:
            self._csrf.protect()
        except CSRFError:
            raise BadRequest(CSRF_FAILED) from None


def _login_required() -> ResponseReturnValue:
    if request.method not in SAFE_METHODS or LIVE_HEADER in request.headers:
        return error_response(401, "not_logged_in", SESSION_EXPIRED)
    requested = request.full_path if request.query_string else request.path
    return redirect(f"/login?{urlencode({'next': requested})}")
