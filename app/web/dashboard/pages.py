"""All pages for people, behind the login."""

import json
from datetime import datetime
from typing import Any

from flask import Blueprint, Flask
from flask_wtf.csrf import generate_csrf
from markupsafe import Markup

from app.errors import MoreThanExpected, NoOneSpan, ReceiverError, StillRunning, TooMany, UnderWay
from app.store.queries import BadCursor
from app.web.api.endpoints import NoSuchThing
from app.web.api.parameters import BadParameter
from app.web.dashboard import attention, events, handlers, health, transaction, transactions, welcome
from app.web.dashboard.access import Guard
from app.web.dashboard.layout import NAVIGATION, Frame
from app.web.errors import refuse

ROOMS = (transactions, transaction, attention, events, handlers, health, welcome)
NOT_NOW = (StillRunning, UnderWay, NoOneSpan, MoreThanExpected, TooMany)


def pages(frame: Frame, guard: Guard) -> Blueprint:
    """The blueprint of all pages but the login."""
    blueprint = Blueprint("pages", __name__)
    guard.protect(blueprint)
    for room in ROOMS:
        room.add_views(blueprint, frame)

    @blueprint.errorhandler(BadParameter)
    @blueprint.errorhandler(BadCursor)
    def bad_parameter(error: ReceiverError) -> Any:
        return refuse(400, "bad_parameter", f"This address asks for what is not there: {error.detail or error}")

    @blueprint.errorhandler(NoSuchThing)
    def no_such_thing(error: NoSuchThing) -> Any:
        return refuse(404, "not_found", error.detail or str(error))

    def not_now(error: ReceiverError) -> Any:
        return refuse(409, "not_now", str(error))

    for kind in NOT_NOW:
        blueprint.register_error_handler(kind, not_now)
    return blueprint


def teach_templates(app: Flask) -> None:
    """The filters and names that all templates use."""
    app.jinja_env.filters |= {"wire": wire, "utc": utc, "pretty": pretty}
    app.jinja_env.globals |= {
        "csrf": csrf,
        "every_room": [{"href": href, "name": name} for href, name, _ in NAVIGATION],
    }


def csrf() -> Markup:
    """What each form that changes something has in it."""
    return Markup('<input type="hidden" name="csrf_token" value="{}">').format(generate_csrf())


def wire(moment: datetime) -> str:
    """A time as the API writes it."""
    return moment.isoformat().replace("+00:00", "Z")


def utc(moment: datetime, *, seconds: bool = False) -> str:
    """A time as one reads it where no script runs."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if seconds else f"{moment:%Y-%m-%d %H:%M} UTC"


def pretty(body: str) -> str:
    """A body as one reads it: JSON with its members below each other, anything else as it is.

    Half of a surrogate pair, which no page can hold, stays the escape that it came as.
    """
    try:
        text = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
        return text.encode("utf-8", "backslashreplace").decode()
    except (ValueError, RecursionError):
        return body
