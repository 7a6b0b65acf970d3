"""What all routes of the REST API share: the account, the caller, and access to packages."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import NoReturn

from flask import g, request

from app.simulator.account import Account
from app.simulator.auth import Authenticator, Caller, Forbidden, Unauthorized
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
    def rng(self) -> Random:
        """The generator of the ids of what callers create."""
        return self.account.rest_ids

    @property
    def caller(self) -> Caller:
        """The authenticated caller of this request. Raises `Unauthorized` for a signer's session."""
        if "caller" not in g:
            raise Unauthorized
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

    def act(self, package_id: str, *actions: Action) -> Package:
        """Perform actions on a visible package, pass their events to `notify`, and return the changed package."""
        return self.act_on(package_id, lambda _: actions)

    def act_on(self, package_id: str, plan: Callable[[Package], Iterable[Action]]) -> Package:
        """Perform the actions that `plan` returns for a visible package, as `act` does."""
        self.package(package_id)
        return self.perform(package_id, plan)

    def perform(self, package_id: str, plan: Callable[[Package], Iterable[Action]]) -> Package:
        """Perform actions as `act_on` does, on a package that the caller of the function has checked."""
        self.notify(self.account.act_on(package_id, plan, now=self.clock()))
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
    body = json_body()
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    return body


def json_body() -> object:
    """Return the JSON in the request body or, as SDKs send it with files, in its part `payload`."""
    is_multipart = request.mimetype == "multipart/form-data"
    try:
        value = json.loads(_payload() if is_multipart else request.get_data(), parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # refuses what no answer could show again
    except (ValueError, RecursionError):
        raise BadRequest("the body must be JSON") from None
    return value


def files() -> list[bytes]:
    """Return the files that a multipart body carries beside its `payload`, in their order."""
    return [file.read() for name, file in request.files.items(multi=True) if name != "payload"]


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)


def _payload() -> str | bytes:
    file = request.files.get("payload")
    return file.read() if file else request.form.get("payload", "")
