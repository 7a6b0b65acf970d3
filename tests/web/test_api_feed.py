"""The change feed: every change, in order, without gaps and without delay."""

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
def timed_read(app: Flask) -> Callable[..., tuple[Any, float]]:
    """Read the change feed as a front end does. Returns the answer and the seconds until it arrived."""

    def timed_read(**query: Any) -> tuple[Any, float]:
        began = time.monotonic()
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = app.test_client().get("/api/changes", query_string=query, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json, time.monotonic() - began

    return timed_read


def test_feed_has_every_change_once_in_order(send_callback, work, read):
    """The pages of the change feed contain every change once; `next` is the next `after`, and null at the end."""
    for number, name in enumerate(STEPS):
        send_callback(name, package=f"pkg-{number % 2}", happened_at=NOON - HOUR * (9 - number))
        work()
    whole = read("/api/changes", limit=200)["items"]

    items: list[Any] = []
    after = 0
    for _ in range(len(whole) + 1):
        page = read("/api/changes", after=after, limit=2)
        items += page["items"]
        if page["next"] is None:
            break
        assert page["next"] == str(page["items"][-1]["id"])
        after = page["next"]

    assert items == whole
    assert len(whole) >= len(STEPS)
    assert [change["id"] for change in whole] == sorted({change["id"] for change in whole})
    assert read("/api/changes", after=whole[-1]["id"]) == {"items": [], "next": None, "previous": None}
    assert read("/api/changes", after=2**63 - 1) == {"items": [], "next": None, "previous": None}


def test_client_can_begin_at_the_end_of_the_feed(send_callback, work, read):
    """A client that begins at the end of the feed need not read older changes, and misses no later change."""
    assert read("/api/changes", after="last") == {"items": [], "next": "0", "previous": None}
    send_callback("PACKAGE_CREATE", happened_at=NOON - HOUR)
    work()
    end = read("/api/changes", after="last", wait=25)
    send_callback("PACKAGE_ACTIVATE")
    work()

    assert end["items"] == []
    assert [(change["attribute"], change["new"]) for change in read("/api/changes", after=end["next"])["items"]] == [
        ("status", "SENT")
    ]


def test_held_request_is_answered_as_soon_as_there_is_a_change(send_callback, work, timed_read):
    """A feed request that waits for a change is answered as soon as there is a change."""
    send_callback("PACKAGE_CREATE", happened_at=NOON - HOUR)
    work()
    after = timed_read()[0]["next"]
    began = time.monotonic()

    with ThreadPoolExecutor() as pool:
        held = pool.submit(timed_read, after=after, wait=20)
        send_callback("PACKAGE_ACTIVATE")
        work()
        answer, _ = held.result(timeout=20)

    assert [(change["attribute"], change["new"]) for change in answer["items"]] == [("status", "SENT")]
    assert time.monotonic() - began < 10


@on_sqlite
def test_held_request_is_answered_without_items_at_its_deadline(timed_read):
    """Without a change, a waiting feed request is answered at its deadline; a request with `wait=0`, at once."""
    answer, seconds = timed_read(wait=0.6)
    assert answer == {"items": [], "next": None, "previous": None}
    assert 0.55 <= seconds < 10

    assert timed_read(wait=0)[1] < 0.55


HELD_REQUESTS = 4  # how many feed requests may wait at the same time, with 16 threads


@on_sqlite
def test_requests_beyond_the_held_ones_are_answered_at_once(timed_read):
    """However many clients follow the feed, only four requests wait, so a thread stays free for callbacks."""
    with ThreadPoolExecutor(HELD_REQUESTS * 3) as pool:
        held = [pool.submit(timed_read, wait=2.5) for _ in range(HELD_REQUESTS * 3)]
        seconds = sorted(answer.result(timeout=30)[1] for answer in held)

    assert sum(second >= 2.5 for second in seconds) == HELD_REQUESTS
    assert timed_read(wait=0.3)[1] >= 0.3  # after an answer, another request may wait


@on_postgresql
def test_law_9_no_change_appears_below_one_already_seen(database_url, send_callback, clock: Clock):
    """A client that reads the feed while several processes digest callbacks skips no change."""
    total = 240
    for number in range(total):
        send_callback(
            STEPS[number % len(STEPS)], package=f"pkg-{number % 40}", happened_at=NOON - HOUR, sessionUser=ADA
        )
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
            is_last = done.is_set()
            with reader.read() as connection:
                found = queries.changes(connection, after=seen[-1] if seen else 0, limit=50)
            seen += [change.id for change in found]
            if is_last and not found:
                return seen
        raise AssertionError("the feed has no end")

    with ThreadPoolExecutor() as pool:
        following = pool.submit(follow)
        for digesting in [pool.submit(digest, database) for database in databases]:
            digesting.result(timeout=60)
        done.set()
        seen = following.result(timeout=60)
    with reader.read() as connection:
        everything = [change.id for change in queries.changes(connection, after=0, limit=10_000)]
        waiting = journal.pending(connection, limit=1)
    for database in (*databases, reader):
        database.close()

    assert not waiting
    assert len(everything) > 40
    assert seen == everything


@on_postgresql
def test_law_9_uncommitted_callback_delays_no_other(database_url, send_callback, clock: Clock, service):
    """A journal entry that commits after an entry with a larger id is still digested, and delays no other entry."""
    late = Database(database_url)
    body = b'{"name":"PACKAGE_COMPLETE","packageId":"slow","createdDate":"2026-03-02T11:00:00Z"}'
    with late.write() as connection:
        journal.add(connection, [Entry("callback", clock(), body, package_id="slow")])
        send_callback("PACKAGE_COMPLETE", package="quick")
        assert service.digest.turn()
    assert service.digest.turn()
    late.close()

    with service.database.read() as connection:
        assert set(queries.packages(connection, ["slow", "quick"])) == {"slow", "quick"}
        assert not journal.pending(connection, limit=1)
