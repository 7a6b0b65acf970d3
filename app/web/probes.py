"""The probes of operators and load balancers: liveness and readiness."""

from collections.abc import Iterable, Iterator
from contextlib import suppress

from flask import Blueprint
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import SQLAlchemyError

from app.checks import Check


def probes(*, checks: Iterable[Check], notes: Iterable[Check]) -> Blueprint:
    """Return the blueprint of `/healthz` and `/readyz`.

    A failing check in `checks` makes the service not ready. A failing check in `notes` is only reported.
    """
    blueprint = Blueprint("probes", __name__)
    readiness, warnings = tuple(checks), tuple(notes)

    @blueprint.get("/healthz")
    def healthz() -> ResponseReturnValue:
        """Answer 200 while the process is alive."""
        return {"status": "alive"}

    @blueprint.get("/readyz")
    def readyz() -> ResponseReturnValue:
        """Answer 200 if a callback posted now would be kept, otherwise 503 with the reasons."""
        reasons, messages = list(problems(readiness)), list(problems(warnings))
        if reasons:
            return {"status": "not ready", "reasons": reasons, "notes": messages}, 503
        return {"status": "ready", "reasons": [], "notes": messages}

    return blueprint


def problems(checks: Iterable[Check]) -> Iterator[str]:
    """Yield the problem of each failing check. Checks that cannot reach the database are skipped."""
    for check in checks:
        with suppress(SQLAlchemyError):  # a separate check reports that the database is unreachable
            if problem := check.problem():
                yield problem
