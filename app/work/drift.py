"""The drift check: compare the status store with OneSpan without changing anything (`flask reconcile --check`)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.errors import (
    CredentialsRejected,
    NotPermitted,
    OneSpanError,
    OneSpanNotFound,
    UnreadableAnswer,
    UnreadablePackage,
)
from app.onespan import merge
from app.onespan.claims import snapshot_claims
from app.onespan.client import Answer, OneSpan
from app.onespan.fetch_rules import is_missing
from app.onespan.list_scan import FOLDERS, ListItem, ListPage, ScanState, list_query, next_step, parse_page
from app.onespan.merge import State
from app.onespan.packages import parse_package
from app.onespan.projection import derive
from app.onespan.snapshot import PackageSnapshot
from app.store import packages
from app.store.db import Database
from app.store.packages import Cause, NewChange
from app.store.states import JournalKind
from app.types import Clock, iso
from app.work.snapshots import is_conclusive, is_known, listed_snapshot, was_read
from app.work.upgrade import current_claims

CHUNK = 100  # stored packages compared at once
DRIFT_RETRY_SECONDS = (1.0, 5.0)  # delays after the first and second failure of a request


@dataclass(frozen=True, slots=True)
class Drift:
    """One attribute whose stored value (`ours`) differs from OneSpan's (`theirs`)."""

    package_id: str
    subject: str
    attribute: str
    ours: object
    theirs: object


class DriftCheck:
    """A drift check, which reads OneSpan's list as a reconcile run does, but keeps its progress in memory only."""

    def __init__(
        self,
        database: Database,
        onespan: OneSpan,
        *,
        clock: Clock,
        sleep: Callable[[float], None],
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._onespan = onespan
        self._clock = clock
        self._sleep = sleep
        self._progress = progress
        self._seen: set[str] = set()
        self.requests = 0
        self.unreadable = 0

    @property
    def packages(self) -> int:
        """The number of packages compared so far."""
        return len(self._seen)

    def drift(self, *, since: datetime | None) -> Iterator[Drift]:
        """Yield every difference; if `since` is given, only those of packages updated since that time.

        Raises a `OneSpanError` if a request fails even after its retries.
        """
        largest = 0
        for folder in FOLDERS:
            place: ScanState | None = ScanState(largest=largest)
            passed: dict[str, int] = {}
            while place is not None:
                page, answer = self._page(list_query(folder, place, since=since, now=self._clock()))
                yield from self._compare_page(page, answer)
                step = next_step(place, page, passed=passed, since=iso(since) if since else None)
                passed |= dict.fromkeys(step.seen, place.passes)
                place, largest = step.next_state, max(largest, page.rows)
        yield from self._compare_unlisted(since=since)

    def _page(self, asked: Mapping[str, str | int]) -> tuple[ListPage, Answer]:
        answer = self._with_retries(lambda: self._onespan.packages(**asked))
        return parse_page(answer.json), answer

    def _with_retries(self, request: Callable[[], Answer]) -> Answer:
        """Send a request with retries: unlike a reconcile run, a drift check cannot continue later."""
        for seconds in DRIFT_RETRY_SECONDS:
            try:
                self.requests += 1
                return request()
            except (CredentialsRejected, OneSpanNotFound):
                raise
            except OneSpanError:
                self._sleep(seconds)
        self.requests += 1
        return request()

    def _compare_page(self, page: ListPage, answer: Answer) -> Iterator[Drift]:
        with self._database.read() as connection:
            states = current_claims(connection, [item.snapshot.id for item in page.items])
        new = [item for item in page.items if item.snapshot.id not in self._seen]
        self._seen |= {item.snapshot.id for item in new}
        self._progress(len(new))
        for item in new:
            yield from self._compare_item(item, states.get(item.snapshot.id, {}), answer)

    def _compare_item(self, item: ListItem, state: State, answer: Answer) -> Iterator[Drift]:
        snapshot = listed_snapshot(item, state)
        if is_known(snapshot, state, at=answer.read_at):
            return
        if is_conclusive(snapshot, state, answer):
            yield from _differences(state, snapshot, answer)
        else:
            yield from self._compare_single(snapshot.id, state)

    def _compare_unlisted(self, *, since: datetime | None) -> Iterator[Drift]:
        """Fetch and compare each stored package that OneSpan's list did not show."""
        after = ""
        while ids := self._stored_after(after):
            after = ids[-1]
            unlisted = [package_id for package_id in ids if package_id not in self._seen]
            with self._database.read() as connection:
                states = current_claims(connection, unlisted)
            for package_id, state in states.items():
                package = derive(package_id, state)
                in_window = not package.deleted if since is None else (package.updated_at or since) >= since
                if in_window and is_missing(state, since=since):
                    yield from self._compare_single(package_id, state)

    def _stored_after(self, after: str) -> Sequence[str]:
        with self._database.read() as connection:
            return packages.packages_after(connection, after, limit=CHUNK)

    def _compare_single(self, package_id: str, state: State) -> Iterator[Drift]:
        self._seen.add(package_id)
        try:
            answer = self._with_retries(lambda: self._onespan.package(package_id))
            yield from _differences(state, parse_package(answer.json), answer)
        except OneSpanNotFound:
            with self._database.read() as connection:
                known = was_read(connection, package_id, key=self._onespan.name)
            if known and not derive(package_id, state).deleted:
                yield Drift(package_id, "package", "deleted", False, True)  # noqa: FBT003
        except NotPermitted:
            return  # a 403 says nothing about the package
        except (UnreadableAnswer, UnreadablePackage):
            self.unreadable += 1


def _differences(state: State, snapshot: PackageSnapshot, answer: Answer) -> Iterator[Drift]:
    """Yield what would change in the status store if this snapshot were merged."""
    merged = merge.merge_claims(state, snapshot_claims(snapshot, at=answer.read_at))
    changes: Iterator[NewChange] = packages.changes_between(
        derive(snapshot.id, state) if state else None,
        derive(snapshot.id, merged),
        happened_at=answer.read_at,
        cause=Cause(JournalKind.SNAPSHOT, 0),
    )
    for change in changes:
        yield Drift(snapshot.id, change.subject, change.attribute, change.old, change.new)
