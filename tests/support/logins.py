"""What tests of the pages need: the passwords, two small pages behind the guard, and a browser's way to log in."""

import re
from typing import Any

from flask import Blueprint, Flask
from flask.testing import FlaskClient
from pydantic import SecretStr

from app.web.dashboard.user import acts, may_act, who
from config import Settings

ACTING, LOOKING = "the-password-to-act", "the-password-to-look"


def with_passwords(settings: Settings) -> Settings:
    """The same, with the dashboard open."""
    passwords = {"dashboard_password": SecretStr(ACTING), "dashboard_readonly_password": SecretStr(LOOKING)}
    return settings.model_copy(update=passwords)


def add_probe(app: Flask) -> None:
    """Two pages at `/probe`: one shows who is there and gives a CSRF token, one acts."""
    pages = Blueprint("probe", __name__)
    app.extensions["guard"].protect(pages)

    @pages.get("/probe")
    def look() -> Any:
        return {"who": who(), "may_act": may_act(), "token": app.jinja_env.globals["csrf_token"]()}

    @pages.post("/probe")
    @acts
    def act() -> Any:
        return {"done_by": who()}

    app.register_blueprint(pages)


def token_in(page: str) -> str:
    """The CSRF token of a page's form."""
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found, page
    return found[1]


def log_in(client: FlaskClient, password: str = ACTING, *, environ: dict[str, Any] | None = None, **more: str) -> Any:
    """As a browser does: open the form, send it. `environ` is what both requests have besides."""
    token = token_in(client.get("/login", **(environ or {})).text)
    return client.post("/login", data={"csrf_token": token, "password": password, **more}, **(environ or {}))


def act(client: FlaskClient, **more: Any) -> Any:
    """Post to the probe with its token, as a page of ours would."""
    token = client.get("/probe", **more).json["token"]
    return client.post("/probe", data={"csrf_token": token}, **more)


def come_from(address: str) -> dict[str, Any]:
    """`environ` of requests from this address."""
    return {"environ_base": {"REMOTE_ADDR": address}}
