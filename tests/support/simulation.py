"""A whole installation in one process: an account at OneSpan, its callbacks, and the service, on one clock."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from random import Random
from typing import Any
from urllib.parse import parse_qsl, urlencode

from pydantic import SecretStr
from werkzeug.test import run_wsgi_app

from app import Service
from app.handling import Event, Handlers, Package
from app.simulator import callbacks
from app.simulator.account import Account
from app.simulator.actions import Action
from app.simulator.faults import Faults
from app.simulator.inprocess import InProcess
from app.simulator.people import Person
from app.simulator.server import api
from app.store import queries, reconciles
from app.work.reconcile import RunRequest
from config import Settings
from tests.conftest import Clock
from tests.support.comparison import differences

ADDRESS, API_KEY = "http://onespan.test", "the-api-key"
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
MAX_TURNS = 5_000  # more turns than any test needs, so that every loop ends


def with_onespan(settings: Settings) -> Settings:
    """Settings with the address of the simulated OneSpan and a key for it."""
    return settings.model_copy(update={"onespan_url": ADDRESS, "onespan_api_key": SecretStr(API_KEY)})


class Proxy:
    """An object that forwards to the present account, faults or clock of the simulated OneSpan."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def set_target(self, target: Any) -> None:
        """Replace the object to which the proxy forwards."""
        self._target = target

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def __call__(self) -> Any:
        """Return the time, if the proxy forwards to a clock."""
        return self._target()


class SimulatedOneSpan:
    """A simulated OneSpan that several simulations use in turn, because creating it takes longer than many tests."""

    def __init__(self, people: tuple[Person, ...]) -> None:
        self.people = people
        account = Account(1, packages=0)
        account.people = people
        self._proxies = [Proxy(account), Proxy(Faults(Random(0))), Proxy(Clock())]
        account, faults, clock = self._proxies
        self.app = api(account, api_key=API_KEY, clock=clock, faults=faults, sleep=lambda _: None)

    def set_target(self, account: Account, faults: Faults, clock: Callable[[], datetime]) -> None:
        """Use this account, these faults and this clock from now on."""
        account.people = self.people  # the same `Person` objects, because the API looks up its users in them
        for proxy, target in zip(self._proxies, (account, faults, clock), strict=True):
            proxy.set_target(target)


@cache
def simulated_onespan(people: tuple[Person, ...]) -> SimulatedOneSpan:
    """The simulated OneSpan for accounts with these people."""
    return SimulatedOneSpan(people)


@dataclass
class ChangedAnswer:
    """An answer of OneSpan that is changed on its way to the service."""

    status: str
    headers: dict[str, str]
    body: bytes


class Simulation:
    """An account and the service, with methods that simulate events. `handled` counts the catch-all handler's runs.

    OneSpan's clock is `skew` ahead of the service's clock.
    """

    skew = timedelta(0)

    def __init__(
        self,
        service: Service,
        post: Callable[[bytes], Any],
        *,
        handlers: Handlers,
        clock: Clock,
        account: Account | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.service, self.clock, self.handlers, self._post = service, clock, handlers, post
        self.handled: dict[str, Counter[str]] = {}
        self.happened: dict[str, Counter[str]] = {}
        self.requests: list[str] = []
        self.account = account or Account(1, packages=0)
        self.connect(self.account, faults)

        @handlers.on("*")
        def see(event: Event, package: Package) -> None:
            self.handled.setdefault(event.package_id, Counter())[event.name] += 1

    def connect(self, account: Account, faults: Faults | None = None) -> None:
        """Let the simulated OneSpan use this account."""
        self.account = account
        onespan = simulated_onespan(account.people)
        onespan.set_target(account, faults or Faults(Random(0)), self.onespan_now)

        def counted(environ: Any, start: Any) -> Any:
            self.requests.append(f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}")
            return onespan.app(environ, start)

        self.handlers.onespan._session.mount(ADDRESS, InProcess(counted))

    def onespan_now(self) -> datetime:
        """The time of OneSpan's clock."""
        return self.clock.now + self.skew

    def change_answers(self, change: Callable[[Any, ChangedAnswer], None]) -> None:
        """Call `change(environ, answer)` for each answer of OneSpan before the service gets the answer."""
        adapter = self.handlers.onespan._session.adapters[ADDRESS]
        whole = adapter._app

        def app(environ: Any, start: Any) -> Any:
            parts, status, headers = run_wsgi_app(whole, environ)
            answer = ChangedAnswer(status, dict(headers), b"".join(parts))
            change(environ, answer)
            answer.headers["Content-Length"] = str(len(answer.body))
            start(answer.status, list(answer.headers.items()))
            return [answer.body]

        adapter._app = app

    def refuse(
        self, path: str, *, status: str = "500 Internal Server Error", body: bytes = b"{}", **headers: str
    ) -> None:
        """Refuse requests for paths that end with `path`, query included."""

        def change(environ: Any, answer: ChangedAnswer) -> None:
            if f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}".rstrip("?").endswith(path):
                answer.status, answer.body = status, body
                answer.headers |= {name.replace("_", "-"): value for name, value in headers.items()}

        self.change_answers(change)

    def refuse_trash(self) -> list[bool]:
        """Refuse the list of packages in the trash until the returned list is emptied."""
        hides = [True]

        def change(environ: Any, answer: ChangedAnswer) -> None:
            if hides and "query=trashed" in environ["QUERY_STRING"] and "type" not in environ["QUERY_STRING"]:
                answer.status, answer.body = "403 Forbidden", b"{}"

        self.change_answers(change)
        return hides

    def hide_ids(self) -> list[str]:
        """Leave out the ids of the packages in the returned list, which is empty at first, from OneSpan's list."""
        hidden: list[str] = []

        def change(environ: Any, answer: ChangedAnswer) -> None:
            if environ["PATH_INFO"] == "/api/packages":
                page = json.loads(answer.body)
                for item in page["results"]:
                    if item["id"] in hidden:
                        del item["id"]
                answer.body = json.dumps(page).encode()

        self.change_answers(change)
        return hidden

    def arrange_list(self, arrange: Callable[[list[Any]], tuple[list[Any], int]]) -> None:
        """Let `arrange` order and count the packages of a folder before OneSpan cuts the list into pages."""
        adapter = self.handlers.onespan._session.adapters[ADDRESS]
        whole = adapter._app

        def app(environ: Any, start: Any) -> Any:
            if environ["PATH_INFO"] != "/api/packages":
                return whole(environ, start)
            query = dict(parse_qsl(environ["QUERY_STRING"]))
            first, last = int(query.pop("from")), int(query.pop("to"))
            self.requests.append(f"/api/packages?from={first}")
            everything = urlencode({**query, "from": 0, "to": 10**6})
            parts, status, headers = run_wsgi_app(whole, {**environ, "QUERY_STRING": everything})
            self.requests.pop()
            rows, count = arrange(json.loads(b"".join(parts))["results"])
            body = json.dumps({"count": count, "results": rows[first : last + 1]}).encode()
            start(status, [*((name, value) for name, value in headers if name != "Content-Length")])
            return [body]

        adapter._app = app

    def run_for(self, time: timedelta, *, every: timedelta = 5 * MINUTE) -> None:
        """Let time pass while all parts of the service take turns."""
        service = self.service
        for _ in range(int(time / every)):
            self.clock.forward(every)
            for _ in range(MAX_TURNS):
                if not any(
                    [service.reconcile.turn(), service.fetcher.turn(), service.digest.turn(), service.dispatcher.turn()]
                ):
                    break

    def step(self) -> list[bytes]:
        """Let a minute pass and the next event happen at OneSpan. Return the callbacks of that event."""
        self.clock.forward(MINUTE)
        return self._record(self.account.step(self.onespan_now()))

    def act(self, package_id: str, verb: str, **more: Any) -> list[bytes]:
        """Let a minute pass and perform one action at OneSpan. Return the callbacks of that action."""
        self.clock.forward(MINUTE)
        return self._record(self.account.act(package_id, Action(verb, **more), now=self.onespan_now()))

    def _record(self, events: Any) -> list[bytes]:
        for event in events:
            self.happened.setdefault(event.package_id, Counter())[event.name] += 1
        return [callbacks.body(event) for event in events]

    def post(self, *bodies: bytes) -> None:
        """Post these callbacks, and assert that each is answered 200."""
        for body in bodies:
            assert self._post(body).status_code == 200

    def live(self, *, drop: float, dice: Random) -> list[bytes]:
        """Simulate all packages of the account to their end. Return the callbacks that were lost."""
        lost = []
        while not self.account.is_over:
            for body in self.step():
                if dice.random() < drop:
                    lost.append(body)
                else:
                    self.post(body)
        return lost

    def settle(self) -> None:
        """Digest, run handlers and fetch packages until no work is left."""
        for _ in range(MAX_TURNS):
            self.clock.forward(3 * SECOND)
            service = self.service
            if not any([service.digest.turn(), service.dispatcher.turn(), service.fetcher.turn()]):
                assert service.dispatcher.handlers_done.wait(10)
                if not service.dispatcher.turn():
                    return
        raise AssertionError("the work never ends")

    def reconcile(self, asked: RunRequest | None = None) -> None:
        """Begin a reconcile run that is requested or due, and continue the run to its end."""
        if asked is not None:
            self.service.reconcile.begin(asked)
        for _ in range(MAX_TURNS):
            worked = self.service.reconcile.turn()
            self.settle()
            if not worked and not self.is_reconciling():
                return
        raise AssertionError("the run never ends")

    def is_reconciling(self) -> bool:
        """Whether a reconcile run is in progress."""
        with self.service.database.read() as connection:
            return reconciles.running(connection) is not None

    def stored_package(self, package_id: str) -> Package | None:
        """The package with this id in the status store, or None."""
        with self.service.database.read() as connection:
            return queries.packages(connection, [package_id]).get(package_id)

    def differences(self) -> list[str]:
        """The differences between the status store and OneSpan."""
        return [
            difference
            for actual in self.account.packages()
            for difference in differences(actual, self.stored_package(actual.id))
        ]
