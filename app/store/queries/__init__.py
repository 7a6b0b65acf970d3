"""Every read that is shown: by the JSON API, by the pages, to the handlers."""

from app.store.queries.counts import PackageCount, package_counts
from app.store.queries.events import changes, dispatch, event, event_page, facts, history, pulse
from app.store.queries.flow import Flow, Tick, flow
from app.store.queries.packages import package_page, packages
from app.store.queries.reconciles import (
    Delivery,
    MissedDetail,
    MissedFilter,
    RunDetail,
    delivery,
    last_done,
    missed_by_cause,
    missed_page,
    run,
    run_page,
    silence,
    waiting,
)
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
from app.store.queries.walk import SORTS

__all__ = [
    "SORTS",
    "BadCursor",
    "ChangeDetail",
    "Delivery",
    "DispatchDetail",
    "EventDetail",
    "EventFilter",
    "Flow",
    "MissedDetail",
    "MissedFilter",
    "PackageCount",
    "PackageFilter",
    "Page",
    "Pulse",
    "RunDetail",
    "Telling",
    "Tick",
    "changes",
    "delivery",
    "dispatch",
    "event",
    "event_page",
    "facts",
    "flow",
    "history",
    "last_done",
    "missed_by_cause",
    "missed_page",
    "package_counts",
    "package_page",
    "packages",
    "pulse",
    "run",
    "run_page",
    "silence",
    "waiting",
]
