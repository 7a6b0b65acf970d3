"""The list of transactions: counts that are the filter, search, order, pages; and the same as CSV."""

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from flask import Blueprint, Response, current_app, request
from pydantic import BeforeValidator, Field

from app.onespan.values import Package
from app.store import queries
from app.store.queries import PackageCount, PackageFilter
from app.web.dashboard import words
from app.web.dashboard.frame import Frame, answer, has_it
from app.web.parameters import Cursor, Parameters, Reason, Word, read_parameters

ROWS = 50
CHUNK = 200  # rows of the CSV that are read at once
DEFAULT = "-updated_at"
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
View = Literal["current", "trash", "deleted", "templates"]


class TransactionsQuery(Parameters):
    """The whole view, as the address has it."""

    q: Word = ""
    status: Word = ""
    attention: Reason | Literal[""] = ""
    view: Annotated[View, BeforeValidator(lambda told: told or "current")] = (
        "current"  # a form without scripts says all
    )
    since: date | Literal[""] = Field("", description="Created on this day (UTC) or later.")
    until: date | Literal[""] = Field("", description="Created on this day (UTC) or before.")
    sort: Literal[tuple(f"{sign}{key}" for key in SORTS for sign in ("", "-"))] = DEFAULT  # type: ignore[valid-type]
    cursor: Cursor | None = None

    def address(self, **other: object) -> str:
        """Where this view begins, but for what is `other` there. What is as usual is not said."""
        told = {**self.model_dump(mode="json", exclude={"cursor"}), **other}
        usual = {name: field.default for name, field in type(self).model_fields.items()}
        asked = {name: value for name, value in told.items() if value not in ("", None) and value != usual[name]}
        return f"?{urlencode(asked)}" if asked else "/"

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

    @blueprint.get("/")
    def transactions() -> Response:
        """Where every transaction stands."""
        asked = read_parameters(TransactionsQuery, request.args)
        with frame.database.read() as connection:
            mark = frame.mark(connection)
            if has_it(mark):
                return answer("", etag=mark)
            page = queries.package_page(connection, asked.wanted(), sort=asked.sort, limit=ROWS, cursor=asked.cursor)
            return frame.page(
                connection,
                "transactions.html",
                here="transactions",
                mark=mark,
                asked=asked,
                page=page,
                shelves=list(_shelves(queries.package_counts(connection), asked)),
                columns=list(_columns(asked)),
                is_filtered=asked.address() != "/",
            )

    @blueprint.get("/transactions.csv")
    def export() -> Response:
        """The view as it is, all of it, written as it is read."""
        asked = read_parameters(TransactionsQuery, request.args)
        response = current_app.response_class(_csv(frame, asked), mimetype="text/csv")
        response.headers["Content-Disposition"] = "attachment; filename=transactions.csv"
        return response


def _midnight(day: date, *, days: int = 0) -> datetime:
    return datetime.combine(day, time(), UTC) + timedelta(days=days)


def _shelves(counts: Iterable[PackageCount], asked: TransactionsQuery) -> Iterator[dict[str, Any]]:
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
        yield _shelf(words.status(status).word, by_status[status], asked, status)


def _shelf(name: str, number: int, asked: TransactionsQuery, status: str) -> dict[str, Any]:
    return {
        "name": name,
        "number": number,
        "href": asked.address(status=status),
        "here": asked.status == status,
    }


def _columns(asked: TransactionsQuery) -> Iterator[dict[str, Any]]:
    """The columns one can sort by; a second click turns the order round."""
    for key, name in SORTS.items():
        falls = asked.sort == f"-{key}"
        is_here = asked.sort.removeprefix("-") == key
        first = f"-{key}" if key in FALLING_FIRST else key
        turned = key if falls else f"-{key}"
        order = ("descending" if falls else "ascending") if is_here else None
        yield {"key": key, "name": name, "order": order, "href": asked.address(sort=turned if is_here else first)}


HEAD = (
    "id",
    "name",
    "type",
    "status",
    "status_at",
    "trashed",
    "deleted",
    "sender",
    "sender_email",
    "signers_signed",
    "signers_total",
    "waiting_for",
    "needs_attention",
    "created_at",
    "updated_at",
    "due_at",
    "completed_at",
)


def _csv(frame: Frame, asked: TransactionsQuery) -> Iterator[str]:
    yield "\ufeff" + _line(HEAD)  # spreadsheets take it for UTF-8 by this mark
    cursor = None
    while True:
        with frame.database.read() as connection:
            page = queries.package_page(connection, asked.wanted(), sort=asked.sort, limit=CHUNK, cursor=cursor)
        yield "".join(_line(_cells(one)) for one in page.items)
        cursor = page.next
        if cursor is None:
            return


def _cells(package: Package) -> list[object]:
    waiting = [words.name_of(package, one) for one in package.next_signers]
    return [
        package.id,
        package.name,
        package.type,
        package.status,
        package.status_at,
        package.trashed,
        package.deleted,
        package.sender.name,
        package.sender.email,
        package.signers_completed,
        package.signers_total,
        "; ".join(waiting),
        "; ".join(one.reason for one in package.attention),
        package.created_at,
        package.updated_at,
        package.due_at,
        package.completed_at,
    ]


def _line(cells: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(map(_cell, cells))
    return text.getvalue()


def _cell(told: object) -> object:
    """What a spreadsheet shows as it is: a text that looks like a formula gets an apostrophe before it."""
    if isinstance(told, datetime):
        return told.isoformat(timespec="seconds").replace("+00:00", "Z")
    if isinstance(told, str) and told.lstrip()[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{told}"
    return told
