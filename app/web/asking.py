"""The views of what is asked of OneSpan, and of what callbacks missed."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from app.errors import NoOneSpan
from app.onespan.listing import EARLIEST
from app.store import queries
from app.store.db import Database
from app.store.queries import Delivery, MissedDetail, MissedFilter, Page, RunDetail
from app.web.endpoints import Endpoints, NoSuchThing, id_in, page_of
from app.web.parameters import LAST_ID, BadParameter, CursorQuery, DeliveryQuery, MissedQuery, ReconcileRequest


class Begin(Protocol):
    """Lets a run begin; None where one is under way. Raises `UnderWay` where that is not what was asked for."""

    def __call__(self, *, since: datetime | None, backfill: bool, fires: bool) -> int | None:
        """Begin it, and return its id."""
        ...


def add_views(
    endpoints: Endpoints,
    database: Database,
    *,
    begin: Begin,
    is_connected: Callable[[], bool],
    clock: Callable[[], datetime],
) -> None:
    """Add them. `begin` needs a OneSpan that `is_connected`."""

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
        if not is_connected():
            raise NoOneSpan
        if asked.since is not None and not EARLIEST <= asked.since <= clock():
            raise BadParameter(f"since: must lie between {EARLIEST:%Y-%m-%d} and now")
        begun = begin(since=asked.since, backfill=asked.backfill, fires=asked.fire)
        with database.read() as connection:
            found = queries.run(connection, begun) if begun else queries.run_page(connection, limit=1, before=None)[0]
        assert found
        return found

    @endpoints.get("/api/missed", answer=Page[MissedDetail], query=MissedQuery)
    def missed(asked: MissedQuery) -> Page[MissedDetail]:
        """Facts that reading found and no callback told in time, newest first."""
        wanted = MissedFilter(**asked.model_dump(exclude={"limit", "cursor"}))
        with database.read() as connection:
            items = queries.missed_page(connection, wanted, limit=asked.limit + 1, before=id_in(asked.cursor))
        return page_of(items, asked.limit)

    @endpoints.get("/api/missed/rate", answer=Delivery, query=DeliveryQuery)
    def rate(asked: DeliveryQuery) -> Delivery:
        """How many facts callbacks told, and how many they missed: in all, by day and by name."""
        with database.read() as connection:
            return queries.delivery(connection, now=clock(), days=asked.days)
