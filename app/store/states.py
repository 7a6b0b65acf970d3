"""The states and kinds that rows have: one enum each, used by SQL, the API and the pages."""

from enum import StrEnum

from sqlalchemy import ColumnClause, literal_column


class JournalKind(StrEnum):
    """What a journal row holds: a POST of OneSpan, a package as it was read, or a 404 for a package that was there."""

    CALLBACK = "callback"
    SNAPSHOT = "snapshot"
    ABSENCE = "absence"


class JournalState(StrEnum):
    """How far a journal row is. `unreadable`: refused by the endpoint; `failed`: the digest could not process it."""

    PENDING = "pending"
    DIGESTED = "digested"
    UNREADABLE = "unreadable"
    FAILED = "failed"


class Emit(StrEnum):
    """Which events a snapshot may report: none, all that ever happened, or what happened since callbacks came."""

    NONE = "none"
    ALL = "all"
    NEW = "new"


class EventSource(StrEnum):
    """What reported an event first."""

    CALLBACK = "callback"
    RECONCILE = "reconcile"


class DispatchState(StrEnum):
    """How far a handler's run is."""

    DUE = "due"
    RUNNING = "running"
    DONE = "done"
    PARKED = "parked"
    DISCARDED = "discarded"


class RunKind(StrEnum):
    """What a run reads: `reconcile` recent changes, `sweep` also the ids of all packages, `backfill` all packages."""

    RECONCILE = "reconcile"
    SWEEP = "sweep"
    BACKFILL = "backfill"


class RunState(StrEnum):
    """How far a reconcile run is."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class OutageKind(StrEnum):
    """Why callbacks may have been lost, or OneSpan not read.

    `down`: no process took callbacks; `refused`: neither database nor spool took one; `spooled`: the database was
    away; `unreachable`: OneSpan did not answer.
    """

    DOWN = "down"
    REFUSED = "refused"
    SPOOLED = "spooled"
    UNREACHABLE = "unreachable"


class MissedCause(StrEnum):
    """Why no callback reported an event, as far as can be seen."""

    DOWN = "down"
    REFUSED = "refused"
    NEVER_REPORTED = "never reported"
    NO_TRACE = "no trace"


def literal(state: StrEnum) -> ColumnClause[str]:
    """A state as it is written in SQL, not as a parameter: partial indexes serve only conditions spelt like theirs."""
    return literal_column(f"'{state}'")
