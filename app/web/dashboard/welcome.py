"""A fresh install shows how callbacks come to it, and sends itself one."""

from flask import Blueprint, flash, redirect, url_for
from flask.typing import ResponseReturnValue

from app.web.dashboard.layout import Frame
from app.web.dashboard.user import acts, who


def add_views(blueprint: Blueprint, frame: Frame) -> None:
    """Add what the first page offers while nothing has come."""

    @blueprint.post("/test-callback")
    @acts
    def send_test() -> ResponseReturnValue:
        """Take a callback as if OneSpan had sent it."""
        frame.acts.take_test(by=who() or "")
        flash("A test callback was taken in. It stands among the events in a moment.")
        return redirect(url_for("pages.events"), 303)
