"""The probes of operators and load balancers: liveness and readiness."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial

from flask import Blueprint
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import SQLAlchemyError

from app.checks import Check
from app.readiness import Bounded, Report


def probes(*, readiness: Callable[[], Report], notes: Iterable[Sequence[Check]]) -> Blueprint:
    """Return the blueprint of `/healthz` and `/readyz`. Each group of `notes` is left out while it hangs."""
    blueprint = Blueprint("probes", __name__)
    groups = [Bounded(partial(problems, checks)) for checks in notes]

    @blueprint.get("/healthz")
    def healthz() -> ResponseReturnValue:
        """Answer 200 while the process is alive."""
        return {"status": "alive"}

    @blueprint.get("/readyz")
    def readyz() -> ResponseReturnValue:
        """Answer 200 if a callback posted now would be kept, otherwise 503 with the reasons."""
        begun = [group.begin() for group in groups]
        report = readiness()
        notes = [*report.notes, *(note for wait in begun for note in _without_hanging(wait))]
        status = ("not ready", 503) if report.reasons else ("ready", 200)
        return {"status": status[0], "reasons": report.reasons, "notes": notes}, status[1]

    return blueprint


def _without_hanging(wait: Callable[[], list[str]]) -> list[str]:
    try:
        return wait()
    except TimeoutError:
        return []


def problems(checks: Iterable[Check]) -> list[str]:
    """Return the problem of each failing check. Checks that cannot reach the database are skipped."""
    found = []
    for check in checks:
        with suppress(SQLAlchemyError):  # a separate check reports that the database is unreachable
            found.append(check.problem())
    return list(filter(None, found))
