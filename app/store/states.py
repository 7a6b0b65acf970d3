"""Enums of the states and kinds that rows have, used by SQL, the API and the pages."""

from enum import StrEnum

from sqlalchemy import ColumnClause, literal_column


class JournalKind(StrEnum):
    """What a journal row contains: a POST from OneSpan, a package as read, or a 404 for a package that was there."""

    CALLBACK = "callback"
    SNAPSHOT = "snapshot"
    ABSENCE = "absence"


class JournalState(StrEnum):
    """The state of a journal row. `unreadable`: refused by the endpoint; `failed`: refused by the digest."""

    PENDING = "pending"
    DIGESTED = "digested"
    UNREADABLE = "unreadable"
    FAILED = "failed"


class Emit(StrEnum):
    """Which events a snapshot may report: none, all that ever happened, or those since callbacks began to arrive."""

    NONE = "none"
    ALL = "all"
    NEW = "new"


class EventSource(StrEnum):
    """What reported an event first: a callback or reconcile."""

    CALLBACK = "callback"
    RECONCILE = "reconcile"


class DispatchState(StrEnum):
    """The state of a dispatch, which is one run of a handler."""

    DUE = "due"
    RUNNING = "running"
    DONE = "done"
    PARKED = "parked"
    DISCARDED = "discarded"


class RunKind(StrEnum):
    """What a reconcile run reads.

    `reconcile`: recent changes. `sweep`: recent changes and the ids of all packages. `backfill`: all packages.
    """

    RECONCILE = "reconcile"
    SWEEP = "sweep"
    BACKFILL = "backfill"


class RunState(StrEnum):
    """The state of a reconcile run."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class OutageKind(StrEnum):
    """Why callbacks may have been lost or OneSpan could not be read.

    `down`: no process took callbacks. `refused`: neither database nor spool could store a callback. `spooled`: the
    database was down. `unreachable`: OneSpan did not answer.
    """

    DOWN = "down"
    REFUSED = "refused"
    SPOOLED = "spooled"
    UNREACHABLE = "unreachable"


class MissedCause(StrEnum):
    """The likely reason why no callback reported an event."""

    DOWN = "down"
    REFUSED = "refused"
    NEVER_REPORTED = "never reported"
    NO_TRACE = "no trace"


class UnverifiedReason(StrEnum):
    """Why OneSpan does not show a package to the configured credentials.

    `refused`: they may not read it (403). `not_found`: OneSpan answers 404, and they never read the package before.
    `not_shown`: a reconcile run ended, but the package could not be read yet. `unusable_id`: its id cannot be part of a
    request, so OneSpan is not asked.
    """

    REFUSED = "refused"
    NOT_FOUND = "not_found"
    NOT_SHOWN = "not_shown"
    UNUSABLE_ID = "unusable_id"


def literal(state: StrEnum) -> ColumnClause[str]:
    """Return a state as an SQL literal, because the condition of a partial index does not match a parameter."""
    return literal_column(f"'{state}'")
