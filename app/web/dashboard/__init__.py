"""The dashboard: the pages for people, and the login in front of them."""

from collections.abc import Callable, Iterable
from datetime import datetime

from flask import Flask
from flask_wtf.csrf import CSRFProtect

from app.store.db import Database
from app.web.dashboard.access import AccessControl
from app.web.dashboard.login import login
from app.web.dashboard.passwords import Passwords, session_key
from app.web.dashboard.session import SESSION_LIFETIME, CookieSessionInterface, Sessions
from app.web.dashboard.user import has_full_access, shown_name, user_name


def add_dashboard(
    app: Flask,
    database: Database,
    *,
    passwords: Passwords,
    other_secrets: Iterable[Iterable[str]],
    clock: Callable[[], datetime],
) -> AccessControl:
    """Set up sessions and the login. Returns the access control of the pages.

    `other_secrets` are the service's other secrets by kind: the key that signs sessions is derived from all secrets.
    """
    app.session_interface = CookieSessionInterface()
    app.config.update(
        SECRET_KEY=session_key(passwords, other_secrets) if passwords else None,
        SESSION_COOKIE_NAME="onespan_receiver",
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=SESSION_LIFETIME,
        # `AccessControl` checks the CSRF tokens of pages. The callback endpoint and the API have no sessions.
        WTF_CSRF_CHECK_DEFAULT=False,
        WTF_CSRF_TIME_LIMIT=None,  # a CSRF token is valid as long as its session
        WTF_CSRF_SSL_STRICT=False,  # `AccessControl` checks Sec-Fetch-Site instead of the referrer
    )
    app.jinja_env.globals |= {"has_full_access": has_full_access, "user_name": user_name, "shown_name": shown_name}
    sessions = Sessions(database, clock=clock, allow_full_access=passwords.can_give_full_access)
    access = AccessControl(sessions, CSRFProtect(app), has_password=bool(passwords))
    app.register_blueprint(login(access, database, passwords=passwords, clock=clock))
    return access
