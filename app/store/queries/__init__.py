"""Every read that is shown: by the JSON API, by the pages, to the handlers."""

from app.store.queries.events import changes, dispatch, event, event_page, facts, history, pulse
from app.store.queries.packages import SORTS, package_page, packages
from app.store.queries.shown import (
    BadCursor,
    ChangeDetail,
    DispatchDetail,
    EventDetail,
    EventFilter,
    PackageFilter,
    Page,
    Pulse,
    Telling,
)

__all__ = [
    "SORTS",
    "BadCursor",
    "ChangeDetail",
    "DispatchDetail",
    "EventDetail",
    "EventFilter",
    "PackageFilter",
    "Page",
    "Pulse",
    "Telling",
    "changes",
    "dispatch",
    "event",
    "event_page",
    "facts",
    "history",
    "package_page",
    "packages",
    "pulse",
]
