"""The ways of a package from status to status, as OneSpan documents them. Pure."""

from collections import deque
from collections.abc import Mapping
from functools import cache

from app.onespan.catalogue import event_type

UNBORN = ""
# Those of accounts that archive with Arkhineo (OneSpan's guide to external archiving); they come after COMPLETED.
ARCHIVAL = ("ARCHIVAL_PENDING", "ARCHIVAL_VALIDATING", "ARCHIVAL_INTERVENTION_REQUIRED", "ARCHIVAL_COMPLETED")
SIGNED = frozenset({"COMPLETED", "ARCHIVED", *ARCHIVAL})  # who is there has been complete
# (from, to) → the event that tells this step; None: OneSpan has none, as far as is known (docs/onespan.md).
STEPS: Mapping[tuple[str, str], str | None] = {
    (UNBORN, "DRAFT"): "PACKAGE_CREATE",
    ("DRAFT", "SENT"): "PACKAGE_ACTIVATE",
    ("SENT", "DRAFT"): "PACKAGE_DEACTIVATE",
    ("SENT", "COMPLETED"): "PACKAGE_COMPLETE",
    ("SENT", "DECLINED"): "PACKAGE_DECLINE",
    ("SENT", "OPTED_OUT"): "PACKAGE_OPT_OUT",
    ("SENT", "EXPIRED"): "PACKAGE_EXPIRE",
    ("COMPLETED", "ARCHIVED"): "PACKAGE_ARCHIVE",
    ("DECLINED", "SENT"): "PACKAGE_ACTIVATE",
    ("EXPIRED", "DRAFT"): None,
    ("DECLINED", "DRAFT"): None,  # its sender edits it, to send it again
    ("ARCHIVED", "COMPLETED"): None,
    **{("COMPLETED", one): None for one in ARCHIVAL},
}
BORN = {"PACKAGE": "PACKAGE_CREATE", "TEMPLATE": "TEMPLATE_CREATE"}  # a layout is born without a word


@cache
def path(start: str | None, end: str | None) -> tuple[str | None, ...]:
    """The events of the shortest way from one status to another; none where OneSpan documents no way.

    From or to a status that is not known (None) there is none.
    """
    ways: deque[tuple[str | None, tuple[str | None, ...]]] = deque([(start, ())])
    seen = {start}
    while ways:
        place, way = ways.popleft()
        if place == end:
            return way
        for (here, there), event in STEPS.items():
            if here == place and there not in seen:
                seen.add(there)
                ways.append((there, (*way, event)))
    return ()


@cache
def path_to_step(start: str | None, event: str) -> tuple[str | None, ...]:
    """The events that must have come before this one, when the package stood so."""
    places = [here for (here, _), told in STEPS.items() if told == event]
    if start in places:
        return ()
    ways = [way for place in places if (way := path(start, place))]
    return min(ways, key=len, default=())


def arrived_by(name: str | None) -> str | None:
    """The status in which a package is after this event, where it tells of one."""
    status = event_type(name or "").package.get("status")
    return status if isinstance(status, str) else None
