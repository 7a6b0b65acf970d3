"""What all routes of the REST API share: the account, the caller, and access to packages."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

from flask import g, request

from app.simulator.account import Account
from app.simulator.auth import Authenticator, Caller, Forbidden
from app.simulator.packages import Action, Event, Package


class NotFound(Exception):
    """The account does not have the requested resource."""


class BadRequest(Exception):
    """The request cannot be read; the message names the invalid part."""


@dataclass(frozen=True)
class RouteContext:
    """The objects that all routes use. `notify` receives the events of actions over REST."""

    account: Account
    authenticator: Authenticator
    clock: Callable[[], datetime]
    notify: Callable[[Iterable[Event]], None]

    @property
    def caller(self) -> Caller:
        """The authenticated caller of this request."""
        return g.caller  # type: ignore[no-any-return]

    def package(self, package_id: str) -> Package:
        """Return the requested package.

        Raises `NotFound` if the package does not exist (any more), and `Forbidden` if the caller may not see it.
        """
        package = self.account.package(package_id)
        if request.method == "GET":
            package = self.account.shown_package(package_id, now=self.clock())
        if package is None:
            raise NotFound
        if not self.caller.may_read(package, self.authenticator.named_owners(request.args)):
            raise Forbidden
        if package.deleted:
            self._deny()
        return package

    def act(self, package_id: str, action: Action) -> Package:
        """Perform an action on a visible package, pass its events to `notify`, and return the changed package."""
        self.package(package_id)
        self.notify(self.account.act(package_id, action, now=self.clock()))
        after = self.account.package(package_id)
        assert after is not None
        return after

    def _deny(self) -> NoReturn:
        raise Forbidden if self.account.quirks.deleted_answer == "403" else NotFound


def index_of(ids: list[str], id_: str) -> int:
    """Return the index of an id in a list. Raises `NotFound` if the list does not contain the id."""
    if id_ not in ids:
        raise NotFound
    return ids.index(id_)


def json_object() -> dict[str, object]:
    """Return the JSON object in the request body. Raises `BadRequest` for any other body."""
    body = request.get_json(force=True, silent=True)
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    return body
