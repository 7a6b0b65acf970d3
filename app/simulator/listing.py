"""`GET /api/packages`: which packages a query means, in which order, and which slice of them. Pure.

What the documents leave open is played as the sources make likely: the statuses that the SDKs send as `query` mean
folders too, dates count as whole days in UTC under either pair of names, and parameters we do not know do nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from app.simulator.packages import STATUSES, Package

PAGE, LARGEST_PAGE = 10, 100
DAY = timedelta(days=1)
DRAFTS = frozenset({"DRAFT", "DECLINED", "OPTED_OUT", "EXPIRED"})

FOLDERS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "": STATUSES,
        "trashed": STATUSES,
        "drafts": DRAFTS,
        "DRAFT": DRAFTS,
        "inbox": STATUSES - DRAFTS,
        **{status: frozenset({status}) for status in STATUSES - {"DRAFT"}},
    }
)

LAST = datetime.max.replace(tzinfo=UTC)
SORTS: Mapping[str, Callable[[Package], object]] = MappingProxyType(
    {
        "created": lambda one: one.created,
        "updated": lambda one: one.updated,
        "completed": lambda one: one.completed or LAST,
        "due": lambda one: one.due or LAST,
        "name": lambda one: one.name,
        "status": lambda one: one.status,
    }
)


class BadQuery(Exception):
    """A parameter has a value it cannot have."""


def choose(packages: Iterable[Package], query: Mapping[str, str]) -> tuple[int, list[Package]]:
    """How many packages a query means, and those of the page it asks for: `from` to `to`, from 0, both included."""
    wanted = _wanted(query)
    found = sorted((one for one in packages if wanted(one)), key=_order(query))
    if query.get("dir") == "desc":
        found.reverse()
    first = _whole(query, "from", 0)
    last = min(_whole(query, "to", first + PAGE - 1), first + LARGEST_PAGE - 1)
    return len(found), found[first : last + 1]


def _wanted(query: Mapping[str, str]) -> Callable[[Package], bool]:
    folder = query.get("query", "")
    if folder not in FOLDERS:
        raise BadQuery("query")
    kind = query.get("type", "PACKAGE")
    start = _day(query, "lastUpdatedStartDate", "startDate")
    end = _day(query, "lastUpdatedEndDate", "endDate")

    def wanted(one: Package) -> bool:
        return (
            not one.deleted
            and one.type == kind
            and one.trashed == (folder == "trashed")
            and one.status in FOLDERS[folder]
            and (start is None or one.updated >= start)
            and (end is None or one.updated < end + DAY)
        )

    return wanted


def _order(query: Mapping[str, str]) -> Callable[[Package], tuple[object, str]]:
    sort = query.get("sort", "created")
    if sort not in SORTS:
        raise BadQuery("sort")
    return lambda one: (SORTS[sort](one), one.id)


def _whole(query: Mapping[str, str], name: str, otherwise: int) -> int:
    text = query.get(name, "")
    if text and not (text.isascii() and text.isdigit()):
        raise BadQuery(name)
    return int(text) if text else otherwise


def _day(query: Mapping[str, str], *names: str) -> datetime | None:
    """The beginning of the day that the first of these parameters names; `2018-12-12Z` is one, too."""
    for name in names:
        if text := query.get(name):
            try:
                moment = datetime.fromisoformat(text if "T" in text else text.removesuffix("Z"))
            except ValueError:
                raise BadQuery(name) from None
            day = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
            return day.replace(hour=0, minute=0, second=0, microsecond=0)
    return None
