"""A whole world in one process: an account at OneSpan, its post, and the service, on one clock."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
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
from app.simulator.actions import Act
from app.simulator.faults import Faults
from app.simulator.inprocess import InProcess
from app.simulator.people import Person
from app.simulator.server import api
from app.store import queries, reconciles
from app.work.reconcile import Asked
from config import Settings
from tests.conftest import Clock
from tests.support.comparison import differences

ADDRESS, API_KEY = "http://onespan.test", "the-api-key"
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
TURNS = 5_000  # more than any test needs; so that none runs for ever


def knowing_onespan(settings: Settings) -> Settings:
    """The same, for a service that knows where OneSpan is."""
    return settings.model_copy(update={"onespan_url": ADDRESS, "onespan_api_key": SecretStr(API_KEY)})


class Standin:
    """Stands before the API for whatever account, faults or clock are OneSpan's at the moment."""

    def __init__(self, it: Any) -> None:
        self._it = it

    def is_now(self, it: Any) -> None:
        """From now on."""
        self._it = it

    def __getattr__(self, name: str) -> Any:
        return getattr(self._it, name)

    def __call__(self) -> Any:
        """As a clock."""
        return self._it()


class Simulated:
    """A OneSpan for one world after another; to make one takes longer than what many tests ask of it."""

    def __init__(self, people: tuple[Person, ...]) -> None:
        self.people = people
        account = Account(1, packages=0)
        account.people = people
        self._now = [Standin(account), Standin(Faults(Random(0))), Standin(Clock())]
        account, faults, clock = self._now
        self.app = api(account, api_key=API_KEY, clock=clock, faults=faults, sleep=lambda _: None)

    def is_now(self, account: Account, faults: Faults, clock: Clock) -> None:
        """From now on, with these."""
        account.people = self.people  # these very ones, for there the API looks who asks
        for standin, it in zip(self._now, (account, faults, clock), strict=True):
            standin.is_now(it)


@cache
def simulated(people: tuple[Person, ...]) -> Simulated:
    """The one for accounts of these people."""
    return Simulated(people)


@dataclass
class Spoilt:
    """An answer of OneSpan's that something happens to on its way."""

    status: str
    headers: dict[str, str]
    body: bytes


class World:
    """What there is, and ways to let things happen in it. `told` counts what the handler for all events was told."""

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
        self.told: dict[str, Counter[str]] = {}
        self.happened: dict[str, Counter[str]] = {}
        self.asked: list[str] = []
        self.account = account or Account(1, packages=0)
        self.connect(self.account, faults)

        @handlers.on("*")
        def see(event: Event, package: Package) -> None:
            self.told.setdefault(event.package_id, Counter())[event.name] += 1

    def connect(self, account: Account, faults: Faults | None = None) -> None:
        """From now on this account is OneSpan."""
        self.account = account
        onespan = simulated(account.people)
        onespan.is_now(account, faults or Faults(Random(0)), self.clock)

        def counted(environ: Any, start: Any) -> Any:
            self.asked.append(f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}")
            return onespan.app(environ, start)

        self.handlers.onespan._session.mount(ADDRESS, InProcess(counted))

    def spoil(self, change: Callable[[Any, Spoilt], None]) -> None:
        """From now on OneSpan's answers are changed on their way to us: `change(environ, answer)`."""
        adapter = self.handlers.onespan._session.adapters[ADDRESS]
        whole = adapter._app

        def app(environ: Any, start: Any) -> Any:
            parts, status, headers = run_wsgi_app(whole, environ)
            answer = Spoilt(status, dict(headers), b"".join(parts))
            change(environ, answer)
            answer.headers["Content-Length"] = str(len(answer.body))
            start(answer.status, list(answer.headers.items()))
            return [answer.body]

        adapter._app = app

    def refuse(
        self, path: str, *, status: str = "500 Internal Server Error", body: bytes = b"{}", **headers: str
    ) -> None:
        """From now on whoever asks for a path that ends like this, with its query, is refused."""

        def change(environ: Any, answer: Spoilt) -> None:
            if f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}".rstrip("?").endswith(path):
                answer.status, answer.body = status, body
                answer.headers |= {name.replace("_", "-"): value for name, value in headers.items()}

        self.spoil(change)

    def refuse_trash(self) -> list[bool]:
        """Packages in the trash are refused us for as long as there is something in the list that this returns."""
        hides = [True]

        def change(environ: Any, answer: Spoilt) -> None:
            if hides and "query=trashed" in environ["QUERY_STRING"] and "type" not in environ["QUERY_STRING"]:
                answer.status, answer.body = "403 Forbidden", b"{}"

        self.spoil(change)
        return hides

    def list_as(self, arrange: Callable[[list[Any]], tuple[list[Any], int]]) -> None:
        """From now on a folder of the list is arranged and counted like this before it is cut into pages."""
        adapter = self.handlers.onespan._session.adapters[ADDRESS]
        whole = adapter._app

        def app(environ: Any, start: Any) -> Any:
            if environ["PATH_INFO"] != "/api/packages":
                return whole(environ, start)
            asked = dict(parse_qsl(environ["QUERY_STRING"]))
            first, last = int(asked.pop("from")), int(asked.pop("to"))
            self.asked.append(f"/api/packages?from={first}")
            everything = urlencode({**asked, "from": 0, "to": 10**6})
            parts, status, headers = run_wsgi_app(whole, {**environ, "QUERY_STRING": everything})
            self.asked.pop()
            rows, count = arrange(json.loads(b"".join(parts))["results"])
            body = json.dumps({"count": count, "results": rows[first : last + 1]}).encode()
            start(status, [*((name, value) for name, value in headers if name != "Content-Length")])
            return [body]

        adapter._app = app

    def live_on(self, time: timedelta, *, every: timedelta = 5 * MINUTE) -> None:
        """Time goes by, and everybody takes turns."""
        service = self.service
        for _ in range(int(time / every)):
            self.clock.forward(every)
            for _ in range(TURNS):
                if not any(
                    [service.reconcile.turn(), service.refresh.turn(), service.digest.turn(), service.dispatcher.turn()]
                ):
                    break

    def step(self) -> list[bytes]:
        """Let one thing happen at OneSpan, a minute later; what it tells of it."""
        self.clock.forward(MINUTE)
        return self._noted(self.account.step(self.clock.now))

    def act(self, package_id: str, verb: str, **more: Any) -> list[bytes]:
        """Let somebody do something by hand, a minute later; what OneSpan tells of it."""
        self.clock.forward(MINUTE)
        return self._noted(self.account.act(package_id, Act(verb, **more), now=self.clock.now))

    def _noted(self, events: Any) -> list[bytes]:
        for event in events:
            self.happened.setdefault(event.package_id, Counter())[event.name] += 1
        return [callbacks.body(event) for event in events]

    def post(self, *bodies: bytes) -> None:
        """These callbacks come in."""
        for body in bodies:
            assert self._post(body).status_code == 200

    def live(self, *, drop: float, dice: Random) -> list[bytes]:
        """All that is still before the account happens; returns the callbacks that were lost."""
        lost = []
        while not self.account.is_over:
            for body in self.step():
                if dice.random() < drop:
                    lost.append(body)
                else:
                    self.post(body)
        return lost

    def settle(self) -> None:
        """Digest, run handlers and read what is wanted, until there is nothing left to do."""
        for _ in range(TURNS):
            self.clock.forward(3 * SECOND)
            service = self.service
            if not any([service.digest.turn(), service.dispatcher.turn(), service.refresh.turn()]):
                assert service.dispatcher.quiet.wait(10)
                if not service.dispatcher.turn():
                    return
        raise AssertionError("there is always more to do")

    def reconcile(self, asked: Asked | None = None) -> None:
        """Let a run begin, if it is asked for or due, and go on to its end."""
        if asked is not None:
            self.service.reconcile.begin(asked)
        for _ in range(TURNS):
            worked = self.service.reconcile.turn()
            self.settle()
            if not worked and not self.is_reconciling():
                return
        raise AssertionError("the run never ends")

    def is_reconciling(self) -> bool:
        """Whether a run is under way."""
        with self.service.database.read() as connection:
            return reconciles.running(connection) is not None

    def picture(self, package_id: str) -> Package | None:
        """What is believed of it."""
        with self.service.database.read() as connection:
            return queries.packages(connection, [package_id]).get(package_id)

    def differences(self) -> list[str]:
        """Where the picture is not OneSpan's truth."""
        return [one for truth in self.account.packages() for one in differences(truth, self.picture(truth.id))]
