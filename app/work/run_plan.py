"""The plan of a reconcile run: the folders of OneSpan's list that it reads, one after the other. Pure.

A folder that OneSpan refuses is left out and noted as behind. Until a run has read it to its end, each run reads
everything in it that was updated since the first run that left it out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from app.onespan.list_scan import FOLDERS, ListPage, Place
from app.store.list_state import ListPass
from app.store.reconciles import Progress, TakenRun
from app.store.states import RunKind
from app.types import iso


@dataclass(frozen=True, slots=True)
class Leg:
    """One folder to read, in the window of the run; with `ids_only`, the ids of all its packages."""

    query: Mapping[str, str]
    ids_only: bool = False

    @property
    def name(self) -> str:
        """Its name in messages."""
        what = "templates" if "type" in self.query else "packages"
        return f"{what} in the trash" if "query" in self.query else what


WINDOWS = tuple(Leg(query) for query in FOLDERS)
LEGS: Mapping[str, tuple[Leg, ...]] = {
    RunKind.RECONCILE: WINDOWS,
    RunKind.SWEEP: (*WINDOWS, *(Leg(query, ids_only=True) for query in FOLDERS)),
    RunKind.BACKFILL: WINDOWS,  # its window has no beginning
}


def leg_of(run: TakenRun) -> Leg | None:
    """Return the folder that the run is reading; None after the last one."""
    legs = LEGS[run.kind]
    return legs[run.progress.leg] if run.progress.leg < len(legs) else None


def pass_of(run: TakenRun) -> ListPass:
    """The pass that a run is in."""
    return ListPass(run.id, run.progress.leg, run.progress.place.passes)


def since_of(run: TakenRun, leg: Leg) -> datetime | None:
    """Return the beginning of the window for a folder; None reads all of it."""
    if leg.ids_only or run.since is None or is_unread(run, leg):
        return None
    return min(run.since, datetime.fromisoformat(run.progress.behind.get(leg.name) or iso(run.since)))


def is_unread(run: TakenRun, leg: Leg) -> bool:
    """Return whether no run has read this folder to its end yet."""
    return run.progress.behind.get(leg.name, "") is None


def next_folder(here: Progress, leg: Leg, page: ListPage) -> Progress:
    """Return the progress after the last page of a folder: the next folder."""
    behind = {name: since for name, since in here.behind.items() if leg.ids_only or name != leg.name}
    return _next(replace(here, behind=behind), largest=page.rows)


def skip_folder(here: Progress, leg: Leg, reason: str, *, since: datetime | None) -> Progress:
    """Return the progress without a folder that OneSpan refuses, last read to its end at `since` (None: never)."""
    behind = {} if leg.ids_only else {leg.name: iso(since) if since else None}
    left_out = (*here.left_out, f"{leg.name} ({reason})")
    return _next(replace(here, left_out=left_out, behind={**behind, **here.behind}))


def _next(here: Progress, *, largest: int = 0) -> Progress:
    place = Place(largest=max(here.place.largest, largest))
    return Progress(leg=here.leg + 1, place=place, left_out=here.left_out, behind=here.behind)
