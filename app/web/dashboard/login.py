"""Login and logout of users."""

import ipaddress
import math
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

import structlog
from flask import Blueprint, redirect, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest

from app.store import login_limit
from app.store.db import Database
from app.web.dashboard.access import AccessControl
from app.web.dashboard.devices import known_device, remember_device
from app.web.dashboard.passwords import Passwords
from app.web.dashboard.user import MAX_NAME_LENGTH, VIEW_ACCESS, User
from app.web.errors import error_response
from app.web.request_logs import ip_address, log_user

log = structlog.get_logger()

# Failed logins are counted for each IPv6 network of this many bits. One customer may own a whole /48. With counts for
# smaller networks, such a customer alone could reach the limit for all addresses. Customers with smaller networks may
# share one count.
IPV6_PREFIX_BITS = 48
MAX_NEXT_LENGTH = 2000  # maximum characters of the URL to return to after the login
WRONG_PASSWORD = "Incorrect password."  # noqa: S105  (a message)
WRONG_NAME = "Incorrect name or password."


def login(
    access: AccessControl, database: Database, *, passwords: Passwords, clock: Callable[[], datetime]
) -> Blueprint:
    """Return the blueprint of `/login` and `/logout`."""
    blueprint = Blueprint("login", __name__)
    access.require_password(blueprint)

    def form(problem: str | None = None) -> str:
        return render_template(
            "login.html",
            problem=problem,
            next=local_url(request.values.get("next")),
            name=request.form.get("name", ""),
            max_name_length=MAX_NAME_LENGTH,
            has_users=bool(passwords.users),
            has_shared=passwords.has_shared,
        )

    @blueprint.get("/login")
    def show_form() -> ResponseReturnValue:
        """Show the login form. A logged-in user is redirected to the requested page."""
        if access.sessions.user():
            return redirect(local_url(request.args.get("next")))
        return form()

    @blueprint.post("/login")
    def log_in() -> ResponseReturnValue:
        """Check the password and begin a session, or count a failed login."""
        try:
            access.check_csrf()
        except BadRequest as error:
            return form(error.description), 400
        now = clock()
        result = check_login(database, passwords, now=now)
        if isinstance(result, timedelta):
            log.warning("login.refused", account=_account(passwords))
            return _too_many(result)
        if result is None:
            log.warning("login.failed", account=_account(passwords))
            return form(WRONG_NAME if passwords.users else WRONG_PASSWORD), 401
        remember_device(result, now=now)
        access.sessions.begin(result)
        log_user(result.name)
        log.info("login.succeeded", access="full" if result.has_full_access else "view only")
        return redirect(local_url(request.form.get("next")), 303)

    @blueprint.post("/logout")
    def log_out() -> ResponseReturnValue:
        """End the user's session for good."""
        if user := access.sessions.user():
            access.check_csrf()
            access.sessions.end()
            log_user(user.name)
            log.info("session.ended")
        return redirect("/login", 303)

    return blueprint


def local_url(requested: str | None, *, default: str = "/") -> str:
    """Return the requested URL if it is a path of this service, otherwise `default`."""
    path = (requested or "").partition("?")[0]
    is_local = path.startswith("/") and not path.startswith("//") and path not in ("/login", "/logout")
    is_plain = requested and requested.isprintable() and "\\" not in requested and len(requested) <= MAX_NEXT_LENGTH
    return requested if requested and is_local and is_plain else default


def client_network(address: str | None) -> str:
    """Return the address for which failed logins are counted: an IPv4 address, or the network of an IPv6 address."""
    client = ip_address(address)
    if isinstance(client, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(client), IPV6_PREFIX_BITS), strict=False))
    return str(client or "unknown")


def check_login(database: Database, passwords: Passwords, *, now: datetime) -> User | timedelta | None:
    """Return the user who logs in, None for a wrong password, or how long to wait before the next attempt.

    With a known device, an attempt at the account that logged in there before is counted apart, so that others cannot
    lock out its user. What else it tries, such as more access than before, is counted like an attempt of anyone.
    """
    name, given = request.form.get("name", ""), request.form.get("password", "")
    address, device = client_network(request.remote_addr), known_device(now=now)
    if device is None or device.account not in passwords.accounts(name):
        return _try(database, address, partial(passwords.user, name, given), now=now)
    known = f"{login_limit.DEVICE}{device.id}"
    if device.account != VIEW_ACCESS:
        return _try(database, known, partial(passwords.user, name, given), now=now)
    result = _try(database, known, partial(passwords.user, name, given, account=VIEW_ACCESS), now=now)
    if result is not None:
        return result
    more = _try(database, address, partial(passwords.user, name, given), now=now)
    return more if isinstance(more, User) else None


def _account(passwords: Passwords) -> str:
    """Return what a login tried, for the log: a named user, or the shared passwords. Names of no user are not shown."""
    accounts = passwords.accounts(request.form.get("name", ""))
    return accounts[0] if len(accounts) == 1 else "shared passwords"


def _try(
    database: Database, address: str, check: Callable[[], User | None], *, now: datetime
) -> User | timedelta | None:
    """Count a login attempt of an address or device, check the password, and uncount the attempt if it is right."""
    attempt = _attempt(database, address, now=now)
    if isinstance(attempt, timedelta):
        return attempt
    user = check()
    if user is None:
        return None
    with database.write() as connection:
        login_limit.succeed(connection, attempt)
    return user


def _attempt(database: Database, address: str, *, now: datetime) -> int | timedelta:
    """Return the id of a counted login attempt, or how long the address must wait. A refused attempt is not stored."""
    with database.read() as connection:
        if wait := login_limit.retry_after(connection, address, now=now):
            return wait
    with database.write() as connection:
        return login_limit.record_attempt(connection, address, now=now)


def _too_many(wait: timedelta) -> ResponseReturnValue:
    minutes = math.ceil(wait / timedelta(minutes=1))
    message = f"Too many incorrect passwords. Try again in {minutes} minute{'s' * (minutes > 1)}."
    return error_response(429, "too_many_attempts", message, {"Retry-After": str(math.ceil(wait.total_seconds()))})
