"""The first page of a new installation: how to connect OneSpan, and a test callback."""

from flask import Blueprint, flash, redirect, url_for
from flask.typing import ResponseReturnValue

from app.web.dashboard.layout import Layout
from app.web.dashboard.user import requires_full_access, user_name


def add_views(blueprint: Blueprint, layout: Layout) -> None:
    """Add the action of the welcome page to the blueprint."""

    @blueprint.post("/test-callback")
    @requires_full_access
    def send_test() -> ResponseReturnValue:
        """Store a test callback as if OneSpan had sent it."""
        layout.actions.send_test_callback(by=user_name() or "")
        flash("Test callback received. It will appear below shortly.")
        return redirect(url_for("pages.events"), 303)
