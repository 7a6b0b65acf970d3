"""Where the picture is not what OneSpan shows, without changing anything: `flask reconcile --check`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.errors import KeyRefused, NotPermitted, NotThere, OneSpanError, UnreadableAnswer, UnreadablePackage
from app.onespan import claims
from app.onespan.claims import State
from app.onespan.client import Answer, OneSpan
from app.onespan.list_scan import FOLDERS, Item, ListPage, Place, onward, question, read_page
from app.onespan.packages import PackageReading, read_package
from app.onespan.projection import derive
from app.store import packages
from app.store.db import Database
from app.store.packages import Cause, NewChange
from app.types import Clock, iso
from app.work.snapshots import as_shown, can_be_believed, was_read

CHUNK = 100
PATIENCE = (1.0, 5.0)  # seconds to wait after the first, second failure of a request


@dataclass(frozen=True, slots=True)
class Drift:
    """One attribute that we believe to be `ours` and that OneSpan shows as `theirs`."""

    package_id: str
    subject: str
    attribute: str
    ours: object
    theirs: object


class Checker:
    """Walks through OneSpan's list as a reconcile does, and keeps what it saw in memory alone."""

    def __init__(
        self,
        database: Database,
        onespan: OneSpan,
        *,
        clock: Clock,
        wait: Callable[[float], None],
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._onespan = onespan
        self._clock = clock
        self._wait = wait
        self._progress = progress
        self._seen: set[str] = set()
        self.requests = 0
        self.unreadable = 0

    @property
    def packages(self) -> int:
        """How many packages were looked at."""
        return len(self._seen)

    def drift(self, *, since: datetime | None) -> Iterator[Drift]:
        """All there is; of what was updated since a time, where one is given. Raises what is below `OneSpanError`."""
        largest = 0
        for folder in FOLDERS:
            place: Place | None = Place(largest=largest)
            passed: dict[str, int] = {}
            while place is not None:
                page, answer = self._page(question(folder, place, since=since, now=self._clock()))
                yield from self._of_page(page, answer)
                step = onward(place, page, passed=passed, since=iso(since) if since else None)
                passed |= dict.fromkeys(step.shown, place.passes)
                place, largest = step.to, max(largest, page.rows)
        yield from self._of_the_others(since=since)

    def _page(self, asked: Mapping[str, str | int]) -> tuple[ListPage, Answer]:
        answer = self._patiently(lambda: self._onespan.packages(**asked))
        return read_page(answer.json), answer

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        """What OneSpan answers, if not at once: nobody takes this up later, as they do with a reconcile."""
        for seconds in PATIENCE:
            try:
                self.requests += 1
                return ask()
            except (KeyRefused, NotThere):
                raise
            except OneSpanError:
                self._wait(seconds)
        self.requests += 1
        return ask()

    def _of_page(self, page: ListPage, answer: Answer) -> Iterator[Drift]:
        with self._database.read() as connection:
            states = packages.states(connection, [item.reading.id for item in page.items])
        new = [item for item in page.items if item.reading.id not in self._seen]
        self._seen |= {item.reading.id for item in new}
        self._progress(len(new))
        for item in new:
            yield from self._of_item(item, states.get(item.reading.id, {}), answer)

    def _of_item(self, item: Item, state: State, answer: Answer) -> Iterator[Drift]:
        reading = as_shown(item, state)
        if claims.agrees(state, claims.shown_by(reading, at=answer.read_at)):
            return
        if can_be_believed(reading, state, answer):
            yield from _differences(state, reading, answer)
        else:
            yield from self._of_single(reading.id, state)

    def _of_the_others(self, *, since: datetime | None) -> Iterator[Drift]:
        """Packages that we hold and that the list did not show: each is asked for."""
        after = ""
        while ids := self._stored_after(after):
            after = ids[-1]
            others = [one for one in ids if one not in self._seen]
            with self._database.read() as connection:
                states = packages.states(connection, others)
            for package_id, state in states.items():
                believed = derive(package_id, state)
                if not believed.deleted and (since is None or (believed.updated_at or since) >= since):
                    yield from self._of_single(package_id, state)

    def _stored_after(self, after: str) -> Sequence[str]:
        with self._database.read() as connection:
            return packages.packages_after(connection, after, limit=CHUNK)

    def _of_single(self, package_id: str, state: State) -> Iterator[Drift]:
        self._seen.add(package_id)
        try:
            answer = self._patiently(lambda: self._onespan.package(package_id))
            yield from _differences(state, read_package(answer.json), answer)
        except NotThere:
            with self._database.read() as connection:
                known = was_read(connection, package_id, key=self._onespan.name)
            if known:
                yield Drift(package_id, "package", "deleted", False, True)  # noqa: FBT003
        except NotPermitted:
            return  # which says nothing of it
        except (UnreadableAnswer, UnreadablePackage):
            self.unreadable += 1


def _differences(state: State, shown: PackageReading, answer: Answer) -> Iterator[Drift]:
    """What would change if this were read."""
    now = claims.merge(state, claims.shown_by(shown, at=answer.read_at))
    changes: Iterator[NewChange] = packages.differences(
        derive(shown.id, state) if state else None,
        derive(shown.id, now),
        happened_at=answer.read_at,
        cause=Cause("snapshot", 0),
    )
    for change in changes:
        yield Drift(shown.id, change.subject, change.attribute, change.old, change.new)
