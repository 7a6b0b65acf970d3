"""From an answer of OneSpan to the journal: dated so that it claims no more than was seen."""

import json
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from app.errors import NotPermitted, OneSpanError, RefusedByOneSpan, Throttled, UnreadableAnswer
from app.onespan import claims
from app.onespan.claims import AHEAD, State, iso
from app.onespan.client import Answer
from app.onespan.listing import Item
from app.onespan.packages import PackageReading
from app.store import journal, sightings
from app.store.journal import Entry

SETTLE = timedelta(minutes=10)  # how late OneSpan's list may be in showing a change
# How long we wait after the first, second, ... failure; then always as long as the last.
WAITS = (
    timedelta(seconds=10),
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=30),
)
# The same for a package that these credentials have seen and are denied now; after the last of them they are believed.
DENIALS = (*WAITS, *(timedelta(days=1),) * 10)
# The same for one that they never saw: it may be so new that OneSpan denies it for a moment.
LAGS = WAITS[:2]
# What is about one package alone. Anything else is, too, once it was tried so often: no run waits until it is over.
OF_ONE_PACKAGE = (UnreadableAnswer, NotPermitted, RefusedByOneSpan)
OFTEN = len(WAITS)


def wait_after(attempt: int, problem: OneSpanError) -> timedelta:
    """How long to wait after this attempt, counted from 1, met a problem; OneSpan may ask for more patience."""
    asked_for = problem.seconds or 0 if isinstance(problem, Throttled) else 0
    return max(WAITS[min(max(attempt, 1), len(WAITS)) - 1], timedelta(seconds=asked_for))


def dated(answer: Answer, *, now: datetime) -> Answer:
    """The same; a clock that is far ahead of ours is not believed."""
    if answer.read_at <= now + AHEAD:
        return answer
    return replace(answer, read_at=now, answered_at=now + (answer.answered_at - answer.read_at))


def entry(
    answer: Answer, package_id: str, *, now: datetime, key: str | None, kind: str = "snapshot", tells: str | None = None
) -> Entry:
    """What a package's own answer, as it is `dated`, shows, or that it is there no more."""
    return Entry(
        kind,
        now,
        answer.body,
        key=key,
        package_id=package_id,
        tells=tells,
        read_at=answer.read_at,
        answered_at=answer.answered_at,
    )


def listed(answer: Answer, item: Item, *, now: datetime, key: str | None, tells: str | None) -> Entry:
    """What a row of the list shows of its package."""
    body = json.dumps(item.shown, separators=(",", ":")).encode()
    at = _listed_at(answer, item.reading.updated)
    return replace(entry(answer, item.reading.id, now=now, key=key, tells=tells), body=body, read_at=at)


def can_be_believed(item: Item, state: State, answer: Answer) -> bool:
    """Whether a row may speak for its package: it is whole, has no fewer parts than were seen, and is as new as all else.

    The list may be late, and then shows what was before a callback, or before a reading.
    """
    updated = item.reading.updated
    if updated is None or not item.reading.whole or _shows_less(item.reading, state):
        return False
    newer_than_read = iso(_listed_at(answer, updated)) > claims.newest(state, "snapshot")
    return updated >= claims.newest(state, "event") and newer_than_read


def _shows_less(shown: PackageReading, state: State) -> bool:
    """Whether a reading saw more people or documents than this row has: it may be cut short, or they are gone."""
    seen = {part: claims.shown_last(state, part) or [] for part in ("seats", "documents")}
    people = [signer for signer, role in seen["seats"] if signer != role]
    fewer = len(seen["seats"]) > len(shown.seats) or len(seen["documents"]) > len(shown.documents)
    return fewer or len(people) > sum(seat.taken for seat in shown.seats)


def was_read(connection: Connection, package_id: str, *, key: str | None) -> bool:
    """Whether these very credentials have read this package, or saw it in the list: only then a 404 is a deletion."""
    last = journal.last_reading(connection, package_id)
    return (last is not None and last.key == key) or sightings.was_seen(connection, package_id, key=key)


def _listed_at(answer: Answer, updated: str | None) -> datetime:
    """From when on a row surely holds: the list may be late, but a row is not older than its own `updated`."""
    settled = answer.read_at - SETTLE
    return min(answer.read_at, max(settled, datetime.fromisoformat(updated) if updated else settled))
