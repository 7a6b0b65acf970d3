"""The views of what came in."""

from app.store import queries
from app.store.db import Database
from app.store.queries import CallbackDetail, CallbackFilter, Page
from app.web.api.endpoints import Endpoints, NoSuchThing
from app.web.api.parameters import LAST_ID, CallbackQuery


def add_views(endpoints: Endpoints, database: Database) -> None:
    """Add them."""

    @endpoints.get("/api/callbacks", answer=Page[CallbackDetail], query=CallbackQuery)
    def callbacks(asked: CallbackQuery) -> Page[CallbackDetail]:
        """Callbacks as they came in, newest first, each with what was understood and which event it told."""
        wanted = CallbackFilter(**asked.model_dump(exclude={"limit", "cursor"}))
        with database.read() as connection:
            return queries.callback_page(connection, wanted, limit=asked.limit, cursor=asked.cursor)

    @endpoints.get("/api/callbacks/<int:journal_id>", answer=CallbackDetail, errors=(404,))
    def callback(journal_id: int) -> CallbackDetail:
        """What came in under this number: a callback, or a reading that is the cause of a change."""
        with database.read() as connection:
            found = queries.callback(connection, journal_id) if journal_id <= LAST_ID else None
        if found is None:
            raise NoSuchThing(f"nothing came in under number {journal_id}")
        return found
