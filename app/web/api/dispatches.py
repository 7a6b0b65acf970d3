"""The endpoints of handlers and dispatches."""

from collections.abc import Callable, Mapping, Sequence

from flask import g

from app.store import queries
from app.store.db import Database
from app.store.queries import DispatchDetail, DispatchFilter, HandlerDetail, Page, RunDispatch
from app.store.replay_filter import ReplayFilter
from app.web.actions import Actions
from app.web.api.answers import ReplayCount
from app.web.api.endpoints import Endpoints, ResourceNotFound
from app.web.api.parameters import MAX_ID, CursorQuery, DispatchQuery, ReplayRequest


def add_views(
    endpoints: Endpoints,
    database: Database,
    actions: Actions,
    *,
    subscriptions: Callable[[], Mapping[str, Sequence[str]]],
) -> None:
    """Register the handler and dispatch endpoints. `subscriptions` returns the event names of each handler."""

    @endpoints.get("/api/handlers", answer=Page[HandlerDetail], query=CursorQuery)
    def handlers(query: CursorQuery) -> Page[HandlerDetail]:
        """List handlers by name, with the events they subscribe to and the number of their dispatches by state."""
        with database.read() as connection:
            return queries.handler_page(connection, subscriptions(), limit=query.limit, cursor=query.cursor)

    @endpoints.get("/api/dispatches", answer=Page[RunDispatch], query=DispatchQuery)
    def dispatches(query: DispatchQuery) -> Page[RunDispatch]:
        """List dispatches, those for the newest events first."""
        filters = DispatchFilter(**query.model_dump(exclude={"limit", "cursor"}))
        with database.read() as connection:
            return queries.dispatch_page(connection, filters, limit=query.limit, cursor=query.cursor)

    @endpoints.get("/api/dispatches/<int:dispatch_id>", answer=RunDispatch, errors=(404,))
    def dispatch(dispatch_id: int) -> RunDispatch:
        """Return one dispatch."""
        with database.read() as connection:
            found = queries.dispatch_detail(connection, dispatch_id) if dispatch_id <= MAX_ID else None
        if found is None:
            raise ResourceNotFound(f"no dispatch {dispatch_id}")
        return found

    @endpoints.post("/api/dispatches/<int:dispatch_id>/replay", answer=DispatchDetail, errors=(404, 409))
    def replay(dispatch_id: int) -> DispatchDetail | None:
        """Run a dispatch again: it becomes due now and has all its attempts again."""
        actions.replay(dispatch_id, by=f"api:{g.token}")
        with database.read() as connection:
            return queries.dispatch(connection, dispatch_id)

    @endpoints.post("/api/dispatches/replay", answer=ReplayCount, body=ReplayRequest, errors=(409,))
    def replay_all(body: ReplayRequest) -> ReplayCount:
        """Run all matching dispatches again, at most 10,000, each with all its attempts, or only count dispatches."""
        chosen = ReplayFilter(body.name, body.handler, body.state, body.package, body.since, body.until)
        return (
            actions.count(chosen)
            if body.dry_run
            else actions.replay_all(chosen, expect=body.expect, by=f"api:{g.token}")
        )
