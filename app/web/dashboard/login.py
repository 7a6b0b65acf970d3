"""Login and logout of users."""

import ipaddress
import math
import re
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from flask import Blueprint, redirect, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest

from app.store import login_limit
from app.store.db import Database
from app.web.dashboard.access import AccessControl
from app.web.dashboard.passwords import Passwords
from app.web.dashboard.user import MAX_NAME_LENGTH, User, clean_name
from app.web.errors import error_response

log = structlog.get_logger()

# Failed logins are counted for each IPv6 network of this many bits. One customer may own a whole /48. With counts for
# smaller networks, such a customer alone could reach the limit for all addresses. Customers with smaller networks may
# share one count.
IPV6_PREFIX_BITS = 48
WITH_PORT = re.compile(r"^\[(.*)\](?::\d+)?$|^([\d.]+):\d+$")
MAX_NEXT_LENGTH = 2000  # maximum characters of the URL to return to after the login
WRONG_PASSWORD = "Incorrect password."  # noqa: S105  (a message)


def login(
    access: AccessControl, database: Database, *, passwords: Passwords, clock: Callable[[], datetime]
) -> Blueprint:
    """Return the blueprint of `/login` and `/logout`."""
    blueprint = Blueprint("login", __name__)
    access.require_password(blueprint)

    @blueprint.get("/login")
    def show_form() -> ResponseReturnValue:
        """Show the login form. A logged-in user is redirected to the requested page."""
        if access.sessions.user():
            return redirect(local_url(request.args.get("next")))
        return _form()

    @blueprint.post("/login")
    def log_in() -> ResponseReturnValue:
        """Check the password and begin a session, or count a failed login."""
        try:
            access.check_csrf()
        except BadRequest as error:
            return _form(error.description), 400
        address, now = client_network(request.remote_addr), clock()
        attempt = _attempt(database, address, now=now)
        if isinstance(attempt, timedelta):
            log.warning("login.refused", address=address)
            return _too_many(attempt)
        full_access = passwords.check(request.form.get("password", ""))
        if full_access is None:
            log.warning("login.failed", address=address)
            return _form(WRONG_PASSWORD), 401
        with database.write() as connection:
            login_limit.succeed(connection, attempt)
        access.sessions.begin(User(clean_name(request.form.get("name", "")), has_full_access=full_access))
        return redirect(local_url(request.form.get("next")), 303)

    @blueprint.post("/logout")
    def log_out() -> ResponseReturnValue:
        """End the user's session for good."""
        if access.sessions.user():
            access.check_csrf()
            access.sessions.end()
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
    try:
        client = ipaddress.ip_address(WITH_PORT.sub(r"\1\2", address or ""))
    except ValueError:
        return "unknown"  # the peer of a Unix socket has no address
    if isinstance(client, ipaddress.IPv4Address):
        return str(client)
    return str(client.ipv4_mapped or ipaddress.ip_network((int(client), IPV6_PREFIX_BITS), strict=False))


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


def _form(problem: str | None = None) -> str:
    return render_template(
        "login.html",
        problem=problem,
        next=local_url(request.values.get("next")),
        name=request.form.get("name", ""),
        max_name_length=MAX_NAME_LENGTH,
    )
