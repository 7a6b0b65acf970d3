"""Events: each fact about a package is stored once. Only this module writes their table."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Row, bindparam, func, or_, select, union_all, update
from sqlalchemy.engine import Connection

from app.onespan.callbacks import Callback
from app.onespan.confirmation import REPEAT_WINDOW, FoundEvent, undated
from app.onespan.interval import StoredEvent
from app.store.bulk import any_of, insert_all
from app.store.counters import EventKind, add_events, day_of
from app.store.db import unindexed
from app.store.models import Event
from app.store.states import EventSource, literal
from app.types import iso


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to be inserted, in the form of a callback.

    `found` is set if a snapshot showed the event and no callback reported it. `found` contains the times after which
    and until which the event happened. The first time is None if there is no earlier snapshot.
    """

    fingerprint: str
    callback: Callback
    happened_at: datetime
    received_at: datetime
    found: tuple[datetime | None, datetime] | None = None

    @property
    def source(self) -> str:
        """The source of the event: a callback or reconcile."""
        return EventSource.RECONCILE if self.found else EventSource.CALLBACK


def find_known(connection: Connection, callbacks: Iterable[tuple[Callback, datetime]]) -> dict[str, int]:
    """Return the ids, by fingerprint, of events that callbacks may repeat. Each callback has its arrival time."""
    exact: list[str] = []
    near = []
    for callback, received_at in callbacks:
        if callback.happened_at is None:
            earliest = undated(callback.fingerprint, received_at - REPEAT_WINDOW)
            latest = undated(callback.fingerprint, received_at + REPEAT_WINDOW)
            near += [column.between(earliest, latest) for column in (Event.fingerprint, Event.confirmation)]
        else:
            exact.append(callback.fingerprint)
    rows = list(connection.execute(_WITH_FINGERPRINT, {"fingerprints": exact}))
    if near:
        rows += connection.execute(select(Event.fingerprint, Event.confirmation, Event.id).where(or_(*near)))
    return {fingerprint: row.id for row in rows for fingerprint in row[:2] if fingerprint}


def unconfirmed(connection: Connection, package_ids: Iterable[str]) -> list[FoundEvent]:
    """Return the unconfirmed events of the given packages, in the order in which snapshots found the events."""
    return [FoundEvent(*row) for row in connection.execute(_UNCONFIRMED, {"ids": list(package_ids)})]


class Confirmation(NamedTuple):
    """A callback that reports an event that a snapshot found. `happened_at` is None if the callback has no date."""

    fingerprint: str
    happened_at: datetime | None


def confirm(connection: Connection, confirmed: Mapping[int, Confirmation]) -> None:
    """Store for each event id the callback that confirmed the event, and thus when exactly the event happened."""
    confirmed_now: Counter[EventKind] = Counter()
    for event, (fingerprint, at) in confirmed.items():
        after = at - timedelta.resolution if at else None
        values = {"event": event, "callback_fingerprint": fingerprint, "after": after, "until": at}
        row = connection.execute(_CONFIRM, values).one()
        confirmed_now[EventKind(day_of(row.happened_at), row.name)] += 1
    add_events(connection, EventSource.CALLBACK, confirmed_now)
    add_events(connection, EventSource.RECONCILE, {kind: -number for kind, number in confirmed_now.items()})


def of_package(connection: Connection, package_id: str, *, after: datetime | None) -> list[StoredEvent]:
    """Return the events of a package that may have happened after the time `after`, or all its events if it is None."""
    columns = (Event.name, Event.happened_at, Event.session_user, Event.signer_id, Event.document_id, Event.message)
    found = select(*columns, Event.extra, Event.source, Event.found_after, Event.found_until)
    found = found.where(Event.package_id == package_id)
    if after is not None:
        found = found.where(or_(Event.happened_at > after, Event.found_until > after))
    return [_stored_event(row) for row in connection.execute(found)]


def _stored_event(row: Row[Any]) -> StoredEvent:
    """Return an event as `findings` needs it: dated by its callback, if it has one, else by its own estimate."""
    is_found = row.source == EventSource.RECONCILE
    is_exact = row.found_after is not None and row.found_until - row.found_after <= timedelta.resolution
    return StoredEvent(
        row.name,
        iso(row.found_until if is_exact else row.happened_at),
        row.session_user or row.signer_id,
        row.document_id,
        row.message,
        row.extra.get("newRoleId"),
        is_found,
        iso(row.found_after) if is_found and row.found_after and not is_exact else None,
    )


def add(connection: Connection, new: Sequence[NewEvent]) -> list[int]:
    """Insert events and return their ids in the same order. The caller holds the write lock, so no id is used twice."""
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
        added = [event for event in new if event.source == source]
        kinds = Counter(EventKind(day_of(event.happened_at), event.callback.name) for event in added)
        add_events(connection, source, kinds)
    return list(range(last + 1, last + 1 + len(new)))


def count_repeats(connection: Connection, repeats: Mapping[int, int]) -> None:
    """Increase the number of repeats of each event."""
    if repeats:
        statement = (
            update(Event).where(Event.id == bindparam("event")).values(repeats=Event.repeats + bindparam("more"))
        )
        connection.execute(statement, [{"event": event, "more": more} for event, more in repeats.items()])


# These statements are built once, because building them for every batch costs more than running them.
_WITH_FINGERPRINT = union_all(  # of two queries, because for `or_` SQLite may read the whole table
    *(
        select(Event.fingerprint, Event.confirmation, Event.id).where(any_of(column, "fingerprints"))
        for column in (Event.fingerprint, Event.confirmation)
    )
)
_UNCONFIRMED = (
    select(
        *(Event.id, Event.package_id, Event.name, Event.signer_id, Event.document_id, Event.message),
        *(Event.extra, Event.happened_at, Event.found_after, Event.found_until),
    )
    .where(
        any_of(Event.package_id, "ids"),
        Event.source == literal(EventSource.RECONCILE),
        unindexed(Event.confirmation).is_(None),  # most events have none
    )
    .order_by(Event.id)
)
_CONFIRM = (
    update(Event)
    .where(Event.id == bindparam("event"))
    .values(
        confirmation=bindparam("callback_fingerprint"),
        found_after=func.coalesce(bindparam("after", type_=Event.found_after.type), Event.found_after),
        found_until=func.coalesce(bindparam("until", type_=Event.found_until.type), Event.found_until),
    )
    .returning(Event.happened_at, Event.name)
)
