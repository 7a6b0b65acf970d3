"""Events: each fact once. The only writer of their table."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from sqlalchemy import bindparam, func, or_, select, update
from sqlalchemy.engine import Connection

from app.onespan.callbacks import Callback
from app.onespan.findings import ONCE, ToldEvent
from app.store.bulk import insert_all
from app.store.counters import EventKind, add_events, day_of
from app.store.models import Event
from app.store.states import EventSource
from app.types import iso

# Without a `createdDate` an identical callback within this time of the first is a repeat; later it is news.
SAME_FACT = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A fact that no row tells yet, in the words of a callback.

    `found` is when it happened, after and until, where a reading found it and no callback told it; nobody knows after
    what (None) where that was the first one.
    """

    fingerprint: str
    callback: Callback
    happened_at: datetime
    received_at: datetime
    found: tuple[datetime | None, datetime] | None = None

    @property
    def source(self) -> str:
        """How we know."""
        return "reconcile" if self.found else "callback"


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """An event that a reading found and no callback has told."""

    id: int
    package_id: str
    name: str
    signer_id: str | None
    document_id: str | None
    message: str | None
    extra: Mapping[str, object]
    after: datetime | None
    until: datetime

    @classmethod
    def of(cls, event_id: int, event: NewEvent) -> Self:
        """What this new event is while no callback has told it."""
        said, (after, until) = event.callback, event.found or (event.happened_at, event.happened_at)
        who, extra = said.session_user, said.extra
        return cls(event_id, said.package_id, said.name, who, said.document_id, said.message, extra, after, until)

    def is_told_by(self, callback: Callback, *, who: Collection[object], happened_at: datetime) -> bool:
        """Whether a callback, by one who is called `who`, tells this very fact.

        An undated one happened when it came, or not long before: a fact that was found just now may be its. So may one
        be of what happens but once. A seat that was handed over is known by who left it, and by the role.
        """
        late = SAME_FACT if callback.happened_at is None else ONCE.get(self.name, timedelta(0))
        by_them = self.signer_id is None or callback.session_user is None or self.signer_id in who
        return (
            callback.name == self.name
            and callback.package_id == self.package_id
            and (self.after is None or self.after < happened_at)
            and happened_at <= self.until + late
            and (callback.name != "PACKAGE_ATTACHMENT" or callback.message == self.message)
            and callback.document_id in (None, self.document_id)
            and (by_them or self._takes_over(who))
        )

    def _takes_over(self, who: Collection[object]) -> bool:
        return self.name == "ROLE_REASSIGN" and self.extra.get("newRoleId") in who


class Facts:
    """Which facts are known: those a database told us at the start, and those added since."""

    def __init__(self, fingerprints: Iterable[str] = ()) -> None:
        self._known = set(fingerprints)
        self._undated: dict[str, list[tuple[datetime, str]]] = {}
        for fingerprint in self._known:
            self._remember(fingerprint)

    def recognise(self, callback: Callback, *, received_at: datetime) -> tuple[str, bool]:
        """The fingerprint of the fact this callback tells, and whether it is a repeat."""
        fingerprint = callback.fingerprint
        if callback.happened_at is None:
            near = [
                (abs(at - received_at), known)
                for at, known in self._undated.get(fingerprint, ())
                if abs(at - received_at) <= SAME_FACT
            ]
            fingerprint = min(near)[1] if near else _undated(fingerprint, received_at)
        repeat = fingerprint in self._known
        if not repeat:
            self._known.add(fingerprint)
            self._remember(fingerprint)
        return fingerprint, repeat

    def _remember(self, fingerprint: str) -> None:
        content, _, at = fingerprint.partition("@")
        if at:
            self._undated.setdefault(content, []).append((datetime.fromisoformat(at), fingerprint))


def known(connection: Connection, told: Iterable[tuple[Callback, datetime]]) -> dict[str, int]:
    """The events that these callbacks, each with when it was received, may repeat: ids by fingerprint."""
    exact: list[str] = []
    near = []
    for callback, received_at in told:
        if callback.happened_at is None:
            earliest = _undated(callback.fingerprint, received_at - SAME_FACT)
            latest = _undated(callback.fingerprint, received_at + SAME_FACT)
            near += [place.between(earliest, latest) for place in (Event.fingerprint, Event.confirmation)]
        else:
            exact.append(callback.fingerprint)
    known = or_(Event.fingerprint.in_(exact), Event.confirmation.in_(exact), *near)
    found = select(Event.fingerprint, Event.confirmation, Event.id).where(known)
    return {place: row.id for row in connection.execute(found) for place in row[:2] if place}


def unconfirmed(connection: Connection, package_ids: Iterable[str]) -> list[Unconfirmed]:
    """What was found in these packages and no callback has told yet, in the order in which it was found."""
    places = (Event.id, Event.package_id, Event.name, Event.signer_id, Event.document_id, Event.message)
    found = select(*places, Event.extra, Event.found_after, Event.found_until).where(
        Event.package_id.in_(package_ids), Event.source == "reconcile", Event.confirmation.is_(None)
    )
    return [Unconfirmed(*row) for row in connection.execute(found.order_by(Event.id))]


def confirm(connection: Connection, confirmed: Mapping[int, str]) -> None:
    """Note by which callback, its fingerprint, these events were told after all."""
    told: Counter[EventKind] = Counter()
    for event, fingerprint in confirmed.items():
        row = connection.execute(_CONFIRM, {"event": event, "telling": fingerprint}).one()
        told[EventKind(day_of(row.happened_at), row.name)] += 1
    add_events(connection, EventSource.CALLBACK, told)
    add_events(connection, EventSource.RECONCILE, {kind: -number for kind, number in told.items()})


def of_package(connection: Connection, package_id: str, *, after: datetime | None) -> list[ToldEvent]:
    """The events of a package that happened after this time."""
    places = (Event.name, Event.happened_at, Event.session_user, Event.signer_id, Event.document_id, Event.message)
    found = select(*places, Event.extra).where(Event.package_id == package_id)
    if after is not None:
        found = found.where(Event.happened_at > after)
    return [
        ToldEvent(
            row.name,
            iso(row.happened_at),
            row.session_user or row.signer_id,
            row.document_id,
            row.message,
            row.extra.get("newRoleId"),
        )
        for row in connection.execute(found)
    ]


def add(connection: Connection, new: Sequence[NewEvent]) -> list[int]:
    """Insert facts and return their ids, in their order. The caller holds the pen, so we may number them ourselves."""
    if not new:
        return []
    last = connection.scalar(select(func.max(Event.id))) or 0
    rows = [
        {
            "id": event_id,
            "fingerprint": event.fingerprint,
            "name": event.callback.name,
            "package_id": event.callback.package_id,
            "session_user": event.callback.session_user,
            "signer_id": event.callback.signer_id,
            "document_id": event.callback.document_id,
            "message": event.callback.message,
            "extra": event.callback.extra,
            "happened_at": event.happened_at,
            "first_received_at": event.received_at,
            "source": event.source,
            "found_after": event.found[0] if event.found else None,
            "found_until": event.found[1] if event.found else None,
        }
        for event_id, event in enumerate(new, start=last + 1)
    ]
    insert_all(connection, Event, rows)
    for source in EventSource:
        of_source = [event for event in new if event.source == source]
        kinds = Counter(EventKind(day_of(event.happened_at), event.callback.name) for event in of_source)
        add_events(connection, source, kinds)
    return list(range(last + 1, last + 1 + len(new)))


def count_repeats(connection: Connection, repeats: Mapping[int, int]) -> None:
    """Add to each event how often it was told again."""
    if repeats:
        statement = (
            update(Event).where(Event.id == bindparam("event")).values(repeats=Event.repeats + bindparam("more"))
        )
        connection.execute(statement, [{"event": event, "more": more} for event, more in repeats.items()])


def _undated(content: str, at: datetime) -> str:
    return f"{content}@{at.isoformat(timespec='microseconds')}"


_CONFIRM = (
    update(Event)
    .where(Event.id == bindparam("event"))
    .values(confirmation=bindparam("telling"))
    .returning(Event.happened_at, Event.name)
)
