"""Helpers for tests of the pages: passwords, two small pages behind the login, and a login as in a browser."""

import re
from typing import Any

from flask import Blueprint, Flask
from flask.testing import FlaskClient
from pydantic import SecretStr

from app.web.dashboard.user import has_full_access, requires_full_access, user_name
from config import Settings

PASSWORD, VIEW_ONLY_PASSWORD = "the-full-access-password", "the-view-only-password"


def with_passwords(settings: Settings) -> Settings:
    """Return a copy of the settings with both passwords of the dashboard."""
    passwords = {
        "dashboard_password": SecretStr(PASSWORD),
        "dashboard_readonly_password": SecretStr(VIEW_ONLY_PASSWORD),
    }
    return settings.model_copy(update=passwords)


def add_probe(app: Flask) -> None:
    """Add two views at `/probe`: GET shows the user and gives a CSRF token, POST needs full access."""
    pages = Blueprint("probe", __name__)
    app.extensions["access"].require_login(pages)

    @pages.get("/probe")
    def show() -> Any:
        token = app.jinja_env.globals["csrf_token"]()
        return {"user": user_name(), "has_full_access": has_full_access(), "token": token}

    @pages.post("/probe")
    @requires_full_access
    def change() -> Any:
        return {"changed_by": user_name()}

    app.register_blueprint(pages)


def token_in(page: str) -> str:
    """The CSRF token of a page's form."""
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found, page
    return found[1]


def log_in(client: FlaskClient, password: str = PASSWORD, *, environ: dict[str, Any] | None = None, **more: str) -> Any:
    """Open and send the login form, as a browser does. `environ` holds further arguments of the two requests."""
    token = token_in(client.get("/login", **(environ or {})).text)
    return client.post("/login", data={"csrf_token": token, "password": password, **more}, **(environ or {}))


def post_probe(client: FlaskClient, **more: Any) -> Any:
    """Post to `/probe` with its CSRF token, as a form on a page does."""
    token = client.get("/probe", **more).json["token"]
    return client.post("/probe", data={"csrf_token": token}, **more)


def from_address(address: str) -> dict[str, Any]:
    """The arguments for a request that comes from the given IP address."""
    return {"environ_base": {"REMOTE_ADDR": address}}
