"""`GET /api/packages`: the packages that a query selects, their order, and the requested page.

Quirks decide what OneSpan's documentation leaves open. By default the statuses that the SDKs send as `query` are
folders, too. Both pairs of date parameters work and mean whole days in UTC. The first item has the number 0, a page
has at most 100 items, and unknown parameters have no effect.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from app.simulator.list_view import LATEST, SORTS, ListView
from app.simulator.packages import ARCHIVAL_STATUSES, STATUSES, Package
from app.simulator.quirks import Quirks

DEFAULT_PAGE_SIZE = 10
DAY = timedelta(days=1)
EARLIEST = datetime.min.replace(tzinfo=UTC)
DRAFTS = frozenset({"DRAFT", "DECLINED", "OPTED_OUT", "EXPIRED"})
ALL_STATUSES = STATUSES | frozenset(ARCHIVAL_STATUSES)
DATES = {"lastUpdated": ("lastUpdatedStartDate", "lastUpdatedEndDate"), "start": ("startDate", "endDate")}
HONOURED = {"both": ("lastUpdated", "start"), "lastUpdated": ("lastUpdated",), "start": ("start",), "neither": ()}
PAGING = frozenset({"from", "to", "fields"})

FOLDERS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "": ALL_STATUSES,
        "trashed": ALL_STATUSES,
        "drafts": DRAFTS,
        "inbox": ALL_STATUSES - DRAFTS,
        **{status: frozenset({status}) for status in ALL_STATUSES},
    }
)

Window = tuple[datetime | None, datetime | None]  # start (inclusive) and end (exclusive) of a period


class BadQuery(Exception):
    """A query parameter has an invalid value."""


def select_page(
    list_view: ListView, query: Mapping[str, str], *, quirks: Quirks, owners: frozenset[str] | None
) -> tuple[int, Sequence[Package]]:
    """Return the number of packages that a query selects, and the page from item `from` to item `to`, inclusive.

    `owners` are the senders whose packages are selected; None means all senders.
    """
    key = (owners, *sorted((name, value) for name, value in query.items() if name not in PAGING))
    found = list_view.cached(key, lambda: _matching(list_view, query, quirks=quirks, owners=owners))
    first = max(_integer(query, "from", quirks.list_first), quirks.list_first)
    end = _integer(query, "to", first + DEFAULT_PAGE_SIZE - 1) + 1
    if quirks.list_largest:
        end = min(end, first + quirks.list_largest)
    page = found[first - quirks.list_first : max(end - quirks.list_first, 0)]
    return (len(found) if quirks.list_count == "all" else len(page)), page


def _matching(
    list_view: ListView, query: Mapping[str, str], *, quirks: Quirks, owners: frozenset[str] | None
) -> Sequence[Package]:
    start, end = _window(query, quirks)
    sort, descending = _order(query, quirks, dated=start is not None or end is not None)
    statuses, trashed, kind = _statuses(query, quirks), query.get("query") == "trashed", query.get("type", "PACKAGE")
    index = list_view.index(sort)
    if sort == "updated":
        index = index[_index_of(start, 0, index) : _index_of(end, len(index), index)]
    # A single loop checks all conditions, for speed.
    found = [
        package
        for _, _, package in index
        if package.type == kind and package.trashed is trashed and package.status in statuses
    ]
    if owners is not None:
        found = [package for package in found if package.sender.id in owners]
    if sort != "updated" and (start or end):
        found = [package for package in found if (start or EARLIEST) <= package.updated < (end or LATEST)]
    return found[::-1] if descending else found


def _index_of(moment: datetime | None, default: int, index: Sequence[tuple[datetime, str, Package]]) -> int:
    return default if moment is None else bisect_left(index, moment, key=lambda entry: entry[0])


def _statuses(query: Mapping[str, str], quirks: Quirks) -> frozenset[str]:
    folder = query.get("query", "")
    if folder not in FOLDERS:
        raise BadQuery("query")
    return DRAFTS if (folder, quirks.list_drafts) == ("DRAFT", "folder") else FOLDERS[folder]


def _order(query: Mapping[str, str], quirks: Quirks, *, dated: bool) -> tuple[str, bool]:
    """Return the sort key, and whether the order is descending. A quirk can replace any order by that of creation."""
    sort = query.get("sort", "created")
    if sort not in SORTS:
        raise BadQuery("sort")
    if quirks.list_sort == "ignored" or (quirks.list_sort == "ignored-with-dates" and dated):
        return "created", False
    return sort, query.get("dir") == "desc"


def _window(query: Mapping[str, str], quirks: Quirks) -> Window:
    pairs = [DATES[name] for name in HONOURED[quirks.list_dates]]
    start = _moment(query, [start for start, _ in pairs])
    end = _moment(query, [end for _, end in pairs])
    if quirks.list_grain == "exact":
        return start, end and end + timedelta(microseconds=1)
    return start and _day(start), end and _day(end) + DAY


def _integer(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, "")
    if text and not (text.isascii() and text.isdigit()):
        raise BadQuery(name)
    return int(text) if text else default


def _moment(query: Mapping[str, str], names: Sequence[str]) -> datetime | None:
    """Return the time in the first of these parameters that the query has. `2018-12-12Z` is valid, too."""
    for name in names:
        if text := query.get(name):
            try:
                moment = datetime.fromisoformat(text if "T" in text else text.removesuffix("Z"))
                return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
            except (ValueError, OverflowError):
                raise BadQuery(name) from None
    return None


def _day(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
