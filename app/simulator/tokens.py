"""How callers get in, and where they want to be called back: tokens, and the registration of callbacks."""

from datetime import datetime

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from app.onespan.catalogue import wire_name
from app.simulator.account import Registration
from app.simulator.routes import BadRequest, Desk, members

UNITS = {"ms": 1000, "s": 1}


def routes(desk: Desk) -> Blueprint:
    """Both kinds of tokens, and the callback."""
    pages = Blueprint("entrance", __name__)

    @pages.post("/apitoken/clientApp/accessToken")
    def api_token() -> ResponseReturnValue:
        """An API token, for a client app's credentials."""
        token, until = desk.gate.api_token(members(), now=desk.clock())
        return {"accessToken": token, "expiresAt": _epoch(until, desk.account.quirks.token_expires)}

    @pages.post("/oauth2/token")
    def oauth_token() -> ResponseReturnValue:
        """An OAuth 2.0 token, for client credentials."""
        if request.form.get("grant_type") != "client_credentials":
            raise BadRequest("grant_type, which must be client_credentials,")
        authorization, sender_id = request.headers.get("Authorization", ""), request.form.get("sender_id")
        token, lifetime = desk.gate.oauth_token(authorization, sender_id=sender_id, now=desk.clock())
        return {"access_token": token, "token_type": "Bearer", "expires_in": lifetime}

    @pages.get("/api/callback")
    def registered() -> ResponseReturnValue:
        """The registration, its key in clear; an empty object where there is none."""
        return _shown(desk.account.registration)

    @pages.post("/api/callback")
    def register() -> ResponseReturnValue:
        """Put this registration in the place of any other."""
        wanted = members()
        events = wanted.get("events") or []
        url, key = wanted.get("url"), wanted.get("key")
        if not (isinstance(url, str) and url.startswith(("http://", "https://")) and isinstance(events, list)):
            raise BadRequest("url or events")
        names = frozenset(wire_name(str(name)) for name in events)
        desk.account.registration = Registration(url, str(key or ""), names)
        return _shown(desk.account.registration)

    return pages


def _shown(one: Registration | None) -> dict[str, object]:
    return {"url": one.url, "key": one.key, "events": sorted(one.events)} if one else {}


def _epoch(moment: datetime, unit: str) -> int:
    return int(moment.timestamp() * UNITS[unit])
