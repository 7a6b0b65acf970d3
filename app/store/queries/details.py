"""Results of queries, which the JSON API and the pages show unchanged."""

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
    """A run of a handler for an event. `state` is due, running, done, parked or discarded.

    `due_at` is when the run may start or, while it runs, when its lease ends.
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
    """A change and its cause. `subject` is `package`, `signer:<id>`, `document:<id>` or `handler:<name>`."""

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
    """A silence: sync finds events, but no callbacks arrive any more.

    `since` is when the last callback arrived; null if no callback ever arrived. `missed` counts the missed events
    that happened after the last callback.
    """

    since: datetime | None
    missed: int
    advice: str


@dataclass(frozen=True, slots=True)
class PipelineState:
    """The current state of event processing. Ages and durations are in seconds.

    `undigested` counts the journal rows to be digested, and `oldest_undigested` is the age of the oldest such row.
    `dispatches` counts open and parked dispatches by state. The counts of rows and dispatches stop at 500. `missed`
    counts the events of the last 30 days that no callback reported, by likely cause. `silence` is set if no callbacks
    arrive any more. `reconciled` is the time since the last reconcile run ended; None if there was no run. `dwell`
    lists, for the newest finished dispatches, the time from the arrival of the callback to the end of the run.
    `outdated` counts the packages to be derived again after an upgrade. `unverified` counts the packages that OneSpan
    does not show. `is_refused` says whether OneSpan refuses this service's requests. `misdirected` counts callbacks to
    wrong paths. `clock_offset` is how far OneSpan's clock is ahead.
    """

    undigested: int
    oldest_undigested: float
    dispatches: dict[str, int]
    missed: dict[str, int]
    silence: Silence | None
    reconciled: float | None
    dwell: list[float]
    outdated: int
    is_refused: bool
    misdirected: int
    unverified: int
    clock_offset: float | None


@dataclass(frozen=True, slots=True)
class EventFilter:
    """A filter for events. Every given condition must hold. `state` must be the state of a dispatch of the event."""

    package: str | None = None
    name: str | None = None
    source: str | None = None
    state: str | None = None
