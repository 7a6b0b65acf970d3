"""The endpoints of reconcile runs and of missed callbacks."""

from collections.abc import Callable
from datetime import datetime

from flask import g

from app.store import queries
from app.store.db import Database
from app.store.queries import Delivery, MissedDetail, MissedFilter, Page, RunDetail
from app.web.actions import Actions
from app.web.api.endpoints import Endpoints, ResourceNotFound, id_of_cursor, page_of
from app.web.api.parameters import MAX_ID, CursorQuery, DeliveryQuery, MissedQuery, ReconcileRequest


def add_views(
    endpoints: Endpoints,
    database: Database,
    actions: Actions,
    *,
    clock: Callable[[], datetime],
) -> None:
    """Register the endpoints of reconcile runs and missed callbacks."""

    @endpoints.get("/api/reconciles", answer=Page[RunDetail], query=CursorQuery)
    def reconciles(query: CursorQuery) -> Page[RunDetail]:
        """List reconcile runs, newest first."""
        with database.read() as connection:
            items = queries.run_page(connection, limit=query.limit + 1, before=id_of_cursor(query.cursor))
        return page_of(items, query.limit)

    @endpoints.get("/api/reconciles/<int:run_id>", answer=RunDetail, errors=(404,))
    def reconcile(run_id: int) -> RunDetail:
        """Return one reconcile run."""
        with database.read() as connection:
            found = queries.run(connection, run_id) if run_id <= MAX_ID else None
        if found is None:
            raise ResourceNotFound(f"no reconcile {run_id}")
        return found

    @endpoints.post("/api/reconciles", answer=RunDetail, body=ReconcileRequest, errors=(409,))
    def start(body: ReconcileRequest) -> RunDetail:
        """Start a reconcile run. If a run is in progress, that run continues without delay and is returned.

        A body with a window or an option is refused (409) while another run is in progress.
        """
        return actions.reconcile(body, by=f"api:{g.token}")

    @endpoints.get("/api/missed", answer=Page[MissedDetail], query=MissedQuery)
    def missed(query: MissedQuery) -> Page[MissedDetail]:
        """List events that reconcile found and no callback reported within `MISSED_GRACE_MINUTES`, newest first."""
        filters = MissedFilter(**query.model_dump(exclude={"limit", "cursor"}))
        with database.read() as connection:
            return queries.missed_page(connection, filters, limit=query.limit, before=id_of_cursor(query.cursor))

    @endpoints.get("/api/missed/rate", answer=Delivery, query=DeliveryQuery)
    def rate(query: DeliveryQuery) -> Delivery:
        """Return how many events of the last days callbacks reported or missed: in total, by day and by event name."""
        with database.read() as connection:
            silence = queries.silence(connection)
            return queries.delivery(connection, now=clock(), days=query.days, silence=silence)
