"""The plan of a reconcile run: the folders of OneSpan's list that the run reads, one after the other.

The functions are pure. A folder that OneSpan refuses is left out and noted as incomplete, and so is a folder with
unreadable rows, which may be packages. Until a run has read the whole folder, each run reads the folder from the
beginning of the first window in which the folder was incomplete.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from app.onespan.list_scan import FOLDERS, ListPage, ScanState
from app.store.list_state import ListPass
from app.store.reconciles import Progress, TakenRun
from app.store.states import RunKind
from app.types import iso


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that a run reads in its window. With `ids_only`, the run reads the ids of all packages in the folder."""

    query: Mapping[str, str]
    ids_only: bool = False

    @property
    def name(self) -> str:
        """The name of the folder in messages."""
        what = "templates" if "type" in self.query else "packages"
        return f"{what} in the trash" if "query" in self.query else what


WINDOWS = tuple(Folder(query) for query in FOLDERS)
FOLDERS_BY_KIND: Mapping[str, tuple[Folder, ...]] = {
    RunKind.RECONCILE: WINDOWS,
    RunKind.SWEEP: (*WINDOWS, *(Folder(query, ids_only=True) for query in FOLDERS)),
    RunKind.BACKFILL: WINDOWS,  # the window of a backfill has no beginning
}


def current_folder(run: TakenRun) -> Folder | None:
    """Return the folder that the run is reading; None after the last folder."""
    folders = FOLDERS_BY_KIND[run.kind]
    return folders[run.progress.folder_number] if run.progress.folder_number < len(folders) else None


def pass_of(run: TakenRun) -> ListPass:
    """Return the pass through a folder that the run is in."""
    return ListPass(run.id, run.progress.folder_number, run.progress.place.passes)


def since_of(run: TakenRun, folder: Folder) -> datetime | None:
    """Return the time from which the run reads a folder; None if it reads the whole folder."""
    if folder.ids_only or run.since is None or is_unread(run, folder):
        return None
    return min(run.since, datetime.fromisoformat(run.progress.incomplete.get(folder.name) or iso(run.since)))


def is_unread(run: TakenRun, folder: Folder) -> bool:
    """Return whether no run has read this folder to its end yet."""
    return run.progress.incomplete.get(folder.name, "") is None


def next_folder(progress: Progress, folder: Folder, page: ListPage, *, since: datetime) -> Progress:
    """Return the progress at the beginning of the next folder, after the last page of `folder`.

    If some rows were unreadable, the next run reads `folder` again from the time `since`.
    """
    incomplete = {name: start for name, start in progress.incomplete.items() if folder.ids_only or name != folder.name}
    if progress.unreadable and not folder.ids_only:
        incomplete[folder.name] = iso(since)
    return _next(replace(progress, incomplete=incomplete), largest=page.rows)


def skip_folder(progress: Progress, folder: Folder, reason: str, *, since: datetime | None) -> Progress:
    """Return the progress at the beginning of the next folder, leaving out a `folder` that OneSpan refuses.

    Later runs must read `folder` from the time `since` (None: the whole folder).
    """
    incomplete = {} if folder.ids_only else {folder.name: iso(since) if since else None}
    skipped = (*progress.skipped, f"{folder.name} ({reason})")
    return _next(replace(progress, skipped=skipped, incomplete={**incomplete, **progress.incomplete}))


def _next(progress: Progress, *, largest: int = 0) -> Progress:
    place = ScanState(largest=max(progress.place.largest, largest))
    return Progress(
        folder_number=progress.folder_number + 1, place=place, skipped=progress.skipped, incomplete=progress.incomplete
    )
