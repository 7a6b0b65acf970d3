"""Who looks at a page, and what they may."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from flask import g
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import Forbidden

NOBODY = "dashboard"  # the name in the history of whoever told none
LONGEST_NAME = 60
MAY_LOOK = "You are logged in with the password for looking. This takes the other one: log out, and log in with that."


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who has logged in; `who` is their name in the history."""

    who: str
    may_act: bool


def name_of(text: str) -> str:
    """A name for the history: one short line, without what cannot be seen.

    Nor with a colon, by which one knows the API's and the command line's names.
    """
    seen = "".join(letter if letter.isprintable() and letter != ":" else " " for letter in text)
    return " ".join(seen.split())[:LONGEST_NAME].strip() or NOBODY


def who() -> str | None:
    """The name of whoever asks for this page; None where nobody has logged in."""
    return g.visitor.who if "visitor" in g else None


def may_act() -> bool:
    """Whether whoever asks for this page may change anything."""
    return "visitor" in g and g.visitor.may_act


def acts(view: Callable[..., ResponseReturnValue]) -> Callable[..., ResponseReturnValue]:
    """A view for those who may act; others are told why it is not for them (403)."""

    @wraps(view)
    def act(**place: Any) -> ResponseReturnValue:
        if not may_act():
            raise Forbidden(MAY_LOOK)
        return view(**place)

    return act
