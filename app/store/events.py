"""Events: each fact once. The only writer of their table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam, func, or_, select, update
from sqlalchemy.engine import Connection

from app.onespan.callbacks import Callback
from app.store.db import insert_all
from app.store.models import Event

# Without a `createdDate` an identical callback within this time of the first is a repeat; later it is news.
SAME_FACT = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A fact that no row tells yet."""

    fingerprint: str
    callback: Callback
    happened_at: datetime
    received_at: datetime
    source: str = "callback"


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
            earliest, latest = received_at - SAME_FACT, received_at + SAME_FACT
            near.append(
                Event.fingerprint.between(
                    _undated(callback.fingerprint, earliest), _undated(callback.fingerprint, latest)
                )
            )
        else:
            exact.append(callback.fingerprint)
    found = select(Event.fingerprint, Event.id).where(or_(Event.fingerprint.in_(exact), *near))
    return {row.fingerprint: row.id for row in connection.execute(found)}


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
        }
        for event_id, event in enumerate(new, start=last + 1)
    ]
    insert_all(connection, Event, rows)
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
