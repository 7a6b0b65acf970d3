"""`GET /api/packages`: which packages a query means, in which order, and which slice of them.

What the documents leave open is switched by quirks. By default it is played as the sources make likely: the statuses
that the SDKs send as `query` mean folders too, dates count as whole days in UTC under either pair of names, pages
count from 0 and have at most 100, and parameters we do not know do nothing.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from app.simulator.list_view import LAST, SORTS, Shelf
from app.simulator.packages import ARCHIVAL, STATUSES, Package
from app.simulator.quirks import Quirks

PAGE = 10  # of a request that does not say
DAY = timedelta(days=1)
EARLIEST = datetime.min.replace(tzinfo=UTC)
DRAFTS = frozenset({"DRAFT", "DECLINED", "OPTED_OUT", "EXPIRED"})
EVERY = STATUSES | frozenset(ARCHIVAL)
DATES = {"lastUpdated": ("lastUpdatedStartDate", "lastUpdatedEndDate"), "start": ("startDate", "endDate")}
HONOURED = {"both": ("lastUpdated", "start"), "lastUpdated": ("lastUpdated",), "start": ("start",), "neither": ()}
PAGING = frozenset({"from", "to", "fields"})

FOLDERS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "": EVERY,
        "trashed": EVERY,
        "drafts": DRAFTS,
        "inbox": EVERY - DRAFTS,
        **{status: frozenset({status}) for status in EVERY},
    }
)

Window = tuple[datetime | None, datetime | None]  # from the first, up to but without the second


class BadQuery(Exception):
    """A parameter has a value it cannot have."""


def choose(
    shelf: Shelf, query: Mapping[str, str], *, quirks: Quirks, owners: frozenset[str] | None
) -> tuple[int, Sequence[Package]]:
    """How many packages a query means, and those of the page it asks for: `from` to `to`, both included.

    `owners` are the senders whose packages are meant; None: everybody's.
    """
    question = (owners, *sorted((name, value) for name, value in query.items() if name not in PAGING))
    found = shelf.remembered(question, lambda: _found(shelf, query, quirks=quirks, owners=owners))
    first = max(_whole(query, "from", quirks.list_first), quirks.list_first)
    end = _whole(query, "to", first + PAGE - 1) + 1
    if quirks.list_largest:
        end = min(end, first + quirks.list_largest)
    page = found[first - quirks.list_first : max(end - quirks.list_first, 0)]
    return (len(found) if quirks.list_count == "all" else len(page)), page


def _found(
    shelf: Shelf, query: Mapping[str, str], *, quirks: Quirks, owners: frozenset[str] | None
) -> Sequence[Package]:
    start, end = _window(query, quirks)
    sort, downwards = _order(query, quirks, dated=start is not None or end is not None)
    statuses, trashed, kind = _statuses(query, quirks), query.get("query") == "trashed", query.get("type", "PACKAGE")
    index = shelf.index(sort)
    if sort == "updated":
        index = index[_place(start, 0, index) : _place(end, len(index), index)]
    # One pass over everything there is: it is written for speed.
    found = [one for _, _, one in index if one.type == kind and one.trashed is trashed and one.status in statuses]
    if owners is not None:
        found = [one for one in found if one.sender.id in owners]
    if sort != "updated" and (start or end):
        found = [one for one in found if (start or EARLIEST) <= one.updated < (end or LAST)]
    return found[::-1] if downwards else found


def _place(moment: datetime | None, otherwise: int, index: Sequence[tuple[datetime, str, Package]]) -> int:
    return otherwise if moment is None else bisect_left(index, moment, key=lambda entry: entry[0])


def _statuses(query: Mapping[str, str], quirks: Quirks) -> frozenset[str]:
    folder = query.get("query", "")
    if folder not in FOLDERS:
        raise BadQuery("query")
    return DRAFTS if (folder, quirks.list_drafts) == ("DRAFT", "folder") else FOLDERS[folder]


def _order(query: Mapping[str, str], quirks: Quirks, *, dated: bool) -> tuple[str, bool]:
    """What is sorted by, and whether downwards. Where no order is honoured it is that of creation."""
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


def _whole(query: Mapping[str, str], name: str, otherwise: int) -> int:
    text = query.get(name, "")
    if text and not (text.isascii() and text.isdigit()):
        raise BadQuery(name)
    return int(text) if text else otherwise


def _moment(query: Mapping[str, str], names: Sequence[str]) -> datetime | None:
    """What the first of these parameters says that is there; `2018-12-12Z` is a time, too."""
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
