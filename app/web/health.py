"""What operators ask: are you alive, are you ready?"""

from collections.abc import Callable, Iterable

from flask import Blueprint
from flask.typing import ResponseReturnValue

Check = Callable[[], str | None]


def health(*, checks: Iterable[Check], notes: Iterable[Check]) -> Blueprint:
    """The blueprint of `/healthz` and `/readyz`.

    A check returns what is wrong and what to do, or None. Those of `checks` make us unready; `notes` are only said.
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
        reasons, said = _failing(needed), _failing(mentioned)
        if reasons:
            return {"status": "not ready", "reasons": reasons, "notes": said}, 503
        return {"status": "ready", "reasons": [], "notes": said}

    return blueprint


def _failing(checks: Iterable[Check]) -> list[str]:
    return [problem for check in checks if (problem := check())]
