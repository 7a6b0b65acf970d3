"""The developers' functions, their runs, and how one has them run again."""

from urllib.parse import urlencode

from flask import Blueprint, Response, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue

from app.onespan.catalogue import CATALOGUE
from app.store import queries
from app.store.dispatch_filter import Choice
from app.store.queries import DispatchFilter
from app.web.api.parameters import EventName, Parameters, State, Word, read_parameters
from app.web.dashboard.layout import Frame, up_to
from app.web.dashboard.login import way_of_ours
from app.web.dashboard.page_query import View
from app.web.dashboard.user import acts, who

ROWS = 50


class RunsView(View):
    """Which runs."""

    handler: Word = ""
    name: EventName = ""
    package: Word = ""
    state: State = "parked"


class Chosen(Parameters):
    """Which parked runs are meant; `expect` is how many were counted, `csrf_token` the form's own."""

    handler: Word = ""
    name: EventName = ""
    package: Word = ""
    expect: int | None = None
    csrf_token: str = ""

    def choice(self) -> Choice:
        """The same, as the store takes it."""
        return Choice(self.name or None, self.handler or None, "parked", self.package or None)


def add_views(blueprint: Blueprint, frame: Frame) -> None:
    """Add `/handlers`, and what one can do there."""

    @blueprint.get("/handlers")
    def handlers() -> Response:
        """The functions and their runs."""
        asked = read_parameters(RunsView, request.args)
        wanted = DispatchFilter(asked.handler or None, asked.state, asked.name or None, asked.package or None)
        with frame.database.read() as connection:
            page = queries.dispatch_page(connection, wanted, limit=ROWS, cursor=asked.cursor)
            return frame.page(
                connection,
                "handlers.html",
                here="handlers",
                asked=asked,
                page=page,
                handlers=queries.handler_counts(connection, frame.listening()),
                titles=frame.titles(connection, {one.package_id for one in page.items}),
                names=list(CATALOGUE),
                up_to=up_to,
            )

    @blueprint.post("/dispatches/<int:dispatch_id>/replay")
    @acts
    def replay(dispatch_id: int) -> ResponseReturnValue:
        """Run it again."""
        frame.acts.replay(dispatch_id, by=who() or "")
        flash("It runs again; whether it works now stands with its run in a moment.")
        return redirect(way_of_ours(request.form.get("back"), otherwise=url_for("pages.handlers")), 303)

    @blueprint.get("/handlers/replay")
    @acts
    def replay_many() -> Response:
        """Ask whether really all of these are meant."""
        asked = read_parameters(Chosen, request.args)
        counted = frame.acts.count(asked.choice())
        with frame.database.read() as connection:
            return frame.page(connection, "replay.html", here="handlers", asked=asked, counted=counted, up_to=up_to)

    @blueprint.post("/handlers/replay")
    @acts
    def replay_them() -> ResponseReturnValue:
        """Run them all again."""
        asked = read_parameters(Chosen, request.form)
        done = frame.acts.replay_all(asked.choice(), expect=asked.expect, by=who() or "")
        again = "run is due again" if done.count == 1 else "runs are due again"
        flash(f"{done.count:,} {again}. What fails once more is tried for some hours before it is parked.")
        return redirect(f"{url_for('pages.handlers')}?{urlencode({'state': 'due'})}#runs", 303)
