"""The endpoints of raw callbacks."""

from app.store import queries
from app.store.db import Database
from app.store.queries import CallbackDetail, CallbackFilter, Page
from app.web.api.endpoints import Endpoints, ResourceNotFound
from app.web.api.parameters import MAX_ID, CallbackQuery


def add_views(endpoints: Endpoints, database: Database) -> None:
    """Register the callback endpoints."""

    @endpoints.get("/api/callbacks", answer=Page[CallbackDetail], query=CallbackQuery)
    def callbacks(query: CallbackQuery) -> Page[CallbackDetail]:
        """List callbacks as received, newest first, each with its parsed fields and its event."""
        filters = CallbackFilter(**query.model_dump(exclude={"limit", "cursor"}))
        with database.read() as connection:
            return queries.callback_page(connection, filters, limit=query.limit, cursor=query.cursor)

    @endpoints.get("/api/callbacks/<int:journal_id>", answer=CallbackDetail, errors=(404,))
    def callback(journal_id: int) -> CallbackDetail:
        """Return one journal row: a callback, or the snapshot or absence (a 404) that caused a change."""
        with database.read() as connection:
            found = queries.callback(connection, journal_id) if journal_id <= MAX_ID else None
        if found is None:
            raise ResourceNotFound(f"no callback {journal_id}")
        return found
