"""The pages of events and raw callbacks."""

from collections.abc import Sequence
from typing import Literal

from flask import Blueprint, Response, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue

from app.onespan.event_catalogue import CATALOGUE
from app.store import queries
from app.store.journal import RereadCallback
from app.store.queries import CallbackFilter, EventFilter
from app.web.actions import TEST_CALLBACK
from app.web.api.endpoints import id_of_cursor
from app.web.api.parameters import MAX_ID, DispatchStateName, EventName, ShortText, parse_query
from app.web.dashboard import labels
from app.web.dashboard.layout import Layout, required
from app.web.dashboard.page_query import PageQuery
from app.web.dashboard.user import requires_full_access, user_name

ROWS = 50
EMPTY_TEXTS = {
    "unreadable": "All received callbacks could be read.",
    "unknown": "All received events are known.",
    "waiting": "No callbacks are queued.",
}


class EventsQuery(PageQuery):
    """Filters of the list of events."""

    package: ShortText = ""
    name: EventName = ""
    source: Literal["", "callback", "reconcile"] = ""
    state: DispatchStateName | Literal[""] = ""


class CallbacksQuery(PageQuery):
    """Filters of the list of callbacks."""

    package: ShortText = ""
    state: Literal["", "waiting", "unreadable", "unknown"] = ""


def add_views(blueprint: Blueprint, layout: Layout) -> None:
    """Add the lists `/events` and `/callbacks`, and the page of each event and callback."""

    @blueprint.get("/events")
    def events() -> Response:
        """Show the list of events."""
        query = parse_query(EventsQuery, request.args)
        filters = EventFilter(query.package or None, query.name or None, query.source or None, query.state or None)
        with layout.database.read() as connection:
            page = queries.event_page(connection, filters, limit=ROWS, before=id_of_cursor(query.cursor))
            return layout.page(
                connection,
                "events.html",
                here="events",
                query=query,
                page=page,
                titles=layout.titles(connection, {event.package_id for event in page.items}),
                known_events=CATALOGUE,
                test_event=TEST_CALLBACK[0],
            )

    @blueprint.get("/events/<int:event_id>")
    def event(event_id: int) -> Response:
        """Show one event with its callbacks and handler runs."""
        with layout.database.read() as connection:
            detail = required(queries.event(connection, min(event_id, MAX_ID)), f"There is no event {event_id}.")
            package = queries.packages(connection, [detail.package_id])[detail.package_id]
            return layout.page(
                connection,
                "event.html",
                here="events",
                event=detail,
                package=package,
                is_known=detail.name in CATALOGUE,
            )

    @blueprint.get("/callbacks")
    def callbacks() -> Response:
        """Show the list of raw callbacks."""
        query = parse_query(CallbacksQuery, request.args)
        filters = CallbackFilter(query.package or None, query.state or None)
        with layout.database.read() as connection:
            page = queries.callback_page(connection, filters, limit=ROWS, cursor=query.cursor)
            return layout.page(
                connection,
                "callbacks.html",
                here="events",
                query=query,
                page=page,
                titles=layout.titles(connection, {callback.package_id for callback in page.items}),
                empty_texts=EMPTY_TEXTS,
            )

    @blueprint.get("/callbacks/<int:callback_id>")
    def callback(callback_id: int) -> Response:
        """Show one raw callback or snapshot, and its parsed values."""
        with layout.database.read() as connection:
            detail = required(
                queries.callback(connection, min(callback_id, MAX_ID)), f"There is no callback {callback_id}."
            )
            return layout.page(
                connection,
                "callback.html",
                here="events",
                callback=detail,
                title=labels.JOURNAL_KINDS.get(detail.kind, f"{detail.kind} {{id}}").format(id=detail.id),
                titles=layout.titles(connection, [detail.package_id]),
            )

    @blueprint.post("/callbacks/<int:callback_id>/read")
    @requires_full_access
    def read_callback(callback_id: int) -> ResponseReturnValue:
        """Read one unreadable callback again."""
        flash(_result(layout.actions.read_again(callback_id, by=user_name() or "")))
        return redirect(url_for("pages.callback", callback_id=callback_id), 303)

    @blueprint.post("/callbacks/read")
    @requires_full_access
    def read_callbacks() -> ResponseReturnValue:
        """Read all unreadable callbacks again."""
        flash(_result(layout.actions.read_again(None, by=user_name() or "")))
        return redirect(url_for("pages.callbacks", state="unreadable"), 303)


def _result(callbacks: Sequence[RereadCallback]) -> str:
    """Return a sentence about callbacks that were read again."""
    readable = sum(callback.error is None for callback in callbacks)
    if len(callbacks) == 1:
        return "Queued for processing." if readable else "The request still names no transaction."
    return f"{readable:,} of {len(callbacks):,} unreadable callbacks queued for processing."
