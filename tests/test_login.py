"""Who may see the pages, for how long, and how often somebody may guess."""

import re
from typing import Any

import pytest
from flask import Blueprint, Flask
from flask.testing import FlaskClient
from pydantic import SecretStr

from app.web.dashboard.visitor import acts, may_act, who
from config import Settings

ACTING, LOOKING = "the-password-to-act", "the-password-to-look"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With a dashboard."""
    passwords = {"dashboard_password": SecretStr(ACTING), "dashboard_readonly_password": SecretStr(LOOKING)}
    return settings.model_copy(update=passwords)


@pytest.fixture
def app(app: Flask) -> Flask:
    """The service with two pages: one shows who is there, one acts."""
    pages = Blueprint("probe", __name__)
    app.extensions["guard"].protect(pages)

    @pages.get("/probe")
    def look() -> dict[str, Any]:
        return {"who": who(), "may_act": may_act()}

    @pages.post("/probe")
    @acts
    def act() -> dict[str, Any]:
        return {"done_by": who()}

    app.register_blueprint(pages)
    return app


def token_in(page: str) -> str:
    """The CSRF token of a page's form."""
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found, page
    return found[1]


def log_in(client: FlaskClient, password: str = ACTING, **more: Any) -> Any:
    """As a browser does: open the form, send it."""
    environ = {name: more.pop(name) for name in ("environ_base", "headers", "base_url") if name in more}
    token = token_in(client.get("/login", **environ).text)
    return client.post("/login", data={"csrf_token": token, "password": password, **more}, **environ)


def test_whoever_has_a_password_comes_in(client):
    """And goes on to where they wanted to go."""
    sent_away = client.get("/probe?status=SENT")
    assert (sent_away.status_code, sent_away.location) == (302, "/login?next=%2Fprobe%3Fstatus%3DSENT")

    came_in = log_in(client, next="/probe?status=SENT", name="Cleo")

    assert (came_in.status_code, came_in.location) == (303, "/probe?status=SENT")
    assert client.get("/probe").json == {"who": "Cleo", "may_act": True}
