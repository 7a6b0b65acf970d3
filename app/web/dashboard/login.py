"""Logging in, and out again."""

import ipaddress
import math
import re
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from flask import Blueprint, redirect, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest

from app.store import logins
from app.store.db import Database
from app.web.dashboard.access import Guard
from app.web.dashboard.passwords import Passwords
from app.web.dashboard.user import LONGEST_NAME, Visitor, name_of
from app.web.errors import refuse

log = structlog.get_logger()

# Bits of an IPv6 address. One customer may have all that begin so: were less of it counted together, they alone would
# reach the limit of all. Where customers have smaller networks, some of them wait for each other.
NEIGHBOURS = 48
WITH_PORT = re.compile(r"^\[(.*)\](?::\d+)?$|^([\d.]+):\d+$")
LONGEST_WAY = 2000  # characters of an address to come back to
WRONG = "That is not the password."


def login(guard: Guard, database: Database, *, passwords: Passwords, clock: Callable[[], datetime]) -> Blueprint:
    """The blueprint of `/login` and `/logout`."""
    blueprint = Blueprint("login", __name__)
    guard.watch(blueprint)

    @blueprint.get("/login")
    def ask() -> ResponseReturnValue:
        """The form; whoever is in already goes on."""
        if guard.sessions.visitor():
            return redirect(way_of_ours(request.args.get("next")))
        return _form()

    @blueprint.post("/login")
    def come_in() -> ResponseReturnValue:
        """Believe a password, or count it as a failure."""
        try:
            guard.believe()
        except BadRequest as stale:
            return _form(stale.description), 400
        address, now = neighbourhood(request.remote_addr), clock()
        attempt = _attempt(database, address, now=now)
        if isinstance(attempt, timedelta):
            log.warning("login.refused", address=address)
            return _too_many(attempt)
        acts = passwords.may_act(request.form.get("password", ""))
        if acts is None:
            log.warning("login.failed", address=address)
            return _form(WRONG), 401
        with database.write() as connection:
            logins.succeed(connection, attempt)
        guard.sessions.begin(Visitor(name_of(request.form.get("name", "")), may_act=acts))
        return redirect(way_of_ours(request.form.get("next")), 303)

    @blueprint.post("/logout")
    def leave() -> ResponseReturnValue:
        """End the session, for good."""
        if guard.sessions.visitor():
            guard.believe()
            guard.sessions.end()
        return redirect("/login", 303)

    return blueprint


def way_of_ours(wanted: str | None, *, otherwise: str = "/") -> str:
    """Where to go on: a path of ours as it is, or `otherwise`. Nobody is led to another site."""
    path = (wanted or "").partition("?")[0]
    ours = path.startswith("/") and not path.startswith("//") and path not in ("/login", "/logout")
    plain = wanted and wanted.isprintable() and "\\" not in wanted and len(wanted) <= LONGEST_WAY
    return wanted if wanted and ours and plain else otherwise


def neighbourhood(address: str | None) -> str:
    """Whose failures are counted together: an IPv4 address, or the network of an IPv6 one."""
    try:
        found = ipaddress.ip_address(WITH_PORT.sub(r"\1\2", address or ""))
    except ValueError:
        return "unknown"  # a socket's peer has none
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ipaddress.ip_network((int(found), NEIGHBOURS), strict=False))


def _attempt(database: Database, address: str, *, now: datetime) -> int | timedelta:
    """Its number, or how long nobody may try. Who is refused costs no writing."""
    with database.read() as connection:
        if wait := logins.wait(connection, address, now=now):
            return wait
    with database.write() as connection:
        return logins.attempt(connection, address, now=now)


def _too_many(wait: timedelta) -> ResponseReturnValue:
    minutes = math.ceil(wait / timedelta(minutes=1))
    message = f"Too many wrong passwords. Try again in {minutes} minute{'s' * (minutes > 1)}."
    return refuse(429, "too_many_attempts", message, {"Retry-After": str(math.ceil(wait.total_seconds()))})


def _form(problem: str | None = None) -> str:
    return render_template(
        "login.html",
        problem=problem,
        next=way_of_ours(request.values.get("next")),
        name=request.form.get("name", ""),
        longest_name=LONGEST_NAME,
    )
