"""The page of the handlers and their runs, and the actions that repeat runs."""

from urllib.parse import urlencode

from flask import Blueprint, Response, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue

from app.onespan.event_catalogue import CATALOGUE
from app.store import queries
from app.store.queries import DispatchFilter
from app.store.replay_filter import ReplayFilter
from app.web.api.parameters import DispatchStateName, EventName, Parameters, ShortText, parse_query
from app.web.dashboard.layout import Layout, format_count
from app.web.dashboard.login import local_url
from app.web.dashboard.page_query import PageQuery
from app.web.dashboard.user import requires_full_access, user_name

ROWS = 50


class RunsQuery(PageQuery):
    """Filters of the list of handler runs."""

    handler: ShortText = ""
    name: EventName = ""
    package: ShortText = ""
    state: DispatchStateName = "parked"


class ReplayForm(Parameters):
    """The choice of parked runs to run again. `expect` is the number of runs that the user confirmed."""

    handler: ShortText = ""
    name: EventName = ""
    package: ShortText = ""
    expect: int | None = None
    csrf_token: str = ""

    def dispatch_filter(self) -> ReplayFilter:
        """Return the filter that selects the chosen runs."""
        return ReplayFilter(self.name or None, self.handler or None, "parked", self.package or None)


def add_views(blueprint: Blueprint, layout: Layout) -> None:
    """Add the page `/handlers` and its actions to the blueprint."""

    @blueprint.get("/handlers")
    def handlers() -> Response:
        """Show the handlers and their runs."""
        query = parse_query(RunsQuery, request.args)
        filters = DispatchFilter(query.handler or None, query.state, query.name or None, query.package or None)
        with layout.database.read() as connection:
            page = queries.dispatch_page(connection, filters, limit=ROWS, cursor=query.cursor)
            return layout.page(
                connection,
                "handlers.html",
                here="handlers",
                query=query,
                page=page,
                handlers=queries.handler_counts(connection, layout.subscriptions()),
                titles=layout.titles(connection, {run.package_id for run in page.items}),
                names=list(CATALOGUE),
                format_count=format_count,
            )

    @blueprint.post("/dispatches/<int:dispatch_id>/replay")
    @requires_full_access
    def replay(dispatch_id: int) -> ResponseReturnValue:
        """Repeat one handler run."""
        layout.actions.replay(dispatch_id, by=user_name() or "")
        flash("Running again. The result will appear here.")
        return redirect(local_url(request.form.get("back"), default=url_for("pages.handlers")), 303)

    @blueprint.get("/handlers/replay")
    @requires_full_access
    def confirm_replay() -> Response:
        """Ask the user to confirm the number of handler runs to repeat."""
        query = parse_query(ReplayForm, request.args)
        counted = layout.actions.count(query.dispatch_filter())
        with layout.database.read() as connection:
            return layout.page(
                connection,
                "replay.html",
                here="handlers",
                query=query,
                counted=counted,
                format_count=format_count,
            )

    @blueprint.post("/handlers/replay")
    @requires_full_access
    def replay_all() -> ResponseReturnValue:
        """Repeat all selected handler runs."""
        form = parse_query(ReplayForm, request.form)
        replayed = layout.actions.replay_all(form.dispatch_filter(), expect=form.expect, by=user_name() or "")
        if replayed.count == 1:
            flash("1 run queued. If it fails, it is retried for about 7 hours.")
        else:
            flash(f"{replayed.count:,} runs queued. If they fail, they are retried for about 7 hours.")
        return redirect(f"{url_for('pages.handlers')}?{urlencode({'state': 'due'})}#runs", 303)
