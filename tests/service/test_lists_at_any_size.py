"""Lists never take long, and show all the same what is wanted, all of it, once and in order."""

from collections.abc import Callable
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy import event, text

from app.errors import GiveUp
from app.store import queries, tallies
from app.store.db import in_time
from app.store.queries import newest, walk
from app.store.searches import grams
from tests.conftest import BEN, HOUR, NOON, onespan_time

MINUTE = timedelta(minutes=1)
SORTS = [f"{sign}{key}" for key in queries.SORTS for sign in ("", "-")]


@pytest.fixture
def short_walks(monkeypatch):
    """No walk goes far: so a dozen packages are as many as a million."""
    monkeypatch.setattr(walk, "STRIDES", (1, 2))
    monkeypatch.setattr(walk, "FEW", {"postgresql": 2, "sqlite": 2})
    monkeypatch.setattr(newest, "REACH", 2)


@pytest.fixture
def crowd(tell, work, clock) -> None:
    """Two dozen packages of many kinds; of some hardly anything is known."""
    for number in range(8):
        at = NOON - number * HOUR
        tell("PACKAGE_CREATE", package=f"Ä-draft-{number}", happened_at=at)
        tell("PACKAGE_DECLINE", package=f"b-declined-{number}", sessionUser=BEN, message="no", happened_at=at)
        tell("PACKAGE_HATCHED", package=f"C-egg-{number}", happened_at=at)
        if number % 3 == 0:
            tell("PACKAGE_TRASH", package=f"Ä-draft-{number}", happened_at=at + MINUTE)
            tell("SIGNER_COMPLETE", package=f"C-egg-{number}", sessionUser="王伟", happened_at=at)
    work()


def fits(package: dict[str, Any], query: dict[str, Any]) -> bool:
    """What a filter means, said once more."""
    words = "\n".join(
        [package["id"], package["sender"]["id"] or "", *(one["id"] for one in package["signers"])]
    ).casefold()
    reasons = [one["reason"] for one in package["attention"]]
    return all(
        (
            query.get("q", "").casefold() in words,
            "status" not in query or package["status"] in query["status"],
            "trashed" not in query or package["trashed"] == (query["trashed"] == "true"),
            "signer" not in query or query["signer"] in [one["id"] for one in package["signers"]],
            query.get("attention") != "any" or bool(reasons),
            query.get("attention") != "none" or not reasons,
            query.get("attention") != "DECLINED" or "DECLINED" in reasons,
            "updated_since" not in query or (package["updated_at"] or "") >= query["updated_since"],
            "created_until" not in query
            or (bool(package["created_at"]) and package["created_at"] <= query["created_until"]),
        )
    )


QUERIES: list[dict[str, Any]] = [
    {},
    {"q": "ä-DRAFT"},
    {"q": "egg-3"},
    {"q": "a"},
    {"q": "伟"},
    {"q": "nothing of the kind"},
    {"signer": BEN},
    {"signer": "王伟", "q": "egg"},
    {"attention": "any"},
    {"attention": "none"},
    {"attention": "DECLINED", "q": "d-7"},
    {"status": ["DRAFT", "DECLINED"], "trashed": "false"},
    {"updated_since": onespan_time(NOON - 4 * HOUR)},
    {"created_until": onespan_time(NOON - 4 * HOUR), "trashed": "true"},
]


def pages(read: Callable[..., Any], path: str, query: dict[str, Any], *, way: str = "next") -> list[list[Any]]:
    """The items of each page, from the first on, or from the one after the last back."""
    found, cursor = [], {}
    for _ in range(200):
        page = read(path, **{**query, **cursor})
        found.append(page["items"])
        if page[way] is None:
            return found
        cursor = {"cursor": page[way]}
    raise AssertionError("the pages have no end")


@pytest.mark.parametrize("query", QUERIES, ids=str)
@pytest.mark.usefixtures("crowd", "short_walks")
def test_a_walk_in_small_steps_finds_what_there_is(read, query):
    """Whatever the filter, the order and the size of a page: each once, in order; pages may be short, but lead on."""
    whole = {sort: [one for page in pages(read, "/api/packages", {"sort": sort}) for one in page] for sort in SORTS}

    for sort, limit in product(SORTS, (1, 4)):
        walked = pages(read, "/api/packages", {**query, "sort": sort, "limit": limit})
        ids = [one["id"] for page in walked for one in page]
        assert ids == [one["id"] for one in whole[sort] if fits(one, query)], sort
        assert max(map(len, walked)) <= limit


@pytest.mark.parametrize("query", QUERIES, ids=str)
@pytest.mark.usefixtures("crowd", "short_walks")
def test_a_walk_leads_back_to_where_it_began(read, query):
    """Backwards it shows the same, in the same order."""
    for sort in ("-updated_at", "created_at", "name"):
        asked = {**query, "sort": sort, "limit": 3}
        forwards = [one["id"] for page in pages(read, "/api/packages", asked) for one in page]
        end = read("/api/packages", **asked)
        while end["next"]:
            end = read("/api/packages", **asked, cursor=end["next"])
        backwards = [one["id"] for one in end["items"]]
        if end["previous"]:
            walked = pages(read, "/api/packages", {**asked, "cursor": end["previous"]}, way="previous")
            backwards = [one["id"] for page in walked[::-1] for one in page] + backwards
        assert backwards == forwards, sort


@pytest.mark.usefixtures("short_walks")
def test_who_turns_where_a_walk_stopped_skips_nothing(read, tell, work, monkeypatch):
    """All that it came by needs a hand no more; what is met next is what was met last."""
    monkeypatch.setattr(walk, "FEW", {"postgresql": 0, "sqlite": 0})
    asked = {"attention": "SIGNER_LOCKED", "sort": "id", "limit": 1}
    for number in range(9):
        tell("SIGNER_LOCKED", package=f"p{number}", sessionUser=BEN, happened_at=NOON - HOUR)
    work()
    page = read("/api/packages", **asked)
    while page["items"][0]["id"] != "p7":
        page = read("/api/packages", **asked, cursor=page["next"])
    for number in range(1, 7):
        tell("SIGNER_COMPLETE", package=f"p{number}", sessionUser=BEN)
    work()

    back = read("/api/packages", **asked, cursor=page["previous"])
    assert (back["items"], back["previous"] is None) == ([], False)

    assert read("/api/packages", **asked, cursor=back["next"])["items"] == page["items"]


@pytest.mark.parametrize(
    "query",
    [
        {"name": "PACKAGE_TRASH"},
        {"name": "PACKAGE_DECLINE", "source": "callback"},
        {"source": "reconcile"},
        {"source": "callback"},
        {"source": "reconcile", "name": "PACKAGE_CREATE"},
        {"source": "reconcile", "package": "C-egg-3"},
        {"source": "reconcile", "state": "done"},
        {"state": "done"},
        {"state": "done", "name": "SIGNER_COMPLETE"},
        {"package": "C-egg-3", "state": "done", "source": "callback"},
        {"state": "parked", "name": "PACKAGE_TRASH"},
    ],
    ids=str,
)
@pytest.mark.usefixtures("short_walks")
def test_events_narrowed_in_many_ways_are_all_found(handlers, request, read, service, query):
    """Newest first, each once, though some pages are short. A third of them was found."""
    handlers.on("SIGNER_COMPLETE")(_nothing)
    handlers.on("PACKAGE_TRASH")(_nothing)
    request.getfixturevalue("crowd")
    with service.database.write() as connection:
        connection.execute(text("UPDATE events SET source = 'reconcile' WHERE id % 3 = 0"))
    everything = [one for page in pages(read, "/api/events", {"limit": 200}) for one in page]

    walked = pages(read, "/api/events", {**query, "limit": 2})

    assert [one["id"] for page in walked for one in page] == [
        one["id"]
        for one in everything
        if query.get("name", one["name"]) == one["name"]
        and query.get("package", one["package_id"]) == one["package_id"]
        and query.get("source", one["source"]) == one["source"]
        and ("state" not in query or query["state"] in [run["state"] for run in one["dispatches"]])
    ]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_sqlite_sees_in_time_what_is_rare(service, handlers, tell, work, clock, read):  # noqa: PLR0917  (pytest passes them by name)
    """Where a function has given up on everything one package's runs are still found by the package."""

    @handlers.on("PACKAGE_COMPLETE")
    def close_deal(event, package) -> None:
        raise GiveUp("the CRM knows no deal for this package")

    service.watch.turn()  # at the start, when there is nothing to see
    for number in range(60):
        tell("PACKAGE_COMPLETE", package=f"pkg-{number}")
    work()
    clock.forward(timedelta(minutes=10))
    service.watch.turn()

    asked: list[tuple[str, Any]] = []
    event.listen(service.database.engine, "before_cursor_execute", lambda *told: asked.append(told[2:4]))
    read("/api/packages", attention="PARKED_HANDLER")

    with service.database.read() as connection:
        plans = [connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", told).all() for sql, told in list(asked)]
    ways = [row.detail for plan in plans for row in plan]
    assert "SEARCH dispatches USING INDEX ix_dispatches_parked (package_id=?)" in ways


def asked_of_indexes(service) -> list[str]:
    """The statements that ask an index for candidates, from now on."""
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.extend([statement] * ("WITH candidates" in statement))

    event.listen(service.database.engine, "before_cursor_execute", note)
    return asked


@pytest.mark.parametrize(
    ("query", "asks"),
    [
        ({"q": "straw"}, 0),  # half of what is seen
        ({"q": "needle-7"}, 1),  # nothing of it
        ({"q": "needle-0"}, 1),  # hardly anything
        ({"q": "straw", "signer": "nobody"}, 1),  # the second alone leaves few
        ({"q": "straw", "attention": "none"}, 0),
    ],
)
def test_an_index_is_not_asked_about_what_is_seen_often(service, read, tell, work, monkeypatch, query, asks):  # noqa: PLR0917  (pytest passes them by name)
    """It would name too many."""
    monkeypatch.setattr(walk, "STRIDES", (4, 5))
    monkeypatch.setattr(walk, "FEW", {"postgresql": 4, "sqlite": 4})
    for number in range(10):
        tell("PACKAGE_CREATE", package=f"straw-{number}", happened_at=NOON - number * HOUR)
        tell("PACKAGE_CREATE", package=f"needle-{number}", happened_at=NOON - number * HOUR)
    work()

    asked = asked_of_indexes(service)
    read("/api/packages", **query, sort="-created_at", limit=20)

    assert len(asked) == asks


def test_what_takes_too_long_is_given_up_and_nothing_else(service):
    """PostgreSQL cancels it; what was set for it is forgotten, and what is prepared stays. SQLite sees it through."""
    with service.database.read() as connection:
        cancels = connection.dialect.name == "postgresql"

        def seen() -> list[Any]:
            settings = ("statement_timeout", "plan_cache_mode", "max_parallel_workers_per_gather")
            told = [f"SHOW {one}" for one in settings] + ["SELECT count(*) > 0 FROM pg_prepared_statements"]
            return [connection.exec_driver_sql(one).scalar() for one in told] if cancels else []

        for _ in range(10):
            connection.execute(text("SELECT 3"))
        before, one_row = seen(), text("SELECT 1 AS one")
        slow = text("SELECT 1 AS one FROM pg_sleep(60)") if cancels else one_row
        for statement, is_told in ((slow, not cancels), (one_row, True), (slow, not cancels)):
            told = in_time(connection, statement, {}, patience=timedelta(milliseconds=100))
            assert (told == [(1,)]) if is_told else told is None
            assert seen() == before
        assert connection.execute(one_row).scalar() == 1


def _nothing(event: Any, package: Any) -> None:
    """Succeed."""


def test_a_text_has_the_grams_of_all_that_is_in_it():
    """So the index leaves out nothing that has the text, in any alphabet."""
    words = "Convention École 租赁合同 王伟 ß 😀 straße".casefold()

    for start in range(len(words)):
        for end in range(start + 1, len(words) + 1):
            assert grams(words[start:end]) <= grams(words)
    assert grams("ab") == grams("") == set()
    assert grams("王伟")


@pytest.mark.usefixtures("crowd", "short_walks")
def test_a_long_word_is_found_by_its_rarest_grams(service, read):
    """Those that PostgreSQL has not counted as common, where it has counted."""
    for _ in range(2):
        for words, many in (("b-declined-5", 1), ("declined-", 8), ("declining", 0)):
            assert sum(map(len, pages(read, "/api/packages", {"q": words}))) == many
        with service.database.write() as connection:
            connection.exec_driver_sql("ANALYZE")


@pytest.mark.usefixtures("crowd")
def test_a_package_that_is_renamed_is_found_by_its_new_name_only(read, tell, work, service):
    """The index is of what is believed now."""
    tell("SIGNER_COMPLETE", package="C-egg-1", sessionUser="somebody-new", happened_at=NOON)
    work()

    assert [one["id"] for one in read("/api/packages", q="BODY-NEW")["items"]] == ["C-egg-1"]


@pytest.mark.usefixtures("crowd")
def test_law_8_a_wrong_tally_is_found_and_put_right(service, flask, counts):
    """Whatever made it wrong."""
    before = counts()
    with service.database.write() as connection:
        tallies.count(connection, tallies.PACKAGES, {tallies.key(0, 0, "PACKAGE", "DRAFT"): 3, "[1,1,null,null]": -1})

    found, mended, clean = flask("rebuild", "--check"), flask("rebuild"), flask("rebuild", "--check")

    assert (found.exit_code, "number" in found.output) == (1, True), found.output
    assert "2 differences, mended." in mended.output
    assert clean.exit_code == 0
    assert counts() == before


@pytest.fixture
def counts(service) -> Callable[[], list[Any]]:
    """What is counted of every kind."""

    def counts() -> list[Any]:
        with service.database.read() as connection:
            found = connection.execute(text("SELECT * FROM tallies WHERE number <> 0 ORDER BY kind, key"))
            return list(map(tuple, found))

    return counts


@pytest.mark.usefixtures("crowd")
def test_a_migration_places_and_counts_what_there_is(flask: Callable[..., Result], counts, read, database_url):
    """As if it had been digested by this version."""
    before = counts()
    shown = [read("/api/packages", q=words)["items"] for words in ("ä-draft", "王伟", BEN)]

    down, up = flask("db", "downgrade", "0003"), flask("db", "upgrade")

    assert (down.exit_code, up.exit_code) == (0, 0), down.output + up.output
    assert counts() == before
    assert [read("/api/packages", q=words)["items"] for words in ("ä-draft", "王伟", BEN)] == shown
    checked = flask("rebuild", "--check")
    assert checked.exit_code == 0, checked.output
