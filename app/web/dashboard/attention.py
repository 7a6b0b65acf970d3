"""The page of the transactions that need action, grouped by issue."""

from collections.abc import Iterator
from typing import Any, Literal

from flask import Blueprint, Response, request
from sqlalchemy.engine import Connection

from app.store import queries
from app.web.api.parameters import parse_query
from app.web.dashboard.layout import Layout, format_count
from app.web.dashboard.page_query import PageQuery

ROWS_PER_ISSUE = 10  # rows for each issue on the page of all issues
ROWS = 50


class AttentionQuery(PageQuery):
    """The parameters of the attention page, which shows all issues or the transactions with one issue."""

    reason: Literal[queries.REASONS] | None = None  # type: ignore[valid-type]


def add_views(blueprint: Blueprint, layout: Layout) -> None:
    """Add the page `/attention` to the blueprint."""

    @blueprint.get("/attention")
    def attention() -> Response:
        """Show the transactions that need action."""
        query = parse_query(AttentionQuery, request.args)

        def read(connection: Connection) -> dict[str, Any]:
            return {"groups": list(_groups(connection, query)), "query": query}

        return layout.cached_page("attention.html", here="attention", read=read)


def _groups(connection: Connection, query: AttentionQuery) -> Iterator[dict[str, Any]]:
    counts = queries.attention_counts(connection)
    for reason in [query.reason] if query.reason else [reason for reason in queries.REASONS if counts[reason]]:
        limit, cursor = (ROWS, query.cursor) if query.reason else (ROWS_PER_ISSUE, None)
        page = queries.attention_page(connection, reason, limit=limit, cursor=cursor)
        yield {"reason": reason, "count": format_count(counts[reason]), "page": page}
