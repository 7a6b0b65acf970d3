"""Tallies: how many there are, kept beside what they count. The only writer of their table.

Whoever changes what is counted says so here in the same transaction, and holds the pen: so a tally is exact at any
time.
"""

import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from sqlalchemy import bindparam, delete, select, text
from sqlalchemy.engine import Connection

from app.store.models import Tally

PACKAGES = "packages"  # by what kind of package it is: see `kind_key`
CALLBACKS = "callbacks"  # that were digested, by the minute in which they came; of the last days
TOLD = "told"  # facts that a callback told, by the day on which they happened and their name
FOUND = "found"  # facts that a reading found and no callback has told, by the same
MISSED = "missed"  # those of them that were to be told by now, by day, name and likely cause

KEPT = timedelta(days=3)  # the minutes of callbacks: two days are shown
FORGOTTEN = 5_000  # of them at once


def key(*parts: object) -> str:
    """What is counted, in one text; with dates first, texts are in the order of time."""
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))


def parts_of(text: str) -> list[object]:
    """What a key was made of."""
    parts: list[object] = json.loads(text)
    return parts


def kind_key(trashed: bool, deleted: bool, type_: str | None, status: str | None) -> str:  # noqa: FBT001  (columns in a row)
    """What kind of package one is, in one text."""
    return key(int(trashed), int(deleted), type_, status)


def kind_of(text: str) -> tuple[str | None, str | None, bool, bool]:
    """Type, status, trashed and deleted of all packages that such a key counts."""
    trashed, deleted, type_, status = json.loads(text)
    return type_, status, bool(trashed), bool(deleted)


def day(moment: datetime) -> str:
    """The day (UTC) of a moment, as keys have it."""
    return moment.astimezone(UTC).date().isoformat()


def first_of(moment: datetime) -> str:
    """What no key of this day, or of a later one, is less than."""
    return key(day(moment))[:-1]


def minute(moment: datetime) -> str:
    """The minute of a moment, as keys have it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%MZ")


def count(connection: Connection, kind: str, more: Mapping[str, int]) -> None:
    """Add to the numbers of these keys, or take away from them."""
    rows = [{"kind": kind, "key": one, "more": number} for one, number in sorted(more.items()) if number]
    if rows:
        connection.execute(_COUNT, rows)


def counted(connection: Connection, kind: str) -> Counter[str]:
    """All numbers of a kind."""
    return Counter({row.key: row.number for row in connection.execute(_COUNTED, {"kind": kind}).all()})


def forget_minutes(connection: Connection, *, now: datetime) -> None:
    """Forget how many callbacks came in the minutes that nobody asks for any more, of some that are left."""
    old = select(Tally.key).where(Tally.kind == CALLBACKS, Tally.key < minute(now - KEPT)).limit(FORGOTTEN)
    connection.execute(delete(Tally).where(Tally.kind == CALLBACKS, Tally.key.in_(old)))


def put_right(connection: Connection, kind: str, numbers: Mapping[str, int]) -> None:
    """Forget all numbers of a kind for these."""
    connection.execute(delete(Tally).where(Tally.kind == kind))
    count(connection, kind, numbers)


_COUNT = text(
    """INSERT INTO tallies (kind, key, number) VALUES (:kind, :key, :more)
    ON CONFLICT (kind, key) DO UPDATE SET number = tallies.number + excluded.number"""
)
_COUNTED = select(Tally.key, Tally.number).where(Tally.kind == bindparam("kind"), Tally.number != 0)
