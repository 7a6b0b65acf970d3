"""The pages for people: who may see them, and what they show."""

from collections.abc import Callable, Iterable
from datetime import datetime

from flask import Flask
from flask_wtf.csrf import CSRFProtect

from app.store.db import Database
from app.web.dashboard.access import Guard
from app.web.dashboard.login import login
from app.web.dashboard.passwords import Passwords, session_key
from app.web.dashboard.session import LONGEST, Cookies, Sessions
from app.web.dashboard.user import may_act, who


def open_dashboard(
    app: Flask,
    database: Database,
    *,
    passwords: Passwords,
    others: Iterable[Iterable[str]],
    clock: Callable[[], datetime],
) -> Guard:
    """Let people log in. Returns the guard of their pages.

    `others` are the service's further secrets, kind by kind: sessions are signed with a key made of all.
    """
    app.session_interface = Cookies()
    app.config.update(
        SECRET_KEY=session_key(passwords, others) if passwords else None,
        SESSION_COOKIE_NAME="onespan_receiver",
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=LONGEST,
        WTF_CSRF_CHECK_DEFAULT=False,  # the guard checks: the door and the API have no session
        WTF_CSRF_TIME_LIMIT=None,  # as long as the session
        WTF_CSRF_SSL_STRICT=False,  # browsers say more plainly where a request comes from, see the guard
    )
    app.jinja_env.globals |= {"may_act": may_act, "who": who}
    sessions = Sessions(database, clock=clock, may_act=bool(passwords.acting))
    guard = Guard(sessions, CSRFProtect(app), is_open=bool(passwords))
    app.register_blueprint(login(guard, database, passwords=passwords, clock=clock))
    return guard
