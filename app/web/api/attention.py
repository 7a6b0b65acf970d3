"""The endpoints of packages that need attention, and of package counts."""

from app.store import queries
from app.store.db import Database
from app.store.queries import AttentionItem, Page
from app.store.queries.bounded import COUNT_LIMIT
from app.web.api.answers import PackageCounts, ReasonCounts
from app.web.api.endpoints import Endpoints
from app.web.api.parameters import AttentionQuery


def add_views(endpoints: Endpoints, database: Database) -> None:
    """Register the attention and count endpoints."""

    @endpoints.get("/api/attention", answer=Page[AttentionItem], query=AttentionQuery)
    def attention(query: AttentionQuery) -> Page[AttentionItem]:
        """List what needs a person to act: one item per package and reason, newest first.

        An item disappears when later events show that it is resolved.
        """
        with database.read() as connection:
            return queries.attention_page(connection, query.reason, limit=query.limit, cursor=query.cursor)

    @endpoints.get("/api/attention/counts", answer=ReasonCounts)
    def attention_counts() -> ReasonCounts:
        """Count the open attention items by reason."""
        with database.read() as connection:
            return ReasonCounts(queries.attention_counts(connection), COUNT_LIMIT)

    @endpoints.get("/api/counts", answer=PackageCounts)
    def package_counts() -> PackageCounts:
        """Count the packages by type, status, trash and deletion."""
        with database.read() as connection:
            return PackageCounts(queries.package_counts(connection))
