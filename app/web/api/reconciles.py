"""The views of what is asked of OneSpan, and of what callbacks missed."""

from collections.abc import Callable
from datetime import datetime

from flask import g

from app.store import queries
from app.store.db import Database
from app.store.queries import Delivery, MissedDetail, MissedFilter, Page, RunDetail
from app.web.actions import Acts
from app.web.api.endpoints import Endpoints, NoSuchThing, id_in, page_of
from app.web.api.parameters import LAST_ID, CursorQuery, DeliveryQuery, MissedQuery, ReconcileRequest


def add_views(
    endpoints: Endpoints,
    database: Database,
    acts: Acts,
    *,
    clock: Callable[[], datetime],
) -> None:
    """Add them."""

    @endpoints.get("/api/reconciles", answer=Page[RunDetail], query=CursorQuery)
    def reconciles(asked: CursorQuery) -> Page[RunDetail]:
        """Runs of the reconciler, newest first."""
        with database.read() as connection:
            items = queries.run_page(connection, limit=asked.limit + 1, before=id_in(asked.cursor))
        return page_of(items, asked.limit)

    @endpoints.get("/api/reconciles/<int:run_id>", answer=RunDetail, errors=(404,))
    def reconcile(run_id: int) -> RunDetail:
        """One run."""
        with database.read() as connection:
            found = queries.run(connection, run_id) if run_id <= LAST_ID else None
        if found is None:
            raise NoSuchThing(f"no reconcile {run_id}")
        return found

    @endpoints.post("/api/reconciles", answer=RunDetail, body=ReconcileRequest, errors=(409,))
    def start(asked: ReconcileRequest) -> RunDetail:
        """Ask OneSpan now. Where a run is under way it is answered; one that is to do more than that is refused."""
        return acts.reconcile(asked, by=f"api:{g.token}")

    @endpoints.get("/api/missed", answer=Page[MissedDetail], query=MissedQuery)
    def missed(asked: MissedQuery) -> Page[MissedDetail]:
        """Facts that reading found and no callback told in time, newest first."""
        wanted = MissedFilter(**asked.model_dump(exclude={"limit", "cursor"}))
        with database.read() as connection:
            return queries.missed_page(connection, wanted, limit=asked.limit, before=id_in(asked.cursor))

    @endpoints.get("/api/missed/rate", answer=Delivery, query=DeliveryQuery)
    def rate(asked: DeliveryQuery) -> Delivery:
        """How many facts callbacks told, and how many they missed: in all, by day and by name."""
        with database.read() as connection:
            silence = queries.silence(connection)
            return queries.delivery(connection, now=clock(), days=asked.days, silence=silence)
