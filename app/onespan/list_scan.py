"""A walk through a folder of OneSpan's list (`GET /api/packages`), safe against all that its sources leave open. Pure.

The list is paged by numbers that shift while it moves, and nobody says whether they begin at 0 or 1, how large a page
may be, whether `count` counts all or the page, or whether the dates and the order that were asked for are honoured.
So every page is judged by what is on it: what it shares with the pages before, how it is ordered, what it counts.

Where the newest come first and all are counted, nothing can be skipped that had not just been changed: who comes
anew or is changed stands at the front, which only repeats; who leaves lowers the count, and so many places we step
back. Otherwise each page must share a package with those before it, or we step back until it does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from app.errors import UnreadableAnswer, UnreadablePackage, UnsteadyList
from app.onespan.packages import PackageReading, read_package

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)  # nobody has packages of a time before it
PAGE = 100  # packages asked for at once; more is not documented
STEP_BACK = 50  # places we go back where a page shares nothing with those before it
UNMOVED = 8  # pages alike in a row after which it is the list that does not page, and not chance
STEPS_BACK = 20  # times in a row that we go back and find nothing new, until it is the list that does not add up
SMALL = 10  # rows; no server is believed to have smaller pages than that
PASSES = 6  # times we go through one folder before we come back later
IDLE = 3  # whole passes in a row that show nobody new, after which it is the count that is wrong
AHEAD = timedelta(days=1)  # the window's end lies in the future, lest it cut off what changes meanwhile

# The folders there are: the list has no trash and no templates in it unless it is asked for them.
FOLDERS: tuple[Mapping[str, str], ...] = (
    {},
    {"query": "trashed"},
    {"type": "TEMPLATE"},
    {"type": "TEMPLATE", "query": "trashed"},
)


@dataclass(frozen=True, slots=True)
class Item:
    """A package of the list, read and as it came."""

    reading: PackageReading
    shown: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ListPage:
    """A page: how many it says there are, how many rows it has, and those of them that are packages."""

    count: int | None
    rows: int
    items: tuple[Item, ...]

    @property
    def unreadable(self) -> int:
        """Rows that are no packages."""
        return self.rows - len(self.items)


@dataclass(frozen=True, slots=True)
class Place:
    """How far a walk through a folder has come, and what it has learned of the list; plain values, so it can be kept.

    The next page begins at `offset`; it is part of the walk's pass number `passes`. `count`, `rows`, `head`, `tail`
    and `low` (its oldest `updated`) are of the page before; where that one was `void` it does not count as seen, and
    `same` pages before it were just like it.
    In this pass `seen` packages were shown, so many rows were `unreadable`, the count fell by `gone`, and we went
    `back` so many times in a row for nothing. All passes together showed `known` packages, those before this one
    `known_before`; the last `idle` whole passes before it showed nobody new.
    `counts`: the list counts all and not the page; `falls`: the newest come first, and stood at `top` when we began;
    `ordered`: that this is no order of creation is seen; `straight`: the next page is to repeat nothing. `by_age`: it
    is asked for in order of creation, for what was updated in one instant may come in any order. The `largest` page
    of any folder had so many rows: so many this OneSpan shows at once, where there are so many.
    """

    offset: int = 0
    passes: int = 0
    count: int | None = None
    rows: int = 0
    head: str | None = None
    tail: str | None = None
    low: str | None = None
    void: bool = False
    same: int = 0
    seen: int = 0
    unreadable: int = 0
    gone: int = 0
    back: int = 0
    known: int = 0
    known_before: int = 0
    idle: int = 0
    by_age: bool = False
    counts: bool = False
    falls: bool = True
    ordered: bool = False
    top: str | None = None
    straight: bool = False
    largest: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """What a page leads to: where `to` go on (None: all is seen), and which packages count as `shown` by this pass.

    So many of them are the `first` time in this folder.
    """

    to: Place | None
    shown: frozenset[str]
    first: int


def question(
    folder: Mapping[str, str], place: Place, *, since: datetime | None, now: datetime, ids_only: bool = False
) -> dict[str, str | int]:
    """The parameters that ask for the page at a place, of what was updated `since` then.

    The dates go by both names they are known by (`lastUpdated…` in the OpenAPI document, the others in the SDKs).
    """
    asked: dict[str, str | int] = {**folder, "from": place.offset, "to": place.offset + PAGE - 1}
    if ids_only:
        return {**asked, "fields": "id", "sort": "created", "dir": "asc"}
    if since is not None:
        first, last = _stamp(since), _stamp(now + AHEAD)
        asked |= {"lastUpdatedStartDate": first, "lastUpdatedEndDate": last, "startDate": first, "endDate": last}
    return {**asked, **({"sort": "created", "dir": "asc"} if place.by_age else {"sort": "updated", "dir": "desc"})}


def read_page(answer: object) -> ListPage:
    """Read `{"count", "results"}`; a row that is no package is counted and left out.

    Raises `UnreadableAnswer` where there are no results.
    """
    results = answer.get("results") if isinstance(answer, Mapping) else None
    if not isinstance(results, list):
        raise UnreadableAnswer("it is no list of packages")
    assert isinstance(answer, Mapping)
    count = answer.get("count")
    known = count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None
    return ListPage(known, len(results), tuple(filter(None, map(_item, results))))


def onward(place: Place, page: ListPage, *, passed: Mapping[str, int], since: str | None) -> Step:
    """Where to go on after a page; `passed` says of its packages which pass through this folder showed them last.

    `since` is when the window begins (ISO), where there is one. Raises `UnsteadyList` where the list never adds up.
    """
    ids = frozenset(item.reading.id for item in page.items)
    new, first = sum(passed.get(one) != place.passes for one in ids), len(ids - passed.keys())
    to = _onward(place, _learned(place, page, new=new, first=first), page, new=new, since=since)
    return Step(to, frozenset(), 0) if to and to.void else Step(to, ids, first)


def anew(place: Place) -> Place:
    """The beginning of the folder, where the list did not add up: nothing that was learned of it is trusted."""
    return Place(passes=place.passes + 1, known=place.known, known_before=place.known, largest=place.largest)


def _onward(place: Place, here: Place, page: ListPage, *, new: int, since: str | None) -> Place | None:
    if here.same and place.offset > 2 and page.count != page.rows:  # noqa: PLR2004  (two rows may stand on two pages)
        raise UnsteadyList("it shows the same page again and again")
    if here.same == UNMOVED:
        return None  # it knows no pages, and this is all it has
    if place.straight and not (here.counts and here.falls):
        return _again(here)  # what we trusted in does not hold
    if back := _perhaps_skipped(place, here, page, new=new):
        if place.back == STEPS_BACK:
            raise UnsteadyList("it shows other packages each time")
        counted = replace(here, rows=page.rows or place.rows, seen=place.seen, known=place.known)
        return replace(counted, offset=max(0, place.offset - back), back=place.back + 1, void=True)
    if since and here.falls and here.ordered and here.low and here.low < since:
        return None  # what comes after is older still
    if _is_end(place, here, page, new=new):
        return None if _is_all(here) else _again(here)
    repeated = 0 if (straight := here.counts and here.falls) else min(1, page.rows - 1)
    return replace(here, offset=place.offset + page.rows - repeated, straight=straight)


def _learned(place: Place, page: ListPage, *, new: int, first: int) -> Place:
    updates = [item.reading.updated for item in page.items]
    # A page may begin with some of the page before, but it ends with older ones.
    ends = [place.low, *updates[-1:]] if place.low and place.offset else updates[-1:]
    falls = all(a and b and a >= b for a, b in (*pairwise(updates), *pairwise(ends))) and None not in updates
    fell = max(0, (place.count or 0) - page.count) if place.counts and page.count is not None else 0
    return replace(
        place,
        count=place.count if page.count is None else page.count,
        rows=page.rows,
        head=_head(page),
        tail=_tail(page),
        low=updates[-1] if updates else place.low,
        void=False,
        same=place.same + 1 if _is_same(place, page) else 0,
        seen=place.seen + new,
        known=place.known + first,
        back=0 if new and not place.void else place.back,
        unreadable=place.unreadable + page.unreadable,
        gone=place.gone + fell,
        counts=place.counts or (page.count or 0) > page.rows,
        falls=place.falls and falls,
        ordered=place.ordered or any(map(_is_by_update, page.items, page.items[1:])),
        largest=max(place.largest, page.rows),
        top=place.top if place.passes or place.offset else max(filter(None, updates), default=None),
    )


def _is_by_update(one: Item, after: Item) -> bool:
    """Whether two that follow one another are in order of their updates and in no other."""
    (updated, created), (before, older) = ((it.reading.updated or "", it.reading.created) for it in (one, after))
    return bool(created and older) and updated > before and str(created) < str(older)


def _is_same(place: Place, page: ListPage) -> bool:
    before = (place.rows, place.head, place.tail)
    return page.rows > 0 and place.offset > 0 and before == (page.rows, _head(page), _tail(page))


def _perhaps_skipped(place: Place, here: Place, page: ListPage, *, new: int) -> int:
    """How many places before this page may have been skipped."""
    if place.straight:
        return here.gone - place.gone
    shares_nothing = new == page.rows if page.rows else place.rows > 1
    return STEP_BACK if place.offset and shares_nothing else 0


def _is_end(place: Place, here: Place, page: ListPage, *, new: int) -> bool:
    """Whether this pass has come to its end."""
    if page.rows == 0 or (_is_of_the_front(here) and here.low and here.low < (here.top or "")):
        return True
    if here.counts:
        if page.rows >= max(SMALL, here.largest - 1):
            return False  # a full page may not be the last, whatever it counts
        has_seen_all = here.falls and here.seen >= (here.count or 0) and not here.gone
        return has_seen_all or place.offset + page.rows > (here.count or 0)
    if page.rows < place.largest - 1:  # less one: where rows count from 1, a first page from 0 has one less
        return True
    return page.rows == 1 and new == 0 and place.rows > 1  # only what the page before ended with


def _is_all(here: Place) -> bool:
    """Whether, at the end of a pass, all was seen. Raises `UnsteadyList` where more passes would not help for now."""
    if here.counts and here.known + here.unreadable >= (here.count or 0):
        return True  # whoever was changed meanwhile stood at the front
    if not here.counts and (here.falls or _idle(here)):
        return True
    if _idle(here) == IDLE:
        return True  # it counts some that it does not show
    if (here.passes + 1) % PASSES == 0:
        raise UnsteadyList("it shows fewer packages than it counts")
    return False


def _idle(here: Place) -> int:
    """How many whole passes in a row, with this one, have shown nobody new; one through the front says nothing."""
    if here.known > here.known_before:
        return 0
    return here.idle + (not _is_of_the_front(here))


def _is_of_the_front(here: Place) -> bool:
    """Whether this pass is only to see who was changed during the one before."""
    return here.falls and here.top is not None and here.passes > 0


def _again(here: Place) -> Place:
    """From the start of the folder, with what was learned: where to look at the front was not enough, by age."""
    by_age = here.by_age or here.passes > 0
    return Place(
        passes=here.passes + 1,
        count=here.count,
        known=here.known,
        known_before=here.known,
        idle=_idle(here),
        by_age=by_age,
        counts=here.counts,
        falls=here.falls and not by_age,
        top=here.top,
        largest=here.largest,
    )


def _item(shown: object) -> Item | None:
    try:
        return Item(read_package(shown), shown) if isinstance(shown, Mapping) else None
    except UnreadablePackage:
        return None


def _head(page: ListPage) -> str | None:
    return page.items[0].reading.id if page.items else None


def _tail(page: ListPage) -> str | None:
    return page.items[-1].reading.id if page.items else None


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
