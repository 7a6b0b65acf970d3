"""The models of all tables. A test checks that the models agree with the tables that `migrations/` creates."""

from app.store.models.base import Base
from app.store.models.derived import CallbackCount, EventCount, MissedCount, PackageCount, Search
from app.store.models.logins import EndedSession, LoginAttempt
from app.store.models.operations import Fetch, ListState, Missed, OneSpanClock, Outage, Process, Request, Run
from app.store.models.pipeline import (
    DUE,
    KIND_CALLBACK,
    PARKED,
    RUNNING,
    SOURCE_RECONCILE,
    Attention,
    Change,
    Dispatch,
    Document,
    Event,
    Journal,
    Package,
    Signer,
)

__all__ = [
    "DUE",
    "KIND_CALLBACK",
    "PARKED",
    "RUNNING",
    "SOURCE_RECONCILE",
    "Attention",
    "Base",
    "CallbackCount",
    "Change",
    "Dispatch",
    "Document",
    "EndedSession",
    "Event",
    "EventCount",
    "Fetch",
    "Journal",
    "ListState",
    "LoginAttempt",
    "Missed",
    "MissedCount",
    "OneSpanClock",
    "Outage",
    "Package",
    "PackageCount",
    "Process",
    "Request",
    "Run",
    "Search",
    "Signer",
]
