"""Routes for tokens, and for the registration of callbacks."""

from collections.abc import Mapping
from datetime import datetime

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from app.onespan.event_catalogue import wire_name
from app.simulator.account import Registration
from app.simulator.routes import BadRequest, RouteContext, index_of, json_object

UNITS = {"ms": 1000, "s": 1}


def routes(context: RouteContext) -> Blueprint:
    """Return the blueprint of the routes for both kinds of tokens and for the registration."""
    blueprint = Blueprint("tokens", __name__)

    @blueprint.post("/apitoken/clientApp/accessToken")
    def api_token() -> ResponseReturnValue:
        """Issue an API token for a client app's credentials."""
        token, expires_at = context.authenticator.api_token(json_object(), now=context.clock())
        return {"accessToken": token, "expiresAt": _epoch(expires_at, context.account.quirks.token_expires)}

    @blueprint.post("/oauth2/token")
    def oauth_token() -> ResponseReturnValue:
        """Issue an OAuth 2.0 token for client credentials."""
        if request.form.get("grant_type") != "client_credentials":
            raise BadRequest("grant_type must be client_credentials")
        authorization, sender_id = request.headers.get("Authorization", ""), request.form.get("sender_id")
        token, lifetime = context.authenticator.oauth_token(authorization, sender_id=sender_id, now=context.clock())
        return {"access_token": token, "token_type": "Bearer", "expires_in": lifetime}

    @blueprint.get("/api/callback")
    def registered() -> ResponseReturnValue:
        """Return the callback registration with its key in plain text, or an empty object without a registration."""
        return _dump(context.account.registration)

    @blueprint.post("/api/callback")
    def register() -> ResponseReturnValue:
        """Replace the registration of callbacks."""
        context.account.registration = _registration(json_object())
        return _dump(context.account.registration)

    @blueprint.get("/api/callback/connectors/<origin>")
    def connector(origin: str) -> ResponseReturnValue:
        """Return the registration of a connector. Raises `NotFound` without one."""
        index_of(list(context.account.connectors), origin)
        return _dump(context.account.connectors[origin])

    @blueprint.post("/api/callback/connectors/<origin>")
    def register_connector(origin: str) -> ResponseReturnValue:
        """Replace the registration of a connector, for packages that name the origin in `data.origin`."""
        context.account.connectors[origin] = _registration(json_object())
        return _dump(context.account.connectors[origin])

    return blueprint


def _registration(body: Mapping[str, object]) -> Registration:
    events, url = body.get("events") or [], body.get("url")
    if not (isinstance(url, str) and url.startswith(("http://", "https://")) and isinstance(events, list)):
        raise BadRequest("url or events are not valid")
    names = frozenset(wire_name(str(name)) for name in events)
    return Registration(url, str(body.get("key") or ""), names)


def _dump(registration: Registration | None) -> dict[str, object]:
    if registration is None:
        return {}
    return {"url": registration.url, "key": registration.key, "events": sorted(registration.events)}


def _epoch(moment: datetime, unit: str) -> int:
    return int(moment.timestamp() * UNITS[unit])
