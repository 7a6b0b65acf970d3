"""The views of handlers and their runs."""

from collections.abc import Callable, Mapping, Sequence

from flask import g

from app.store import queries
from app.store.db import Database
from app.store.dispatch_filter import Choice
from app.store.queries import DispatchDetail, DispatchFilter, HandlerDetail, Page, RunDispatch
from app.web.actions import Acts
from app.web.api.answers import Replayed
from app.web.api.endpoints import Endpoints, NoSuchThing
from app.web.api.parameters import LAST_ID, CursorQuery, DispatchQuery, ReplayRequest


def add_views(
    endpoints: Endpoints,
    database: Database,
    acts: Acts,
    *,
    listening: Callable[[], Mapping[str, Sequence[str]]],
) -> None:
    """Add them. `listening` tells which events each handler listens to."""

    @endpoints.get("/api/handlers", answer=Page[HandlerDetail], query=CursorQuery)
    def handlers(asked: CursorQuery) -> Page[HandlerDetail]:
        """The handlers by name, with the events they listen to and how their runs stand."""
        with database.read() as connection:
            return queries.handler_page(connection, listening(), limit=asked.limit, cursor=asked.cursor)

    @endpoints.get("/api/dispatches", answer=Page[RunDispatch], query=DispatchQuery)
    def dispatches(asked: DispatchQuery) -> Page[RunDispatch]:
        """Handlers' runs, those for the newest events first."""
        wanted = DispatchFilter(**asked.model_dump(exclude={"limit", "cursor"}))
        with database.read() as connection:
            return queries.dispatch_page(connection, wanted, limit=asked.limit, cursor=asked.cursor)

    @endpoints.get("/api/dispatches/<int:dispatch_id>", answer=RunDispatch, errors=(404,))
    def dispatch(dispatch_id: int) -> RunDispatch:
        """One run."""
        with database.read() as connection:
            found = queries.dispatch_detail(connection, dispatch_id) if dispatch_id <= LAST_ID else None
        if found is None:
            raise NoSuchThing(f"no dispatch {dispatch_id}")
        return found

    @endpoints.post("/api/dispatches/<int:dispatch_id>/replay", answer=DispatchDetail, errors=(404, 409))
    def replay(dispatch_id: int) -> DispatchDetail | None:
        """Run a handler for an event again, with all its attempts before it."""
        acts.replay(dispatch_id, by=f"api:{g.token}")
        with database.read() as connection:
            return queries.dispatch(connection, dispatch_id)

    @endpoints.post("/api/dispatches/replay", answer=Replayed, body=ReplayRequest, errors=(409,))
    def replay_all(asked: ReplayRequest) -> Replayed:
        """Make all runs that fit due again, each with all its attempts before it, or only count them."""
        chosen = Choice(asked.name, asked.handler, asked.state, asked.package, asked.since, asked.until)
        return (
            acts.count(chosen) if asked.dry_run else acts.replay_all(chosen, expect=asked.expect, by=f"api:{g.token}")
        )
