"""The blueprint of all pages behind the login, and the helpers of the templates."""

import json
from datetime import datetime
from typing import Any

from flask import Blueprint, Flask, request
from flask_wtf.csrf import generate_csrf
from markupsafe import Markup

from app.errors import (
    DispatchRunning,
    MoreThanExpected,
    OneSpanNotConfigured,
    ReceiverError,
    ReconcileRunning,
    TooManyRuns,
)
from app.store.queries import BadCursor
from app.web.api.endpoints import ResourceNotFound
from app.web.api.parameters import BadParameter
from app.web.dashboard import attention, events, handlers, health, transaction, transactions, welcome
from app.web.dashboard.access import AccessControl
from app.web.dashboard.layout import NAVIGATION, Layout
from app.web.errors import error_response

PAGES = (transactions, transaction, attention, events, handlers, health, welcome)
CONFLICTS = (DispatchRunning, ReconcileRunning, OneSpanNotConfigured, MoreThanExpected, TooManyRuns)
PARAMETERS = {
    "sort": "sort order",
    "source": "source",
    "state": "status",
    "attention": "attention filter",
    "reason": "reason",
}
MAX_VALUE_LENGTH = 60  # maximum characters of a parameter's value in an error message


def pages(layout: Layout, access: AccessControl) -> Blueprint:
    """Return the blueprint of all pages except the login."""
    blueprint = Blueprint("pages", __name__)
    access.require_login(blueprint)
    for page in PAGES:
        page.add_views(blueprint, layout)

    @blueprint.errorhandler(BadParameter)
    @blueprint.errorhandler(BadCursor)
    def bad_parameter(error: ReceiverError) -> Any:
        return error_response(
            400, "bad_parameter", f"This link is not valid: {link_problem(error.detail or str(error))}"
        )

    @blueprint.errorhandler(ResourceNotFound)
    def not_found(error: ResourceNotFound) -> Any:
        return error_response(404, "not_found", error.detail or str(error))

    def conflict(error: ReceiverError) -> Any:
        return error_response(409, "not_now", str(error))

    for kind in CONFLICTS:
        blueprint.register_error_handler(kind, conflict)
    return blueprint


def link_problem(detail: str) -> str:
    """Return what is wrong with a page's URL, such as `unknown sort order "foo".`, without a list of valid values."""
    name, _, problem = detail.partition(": ")
    if problem.startswith("Input should be '"):
        return f'unknown {PARAMETERS.get(name, name)} "{request.values.get(name, "")[:MAX_VALUE_LENGTH]}".'
    return detail


def register_template_helpers(app: Flask) -> None:
    """Register the filters and globals that all templates use."""
    app.jinja_env.filters |= {"iso": iso, "utc": utc, "pretty": pretty, "with_code": with_code, "number": "{:,}".format}
    app.jinja_env.globals |= {
        "csrf": csrf,
        "all_pages": [{"href": href, "name": name} for href, name, _ in NAVIGATION],
    }


def csrf() -> Markup:
    """Return the hidden CSRF field of a form."""
    return Markup('<input type="hidden" name="csrf_token" value="{}">').format(generate_csrf())


def iso(moment: datetime) -> str:
    """Return a time as the API writes it, in ISO 8601."""
    return moment.isoformat().replace("+00:00", "Z")


def utc(moment: datetime, *, seconds: bool = False) -> str:
    """Return a time in UTC for people, which a script replaces by local time."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if seconds else f"{moment:%Y-%m-%d %H:%M} UTC"


def with_code(text: str) -> Markup:
    """Return a text as HTML. What the text has in backticks, such as a command, is shown as code."""
    parts = text.split("`")
    code = (Markup("<code>{}</code>").format(part) if number % 2 else part for number, part in enumerate(parts))
    return Markup().join(code)


def pretty(body: str) -> str:
    """Return a body with its JSON indented, and a body without JSON unchanged.

    Half of a surrogate pair, which a page cannot contain, stays an escape sequence.
    """
    try:
        text = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
        return text.encode("utf-8", "backslashreplace").decode()
    except (ValueError, RecursionError):
        return body
