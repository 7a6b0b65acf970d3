"""What operators ask: are you alive, are you ready?"""

from collections.abc import Iterable, Iterator
from contextlib import suppress

from flask import Blueprint
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import SQLAlchemyError

from app.checks import Check


def health(*, checks: Iterable[Check], notes: Iterable[Check]) -> Blueprint:
    """The blueprint of `/healthz` and `/readyz`.

    Those of `checks` make us unready; `notes` are only said.
    """
    blueprint = Blueprint("health", __name__)
    needed, mentioned = tuple(checks), tuple(notes)

    @blueprint.get("/healthz")
    def healthz() -> ResponseReturnValue:
        """The process answers."""
        return {"status": "alive"}

    @blueprint.get("/readyz")
    def readyz() -> ResponseReturnValue:
        """Callbacks can be taken and kept; 503 and the reasons where not."""
        reasons, said = list(failing(needed)), list(failing(mentioned))
        if reasons:
            return {"status": "not ready", "reasons": reasons, "notes": said}, 503
        return {"status": "ready", "reasons": [], "notes": said}

    return blueprint


def failing(checks: Iterable[Check]) -> Iterator[str]:
    """What is wrong, as far as it can be seen."""
    for check in checks:
        with suppress(SQLAlchemyError):  # the check of the database itself says so
            if problem := check.problem():
                yield problem
