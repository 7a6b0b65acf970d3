"""What needs a hand, by reason, with what one can do about it."""

from collections.abc import Iterator
from typing import Any, Literal

from flask import Blueprint, Response, request
from sqlalchemy.engine import Connection

from app.store import queries
from app.web.api.parameters import read_parameters
from app.web.dashboard.layout import Frame, up_to
from app.web.dashboard.page_query import View

FIRST = 10  # of each reason, where all are shown
ROWS = 50


class AttentionView(View):
    """All reasons, or the pages of one."""

    reason: Literal[queries.REASONS] | None = None  # type: ignore[valid-type]


def add_views(blueprint: Blueprint, frame: Frame) -> None:
    """Add `/attention`."""

    @blueprint.get("/attention")
    def attention() -> Response:
        """What needs a hand."""
        asked = read_parameters(AttentionView, request.args)

        def show(connection: Connection) -> dict[str, Any]:
            return {"groups": list(_groups(connection, asked)), "asked": asked}

        return frame.page_of_picture("attention.html", here="attention", show=show)


def _groups(connection: Connection, asked: AttentionView) -> Iterator[dict[str, Any]]:
    counts = queries.attention_counts(connection)
    for reason in [asked.reason] if asked.reason else [one for one in queries.REASONS if counts[one]]:
        limit, cursor = (ROWS, asked.cursor) if asked.reason else (FIRST, None)
        page = queries.attention_page(connection, reason, limit=limit, cursor=cursor)
        yield {"reason": reason, "counted": up_to(counts[reason]), "page": page}
