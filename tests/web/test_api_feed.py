"""The feed of changes: every change, in order, none skipped, and as soon as there is one."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import make_url

from app.handling import Handlers
from app.store import journal, queries
from app.store.db import Database
from app.store.journal import Entry
from app.work.digest import Digest
from tests.conftest import ADA, HOUR, NOON, TOKEN, Clock, on_both, on_postgresql, on_sqlite

pytestmark = on_both

STEPS = ("PACKAGE_CREATE", "PACKAGE_ACTIVATE", "PACKAGE_TRASH", "PACKAGE_RESTORE", "PACKAGE_COMPLETE")


@pytest.fixture
def hold(app: Flask) -> Callable[..., tuple[Any, float]]:
    """Ask for changes as a front end does; gives the answer and how long it took."""

    def hold(**query: Any) -> tuple[Any, float]:
        began = time.monotonic()
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = app.test_client().get("/api/changes", query_string=query, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json, time.monotonic() - began

    return hold


def test_the_feed_tells_every_change_once_in_order(tell, work, read):
    """Whatever the limit; `next` is what to ask after, and the end has none."""
    for number, name in enumerate(STEPS):
        tell(name, package=f"pkg-{number % 2}", happened_at=NOON - HOUR * (9 - number))
        work()
    whole = read("/api/changes", limit=200)["items"]

    told: list[Any] = []
    after = 0
    for _ in range(len(whole) + 1):
        page = read("/api/changes", after=after, limit=2)
        told += page["items"]
        if page["next"] is None:
            break
        assert page["next"] == str(page["items"][-1]["id"])
        after = page["next"]

    assert told == whole
    assert len(whole) >= len(STEPS)
    assert [one["id"] for one in whole] == sorted({one["id"] for one in whole})
    assert read("/api/changes", after=whole[-1]["id"]) == {"items": [], "next": None, "previous": None}
    assert read("/api/changes", after=2**63 - 1) == {"items": [], "next": None, "previous": None}


def test_a_front_end_can_begin_at_the_end(tell, work, read):
    """Without reading all that ever changed; from then on it misses nothing."""
    assert read("/api/changes", after="last") == {"items": [], "next": "0", "previous": None}
    tell("PACKAGE_CREATE", happened_at=NOON - HOUR)
    work()
    end = read("/api/changes", after="last", wait=25)
    tell("PACKAGE_ACTIVATE")
    work()

    assert end["items"] == []
    assert [(one["attribute"], one["new"]) for one in read("/api/changes", after=end["next"])["items"]] == [
        ("status", "SENT")
    ]


def test_a_held_request_is_answered_as_soon_as_there_is_a_change(tell, work, hold):
    """A front end sees a change within a moment of its being made."""
    tell("PACKAGE_CREATE", happened_at=NOON - HOUR)
    work()
    known = hold()[0]["next"]
    began = time.monotonic()

    with ThreadPoolExecutor() as pool:
        held = pool.submit(hold, after=known, wait=20)
        tell("PACKAGE_ACTIVATE")
        work()
        answer, _ = held.result(timeout=20)

    assert [(one["attribute"], one["new"]) for one in answer["items"]] == [("status", "SENT")]
    assert time.monotonic() - began < 10


@on_sqlite
def test_a_held_request_is_answered_empty_at_its_deadline(hold):
    """And one that need not be held is answered at once."""
    answer, took = hold(wait=0.6)
    assert answer == {"items": [], "next": None, "previous": None}
    assert 0.55 <= took < 10

    assert hold(wait=0)[1] < 0.55


WAITERS = 4  # of 16 threads


@on_sqlite
def test_more_waiters_than_allowed_are_answered_at_once(hold):
    """Callbacks must always find a thread, however many front ends there are."""
    with ThreadPoolExecutor(WAITERS * 3) as pool:
        held = [pool.submit(hold, wait=2.5) for _ in range(WAITERS * 3)]
        took = sorted(one.result(timeout=30)[1] for one in held)

    assert sum(one >= 2.5 for one in took) == WAITERS
    assert hold(wait=0.3)[1] >= 0.3  # whoever has gone has made room


@on_postgresql
def test_law_9_no_change_appears_below_one_already_seen(database_url, tell, clock: Clock):
    """Several processes digest at once; whoever reads the feed meanwhile skips nothing."""
    total = 240
    for number in range(total):
        tell(STEPS[number % len(STEPS)], package=f"pkg-{number % 40}", happened_at=NOON - HOUR, sessionUser=ADA)
    databases = [Database(make_url(database_url).render_as_string(hide_password=False)) for _ in range(4)]
    reader = Database(database_url)
    done = threading.Event()

    def digest(database: Database) -> None:
        digest = Digest(database, Handlers(), clock=clock)
        for _ in range(total):
            if not digest.turn(limit=3):
                return

    def follow() -> list[int]:
        seen: list[int] = []
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            last_look = done.is_set()
            with reader.read() as connection:
                found = queries.changes(connection, after=seen[-1] if seen else 0, limit=50)
            seen += [one.id for one in found]
            if last_look and not found:
                return seen
        raise AssertionError("the feed has no end")

    with ThreadPoolExecutor() as pool:
        following = pool.submit(follow)
        for one in [pool.submit(digest, database) for database in databases]:
            one.result(timeout=60)
        done.set()
        seen = following.result(timeout=60)
    with reader.read() as connection:
        everything = [one.id for one in queries.changes(connection, after=0, limit=10_000)]
        waiting = journal.is_pending(connection)
    for database in (*databases, reader):
        database.close()

    assert not waiting
    assert len(everything) > 40
    assert seen == everything


@on_postgresql
def test_law_9_callbacks_written_meanwhile_hold_nothing_up(database_url, tell, clock: Clock, service):
    """The journal's ids may commit in any order: an older one that commits later is digested all the same."""
    late = Database(database_url)
    body = b'{"name":"PACKAGE_COMPLETE","packageId":"slow","createdDate":"2026-03-02T11:00:00Z"}'
    with late.write() as connection:
        journal.add(connection, [Entry("callback", clock(), body, package_id="slow")])
        tell("PACKAGE_COMPLETE", package="quick")
        assert service.digest.turn()
    assert service.digest.turn()
    late.close()

    with service.database.read() as connection:
        assert set(queries.packages(connection, ["slow", "quick"])) == {"slow", "quick"}
        assert not journal.is_pending(connection)
