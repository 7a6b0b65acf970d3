"""Events, and the callbacks that told them, as they came and as they were understood."""

from typing import Any, Literal

from flask import Blueprint, Response, request

from app.onespan.catalogue import CATALOGUE
from app.store import queries
from app.store.queries import CallbackFilter, EventFilter
from app.web.actions import TEST
from app.web.api.endpoints import id_in
from app.web.api.parameters import LAST_ID, EventName, State, Word, read_parameters
from app.web.dashboard import labels
from app.web.dashboard.layout import Frame, found
from app.web.dashboard.page_query import View

ROWS = 50
NONE_YET = {
    "unreadable": "Every callback that came could be read.",
    "unknown": "Every event that came is one this version knows.",
    "waiting": "Nothing waits: what came was digested.",
}


class EventsView(View):
    """Which events."""

    package: Word = ""
    name: EventName = ""
    source: Literal["", "callback", "reconcile"] = ""
    state: State | Literal[""] = ""


class CallbacksView(View):
    """Which callbacks."""

    package: Word = ""
    state: Literal["", "waiting", "unreadable", "unknown"] = ""


def add_views(blueprint: Blueprint, frame: Frame) -> None:
    """Add `/events` and `/callbacks`, and one of each."""

    @blueprint.get("/events")
    def events() -> Response:
        """Every fact once."""
        asked = read_parameters(EventsView, request.args)
        wanted = EventFilter(asked.package or None, asked.name or None, asked.source or None, asked.state or None)
        with frame.database.read() as connection:
            page = queries.event_page(connection, wanted, limit=ROWS, before=id_in(asked.cursor))
            titles = frame.titles(connection, {one.package_id for one in page.items})
            shown: dict[str, Any] = {"asked": asked, "page": page, "titles": titles}
            return frame.page(connection, "events.html", here="events", known=CATALOGUE, test=TEST[0], **shown)

    @blueprint.get("/events/<int:event_id>")
    def event(event_id: int) -> Response:
        """One fact, with what told it and what became of it."""
        with frame.database.read() as connection:
            shown = found(queries.event(connection, min(event_id, LAST_ID)), f"There is no event {event_id}.")
            package = queries.packages(connection, [shown.package_id])[shown.package_id]
            return frame.page(
                connection, "event.html", here="events", event=shown, package=package, is_known=shown.name in CATALOGUE
            )

    @blueprint.get("/callbacks")
    def callbacks() -> Response:
        """What came in, as it came."""
        asked = read_parameters(CallbacksView, request.args)
        wanted = CallbackFilter(asked.package or None, asked.state or None)
        with frame.database.read() as connection:
            page = queries.callback_page(connection, wanted, limit=ROWS, cursor=asked.cursor)
            titles = frame.titles(connection, {one.package_id for one in page.items})
            shown: dict[str, Any] = {"asked": asked, "page": page, "titles": titles, "none_yet": NONE_YET}
            return frame.page(connection, "callbacks.html", here="events", **shown)

    @blueprint.get("/callbacks/<int:callback_id>")
    def callback(callback_id: int) -> Response:
        """One callback, or one reading: as it came, and as it was understood."""
        with frame.database.read() as connection:
            shown = found(
                queries.callback(connection, min(callback_id, LAST_ID)), f"Nothing came in under number {callback_id}."
            )
            titles = frame.titles(connection, [shown.package_id])
            return frame.page(
                connection,
                "callback.html",
                here="events",
                one=shown,
                title=f"{labels.KINDS.get(shown.kind, shown.kind)} {shown.id}",
                titles=titles,
            )
