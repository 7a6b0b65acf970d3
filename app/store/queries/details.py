"""What the reads give: shapes that the JSON API and the pages show as they are."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.store.packages import Cause


@dataclass(frozen=True, slots=True)
class Telling:
    """One callback that told a fact. `key` is the label of the key it came with; `body` is what it said."""

    id: int
    received_at: datetime
    key: str | None
    body: str


@dataclass(frozen=True, slots=True)
class DispatchDetail:
    """What a handler owes an event. `due_at` is when it runs next, or while it runs when its lease ends.

    `state`: due, running, done, parked or discarded.
    """

    id: int
    handler: str
    state: str
    attempts: int
    due_at: datetime
    finished_at: datetime | None
    error: str | None


@dataclass(frozen=True, slots=True)
class EventDetail:
    """A fact, with the callbacks that told it and what its handlers made of it.

    `repeats` counts the tellings after the first; of very many, only the first ones are in `callbacks`. One that a
    reading found happened after `found_after` and not after `found_until`; `happened_at` is then the likeliest time.
    """

    id: int
    name: str
    package_id: str
    signer_id: str | None
    document_id: str | None
    message: str | None
    happened_at: datetime
    first_received_at: datetime
    source: str
    repeats: int
    found_after: datetime | None
    found_until: datetime | None
    session_user: str | None
    extra: dict[str, Any]
    callbacks: list[Telling]
    dispatches: list[DispatchDetail]


@dataclass(frozen=True, slots=True)
class ChangeDetail:
    """One change and its cause. `subject` is `package`, `signer:<id>`, `document:<id>` or `handler:<name>`."""

    id: int
    package_id: str
    subject: str
    attribute: str
    old: Any
    new: Any
    happened_at: datetime
    recorded_at: datetime
    cause: Cause


@dataclass(frozen=True, slots=True)
class Silence:
    """Reading keeps finding facts, and no callback comes: the last one at `since`, if ever; `missed` facts ago."""

    since: datetime | None
    missed: int
    advice: str


@dataclass(frozen=True, slots=True)
class Pulse:
    """How the road flows now. Times are seconds.

    `undigested` callbacks wait, the oldest for `oldest_undigested`; `dispatches` counts the open and parked ones
    by state. What may be many is counted up to 500. `missed` counts the facts of the last 30 days that no callback
    told, by likely cause; `silence`: none comes any more; `reconciled` is how long ago the last run ended, where
    there was one. `dwell` is, for the dispatches that ended last, how long from the callback's arrival to their end.
    """

    undigested: int
    oldest_undigested: float
    dispatches: dict[str, int]
    missed: dict[str, int]
    silence: Silence | None
    reconciled: float | None
    dwell: list[float]


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are wanted; everything given must fit. `state` is that of any of their dispatches."""

    package: str | None = None
    name: str | None = None
    source: str | None = None
    state: str | None = None
