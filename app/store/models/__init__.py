"""The tables. `migrations/` builds them; a test holds both to one another."""

from app.store.models.base import Base
from app.store.models.lists import CallbackCount, EventCount, MissedCount, PackageCount, Search
from app.store.models.logins import EndedSession, Login
from app.store.models.operations import Fetch, ListState, Missed, Outage, Process, Request, Run
from app.store.models.pipeline import (
    CALLBACK,
    DUE,
    FOUND,
    PARKED,
    RUNNING,
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
    "CALLBACK",
    "DUE",
    "FOUND",
    "PARKED",
    "RUNNING",
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
    "Login",
    "Missed",
    "MissedCount",
    "Outage",
    "Package",
    "PackageCount",
    "Process",
    "Request",
    "Run",
    "Search",
    "Signer",
]
