"""The service with its worker, and the simulated OneSpan that it asks: both in this process, both over HTTP."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
from flask import Flask, Response, request

from app import EXTENSION, Service, create_app, utc_now
from app.handling import Handlers
from app.simulator import callbacks
from app.simulator.account import Account
from app.simulator.actions import Act
from app.simulator.packages import Approval, Document, Event, Package, Role
from app.simulator.people import Person
from app.simulator.server import answering, api
from app.store import queries
from config import Settings
from tests.conftest import KEY, onespan_time
from tests.support.processes import until

API_KEY = "the-api-key"
CLEO = Person("cleo-the-sender", "Cleo", "Costa", "cleo@sender.example", "Blue Door Homes")
ADA = Person("ada-who-signs", "Ada", "Abel", "ada@signer.example", "")
BEN = Person("ben-who-declines", "Ben", "Brandt", "ben@signer.example", "")


@dataclass
class Installation:
    """A service that runs. `answered` is what it answered since: methods, paths and statuses.

    OneSpan answers nothing while `onespan_may_answer` is cleared.
    """

    settings: Settings
    handlers: Handlers
    account: Account
    clock: Callable[[], datetime] = utc_now
    answered: list[tuple[str, str, int]] = field(default_factory=list)
    onespan_may_answer: threading.Event = field(default_factory=threading.Event)
    address: str = ""

    @contextmanager
    def running(self) -> Iterator["Installation"]:
        """It runs while the block does; its first import has ended."""
        with ExitStack() as stack:
            onespan = self._onespan() if self.settings.onespan_url else None
            if onespan:
                address = stack.enter_context(answering(onespan, port=0))
                self.settings = self.settings.model_copy(update={"onespan_url": address})
            self.app = create_app(self.settings, handlers=self.handlers, clock=self.clock)
            self.app.after_request(self._note)
            self.service: Service = self.app.extensions[EXTENSION]
            stack.callback(self.service.database.close)
            self.come_back()
            stack.callback(self.go_away)
            self.service.presence.open_door()
            self.service.worker.start()
            stack.callback(self.service.worker.stop, grace=5)
            stack.callback(self.onespan_may_answer.set)
            if onespan:
                until(self.has_asked, what="the first import")
            yield self

    def come_back(self) -> None:
        """Answer, at the address where it was before."""
        self._door = ExitStack()
        port = int(self.address.rpartition(":")[2] or 0)
        self.address = self._door.enter_context(answering(self.app, port=port))

    def go_away(self) -> None:
        """Answer nobody any more."""
        self._door.close()

    def has_asked(self) -> bool:
        """Whether a run has ended and none is under way."""
        with self.service.database.read() as connection:
            runs = queries.run_page(connection, limit=1, before=None)
        return bool(runs) and runs[0].state != "running"

    def post(self, body: dict[str, Any] | bytes) -> int:
        """This comes in at the door; returns its status."""
        how: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        headers = {"Authorization": f"Basic {KEY}"}
        return requests.post(f"{self.address}/onespan/callback", headers=headers, timeout=10, **how).status_code

    def tell(self, name: str, *, package: str = "pkg-1", **members: Any) -> None:
        """OneSpan tells of an event."""
        told = {"name": name, "packageId": package, "sessionUser": CLEO.id, "createdDate": onespan_time(utc_now())}
        assert self.post(told | members) == 200

    def act(self, verb: str, *, package: str = "pkg-1", **more: Any) -> None:
        """Somebody does this at OneSpan, and all that OneSpan tells of it arrives."""
        for event in self.quietly(verb, package=package, **more):
            assert self.post(callbacks.body(event)) == 200

    def quietly(self, verb: str, *, package: str = "pkg-1", **more: Any) -> list[Event]:
        """Somebody does this at OneSpan, and none of the events arrives."""
        return self.account.act(package, Act(verb, **more), now=utc_now())

    def settled(self) -> None:
        """Wait until all that came in is digested and every function has done what it owes now."""
        until(self._is_settled, what="all is digested, and the functions have run")

    def _is_settled(self) -> bool:
        with self.service.database.read() as connection:
            pulse = queries.pulse(connection, now=utc_now())
        return not pulse.undigested and not pulse.dispatches["due"] and not pulse.dispatches["running"]

    def _onespan(self) -> Flask:
        self.onespan_may_answer.set()
        onespan = api(self.account, api_key=API_KEY, clock=utc_now)

        @onespan.before_request
        def wait() -> None:
            self.onespan_may_answer.wait(60)

        return onespan

    def _note(self, response: Response) -> Response:
        self.answered.append((request.method, request.path, response.status_code))
        return response


def lease(package_id: str = "pkg-1", **more: Any) -> Package:
    """Cleo has sent Ada and Ben, in this order, a lease to sign."""
    now = datetime.now(UTC) - timedelta(hours=1)
    roles = (Role("role-ada", 1, ADA), Role("role-ben", 2, BEN), Role("role-cleo", 3, CLEO, is_sender=True))
    document = Document("doc-1", "The lease", 3, (Approval("a-1", 0), Approval("a-2", 1)))
    told = {"name": "Lease of the mill", "status": "SENT", "due": now + timedelta(days=9)}
    kept = {"created": now, "updated": now, "autocomplete": True, "documents": (document,), "roles": roles}
    return Package(**{"id": package_id, "type": "PACKAGE", "sender": CLEO, **kept, **told, **more})


def account_with(packages: Iterable[Package]) -> Account:
    """An account that has just these."""
    return Account(0, packages=0).hold(packages)
