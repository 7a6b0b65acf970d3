"""From an answer of OneSpan to the journal: dated so that it claims no more than was seen."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from app.errors import (
    KeyRefused,
    NoOneSpan,
    NotPermitted,
    NotThere,
    OneSpanError,
    RefusedByOneSpan,
    Throttled,
    UnreadableAnswer,
    UnsendableRequest,
)
from app.onespan import claims
from app.onespan.claims import State
from app.onespan.client import Answer
from app.onespan.list_scan import Item
from app.onespan.packages import PackageReading
from app.store import journal, list_state
from app.store.journal import Entry
from app.types import iso

SETTLE = timedelta(minutes=10)  # how late OneSpan's list may be in showing a change
# How long we wait after the first, second, ... failure; then always as long as the last.
WAITS = (
    timedelta(seconds=10),
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=30),
)
LONGEST = timedelta(hours=6)  # that OneSpan may make us wait


@dataclass(frozen=True, slots=True)
class Meaning:
    """What it means that a package could not be read.

    From the try on that has the number `alone` it is about this package and no other, so that no run waits for it;
    None: never. How long we wait after each try stands in `waits`; after the last of them it is believed that the
    package is not for us. None: as long as after anything else, without end. `unseen` is that for a package which
    these credentials have never seen.
    """

    alone: int | None
    waits: tuple[timedelta, ...] | None = None
    unseen: tuple[timedelta, ...] | None = None


ANYTHING_ELSE = Meaning(alone=len(WAITS))  # it may be all of OneSpan, or this package alone
DENIALS = (*WAITS, *(timedelta(days=1),) * 10)
MEANINGS: Mapping[type[OneSpanError], Meaning] = {
    UnreadableAnswer: Meaning(alone=1),
    NotPermitted: Meaning(alone=1, waits=DENIALS, unseen=()),
    RefusedByOneSpan: Meaning(alone=1, waits=DENIALS, unseen=()),
    NotThere: Meaning(alone=1, waits=(), unseen=WAITS[:2]),  # it may be too new to be there
    KeyRefused: Meaning(alone=None),
    UnsendableRequest: Meaning(alone=None),
    Throttled: Meaning(alone=None),
    NoOneSpan: Meaning(alone=None),
}
# By name: the number of the try from which on an error is about its package alone; None for those not named.
ALONE: Mapping[str | None, int | None] = {
    None: ANYTHING_ELSE.alone,
    **{error.__name__: meaning.alone for error, meaning in MEANINGS.items()},
}


def meaning_of(problem: OneSpanError) -> Meaning:
    """What an error means for the package that could not be read."""
    return MEANINGS.get(type(problem), ANYTHING_ELSE)


def wait_after(attempt: int, problem: OneSpanError) -> timedelta:
    """How long to wait after this attempt, counted from 1, met a problem; OneSpan may ask for more patience."""
    asked_for = problem.seconds or 0 if isinstance(problem, Throttled) else 0
    asked = timedelta(seconds=min(asked_for, LONGEST.total_seconds()))
    return max(WAITS[min(max(attempt, 1), len(WAITS)) - 1], asked)


def entry(
    answer: Answer, package_id: str, *, now: datetime, key: str | None, kind: str = "snapshot", tells: str | None = None
) -> Entry:
    """What a package's own answer shows, or that it is there no more."""
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


def as_shown(item: Item, state: State) -> PackageReading:
    """A row of the list as a reading, which is not whole where it has fewer parts than a package has.

    That is, than this one had when it was last seen, or than any that was sent: somebody is to sign something.
    """
    reading = item.reading
    is_whole = reading.whole and not reading.vague and _has_parts(reading) and not _shows_less(reading, state)
    return replace(reading, whole=is_whole)


def can_be_believed(reading: PackageReading, state: State, answer: Answer) -> bool:
    """Whether a row may speak for its package: it is whole, and as new as all that we know of it otherwise.

    The list may be late, and then shows what was before a callback, or before a reading.
    """
    updated = reading.updated
    if updated is None or not reading.whole:
        return False
    newer_than_read = iso(_listed_at(answer, updated)) > claims.newest(state, "snapshot")
    return updated >= claims.newest(state, "event") and newer_than_read


def _has_parts(shown: PackageReading) -> bool:
    return shown.status == "DRAFT" or any(document.signed for document in shown.documents)


def _shows_less(shown: PackageReading, state: State) -> bool:
    """Whether there were more people, documents or signatures to give: the row is cut short, or they are gone."""
    seats, documents = (claims.shown_last(state, claims.PACKAGE, part) or [] for part in ("seats", "documents"))
    people, taken = sum(signer != role for signer, role in seats), sum(seat.taken for seat in shown.seats)
    if len(seats) > len(shown.seats) or people > taken or len(documents) > len(shown.documents):
        return True
    for document in shown.documents:
        asked = claims.asked_to_sign(state, document.id)
        if not {role for signer, role in seats if signer in asked} <= set(document.signed or ()):
            return True
    return False


def was_read(connection: Connection, package_id: str, *, key: str | None) -> bool:
    """Whether these very credentials have read this package, or saw it in the list: only then a 404 is a deletion."""
    last = journal.last_reading(connection, package_id)
    return (last is not None and last.key == key) or list_state.was_seen(connection, package_id, key=key)


def _listed_at(answer: Answer, updated: str | None) -> datetime:
    """From when on a row surely holds: the list may be late, but a row is not older than its own `updated`."""
    settled = answer.read_at - SETTLE
    return min(answer.read_at, max(settled, datetime.fromisoformat(updated) if updated else settled))
