"""The list of transactions: status counts, search, filters, sorting, pages, and the CSV export."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from threading import BoundedSemaphore
from typing import Annotated, Any, Literal

import structlog
from flask import Blueprint, Response, current_app, request
from pydantic import BeforeValidator, Field
from sqlalchemy.engine import Connection

from app.store import queries
from app.store.queries import PackageCount, PackageFilter
from app.web.actions import TEST_CALLBACK
from app.web.api.parameters import AttentionFilter, ShortText, parse_query
from app.web.dashboard import export, labels
from app.web.dashboard.layout import Layout
from app.web.dashboard.page_query import PageQuery
from app.web.errors import error_response

log = structlog.get_logger()

ROWS = 50
CSV_ROWS = 200  # packages that the CSV export reads at once
MAX_EXPORTS = 2  # exports at the same time in a process: an export keeps a thread busy until its client has read all
DEFAULT_SORT, SORT_WITH_DAYS = "-updated_at", "-created_at"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the list. `cell` names a macro of the template that shows a cell; `sort` is a key of `queries.SORTS`.

    With `newest_first` the first click on the column's title sorts in descending order.
    """

    title: str
    cell: str
    sort: str | None = None
    newest_first: bool = False


COLUMNS = (
    Column("Transaction", "transaction", sort="name"),
    Column("Signing", "signing"),
    Column("Status", "status", sort="status_at", newest_first=True),
    Column("Created", "created", sort="created_at", newest_first=True),
    Column("Due", "due", sort="due_at"),
    Column("Last activity", "last_activity", sort="updated_at", newest_first=True),
)
SORTS = tuple(column.sort for column in COLUMNS if column.sort)
STATUS_ORDER = ("SENT", "DRAFT", "COMPLETED", "DECLINED", "OPTED_OUT", "EXPIRED", "ARCHIVED")
VIEWS: dict[str, dict[str, Any]] = {
    "current": {"trashed": False, "deleted": False},
    "trash": {"trashed": True, "deleted": False},
    "deleted": {"deleted": True},
    "templates": {"deleted": False},
}
ViewName = Literal["current", "trash", "deleted", "templates"]
FIRST_DAY, LAST_DAY = date(1970, 1, 1), date(2999, 12, 31)  # days outside this range are typing errors
Day = Annotated[date | None, Field(ge=FIRST_DAY, le=LAST_DAY), BeforeValidator(lambda given: given or None)]


class TransactionsQuery(PageQuery):
    """Filters and order of the list of transactions."""

    q: ShortText = ""
    status: ShortText = ""
    attention: AttentionFilter | Literal[""] = ""
    unverified: Literal["", "true"] = ""
    # Without scripts a form also sends its empty fields, so an empty `view`, `since` or `until` means the default.
    view: Annotated[ViewName, BeforeValidator(lambda given: given or "current")] = "current"
    since: Day = Field(None, description="Created on this day (UTC) or later.")
    until: Day = Field(None, description="Created on this day (UTC) or before.")
    sort: Literal["", *(f"{sign}{key}" for key in SORTS for sign in ("", "-"))] = ""  # type: ignore[valid-type]

    @property
    def order(self) -> str:
        """The sort order. The default for a range of days is the order of creation, because no other order is fast."""
        return self.sort or (SORT_WITH_DAYS if self.since or self.until else DEFAULT_SORT)

    def filters(self) -> PackageFilter:
        """Return the package filter of the query."""
        return PackageFilter(
            status=[self.status] if self.status else [],
            q=self.q.strip() or None,
            attention=self.attention or None,
            unverified=self.unverified == "true" or None,
            types=("TEMPLATE", "LAYOUT") if self.view == "templates" else ("PACKAGE", None),
            created_since=_midnight(self.since) if self.since else None,
            created_until=_midnight(self.until, days=1) if self.until else None,
            **VIEWS[self.view],
        )


def add_views(blueprint: Blueprint, layout: Layout) -> None:
    """Add the page `/` and the export `/transactions.csv` to the blueprint."""
    exports = BoundedSemaphore(MAX_EXPORTS)

    @blueprint.get("/")
    def transactions() -> Response:
        """Show the list of transactions."""
        query = parse_query(TransactionsQuery, request.args)

        def load() -> dict[str, Any]:
            page = queries.package_page(
                layout.database, query.filters(), sort=query.order, limit=ROWS, cursor=query.cursor
            )
            return {"page": page, "is_partial": page.timed_out}

        def read(connection: Connection) -> dict[str, Any]:
            return {
                "query": query,
                "days": (FIRST_DAY, LAST_DAY),
                "time_limit": queries.TIME_LIMIT.seconds,
                "status_counts": list(_status_counts(queries.package_counts(connection), query)),
                "columns": list(_headings(query)),
                "is_filtered": query.url() != "/",
                "attention_filters": labels.ATTENTION_FILTERS,
                "test_package": TEST_CALLBACK[1],
            }

        return layout.cached_page("transactions.html", here="transactions", read=read, load=load)

    @blueprint.get("/transactions.csv")
    def export_csv() -> Response:
        """Export all transactions of the list, streamed in the order of ids, which no change can disturb."""
        query = parse_query(TransactionsQuery, request.args)
        if not exports.acquire(blocking=False):
            message = "Too many exports are running. Try again in a few seconds."
            return error_response(503, "busy", message, {"Retry-After": "10"})
        log.info("packages.exported")
        response = current_app.response_class(_csv(layout, query), mimetype="text/csv")
        response.call_on_close(exports.release)
        response.headers["Content-Disposition"] = "attachment; filename=transactions.csv"
        return response


def _midnight(day: date, *, days: int = 0) -> datetime:
    return datetime.combine(day, time(), UTC) + timedelta(days=days)


def _status_counts(counts: Iterable[PackageCount], query: TransactionsQuery) -> Iterator[dict[str, Any]]:
    """Yield the number of transactions of each status in this view. Unknown statuses come last."""
    view = VIEWS[query.view]
    by_status: dict[str, int] = {}
    for count in counts:
        is_template = count.type in ("TEMPLATE", "LAYOUT")
        in_view = all(getattr(count, name) == value for name, value in view.items())
        if in_view and is_template == (query.view == "templates"):
            by_status[count.status or ""] = by_status.get(count.status or "", 0) + count.number
    yield _status_count("All", sum(by_status.values()), query, "")
    known = [status for status in STATUS_ORDER if by_status.get(status)]
    for status in [*known, *sorted(set(by_status) - set(STATUS_ORDER) - {""})]:
        yield _status_count(labels.status(status).text, by_status[status], query, status)


def _status_count(name: str, number: int, query: TransactionsQuery, status: str) -> dict[str, Any]:
    return {
        "name": name,
        "number": number,
        "status": status,
        "href": query.url(status=status),
        "is_current": query.status == status,
    }


def _headings(query: TransactionsQuery) -> Iterator[dict[str, Any]]:
    """Yield title, cell and sort link of each column. The link of the current sort column reverses the order."""
    for column in COLUMNS:
        is_descending = query.order == f"-{column.sort}"
        is_current = query.order.removeprefix("-") == column.sort
        first_click = f"-{column.sort}" if column.newest_first else column.sort
        reversed_order = column.sort if is_descending else f"-{column.sort}"
        order = ("descending" if is_descending else "ascending") if is_current else None
        href = query.url(sort=reversed_order if is_current else first_click) if column.sort else None
        yield {"title": column.title, "cell": column.cell, "order": order, "href": href}


def _csv(layout: Layout, query: TransactionsQuery) -> Iterator[str]:
    yield export.header()
    cursor = None
    while True:
        with layout.database.read() as connection:
            page = queries.package_page_in_transaction(
                connection, query.filters(), sort="id", limit=CSV_ROWS, cursor=cursor
            )
        yield export.rows(page.items)
        cursor = page.next
        if cursor is None:
            return
