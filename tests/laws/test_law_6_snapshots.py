"""Law 6 for single fetches: a fetch finds facts that no callback reported; each handler gets each fact once."""

# ruff: noqa: PLR0917  (pytest passes fixtures by name)

import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from sqlalchemy import select

from app import Service
from app.handling import Event, Package, Signer
from app.onespan.auth import ApiConnection, ApiKey
from app.onespan.callbacks import Callback, parse_callback
from app.onespan.client import Answer
from app.onespan.confirmation import FoundEvent
from app.onespan.event_catalogue import CATALOGUE
from app.onespan.fetch_rules import fetch_reason
from app.simulator import callbacks
from app.simulator.account import Account
from app.simulator.actions import Action
from app.simulator.inprocess import InProcess
from app.simulator.packages import Event as OneSpanEvent
from app.simulator.server import api
from app.store import fetches
from app.store.models import Fetch
from app.work import fetch_failures
from tests.conftest import HOUR, NOON
from tests.support.simulation import ADDRESS, API_KEY, with_onespan

MINUTE = timedelta(minutes=1)
LATE = NOON + timedelta(days=60)


@pytest.fixture
def account(handlers, clock) -> Account:
    """A simulated account with one package, which the service can fetch."""
    account = Account(5, packages=1)
    app = api(account, api_key=API_KEY, clock=clock)
    handlers.onespan._session.mount(ADDRESS, InProcess(app))
    return account


@pytest.fixture
def settings(settings, account):
    """Settings with the address of the simulated OneSpan."""
    del account
    return with_onespan(settings)


@pytest.fixture
def handled(handlers) -> Counter[tuple[str, str | None, str | None]]:
    """How often the catch-all handler ran, by event, signer and document."""
    handled: Counter[tuple[str, str | None, str | None]] = Counter()

    @handlers.on("*")
    def count(event: Event, package: Package) -> None:
        if event.package_id != "before":
            handled[event.name, event.signer_id, event.document_id] += 1

    return handled


@pytest.fixture
def life(account, send_callback, work, clock) -> list[OneSpanEvent]:
    """All events of the package from its creation to its end, an hour after the service received its first callback."""
    send_callback("PACKAGE_CREATE", package="before", happened_at=None)
    work()
    clock.forward(HOUR)
    events: list[OneSpanEvent] = []
    while not account.is_over:
        clock.forward(MINUTE)
        events += account.step(clock.now)
    clock.forward(MINUTE)
    return events


@pytest.fixture
def fetch_all(service: Service, work, clock) -> Callable[[], None]:
    """Let time pass until all queued packages are fetched, and digest the snapshots."""

    def fetch_all() -> None:
        work()
        for _ in range(20):
            clock.forward(timedelta(seconds=5))
            if not service.fetcher.turn():
                return
            work()
        raise AssertionError("the fetch queue is never empty")

    return fetch_all


@pytest.fixture
def deliver(post) -> Callable[[OneSpanEvent], None]:
    """Post the callback of one event."""

    def deliver(event: OneSpanEvent) -> None:
        assert post(callbacks.body(event)).status_code == 200

    return deliver


def test_law_6_lost_facts_are_found_and_handled_once(account, life, deliver, fetch_all, handled, read):
    """If only the last callback of a package arrives, the next fetch finds the other facts in their order."""
    (package,) = account.packages()
    deliver(life[-1])
    fetch_all()

    events = [event for event in read("/api/events")["items"] if event["package_id"] == package.id]
    names = [event["name"] for event in reversed(events) if event["source"] == "reconcile"]
    assert Counter(names) == Counter(event.name for event in life[:-1] if CATALOGUE[event.name].in_snapshots)
    assert names[:2] == ["PACKAGE_CREATE", "PACKAGE_ACTIVATE"]
    assert set(handled.values()) == {1}
    assert read(f"/api/packages/{package.id}")["name"] == package.name


def test_law_6_callback_after_the_fetch_confirms_what_it_found(account, life, deliver, fetch_all, handled, read):
    """Callbacks that arrive after a fetch found their facts, in any order and twice, run no handler again."""
    deliver(life[-1])
    fetch_all()
    before, events = Counter(handled), len(read("/api/events", limit=200)["items"])

    for event in [*reversed(life), *life]:
        deliver(event)
    fetch_all()

    never = sum(not CATALOGUE[event.name].in_snapshots for event in life)
    assert Counter({key: times for key, times in handled.items() if CATALOGUE[key[0]].in_snapshots}) == before
    assert len(read("/api/events", limit=200)["items"]) == events + never
    (package,) = account.packages()
    activated = read("/api/events", name="PACKAGE_ACTIVATE", package=package.id)["items"]
    assert [(event["source"], len(event["callbacks"]), event["repeats"]) for event in activated] == [
        ("reconcile", 2, 1)
    ]


def test_law_6_reported_fact_is_not_found_again(life, deliver, fetch_all, handled, read, runner):
    """If every callback of a package arrived, a fetch finds no further event."""
    for event in life:
        deliver(event)
    fetch_all()

    assert {event["source"] for event in read("/api/events", limit=200)["items"]} == {"callback"}
    assert set(handled.values()) == {1}
    assert runner.invoke(args=["rebuild", "--check"]).exit_code == 0


def test_law_6_second_fact_of_the_same_name_is_a_fact_of_its_own(
    account, life, deliver, fetch_all, handled, clock, send_callback, read
):
    """After a fetch found a package in the trash, a callback about a second move to the trash is a new fact."""
    (package,) = account.packages()
    deliver(life[-1])
    fetch_all()
    account.act(package.id, Action("trash"), now=clock.now)
    clock.forward(MINUTE)
    send_callback(
        "COBROWSE_REQUEST", package=package.id, happened_at=clock.now, sessionUser="unknown", documentId="unknown"
    )
    fetch_all()
    assert _times(handled, "PACKAGE_TRASH") == 1

    for verb in ("restore", "trash"):
        clock.forward(MINUTE)
        for event in account.act(package.id, Action(verb), now=clock.now):
            deliver(event)
        fetch_all()

    assert (_times(handled, "PACKAGE_RESTORE"), _times(handled, "PACKAGE_TRASH")) == (1, 2)
    assert read(f"/api/packages/{package.id}")["trashed"] is True


def _times(handled: Counter[tuple[str, str | None, str | None]], name: str) -> int:
    return sum(times for (event_name, *_), times in handled.items() if event_name == name)


def test_deletion_is_accepted_with_credentials_that_read_the_package_before(
    account, life, deliver, fetch_all, handled, clock, read, send_callback
):
    """A 404 with credentials that read the package before means a deletion, and the handlers get the event."""
    (package,) = account.packages()
    deliver(life[-1])
    fetch_all()
    account.act(package.id, Action("delete"), now=clock.now)
    clock.forward(MINUTE)
    send_callback("PACKAGE_RESTORE", package=package.id, happened_at=clock.now)
    fetch_all()

    assert read(f"/api/packages/{package.id}")["deleted"] is True
    assert _times(handled, "PACKAGE_DELETE") == 1


def test_law_6_second_deletion_is_handled_after_the_first_was_found(
    account, life, deliver, fetch_all, handled, clock, read, send_callback, work
):
    """The callback of a second deletion does not confirm a deletion that a fetch found before the package came back."""
    (package,) = account.packages()
    deliver(life[-1])
    fetch_all()
    account.act(package.id, Action("delete"), now=clock.now)
    clock.forward(MINUTE)
    send_callback("PACKAGE_RESTORE", package=package.id, happened_at=clock.now)
    fetch_all()
    clock.forward(HOUR)
    send_callback("DOCUMENT_VIEWED", package=package.id, happened_at=clock.now)
    work()
    assert read(f"/api/packages/{package.id}")["deleted"] is False

    clock.forward(HOUR)
    send_callback("PACKAGE_DELETE", package=package.id, happened_at=clock.now)
    fetch_all()

    assert read(f"/api/packages/{package.id}")["deleted"] is True
    assert _times(handled, "PACKAGE_DELETE") == 2


def test_law_10_404_of_a_package_never_read_is_no_deletion(life, send_callback, fetch_all, handled, read):
    """A 404 for a package that was never read is no deletion: the package may belong to another account."""
    del life
    send_callback("PACKAGE_COMPLETE", package="of-another-account")
    fetch_all()

    assert read("/api/packages/of-another-account")["deleted"] is False
    assert not [name for name, *_ in handled if name == "PACKAGE_DELETE"]


@pytest.mark.parametrize("other", ["another-key", ""])
def test_law_10_refused_fetch_is_no_deletion(
    other, account, life, deliver, fetch_all, handlers, clock, send_callback, read
):
    """A fetch with other or invalid credentials is no proof that a package was deleted."""
    (package,) = account.packages()
    deliver(life[-1])
    fetch_all()
    account.act(package.id, Action("delete"), now=clock.now)
    handlers.onespan.connect(ApiConnection(ADDRESS, ApiKey(other)))
    send_callback("PACKAGE_RESTORE", package=package.id, happened_at=clock.now)
    fetch_all()

    assert read(f"/api/packages/{package.id}")["deleted"] is False


def test_unavailable_onespan_is_asked_again_with_increasing_waits(
    account, life, deliver, fetch_all, work, clock, read, service, handlers
):
    """While OneSpan is unavailable, a package stays in the fetch queue, and the service sends few requests."""
    (package,) = account.packages()
    handlers.onespan.connect(ApiConnection("http://127.0.0.1:1", ApiKey(API_KEY)))
    deliver(life[-1])
    work()
    requests = 0
    for _ in range(60):
        clock.forward(timedelta(seconds=10))
        requests += service.fetcher.turn()
    assert 2 < requests < 8

    handlers.onespan.connect(ApiConnection(ADDRESS, ApiKey(API_KEY)))
    clock.forward(fetch_failures.FETCH_RETRY_DELAYS[-1])
    fetch_all()
    assert read(f"/api/packages/{package.id}")["name"] == package.name


def test_package_queued_during_its_fetch_is_fetched_again(
    account, life, deliver, fetch_all, work, clock, service, handlers
):
    """A callback during a fetch queues the package again: the answer may be older than the reported fact."""
    (package,) = account.packages()
    deliver(life[-1])
    work()
    fetched, fetch = [], handlers.onespan.package

    def fetch_with_callback(package_id: str) -> Any:
        answer = fetch(package_id)
        if not fetched:
            clock.forward(timedelta(seconds=1))
            deliver(life[0])
            service.digest.turn()
        fetched.append(package_id)
        return answer

    handlers.onespan.package = fetch_with_callback
    fetch_all()

    assert fetched == [package.id] * 2


def test_nothing_is_queued_without_onespan(send_callback, work, service):
    """Without a connection to OneSpan no fetch is queued, because its row would wait for ever."""
    service.digest._can_fetch = False
    send_callback("PACKAGE_CREATE")
    work()

    assert service.fetcher.turn() is False


def test_expected_callbacks_cause_no_fetch(life, deliver, fetch_all, work, clock, service):
    """Callbacks about views and signatures of known people cause no fetch."""
    for event in life:
        deliver(event)
    fetch_all()
    for _ in range(2):
        clock.forward(MINUTE)
        fetch_all()  # repeated until the service accepts that the package "before" does not exist
    known = next(event for event in life if event.name == "DOCUMENT_SIGNED")
    deliver(type(known)(**{**_fields(known), "name": "DOCUMENT_VIEWED", "at": clock.now}))
    work()
    clock.forward(MINUTE)

    assert service.fetcher.turn() is False


@pytest.mark.parametrize(
    ("name", "message", "trashed", "reason"),
    [
        ("PACKAGE_RESTORE", None, True, None),
        ("PACKAGE_RESTORE", None, False, "structure"),  # the package was not in the trash before
        ("PACKAGE_ATTACHMENT", "passport", False, None),
        ("PACKAGE_ATTACHMENT", None, False, "structure"),
    ],
)
def test_complete_callback_needs_no_fetch(name, message, trashed, reason):
    """A callback causes a fetch of a known package only if its effect on the package is incomplete."""
    callback = Callback(name, "pkg-1", "ada", None, message, NOON, {})
    known = Package("pkg-1", status="SENT", trashed=trashed, signers=(Signer("ada"),), read_at=NOON - HOUR)

    assert fetch_reason(callback, before=known, after=replace(known, trashed=False)) == reason


def _fields(event: OneSpanEvent) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__dataclass_fields__}


@pytest.mark.parametrize("answered", [[], {}, {"id": 7}, {"id": "another", "status": "SENT"}, "text", None])
def test_answer_about_something_else_is_ignored(answered, life, deliver, fetch_all, handlers, read, service, clock):
    """An answer that is not the requested package is ignored, and the package is requested again later."""
    handlers.onespan.package = lambda _: Answer(answered, json.dumps(answered).encode(), clock.now, clock.now)
    deliver(life[-1])
    fetch_all()

    packages = {package["id"]: package for package in read("/api/packages")["items"]}
    assert set(packages) == {"before", life[-1].package_id}
    assert packages[life[-1].package_id]["read_at"] is None
    with service.database.read() as connection:
        assert connection.scalar(select(Fetch.attempts).where(Fetch.package_id == life[-1].package_id)) >= 1


def test_law_9_only_one_of_many_takes_a_fetch(life, deliver, work, service, clock):
    """If six threads try to take one queued fetch at the same time, exactly one thread gets the fetch."""
    deliver(life[-1])
    work()
    clock.forward(MINUTE)
    start = threading.Barrier(6)

    def take(number: int) -> Any:
        start.wait(10)
        with service.database.write() as connection:
            return fetches.take(connection, life[-1].package_id, now=clock.now, lease=MINUTE, process=str(number))

    with ThreadPoolExecutor(6) as pool:
        taken = [row for row in pool.map(take, range(6)) if row]

    assert [(row.attempt, row.fence) for row in taken] == [(1, 1)]


def test_law_6_each_attachment_is_confirmed_by_its_own_callback():
    """A callback confirms only the attachment that it names: two attachments of one signer are two facts."""
    found = FoundEvent(1, "pkg-1", "PACKAGE_ATTACHMENT", "ada", None, "visa", {}, NOON, NOON - HOUR, NOON)

    def confirms(message: str, **members: Any) -> bool:
        body = {"name": "PACKAGE_ATTACHMENT", "packageId": "pkg-1", "sessionUser": "ada", "message": message, **members}
        callback = parse_callback(json.dumps(body).encode())
        return found.is_reported_by(callback, who={"ada"}, happened_at=callback.happened_at or LATE)

    at = (NOON - HOUR / 2).isoformat()
    assert confirms("visa", createdDate=at)
    assert not confirms("passport", createdDate=at)
    assert not confirms("visa")  # a callback without a date that arrives two months later


def test_law_5_snapshot_from_the_future_is_dated_at_its_arrival(
    account, life, deliver, fetch_all, handlers, clock, read
):
    """A snapshot with a `Date` header in the future is dated at its arrival, so as not to outrank later snapshots."""
    (package,) = account.packages()

    def date_tomorrow(answer: Any, **_: Any) -> None:
        answer.headers["Date"] = format_datetime(clock.now + 24 * HOUR, usegmt=True)

    handlers.onespan._session.hooks["response"].append(date_tomorrow)
    deliver(life[-1])
    fetch_all()

    assert datetime.fromisoformat(read(f"/api/packages/{package.id}")["read_at"]) <= clock.now
