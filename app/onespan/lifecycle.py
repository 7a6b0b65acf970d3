"""The status transitions of a package, as OneSpan documents them. The functions are pure."""

from collections import deque
from collections.abc import Iterable, Mapping
from functools import cache

from app.onespan.event_catalogue import CATALOGUE, event_type

NOT_CREATED = ""
# Statuses of accounts that archive with Arkhineo (OneSpan's guide to external archiving); they follow COMPLETED.
ARCHIVAL = ("ARCHIVAL_PENDING", "ARCHIVAL_VALIDATING", "ARCHIVAL_INTERVENTION_REQUIRED", "ARCHIVAL_COMPLETED")
COMPLETE_STATUSES = frozenset({"COMPLETED", "ARCHIVED", *ARCHIVAL})
# The event of each transition (from, to); None if no event is known (docs/onespan.md).
TRANSITIONS: Mapping[tuple[str, str], str | None] = {
    (NOT_CREATED, "DRAFT"): "PACKAGE_CREATE",
    ("DRAFT", "SENT"): "PACKAGE_ACTIVATE",
    ("SENT", "DRAFT"): "PACKAGE_DEACTIVATE",
    ("SENT", "COMPLETED"): "PACKAGE_COMPLETE",
    ("SENT", "DECLINED"): "PACKAGE_DECLINE",
    ("SENT", "OPTED_OUT"): "PACKAGE_OPT_OUT",
    ("SENT", "EXPIRED"): "PACKAGE_EXPIRE",
    ("COMPLETED", "ARCHIVED"): "PACKAGE_ARCHIVE",
    ("DECLINED", "SENT"): "PACKAGE_ACTIVATE",
    ("EXPIRED", "DRAFT"): None,
    ("DECLINED", "DRAFT"): None,  # the sender edits a declined package to send it again
    ("ARCHIVED", "COMPLETED"): None,
    **{("COMPLETED", status): None for status in ARCHIVAL},
}
# The creation event of each type; layouts have none.
CREATION_EVENTS = {kind.package["type"]: name for name, kind in CATALOGUE.items() if kind.starts}


@cache
def shortest_path(start: str | None, end: str | None) -> tuple[str | None, ...]:
    """Return the events of the shortest path from one status to another; empty if OneSpan documents no path.

    The path from or to an unknown status (None) is empty.
    """
    queue: deque[tuple[str | None, tuple[str | None, ...]]] = deque([(start, ())])
    seen = {start}
    while queue:
        status, path = queue.popleft()
        if status == end:
            return path
        for (before, after), event in TRANSITIONS.items():
            if before == status and after not in seen:
                seen.add(after)
                queue.append((after, (*path, event)))
    return ()


@cache
def path_to_event(start: str | None, event: str) -> tuple[str | None, ...]:
    """Return the events that must have happened between the status `start` and `event`."""
    origins = [before for (before, _), name in TRANSITIONS.items() if name == event]
    if start in origins:
        return ()
    paths = [path for status in origins if (path := shortest_path(start, status))]
    return min(paths, key=len, default=())


def status_after(name: str | None) -> str | None:
    """Return the status of a package after this event, or None if the event claims no status."""
    status = event_type(name or "").package.get("status")
    return status if isinstance(status, str) else None


def statuses_along(status: str | None, path: Iterable[str | None]) -> list[str | None]:
    """Return the statuses of a package that has a status and then goes along a path of events, the first included."""
    without_event = {before: after for (before, after), event in TRANSITIONS.items() if event is None}
    statuses = [status]
    for name in path:
        statuses.append(status_after(name) if name else without_event.get(statuses[-1] or ""))
    return statuses
