"""Where the picture is not what OneSpan shows, without changing anything: `flask reconcile --check`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.errors import NotPermitted, NotThere, UnreadableAnswer, UnreadablePackage
from app.onespan import claims
from app.onespan.claims import State, iso
from app.onespan.client import Answer, OneSpan
from app.onespan.listing import FOLDERS, Item, ListPage, Place, onward, question, read_page
from app.onespan.packages import PackageReading, read_package
from app.onespan.picture import derive
from app.store import picture
from app.store.db import Database
from app.store.picture import Cause, NewChange
from app.work.attempt import Clock
from app.work.witness import can_be_believed, dated, was_read

CHUNK = 100


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
        self, database: Database, onespan: OneSpan, *, clock: Clock, progress: Callable[[int], None] = lambda _: None
    ) -> None:
        self._database = database
        self._onespan = onespan
        self._clock = clock
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
            shown: dict[int, set[str]] = {}  # by pass
            while place is not None:
                self.requests += 1
                answer = self._asked(self._onespan.packages(**question(folder, place, since=since, now=self._clock())))
                page = read_page(answer.json)
                yield from self._of_page(page, answer)
                place, largest = self._onward(place, page, shown, since=since), max(largest, page.rows)
        yield from self._of_the_others(since=since)

    def _asked(self, answer: Answer) -> Answer:
        return dated(answer, now=self._clock())

    def _onward(
        self, place: Place, page: ListPage, shown: dict[int, set[str]], *, since: datetime | None
    ) -> Place | None:
        here = shown.setdefault(place.passes, set())
        new = {item.reading.id for item in page.items} - here
        first = new.difference(*shown.values())
        to = onward(place, page, new=len(new), first=len(first), since=iso(since) if since else None)
        if not (to and to.void):
            here |= new
        return to

    def _of_page(self, page: ListPage, answer: Answer) -> Iterator[Drift]:
        with self._database.read() as connection:
            states = picture.states(connection, [item.reading.id for item in page.items])
        new = [item for item in page.items if item.reading.id not in self._seen]
        self._seen |= {item.reading.id for item in new}
        self._progress(len(new))
        for item in new:
            yield from self._of_item(item, states.get(item.reading.id, {}), answer)

    def _of_item(self, item: Item, state: State, answer: Answer) -> Iterator[Drift]:
        if claims.agrees(state, claims.shown_by(item.reading, at=answer.read_at)):
            return
        if can_be_believed(item, state, answer):
            yield from _differences(state, item.reading, answer)
        else:
            yield from self._of_single(item.reading.id, state)

    def _of_the_others(self, *, since: datetime | None) -> Iterator[Drift]:
        """Packages that we hold and that the list did not show: each is asked for."""
        after = ""
        while ids := self._stored_after(after):
            after = ids[-1]
            others = [one for one in ids if one not in self._seen]
            with self._database.read() as connection:
                states = picture.states(connection, others)
            for package_id, state in states.items():
                believed = derive(package_id, state)
                if not believed.deleted and (since is None or (believed.updated_at or since) >= since):
                    yield from self._of_single(package_id, state)

    def _stored_after(self, after: str) -> Sequence[str]:
        with self._database.read() as connection:
            return picture.packages_after(connection, after, limit=CHUNK)

    def _of_single(self, package_id: str, state: State) -> Iterator[Drift]:
        self._seen.add(package_id)
        try:
            self.requests += 1
            answer = self._asked(self._onespan.package(package_id))
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
    changes: Iterator[NewChange] = picture.differences(
        derive(shown.id, state) if state else None,
        derive(shown.id, now),
        happened_at=answer.read_at,
        cause=Cause("snapshot", 0),
    )
    for change in changes:
        yield Drift(shown.id, change.subject, change.attribute, change.old, change.new)
