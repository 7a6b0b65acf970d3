"""Small histories of one package: what OneSpan shows, which callbacks it sends, and what must come of both.

A history uses the real service with a controlled clock, and a small OneSpan whose API may lag its own callbacks.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from email.utils import format_datetime
from itertools import cycle
from typing import Any
from urllib.parse import parse_qs
from wsgiref.types import StartResponse, WSGIEnvironment

from flask.testing import FlaskClient
from sqlalchemy import func, select

from app import Service
from app.handling import Event, Handlers, Package
from app.simulator.inprocess import InProcess
from app.store import queries, reconciles
from app.store.models import Fetch
from app.work.reconcile import RunRequest
from tests.conftest import CLEO, NOON, TOKEN, Clock, onespan_time
from tests.support.fixtures import CONTRACT, JSON, approval, document, package, person, role
from tests.support.simulation import ADDRESS

PACKAGE = "pkg-1"
BEFORE = onespan_time(NOON - timedelta(days=1))  # when OneSpan last updated a package before its history begins


class FakeOneSpan:
    """OneSpan's REST API over a clock. It shows each package as it was some time ago, by the next of `lags`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._shown: dict[str, list[tuple[datetime, JSON | None]]] = {}
        self.requests = 0
        self.set_lags(0)

    def set_lags(self, *seconds: int) -> None:
        """Let the servers that answer in turn lag by this number of seconds."""
        self._lags = cycle(seconds)

    def show(self, package_id: str, shown: JSON | None) -> None:
        """Show this package from now on, or no package."""
        self._shown.setdefault(package_id, []).append((self._clock.now, shown))

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Answer a request for one package, or for the list of packages."""
        self.requests += 1
        at = self._clock.now - timedelta(seconds=next(self._lags))
        _, _, package_id = environ["PATH_INFO"].removeprefix("/api/packages").partition("/")
        answer = self._package(package_id, at) if package_id else self._page(parse_qs(environ["QUERY_STRING"]), at)
        missing = {"code": 404, "messageKey": "error.notFound", "message": "The package does not exist."}
        date = format_datetime(self._clock.now, usegmt=True)
        status = "200 OK" if answer is not None else "404 Not Found"
        start(status, [("Content-Type", "application/json"), ("Date", date)])
        return [json.dumps(missing if answer is None else answer).encode()]

    def _package(self, package_id: str, at: datetime) -> JSON | None:
        states = self._shown.get(package_id, [])
        return next((shown for since, shown in reversed(states) if since <= at), states[0][1] if states else None)

    def _page(self, query: dict[str, list[str]], at: datetime) -> JSON:
        is_trash, is_first = query.get("query") == ["trashed"], query.get("from", ["0"])[0] in {"0", "1"}
        found = [shown for package_id in self._shown if (shown := self._package(package_id, at))]
        items = [shown for shown in found if shown["trashed"] is is_trash and "type" not in query]
        return {"count": len(items), "results": items if is_first else []}


class History:
    """The history of one package. `runs` counts the runs of the catch-all handler by event."""

    def __init__(
        self, service: Service, client: FlaskClient, post: Callable[..., Any], *, handlers: Handlers, clock: Clock
    ) -> None:
        self._service, self._client, self._post, self._clock = service, client, post, clock
        self.onespan = FakeOneSpan(clock)
        self.runs: Counter[str] = Counter()
        handlers.onespan._session.mount(ADDRESS, InProcess(self.onespan))

        @handlers.on("*")
        def count(event: Event, package: Package) -> None:
            self.runs[event.name] += 1

    @property
    def now(self) -> datetime:
        """The time of the clock."""
        return self._clock.now

    def ago(self, seconds: float) -> datetime:
        """Return the time this many seconds ago."""
        return self.now - timedelta(seconds=seconds)

    def serve(self, shown: JSON | None) -> None:
        """Let OneSpan show this package from now on, or answer 404."""
        self.onespan.show(PACKAGE, shown)

    def serve_changed(self, shown: JSON) -> None:
        """Let OneSpan show this package as updated now."""
        self.serve({**shown, "updated": onespan_time(self.now)})

    def callback(self, name: str, who: str | None = CLEO, *, at: datetime | None = None, **members: Any) -> None:
        """Post a callback that is dated `at`, by default now."""
        body = {"name": name, "packageId": PACKAGE, "sessionUser": who, "message": None, "documentId": None}
        answer = self._post({**body, "createdDate": onespan_time(at or self.now), **members})
        assert answer.status_code == 200, answer.text

    def callbacks(self, *names: str, who: str, document_id: str = CONTRACT) -> None:
        """Post callbacks of one signer that are dated now. A signature is one of this document."""
        for name in names:
            self.callback(name, who, documentId=document_id if name == "DOCUMENT_SIGNED" else None)

    def fetch(self) -> None:
        """Refresh the package from OneSpan, and let three seconds pass."""
        self.fetch_now()
        self.wait(3)

    def fetch_now(self) -> None:
        """Refresh the package from OneSpan."""
        self._settle()
        answer = self._client.post(f"/api/packages/{PACKAGE}/read", headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 202, answer.text
        self._settle()

    def reconcile(self) -> None:
        """Reconcile with OneSpan."""
        self._settle()
        self._service.reconcile.begin(RunRequest())
        for _ in range(100):
            self._service.reconcile.turn()
            self.wait(1)
            with self._service.database.read() as connection:
                if reconciles.running(connection) is None:
                    return
        raise AssertionError("the run never ends")

    def wait(self, seconds: int) -> None:
        """Move the clock to each due fetch, and then to the end of this time."""
        until = self.now + timedelta(seconds=seconds)
        self._settle()
        while self.now < until:
            with self._service.database.read() as connection:
                due_at = connection.scalar(select(func.min(Fetch.due_at)))
            self._clock.now = min(until, due_at or until)
            self._settle()

    def _settle(self) -> None:
        """Digest, run handlers and fetch packages until no work is due."""
        for _ in range(1000):
            worked = [self._service.digest.turn(), self._service.dispatcher.turn(), self._service.fetcher.turn()]
            assert self._service.dispatcher.handlers_done.wait(10)
            if not any(worked) and not self._service.dispatcher.turn():
                return
        raise AssertionError("the work never ends")

    @property
    def package(self) -> Package:
        """The package in the status store."""
        self._settle()
        with self._service.database.read() as connection:
            return queries.packages(connection, [PACKAGE])[PACKAGE]

    @property
    def attention(self) -> list[str]:
        """The attention reasons of the package."""
        return [attention.reason for attention in self.package.attention]

    @property
    def statuses(self) -> dict[str, str | None]:
        """The status of each signer."""
        return {signer.id: signer.status for signer in self.package.signers}

    @property
    def events(self) -> Counter[str]:
        """The number of events by name."""
        self._settle()
        found = self._client.get(
            "/api/events", query_string={"package": PACKAGE}, headers={"Authorization": f"Bearer {TOKEN}"}
        )
        return Counter(item["name"] for item in found.json["items"])


def block(role_id: str, signed: datetime | None = None, *, field: str = "SIGNATURE", **members: Any) -> JSON:
    """A signature block of a role in a document. The signer clicked it when it was signed, unless `accepted` is given.

    `accepted` may be a time; all other `members` are as in JSON.
    """
    accepted = members.pop("accepted", signed)
    fields = [{"id": f"field-of-{role_id}", "type": field, "subtype": "FULLNAME"}]
    return {**approval(role_id, signed=signed, accepted=accepted), "fields": fields, **members}


def seat(signer_id: str, *, index: int = 1, **members: Any) -> JSON:
    """A role with one person. The role and the person have the same id."""
    return role(signer_id, signer_id, index=index, **members)


def group(group_id: str, *members: str, index: int = 1, kind: str = "GROUP_SIGNER") -> JSON:
    """A role whose signer is a group of these members."""
    listed = [{"memberType": "REGULAR", "userId": member} for member in members]
    address = f"{group_id}@adhoc.groups.e-signlive.com"
    signs = {**person(group_id), "email": address, "signerType": kind, "group": {"name": "Board", "members": listed}}
    return role(group_id, group_id, index=index, signers=[signs])


def shown(roles: Sequence[JSON], *blocks: JSON, status: str = "SENT", **members: Any) -> JSON:
    """A package with these roles and one contract with these signature blocks, or with the given documents."""
    parts = {"roles": list(roles), "documents": [document(CONTRACT, blocks)]}
    return package(status, package_id=PACKAGE, **{**parts, "created": BEFORE, "updated": BEFORE, **members})
