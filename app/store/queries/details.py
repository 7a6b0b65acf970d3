"""Results of the queries, which the JSON API and the pages show as they are."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.store.packages import Cause


@dataclass(frozen=True, slots=True)
class EventCallback:
    """A callback that reported an event. `key` is the label of its callback key; `body` is its raw body."""

    id: int
    received_at: datetime
    key: str | None
    body: str


@dataclass(frozen=True, slots=True)
class DispatchDetail:
    """A run of a handler for an event. `due_at` is when it runs next, or the end of its lease while it runs.

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
    """An event, with the callbacks that reported it and the runs of its handlers.

    `repeats` counts the callbacks after the first; `callbacks` lists only the first 20. An event that a snapshot found
    happened after `found_after` and not after `found_until`; `happened_at` is then the most likely time.
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
    callbacks: list[EventCallback]
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
    """Sync finds events, but no callbacks arrive since `since` (null: ever); it found `missed` events after that."""

    since: datetime | None
    missed: int
    advice: str


@dataclass(frozen=True, slots=True)
class PipelineState:
    """The state of processing now. Times are in seconds.

    `undigested` counts the journal rows to be digested, of which the oldest is `oldest_undigested` old. `dispatches`
    counts open and parked ones by state. Both counts stop at 500. `missed` counts the events of the last 30 days that
    no callback reported, by likely cause. `silence` is set if no callbacks arrive any more. `reconciled` is the time
    since the last run ended; None if there was none. `dwell` lists, for the newest finished dispatches, the time from
    the arrival of the callback to the end of the run.
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
    """Which events to list. Every given condition must hold. `state` is that of any of their dispatches."""

    package: str | None = None
    name: str | None = None
    source: str | None = None
    state: str | None = None
