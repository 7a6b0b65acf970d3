"""The user of a page, and what the user may do."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from flask import g
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import Forbidden

DEFAULT_NAME = "dashboard"  # name in the history for a user who gave no name
MAX_NAME_LENGTH = 60
FULL_ACCESS, VIEW_ACCESS = "full access", "view only"  # the accounts of the two shared passwords
VIEW_ONLY = "Your access is view-only. Log in with the full-access password to do this."


@dataclass(frozen=True, slots=True)
class User:
    """A person who is logged in; the history shows their `name`. Without `is_named` the password is a shared one."""

    name: str
    has_full_access: bool
    is_named: bool = False

    @property
    def account(self) -> str:
        """What the password belongs to: a named user, or the shared password for full or view-only access."""
        return f"user:{self.name}" if self.is_named else FULL_ACCESS if self.has_full_access else VIEW_ACCESS


def clean_name(text: str) -> str:
    """Return a name for the history: one short line of printable characters.

    Colons are removed because `api:` and `cli:` mark the names of the API and the command line.
    """
    printable = "".join(letter if letter.isprintable() and letter != ":" else " " for letter in text)
    return " ".join(printable.split())[:MAX_NAME_LENGTH].strip() or DEFAULT_NAME


def user_name() -> str | None:
    """Return the name of the user of this request, or None without a login."""
    return g.user.name if "user" in g else None


def shown_name() -> str | None:
    """The name of the user in the header; without a name, what they may do."""
    if user_name() == DEFAULT_NAME:
        return "Full access" if has_full_access() else "View only"
    return user_name()


def has_full_access() -> bool:
    """Return whether the user of this request may change anything."""
    return "user" in g and g.user.has_full_access


def requires_full_access(view: Callable[..., ResponseReturnValue]) -> Callable[..., ResponseReturnValue]:
    """Make a view answer 403, with the reason, to users with view-only access."""

    @wraps(view)
    def checked(**arguments: Any) -> ResponseReturnValue:
        if not has_full_access():
            raise Forbidden(VIEW_ONLY)
        return view(**arguments)

    return checked
