"""Scan a folder of OneSpan's list (`GET /api/packages`) without missing packages.

The functions are pure. The list is paged by row numbers, which shift while packages change. OneSpan does not document
whether numbers begin at 0 or 1, the largest page size, what `count` counts, or whether date filters and sort order are
honoured. So the scan relies only on the content of each page: the rows that the page shares with earlier pages, the
order of rows, and the count.

If the newest packages come first and `count` counts all packages, the scan cannot skip a package. New and changed
packages move to the front, which only repeats rows. A removed package lowers the count, and the scan steps back by as
many rows. Otherwise each page must share a package with earlier pages, or the scan steps back until a page does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from app.errors import InconsistentList, UnreadableAnswer, UnreadablePackage
from app.onespan.packages import parse_package
from app.onespan.snapshot import PackageSnapshot

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)  # no package in OneSpan is older
PAGE_SIZE = 100  # packages requested in one page; OneSpan documents no larger page
STEP_BACK_ROWS = 50  # how far the scan steps back if a page shares no package with earlier pages
MAX_STEPS_BACK = 20  # steps back in a row without a new package, after which the list is inconsistent
MAX_REPEATED_PAGES = 8  # equal pages in a row, after which the list counts as not paged
MIN_PAGE_ROWS = 10  # no server has a smaller page size, so a page with fewer rows is never full
MAX_PASSES = 6  # passes through one folder before the scan stops and is retried later
MAX_IDLE_PASSES = 3  # full passes in a row without a new package, after which `count` counts as wrong
WINDOW_MARGIN = timedelta(days=1)  # the window ends this far in the future, to include changes during the scan

# The query of each of OneSpan's folders. The list contains the trash and templates only on request.
FOLDERS: tuple[Mapping[str, str], ...] = (
    {},
    {"query": "trashed"},
    {"type": "TEMPLATE"},
    {"type": "TEMPLATE", "query": "trashed"},
)


@dataclass(frozen=True, slots=True)
class ListItem:
    """A package of the list, parsed and as the original JSON."""

    snapshot: PackageSnapshot
    json: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ListPage:
    """A page of the list: its `count`, its number of rows, and the rows that are packages."""

    count: int | None
    rows: int
    items: tuple[ListItem, ...]

    @property
    def unreadable(self) -> int:
        """The number of rows that cannot be parsed."""
        return self.rows - len(self.items)


@dataclass(frozen=True, slots=True)
class ScanState:
    """The state of a scan of one folder, as plain values that can be stored.

    Position: the next page begins at row `offset`, and `passes` passes are finished.

    Previous page: `count` is its count, `rows` its number of rows, `first_id` and `last_id` are the ids of its first
    and last package, and `oldest_update` is its last `updated`. If the page was `discarded`, its packages do not count
    as seen. `same_pages` equal pages came before the page.

    Current pass: the pass showed `seen` packages and `unreadable` rows. The count fell by `removed`. The scan made
    `steps_back` steps back in a row without a new package.

    All passes: `known` packages were seen, `known_before` of them before the current pass. `idle_passes` full passes in
    a row showed no new package.

    The list: `counts_all` says that `count` covers all pages, `newest_first` that so far the newest packages came
    first, and `sorted_by_update` that the order is not that of creation. `newest_update` is the newest `updated` of
    the first page. `gapless` says that the next page need not repeat a row. `by_creation` says that pages are requested
    in order of creation, because the order of packages updated in the same instant may change. `largest` is the most
    rows of any page of any folder.
    """

    offset: int = 0
    passes: int = 0
    count: int | None = None
    rows: int = 0
    first_id: str | None = None
    last_id: str | None = None
    oldest_update: str | None = None
    discarded: bool = False
    same_pages: int = 0
    seen: int = 0
    unreadable: int = 0
    removed: int = 0
    steps_back: int = 0
    known: int = 0
    known_before: int = 0
    idle_passes: int = 0
    by_creation: bool = False
    counts_all: bool = False
    newest_first: bool = True
    sorted_by_update: bool = False
    newest_update: str | None = None
    gapless: bool = False
    largest: int = 0


@dataclass(frozen=True, slots=True)
class ScanStep:
    """The result of a page. `next_state` is None if the scan is complete.

    `seen` are the ids that count as seen in this pass. `new` is the number of packages that appear in this folder for
    the first time.
    """

    next_state: ScanState | None
    seen: frozenset[str]
    new: int


def list_query(
    folder: Mapping[str, str], state: ScanState, *, since: datetime | None, now: datetime, ids_only: bool = False
) -> dict[str, str | int]:
    """Return the query parameters of the next page, for packages updated `since` a time.

    The date filters are sent under both names that are known: `lastUpdated…` (OpenAPI document) and the SDKs' names.
    """
    query: dict[str, str | int] = {**folder, "from": state.offset, "to": state.offset + PAGE_SIZE - 1}
    if ids_only:
        return {**query, "fields": "id", "sort": "created", "dir": "asc"}
    if since is not None:
        start, end = _timestamp(since), _timestamp(now + WINDOW_MARGIN)
        query |= {"lastUpdatedStartDate": start, "lastUpdatedEndDate": end, "startDate": start, "endDate": end}
    return {**query, **({"sort": "created", "dir": "asc"} if state.by_creation else {"sort": "updated", "dir": "desc"})}


def parse_page(answer: object) -> ListPage:
    """Parse `{"count", "results"}`; rows that are not packages are only counted.

    Raises `UnreadableAnswer` if there are no results.
    """
    results = answer.get("results") if isinstance(answer, Mapping) else None
    if not isinstance(results, list):
        raise UnreadableAnswer("it is not a list of packages")
    assert isinstance(answer, Mapping)
    count = answer.get("count")
    valid = count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None
    return ListPage(valid, len(results), tuple(filter(None, map(_item, results))))


def next_step(state: ScanState, page: ListPage, *, passed: Mapping[str, int], since: str | None) -> ScanStep:
    """Process a page and return the next step of the scan.

    `passed` maps ids of this page to the last pass through this folder that showed them. `since` is the start of the
    window (ISO), if there is one. Raises `InconsistentList` if the list stays inconsistent.
    """
    ids = frozenset(item.snapshot.id for item in page.items)
    new, unknown = sum(passed.get(package_id) != state.passes for package_id in ids), len(ids - passed.keys())
    following = _next_state(state, _observe(state, page, new=new, unknown=unknown), page, new=new, since=since)
    return (
        ScanStep(following, frozenset(), 0) if following and following.discarded else ScanStep(following, ids, unknown)
    )


def restart(state: ScanState) -> ScanState:
    """Return the state that reads an inconsistent folder again from its start, without what was learned of the list."""
    return ScanState(passes=state.passes + 1, known=state.known, known_before=state.known, largest=state.largest)


def _next_state(state: ScanState, here: ScanState, page: ListPage, *, new: int, since: str | None) -> ScanState | None:
    is_past_start = state.offset > 2  # noqa: PLR2004  (a list of two rows may show them on two pages)
    if here.same_pages and is_past_start and page.count != page.rows:
        raise InconsistentList("it shows the same page again and again")
    if here.same_pages == MAX_REPEATED_PAGES:
        return None  # the list is not paged, and this page shows all of the list
    if state.gapless and not (here.counts_all and here.newest_first):
        return _next_pass(here)  # the assumption behind `gapless` no longer holds
    if rows := _possibly_skipped(state, here, page, new=new):
        if state.steps_back == MAX_STEPS_BACK:
            raise InconsistentList("it shows other packages each time")
        unseen = replace(here, rows=page.rows or state.rows, seen=state.seen, known=state.known)
        offset = max(0, state.offset - rows)
        return replace(unseen, offset=offset, steps_back=state.steps_back + 1, discarded=True)
    is_ordered = here.newest_first and here.sorted_by_update
    if since and is_ordered and here.oldest_update and here.oldest_update < since:
        return None  # all further packages are older than the window
    if _is_end(state, here, page, new=new):
        return None if _is_complete(here) else _next_pass(here)
    overlap = 0 if (gapless := here.counts_all and here.newest_first) else min(1, page.rows - 1)
    return replace(here, offset=state.offset + page.rows - overlap, gapless=gapless)


def _observe(state: ScanState, page: ListPage, *, new: int, unknown: int) -> ScanState:
    """Return the state with what this page shows about the list."""
    updates = [item.snapshot.updated for item in page.items]
    # A page may begin with rows of the previous page, but it ends with older rows.
    ends = [state.oldest_update, *updates[-1:]] if state.oldest_update and state.offset else updates[-1:]
    falls = all(a and b and a >= b for a, b in (*pairwise(updates), *pairwise(ends))) and None not in updates
    fell = max(0, (state.count or 0) - page.count) if state.counts_all and page.count is not None else 0
    is_start = not (state.passes or state.offset)
    return replace(
        state,
        count=state.count if page.count is None else page.count,
        rows=page.rows,
        first_id=_first_id(page),
        last_id=_last_id(page),
        oldest_update=updates[-1] if updates else state.oldest_update,
        discarded=False,
        same_pages=state.same_pages + 1 if _is_same(state, page) else 0,
        seen=state.seen + new,
        known=state.known + unknown,
        steps_back=0 if new and not state.discarded else state.steps_back,
        unreadable=state.unreadable + page.unreadable,
        removed=state.removed + fell,
        counts_all=state.counts_all or (page.count or 0) > page.rows,
        newest_first=state.newest_first and falls,
        sorted_by_update=state.sorted_by_update or any(map(_is_by_update, page.items, page.items[1:])),
        largest=max(state.largest, page.rows),
        newest_update=max(filter(None, updates), default=None) if is_start else state.newest_update,
    )


def _is_by_update(item: ListItem, following: ListItem) -> bool:
    """Whether two consecutive items are in order of update, and not in order of creation."""
    updated, created = item.snapshot.updated or "", item.snapshot.created
    next_updated, next_created = following.snapshot.updated or "", following.snapshot.created
    return bool(created and next_created) and updated > next_updated and str(created) < str(next_created)


def _is_same(state: ScanState, page: ListPage) -> bool:
    before = (state.rows, state.first_id, state.last_id)
    return page.rows > 0 and state.offset > 0 and before == (page.rows, _first_id(page), _last_id(page))


def _possibly_skipped(state: ScanState, here: ScanState, page: ListPage, *, new: int) -> int:
    """Return how many rows before this page may have been skipped."""
    if state.gapless:
        return here.removed - state.removed
    shares_nothing = new == page.rows if page.rows else state.rows > 1
    return STEP_BACK_ROWS if state.offset and shares_nothing else 0


def _is_end(state: ScanState, here: ScanState, page: ListPage, *, new: int) -> bool:
    """Whether this page is the last of the pass."""
    reached_old = here.oldest_update and here.oldest_update < (here.newest_update or "")
    if page.rows == 0 or (_is_front_pass(here) and reached_old):
        return True
    if here.counts_all:
        if page.rows >= max(MIN_PAGE_ROWS, here.largest - 1):
            return False  # a full page may not be the last, even if the count says so
        has_seen_all = here.newest_first and here.seen >= (here.count or 0) and not here.removed
        return has_seen_all or state.offset + page.rows > (here.count or 0)
    if page.rows < state.largest - 1:  # if rows count from 1, a first page from 0 has one row less
        return True
    return page.rows == 1 and new == 0 and state.rows > 1  # the page only repeats the last row of the previous page


def _is_complete(here: ScanState) -> bool:
    """Whether all packages are seen at the end of a pass. Raises `InconsistentList` after `MAX_PASSES` passes."""
    if here.counts_all and here.known + here.unreadable >= (here.count or 0):
        return True  # all packages were seen, in this pass or an earlier pass
    if not here.counts_all and (here.newest_first or _idle_passes(here)):
        return True
    if _idle_passes(here) == MAX_IDLE_PASSES:
        return True  # the count includes packages that the list does not show
    if (here.passes + 1) % MAX_PASSES == 0:
        raise InconsistentList("it shows fewer packages than it counts")
    return False


def _idle_passes(here: ScanState) -> int:
    """Return the number of full passes in a row without a new package, except passes that only collect changes."""
    if here.known > here.known_before:
        return 0
    return here.idle_passes + (not _is_front_pass(here))


def _is_front_pass(here: ScanState) -> bool:
    """Whether this pass only collects the packages that changed during the previous pass."""
    return here.newest_first and here.newest_update is not None and here.passes > 0


def _next_pass(here: ScanState) -> ScanState:
    """Return the state of the next pass, with what was learned of the list.

    From the third pass on, pages are requested in order of creation.
    """
    by_creation = here.by_creation or here.passes > 0
    return ScanState(
        passes=here.passes + 1,
        count=here.count,
        known=here.known,
        known_before=here.known,
        idle_passes=_idle_passes(here),
        by_creation=by_creation,
        counts_all=here.counts_all,
        newest_first=here.newest_first and not by_creation,
        newest_update=here.newest_update,
        largest=here.largest,
    )


def _item(row: object) -> ListItem | None:
    try:
        return ListItem(parse_package(row), row) if isinstance(row, Mapping) else None
    except UnreadablePackage:
        return None


def _first_id(page: ListPage) -> str | None:
    return page.items[0].snapshot.id if page.items else None


def _last_id(page: ListPage) -> str | None:
    return page.items[-1].snapshot.id if page.items else None


def _timestamp(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
