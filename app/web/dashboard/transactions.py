"""The list of transactions: counts that are the filter, search, order, pages; and the same as CSV."""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from threading import BoundedSemaphore
from typing import Annotated, Any, Literal

from flask import Blueprint, Response, current_app, request
from pydantic import BeforeValidator, Field
from sqlalchemy.engine import Connection

from app.store import queries
from app.store.queries import PackageCount, PackageFilter
from app.web.actions import TEST
from app.web.api.parameters import Reason, Word, read_parameters
from app.web.dashboard import export, labels
from app.web.dashboard.layout import Frame
from app.web.dashboard.page_query import View
from app.web.errors import refuse

ROWS = 50
CHUNK = 200  # rows of the CSV that are read at once
EXPORTS = 2  # at once in a process: each has a thread for as long as its reader takes
DEFAULT, BY_DAY = "-updated_at", "-created_at"  # the order where none is asked for; of some days
SORTS = {
    "name": "Transaction",
    "status_at": "Status since",
    "created_at": "Created",
    "due_at": "Due",
    "updated_at": "Last activity",
}
FALLING_FIRST = ("status_at", "created_at", "updated_at")  # the newest is what one looks for
SHELVES = ("SENT", "DRAFT", "COMPLETED", "DECLINED", "OPTED_OUT", "EXPIRED", "ARCHIVED")
VIEWS: dict[str, dict[str, Any]] = {
    "current": {"trashed": False, "deleted": False},
    "trash": {"trashed": True, "deleted": False},
    "deleted": {"deleted": True},
    "templates": {"deleted": False},
}
Shown = Literal["current", "trash", "deleted", "templates"]
FIRST, LAST = date(1970, 1, 1), date(2999, 12, 31)  # what comes before and after is a slip of the hand
Day = Annotated[date | None, Field(ge=FIRST, le=LAST), BeforeValidator(lambda told: told or None)]


class TransactionsView(View):
    """Which transactions, and in which order."""

    q: Word = ""
    status: Word = ""
    attention: Reason | Literal[""] = ""
    # A form without scripts sends what was left empty, too; so with the days.
    view: Annotated[Shown, BeforeValidator(lambda told: told or "current")] = "current"
    since: Day = Field(None, description="Created on this day (UTC) or later.")
    until: Day = Field(None, description="Created on this day (UTC) or before.")
    sort: Literal["", *(f"{sign}{key}" for key in SORTS for sign in ("", "-"))] = ""  # type: ignore[valid-type]

    @property
    def order(self) -> str:
        """What it is sorted by. Days are found at once in their own order, and anywhere in another."""
        return self.sort or (BY_DAY if self.since or self.until else DEFAULT)

    def wanted(self) -> PackageFilter:
        """What it asks of the store."""
        return PackageFilter(
            status=[self.status] if self.status else [],
            q=self.q.strip() or None,
            attention=self.attention or None,
            types=("TEMPLATE", "LAYOUT") if self.view == "templates" else ("PACKAGE", None),
            created_since=_midnight(self.since) if self.since else None,
            created_until=_midnight(self.until, days=1) if self.until else None,
            **VIEWS[self.view],
        )


def add_views(blueprint: Blueprint, frame: Frame) -> None:
    """Add `/` and `/transactions.csv`."""
    exports = BoundedSemaphore(EXPORTS)

    @blueprint.get("/")
    def transactions() -> Response:
        """Where every transaction stands."""
        asked = read_parameters(TransactionsView, request.args)

        def load() -> dict[str, Any]:
            wanted, sort = asked.wanted(), asked.order
            page = queries.package_page(frame.database, wanted, sort=sort, limit=ROWS, cursor=asked.cursor)
            return {"page": page, "is_partial": page.timed_out}

        def show(connection: Connection) -> dict[str, Any]:
            return {
                "asked": asked,
                "days": (FIRST, LAST),
                "time_limit": queries.TIME_LIMIT.seconds,
                "shelves": list(_shelves(queries.package_counts(connection), asked)),
                "columns": list(_columns(asked)),
                "is_filtered": asked.address() != "/",
                "test": TEST[1],
            }

        return frame.page_of_picture("transactions.html", here="transactions", show=show, load=load)

    @blueprint.get("/transactions.csv")
    def export_csv() -> Response:
        """The view, all of it, written as it is read: in the order of ids, which nothing changes meanwhile."""
        asked = read_parameters(TransactionsView, request.args)
        if not exports.acquire(blocking=False):
            return refuse(503, "busy", "Other exports are being written; try again in a while.", {"Retry-After": "10"})
        response = current_app.response_class(_csv(frame, asked), mimetype="text/csv")
        response.call_on_close(exports.release)
        response.headers["Content-Disposition"] = "attachment; filename=transactions.csv"
        return response


def _midnight(day: date, *, days: int = 0) -> datetime:
    return datetime.combine(day, time(), UTC) + timedelta(days=days)


def _shelves(counts: Iterable[PackageCount], asked: TransactionsView) -> Iterator[dict[str, Any]]:
    """Each status with how many there are in this view, those that people know first, and what is none of these."""
    wanted = VIEWS[asked.view]
    here = [
        one
        for one in counts
        if (one.type in ("TEMPLATE", "LAYOUT")) == (asked.view == "templates")
        and all(getattr(one, name) == value for name, value in wanted.items())
    ]
    by_status: dict[str, int] = {}
    for one in here:
        by_status[one.status or ""] = by_status.get(one.status or "", 0) + one.number
    yield _shelf("All", sum(by_status.values()), asked, "")
    known = [one for one in SHELVES if by_status.get(one)]
    for status in [*known, *sorted(set(by_status) - set(SHELVES) - {""})]:
        yield _shelf(labels.status(status).word, by_status[status], asked, status)


def _shelf(name: str, number: int, asked: TransactionsView, status: str) -> dict[str, Any]:
    return {
        "name": name,
        "number": number,
        "href": asked.address(status=status),
        "here": asked.status == status,
    }


def _columns(asked: TransactionsView) -> Iterator[dict[str, Any]]:
    """The columns one can sort by; a second click turns the order round."""
    for key, name in SORTS.items():
        falls = asked.order == f"-{key}"
        is_here = asked.order.removeprefix("-") == key
        first = f"-{key}" if key in FALLING_FIRST else key
        turned = key if falls else f"-{key}"
        order = ("descending" if falls else "ascending") if is_here else None
        yield {"key": key, "name": name, "order": order, "href": asked.address(sort=turned if is_here else first)}


def _csv(frame: Frame, asked: TransactionsView) -> Iterator[str]:
    yield export.head()
    cursor = None
    while True:
        with frame.database.read() as connection:
            page = queries.page_of_packages(connection, asked.wanted(), sort="id", limit=CHUNK, cursor=cursor)
        yield export.lines(page.items)
        cursor = page.next
        if cursor is None:
            return
