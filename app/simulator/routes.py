"""What the routes of the REST API share: the account behind them, and who asks for what."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

from flask import g, request

from app.simulator.account import Account
from app.simulator.auth import Caller, Forbidden, Gate
from app.simulator.packages import Act, Event, Package


class NotFound(Exception):
    """There is no such thing in this account, or no more."""


class BadRequest(Exception):
    """The request cannot be read; the message says what of it."""


@dataclass(frozen=True)
class Desk:
    """Where requests are answered. `tell` is given the events of what callers do by hand."""

    account: Account
    gate: Gate
    clock: Callable[[], datetime]
    tell: Callable[[Iterable[Event]], None]

    @property
    def caller(self) -> Caller:
        """Who sends this request."""
        return g.caller  # type: ignore[no-any-return]

    def package(self, package_id: str) -> Package:
        """The package that is asked for.

        Raises `NotFound` where there is none (any more) and `Forbidden` where the caller may not see it.
        """
        package = self.account.package(package_id)
        if package is None:
            raise NotFound
        if not self.caller.may_read(package, self.gate.named(request.args)):
            raise Forbidden
        if package.deleted:
            self._deny()
        return package

    def act(self, package_id: str, act: Act) -> Package:
        """Do something to a package that the caller may see, tell of it, and return what it has become."""
        self.package(package_id)
        self.tell(self.account.act(package_id, act, now=self.clock()))
        after = self.account.package(package_id)
        assert after is not None
        return after

    def _deny(self) -> NoReturn:
        raise Forbidden if self.account.quirks.deleted_answer == "403" else NotFound


def place(ids: list[str], wanted: str) -> int:
    """Where one of these ids stands. Raises `NotFound` where it is none of them."""
    if wanted not in ids:
        raise NotFound
    return ids.index(wanted)


def members() -> dict[str, object]:
    """The JSON object that was sent. Raises `BadRequest` where none was."""
    shown = request.get_json(force=True, silent=True)
    if not isinstance(shown, dict):
        raise BadRequest("the body, which must be a JSON object,")
    return shown
