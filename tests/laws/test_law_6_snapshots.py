"""Law 6, as far as single reads go: what no callback told is found by reading, and told once to every handler."""

# ruff: noqa: PLR0917  (fixtures come by their names)

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
from app.onespan.auth import ApiKey, Connection
from app.onespan.callbacks import Callback, read_callback
from app.onespan.client import Answer
from app.onespan.fetch_rules import surprise
from app.onespan.findings import NEVER_FOUND
from app.simulator import callbacks
from app.simulator.account import Account
from app.simulator.actions import Act
from app.simulator.inprocess import InProcess
from app.simulator.packages import Event as ToldByOneSpan
from app.simulator.server import api
from app.store import fetches
from app.store.events import Unconfirmed
from app.store.models import Read
from app.work import snapshots
from tests.conftest import HOUR, NOON
from tests.support.simulation import ADDRESS, API_KEY, knowing_onespan

MINUTE = timedelta(minutes=1)
LATE = NOON + timedelta(days=60)


@pytest.fixture
def account(handlers, clock) -> Account:
    """An account of one package that lives its whole life; the service may ask for it."""
    account = Account(5, packages=1)
    app = api(account, api_key=API_KEY, clock=clock)
    handlers.onespan._session.mount(ADDRESS, InProcess(app))
    return account


@pytest.fixture
def settings(settings, account):
    """The service knows where OneSpan is."""
    del account
    return knowing_onespan(settings)


@pytest.fixture
def told(handlers) -> Counter[tuple[str, str | None, str | None]]:
    """What the handler of everything was told, and how often."""
    told: Counter[tuple[str, str | None, str | None]] = Counter()

    @handlers.on("*")
    def see(event: Event, package: Package) -> None:
        if event.package_id != "before":
            told[event.name, event.signer_id, event.document_id] += 1

    return told


@pytest.fixture
def life(account, tell, work, clock) -> list[ToldByOneSpan]:
    """All that OneSpan tells of the package, from birth to the end; we listen since an hour before."""
    tell("PACKAGE_CREATE", package="before", happened_at=None)
    work()
    clock.forward(HOUR)
    told: list[ToldByOneSpan] = []
    while not account.is_over:
        clock.forward(MINUTE)
        told += account.step(clock.now)
    clock.forward(MINUTE)
    return told


@pytest.fixture
def ask(service: Service, work, clock) -> Callable[[], None]:
    """Let time pass until all that is wanted was read, and digest it."""

    def ask() -> None:
        work()
        for _ in range(20):
            clock.forward(timedelta(seconds=5))
            if not service.refresh.turn():
                return
            work()
        raise AssertionError("there is always more to read")

    return ask


@pytest.fixture
def hear(post) -> Callable[[ToldByOneSpan], None]:
    """Post one callback."""

    def hear(event: ToldByOneSpan) -> None:
        assert post(callbacks.body(event)).status_code == 200

    return hear


def test_law_6_what_was_lost_is_found_and_told_once(account, life, hear, ask, told, read):
    """Only the last callback came: the read that it causes finds all the others, in their order."""
    (package,) = account.packages()
    hear(life[-1])
    ask()

    events = [one for one in read("/api/events")["items"] if one["package_id"] == package.id]
    names = [one["name"] for one in reversed(events) if one["source"] == "reconcile"]
    assert Counter(names) == Counter(one.name for one in life[:-1] if one.name not in NEVER_FOUND)
    assert names[:2] == ["PACKAGE_CREATE", "PACKAGE_ACTIVATE"]
    assert set(told.values()) == {1}
    assert read(f"/api/packages/{package.id}")["name"] == package.name


def test_law_6_what_comes_after_it_was_found_confirms_it(account, life, hear, ask, told, read):
    """Late, in any order, and twice: not a handler runs again, not an event is new."""
    hear(life[-1])
    ask()
    before, events = Counter(told), len(read("/api/events", limit=200)["items"])

    for event in [*reversed(life), *life]:
        hear(event)
    ask()

    never = sum(one.name in NEVER_FOUND for one in life)
    assert Counter({key: times for key, times in told.items() if key[0] not in NEVER_FOUND}) == before
    assert len(read("/api/events", limit=200)["items"]) == events + never
    (package,) = account.packages()
    activated = read("/api/events", name="PACKAGE_ACTIVATE", package=package.id)["items"]
    assert [(one["source"], len(one["callbacks"]), one["repeats"]) for one in activated] == [("reconcile", 2, 1)]


def test_law_6_what_was_told_is_not_found(life, hear, ask, told, read, runner):
    """Every callback came: a read finds nothing, whatever surprised us."""
    for event in life:
        hear(event)
    ask()

    assert {one["source"] for one in read("/api/events", limit=200)["items"]} == {"callback"}
    assert set(told.values()) == {1}
    assert runner.invoke(args=["rebuild", "--check"]).exit_code == 0


def test_law_6_a_second_fact_of_the_same_name_is_one_of_its_own(account, life, hear, ask, told, clock, tell, read):
    """Trashed without a word and found so, restored, and trashed again: the callback tells of the second time."""
    (package,) = account.packages()
    hear(life[-1])
    ask()
    account.act(package.id, Act("trash"), now=clock.now)
    clock.forward(MINUTE)
    tell("COBROWSE_REQUEST", package=package.id, happened_at=clock.now, sessionUser="somebody", documentId="unknown")
    ask()
    assert _times(told, "PACKAGE_TRASH") == 1

    for verb in ("restore", "trash"):
        clock.forward(MINUTE)
        for event in account.act(package.id, Act(verb), now=clock.now):
            hear(event)
        ask()

    assert (_times(told, "PACKAGE_RESTORE"), _times(told, "PACKAGE_TRASH")) == (1, 2)
    assert read(f"/api/packages/{package.id}")["trashed"] is True


def _times(told: Counter[tuple[str, str | None, str | None]], name: str) -> int:
    return sum(times for (told_name, *_), times in told.items() if told_name == name)


def test_a_deletion_is_believed_of_those_who_have_read_before(account, life, hear, ask, told, clock, read, tell):
    """404 to the same credentials: it is gone, and the handlers hear so."""
    (package,) = account.packages()
    hear(life[-1])
    ask()
    account.act(package.id, Act("delete"), now=clock.now)
    clock.forward(MINUTE)
    tell("PACKAGE_RESTORE", package=package.id, happened_at=clock.now)
    ask()

    assert read(f"/api/packages/{package.id}")["deleted"] is True
    assert _times(told, "PACKAGE_DELETE") == 1


def test_law_10_a_404_of_what_was_never_read_is_no_deletion(life, tell, ask, told, read):
    """It may be another's."""
    del life
    tell("PACKAGE_COMPLETE", package="of-somebody-else")
    ask()

    assert read("/api/packages/of-somebody-else")["deleted"] is False
    assert not [name for name, *_ in told if name == "PACKAGE_DELETE"]


@pytest.mark.parametrize("other", ["another-key", ""])
def test_law_10_a_refusal_is_no_deletion(other, account, life, hear, ask, handlers, clock, tell, read):
    """Other credentials, or none that fit: nothing is known of the package."""
    (package,) = account.packages()
    hear(life[-1])
    ask()
    account.act(package.id, Act("delete"), now=clock.now)
    handlers.onespan.connect(Connection(ADDRESS, ApiKey(other)))
    tell("PACKAGE_RESTORE", package=package.id, happened_at=clock.now)
    ask()

    assert read(f"/api/packages/{package.id}")["deleted"] is False


def test_a_onespan_that_is_down_is_asked_again_with_patience(
    account, life, hear, ask, work, clock, read, service, handlers
):
    """Nothing is forgotten, and nobody hammers."""
    (package,) = account.packages()
    handlers.onespan.connect(Connection("http://127.0.0.1:1", ApiKey(API_KEY)))
    hear(life[-1])
    work()
    asked = 0
    for _ in range(60):
        clock.forward(timedelta(seconds=10))
        asked += service.refresh.turn()
    assert 2 < asked < 8

    handlers.onespan.connect(Connection(ADDRESS, ApiKey(API_KEY)))
    clock.forward(snapshots.WAITS[-1])
    ask()
    assert read(f"/api/packages/{package.id}")["name"] == package.name


def test_a_package_that_is_wanted_while_it_is_read_is_read_again(
    account, life, hear, ask, work, clock, service, handlers
):
    """The read may have begun before what the callback tells."""
    (package,) = account.packages()
    hear(life[-1])
    work()
    asked, ask_for = [], handlers.onespan.package

    def while_another_comes(package_id: str) -> Any:
        answer = ask_for(package_id)
        if not asked:
            clock.forward(timedelta(seconds=1))
            hear(life[0])
            service.digest.turn()
        asked.append(package_id)
        return answer

    handlers.onespan.package = while_another_comes
    ask()

    assert asked == [package.id] * 2


def test_without_a_onespan_nothing_is_wanted(tell, work, service):
    """No row waits for what will never be."""
    service.digest._asks = False
    tell("PACKAGE_CREATE")
    work()

    assert service.refresh.turn() is False


def test_what_surprises_nobody_costs_nothing(life, hear, ask, work, clock, service):
    """Views and signatures of those we know are not asked about."""
    for event in life:
        hear(event)
    ask()
    for _ in range(2):
        clock.forward(MINUTE)
        ask()  # until it is believed that the package we began with is not there
    known = next(one for one in life if one.name == "DOCUMENT_SIGNED")
    hear(type(known)(**{**_fields(known), "name": "DOCUMENT_VIEWED", "at": clock.now}))
    work()
    clock.forward(MINUTE)

    assert service.refresh.turn() is False


@pytest.mark.parametrize(
    ("name", "message", "trashed", "asked_for"),
    [
        ("PACKAGE_RESTORE", None, True, None),
        ("PACKAGE_RESTORE", None, False, "structure"),  # so it is not the trash that it came back from
        ("PACKAGE_ATTACHMENT", "passport", False, None),
        ("PACKAGE_ATTACHMENT", None, False, "structure"),
    ],
)
def test_a_callback_that_tells_all_there_is_surprises_nobody(name, message, trashed, asked_for):
    """Of a package that was read, by a signer whom it has."""
    told = Callback(name, "pkg-1", "ada", None, message, NOON, {})
    known = Package("pkg-1", status="SENT", trashed=trashed, signers=(Signer("ada"),), read_at=NOON - HOUR)

    assert surprise(told, before=known, after=replace(known, trashed=False)) == asked_for


def _fields(event: ToldByOneSpan) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__dataclass_fields__}


@pytest.mark.parametrize("answered", [[], {}, {"id": 7}, {"id": "another", "status": "SENT"}, "text", None])
def test_an_answer_about_something_else_is_not_believed(answered, life, hear, ask, handlers, read, service, clock):
    """It is asked again later; the package stays as its callbacks told it, and no other appears."""
    handlers.onespan.package = lambda _: Answer(answered, json.dumps(answered).encode(), clock.now, clock.now)
    hear(life[-1])
    ask()

    packages = {one["id"]: one for one in read("/api/packages")["items"]}
    assert set(packages) == {"before", life[-1].package_id}
    assert packages[life[-1].package_id]["read_at"] is None
    with service.database.read() as connection:
        assert connection.scalar(select(Read.attempts).where(Read.package_id == life[-1].package_id)) >= 1


def test_law_9_of_many_who_want_to_read_one_does(life, hear, work, service, clock):
    """At once, on both databases."""
    hear(life[-1])
    work()
    clock.forward(MINUTE)
    start = threading.Barrier(6)

    def take(_: int) -> Any:
        start.wait(10)
        with service.database.write() as connection:
            return fetches.take(connection, life[-1].package_id, now=clock.now, lease=MINUTE)

    with ThreadPoolExecutor(6) as pool:
        taken = [one for one in pool.map(take, range(6)) if one]

    assert [(one.attempt, one.fence) for one in taken] == [(1, 1)]


def test_law_6_each_attachment_is_confirmed_by_its_own_callback():
    """Two of one signer are two facts."""
    found = Unconfirmed(1, "pkg-1", "PACKAGE_ATTACHMENT", "ada", None, "visa", {}, NOON - HOUR, NOON)

    def told(message: str, **members: Any) -> bool:
        body = {"name": "PACKAGE_ATTACHMENT", "packageId": "pkg-1", "sessionUser": "ada", "message": message, **members}
        callback = read_callback(json.dumps(body).encode())
        return found.is_told_by(callback, who={"ada"}, happened_at=callback.happened_at or LATE)

    at = (NOON - HOUR / 2).isoformat()
    assert told("visa", createdDate=at)
    assert not told("passport", createdDate=at)
    assert not told("visa")  # undated, and two months later


def test_law_5_a_reading_from_the_future_is_dated_when_it_came(account, life, hear, ask, handlers, clock, read):
    """One header that is wrong must not outrank every later reading."""
    (package,) = account.packages()

    def dates_it_tomorrow(answer: Any, **_: Any) -> None:
        answer.headers["Date"] = format_datetime(clock.now + 24 * HOUR, usegmt=True)

    handlers.onespan._session.hooks["response"].append(dates_it_tomorrow)
    hear(life[-1])
    ask()

    assert datetime.fromisoformat(read(f"/api/packages/{package.id}")["read_at"]) <= clock.now
