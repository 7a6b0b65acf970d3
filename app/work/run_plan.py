"""The way of a run: the folders of OneSpan's list it goes through, leg by leg. Pure.

A folder that is refused us is left out, and is then behind the others: until it is shown to its end, each run is to
see all of it that was updated since the first one that had to leave it out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from app.onespan.claims import iso
from app.onespan.list_scan import FOLDERS, ListPage, Place
from app.store.list_state import ListPass
from app.store.reconciles import BACKFILL, RECONCILE, SWEEP, Progress, TakenRun


@dataclass(frozen=True, slots=True)
class Leg:
    """One folder to walk through, in the run's window; or all its ids."""

    folder: Mapping[str, str]
    ids_only: bool = False

    @property
    def name(self) -> str:
        """What people call it."""
        what = "templates" if "type" in self.folder else "packages"
        return f"{what} in the trash" if "query" in self.folder else what


WINDOWS = tuple(Leg(folder) for folder in FOLDERS)
LEGS: Mapping[str, tuple[Leg, ...]] = {
    RECONCILE: WINDOWS,
    SWEEP: (*WINDOWS, *(Leg(folder, ids_only=True) for folder in FOLDERS)),
    BACKFILL: WINDOWS,  # its window goes back to the beginning
}


def leg_of(run: TakenRun) -> Leg | None:
    """Where it is; None where it is through all."""
    legs = LEGS[run.kind]
    return legs[run.progress.leg] if run.progress.leg < len(legs) else None


def pass_of(run: TakenRun) -> ListPass:
    """The pass that a run is in."""
    return ListPass(run.id, run.progress.leg, run.progress.place.passes)


def since_of(run: TakenRun, leg: Leg) -> datetime | None:
    """From when on this leg is to show what was updated; None: all."""
    if leg.ids_only or run.since is None or is_new(run, leg):
        return None
    return min(run.since, datetime.fromisoformat(run.progress.behind.get(leg.name) or iso(run.since)))


def is_new(run: TakenRun, leg: Leg) -> bool:
    """Whether no run was ever shown this folder to its end."""
    return run.progress.behind.get(leg.name, "") is None


def after(here: Progress, leg: Leg, page: ListPage) -> Progress:
    """Where it goes on when a leg's folder was shown to its end, with this page."""
    behind = {one: at for one, at in here.behind.items() if leg.ids_only or one != leg.name}
    return _next(replace(here, behind=behind), largest=page.rows)


def without(here: Progress, leg: Leg, why: str, *, since: datetime | None) -> Progress:
    """Where it goes on when a leg's folder is refused us, which was shown to its end until then (None: never)."""
    behind = {} if leg.ids_only else {leg.name: iso(since) if since else None}
    left_out = (*here.left_out, f"{leg.name} ({why})")
    return _next(replace(here, left_out=left_out, behind={**behind, **here.behind}))


def _next(here: Progress, *, largest: int = 0) -> Progress:
    place = Place(largest=max(here.place.largest, largest))
    return Progress(leg=here.leg + 1, place=place, left_out=here.left_out, behind=here.behind)
