"""The service with its worker, and the simulated OneSpan. The test's process serves both over HTTP."""

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
from app.simulator.actions import Action
from app.simulator.packages import Approval, Document, Event, Package, Role
from app.simulator.people import Person
from app.simulator.server import api, serve_in_thread
from app.store import queries
from config import Settings
from tests.conftest import KEY, onespan_time
from tests.support.processes import until
from tests.support.simulated import API_KEY

CLEO = Person("cleo-the-sender", "Cleo", "Costa", "cleo@sender.example", "Blue Homes")
ADA = Person("ada-who-signs", "Ada", "Abel", "ada@signer.example", "")
BEN = Person("ben-who-declines", "Ben", "Brandt", "ben@signer.example", "")


@dataclass
class LiveService:
    """A running service. Its `responses` are the method, path and status of each response that it sent.

    The simulated OneSpan does not respond while `onespan_may_answer` is cleared.
    """

    settings: Settings
    handlers: Handlers
    account: Account
    clock: Callable[[], datetime] = utc_now
    responses: list[tuple[str, str, int]] = field(default_factory=list)
    onespan_may_answer: threading.Event = field(default_factory=threading.Event)
    address: str = ""

    @contextmanager
    def running(self) -> Iterator["LiveService"]:
        """Run the service during the `with` block, which begins after the first import from OneSpan."""
        with ExitStack() as stack:
            onespan = self._onespan() if self.settings.onespan_url else None
            if onespan:
                address = stack.enter_context(serve_in_thread(onespan, port=0))
                self.settings = self.settings.model_copy(update={"onespan_url": address})
            self.app = create_app(self.settings, handlers=self.handlers, clock=self.clock)
            self.app.after_request(self._record)
            self.service: Service = self.app.extensions[EXTENSION]
            stack.callback(self.service.database.close)
            self.start_server()
            stack.callback(self.stop_server)
            self.service.heartbeat.mark_as_receiver()
            self.service.worker.start()
            stack.callback(self.service.worker.stop, grace=5)
            stack.callback(self.onespan_may_answer.set)
            if onespan:
                until(self.has_imported, what="the first import")
            yield self

    def start_server(self) -> None:
        """Start the web server, or restart it at its old address."""
        self._server = ExitStack()
        port = int(self.address.rpartition(":")[2] or 0)
        self.address = self._server.enter_context(serve_in_thread(self.app, port=port))

    def stop_server(self) -> None:
        """Stop the web server."""
        self._server.close()

    def has_imported(self) -> bool:
        """Whether a reconcile run has ended and no reconcile run is running."""
        with self.service.database.read() as connection:
            runs = queries.run_page(connection, limit=1, before=None)
        return bool(runs) and runs[0].state != "running"

    def post(self, body: dict[str, Any] | bytes) -> int:
        """Post a callback. Returns the status of the response."""
        content: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
        headers = {"Authorization": f"Basic {KEY}"}
        return requests.post(f"{self.address}/onespan/callback", headers=headers, timeout=10, **content).status_code

    def callback(self, name: str, *, package: str = "pkg-1", **members: Any) -> None:
        """Post the callback of an event."""
        body = {"name": name, "packageId": package, "sessionUser": CLEO.id, "createdDate": onespan_time(utc_now())}
        assert self.post(body | members) == 200

    def act(self, verb: str, *, package: str = "pkg-1", **more: Any) -> None:
        """Do an action in the simulated OneSpan, and post all callbacks of the action."""
        for event in self.act_without_callbacks(verb, package=package, **more):
            assert self.post(callbacks.body(event)) == 200

    def act_without_callbacks(self, verb: str, *, package: str = "pkg-1", **more: Any) -> list[Event]:
        """Do an action in the simulated OneSpan, and lose its callbacks. Returns the action's events."""
        return self.account.act(package, Action(verb, **more), now=utc_now())

    def wait_until_idle(self) -> None:
        """Wait until all callbacks are digested and no handler run is due or running."""
        until(self._is_idle, what="digested callbacks and finished handler runs")

    def _is_idle(self) -> bool:
        with self.service.database.read() as connection:
            pulse = queries.pipeline_state(connection, now=utc_now())
        return not pulse.undigested and not pulse.dispatches["due"] and not pulse.dispatches["running"]

    def _onespan(self) -> Flask:
        self.onespan_may_answer.set()
        onespan = api(self.account, api_key=API_KEY, clock=utc_now)

        @onespan.before_request
        def wait() -> None:
            self.onespan_may_answer.wait(60)

        return onespan

    def _record(self, response: Response) -> Response:
        self.responses.append((request.method, request.path, response.status_code))
        return response


def lease(package_id: str = "pkg-1", **more: Any) -> Package:
    """A package with a lease that Cleo sent to Ada and Ben, who sign in this order."""
    now = datetime.now(UTC) - timedelta(hours=1)
    roles = (Role("role-ada", 1, ADA), Role("role-ben", 2, BEN), Role("role-cleo", 3, CLEO, is_sender=True))
    document = Document("doc-1", "The lease", 3, (Approval("a-1", 0), Approval("a-2", 1)))
    state = {"name": "Lease of the mill", "status": "SENT", "due": now + timedelta(days=9)}
    content = {"created": now, "updated": now, "autocomplete": True, "documents": (document,), "roles": roles}
    return Package(**{"id": package_id, "type": "PACKAGE", "sender": CLEO, **content, **state, **more})


def account_with(packages: Iterable[Package]) -> Account:
    """A simulated OneSpan account with these packages."""
    return Account(0, packages=0).load(packages)
