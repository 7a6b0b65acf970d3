"""The views of how many packages there are, and of what needs a person's hand."""

from app.store import queries
from app.store.db import Database
from app.store.queries import Needing, Page
from app.store.queries.bounded import COUNTED
from app.web.api.answers import PackageCounts, ReasonCounts
from app.web.api.endpoints import Endpoints
from app.web.api.parameters import AttentionQuery


def add_views(endpoints: Endpoints, database: Database) -> None:
    """Add them."""

    @endpoints.get("/api/attention", answer=Page[Needing], query=AttentionQuery)
    def attention(asked: AttentionQuery) -> Page[Needing]:
        """Packages that need a hand, one for each reason, the newest first. Each goes away when it is solved."""
        with database.read() as connection:
            return queries.attention_page(connection, asked.reason, limit=asked.limit, cursor=asked.cursor)

    @endpoints.get("/api/attention/counts", answer=ReasonCounts)
    def attention_counts() -> ReasonCounts:
        """How many need a hand, by reason."""
        with database.read() as connection:
            return ReasonCounts(queries.attention_counts(connection), COUNTED)

    @endpoints.get("/api/counts", answer=PackageCounts)
    def package_counts() -> PackageCounts:
        """How many packages there are, by type, status, trash and deletion."""
        with database.read() as connection:
            return PackageCounts(queries.package_counts(connection))
