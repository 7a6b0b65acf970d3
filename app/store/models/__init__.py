"""The tables. `migrations/` builds them; a test holds both to one another."""

from app.store.models.base import Base
from app.store.models.lists import Search, Tally
from app.store.models.logins import EndedSession, Login
from app.store.models.operations import Missed, Outage, Process, Read, Request, Run, Sighting
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
    "Change",
    "Dispatch",
    "Document",
    "EndedSession",
    "Event",
    "Journal",
    "Login",
    "Missed",
    "Outage",
    "Package",
    "Process",
    "Read",
    "Request",
    "Run",
    "Search",
    "Sighting",
    "Signer",
    "Tally",
]
