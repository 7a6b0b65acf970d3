"""Tests of lists: filters list every match once and in order, and every page but the last is full."""

# ruff: noqa: PLR0917  (pytest passes fixtures by name)

import unicodedata
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from itertools import permutations, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, text

from app.errors import QueryTimeout
from app.handling import GiveUp
from app.store import counters, queries
from app.store.search import fold
from tests.conftest import BEN, HOUR, NOON, in_all, on_both, on_sqlite, onespan_time

MINUTE = timedelta(minutes=1)
SORTS = [f"{sign}{key}" for key in queries.SORTS for sign in ("", "-")]


pytestmark = on_both


@pytest.fixture
def sorts(tier) -> list[str]:
    """The sort orders to test: some with `--tier=quick`, and all with `--tier=all`."""
    return SORTS if tier == "all" else ["-updated_at", "created_at", "-name"]


@pytest.fixture
def dataset(send_callback, work, clock) -> None:
    """Two dozen packages of many kinds; some packages have hardly any values."""
    for number in range(8):
        at = NOON - number * HOUR
        send_callback("PACKAGE_CREATE", package=f"Ä-draft-{number}", happened_at=at)
        send_callback("PACKAGE_DECLINE", package=f"b-declined-{number}", sessionUser=BEN, message="no", happened_at=at)
        send_callback("PACKAGE_HATCHED", package=f"C-egg-{number}", happened_at=at)
        if number % 3 == 0:
            send_callback("PACKAGE_TRASH", package=f"Ä-draft-{number}", happened_at=at + MINUTE)
            send_callback("SIGNER_COMPLETE", package=f"C-egg-{number}", sessionUser="王伟", happened_at=at)
    work()


def matches(package: dict[str, Any], query: dict[str, Any]) -> bool:
    """Whether a package matches a filter, computed in plain Python."""
    texts = [package["id"], package["sender"]["id"] or "", *(signer["id"] for signer in package["signers"])]
    folded = "\n".join(texts).casefold().replace("ä", "a")
    reasons = [item["reason"] for item in package["attention"]]
    return all(
        (
            all(word in folded for word in query.get("q", "").casefold().replace("ä", "a").split()),
            "status" not in query or package["status"] in query["status"],
            "trashed" not in query or package["trashed"] == (query["trashed"] == "true"),
            "signer" not in query or query["signer"] in [seat["id"] for seat in package["signers"]],
            query.get("attention") != "any" or bool(reasons),
            query.get("attention") != "none" or not reasons,
            query.get("attention") != "DECLINED" or "DECLINED" in reasons,
            "updated_since" not in query or (package["updated_at"] or "") >= query["updated_since"],
            "created_until" not in query
            or (bool(package["created_at"]) and package["created_at"] <= query["created_until"]),
        )
    )


QUERIES: list[Any] = [
    {},
    {"q": "ä-DRAFT"},
    {"q": "egg-3"},
    {"q": "伟"},
    {"q": "王伟 egg"},
    {"signer": "王伟", "q": "egg"},
    {"attention": "any"},
    {"attention": "none"},
    {"attention": "DECLINED", "q": "d-7"},
    {"status": ["DRAFT", "DECLINED"], "trashed": "false"},
    {"updated_since": onespan_time(NOON - 4 * HOUR)},
    {"created_until": onespan_time(NOON - 4 * HOUR), "trashed": "true"},
    *in_all(
        ({"q": "a"},), ({"q": "3 DRAFT a"},), ({"q": "draft egg"},), ({"q": "nothing of the kind"},), ({"signer": BEN},)
    ),
]


def pages(read: Callable[..., Any], path: str, query: dict[str, Any], *, direction: str = "next") -> list[list[Any]]:
    """Return the items of each page of a list, read forwards or backwards."""
    found: list[list[Any]] = []
    cursor: dict[str, str] = {}
    for _ in range(200):
        page = read(path, **{**query, **cursor})
        found.append(page["items"])
        if page[direction] is None:
            return found
        cursor = {"cursor": page[direction]}
    raise AssertionError("the pages do not end")


def are_full(found: list[list[Any]], limit: int) -> bool:
    """Whether each page has `limit` items; the last page may have fewer, and only a single page may be empty."""
    *others, last = found
    return all(len(page) == limit for page in others) and (not others or 0 < len(last) <= limit)


@pytest.mark.parametrize("query", QUERIES, ids=str)
@pytest.mark.usefixtures("dataset")
def test_pages_have_all_matches(read, query, sorts):
    """For every filter, order and page size, full pages list each matching package once and in order."""
    whole = {sort: read("/api/packages", sort=sort, limit=200)["items"] for sort in sorts}
    assert {sort: len(packages) for sort, packages in whole.items()} == dict.fromkeys(sorts, 24)

    for sort, limit in product(sorts, (1, 4)):
        found = pages(read, "/api/packages", {**query, "sort": sort, "limit": limit})
        ids = [package["id"] for page in found for package in page]
        assert ids == [package["id"] for package in whole[sort] if matches(package, query)], sort
        assert are_full(found, limit)


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.usefixtures("dataset")
def test_packages_without_a_value_come_last(read, sort):
    """Packages without a value in the sorted column come last, in ascending and in descending order."""
    member = sort.removeprefix("-")
    packages = read("/api/packages", sort=sort, limit=200)["items"]
    values = [package[member] for package in packages]
    known = [value for value in values if value is not None]

    assert len(packages) == 24
    assert values == known + [None] * (24 - len(known))
    if member != "name":
        assert known == sorted(known, reverse=sort.startswith("-"))


def test_a_package_with_several_reasons_is_listed_once(handlers, read, send_callback, work):
    """A package that is declined and has a parked handler appears once in the list of attention."""

    @handlers.on("PACKAGE_CREATE")
    def file_lease(event: Any, package: Any) -> None:
        raise GiveUp("the archive is full")

    for package in ("parked", "both"):
        send_callback("PACKAGE_CREATE", package=package)
    for package in ("declined", "both"):
        send_callback("PACKAGE_DECLINE", package=package, sessionUser=BEN, happened_at=NOON + MINUTE)
    send_callback("PACKAGE_ACTIVATE", package="normal")
    work()

    def listed(attention: str) -> list[str]:
        found = pages(read, "/api/packages", {"attention": attention, "sort": "id", "limit": 2})
        return [package["id"] for page in found for package in page]

    assert listed("any") == ["both", "declined", "parked"]
    assert listed("none") == ["normal"]
    assert listed("PARKED_HANDLER") == ["both", "parked"]
    assert listed("DECLINED") == ["both", "declined"]


@pytest.mark.parametrize("query", QUERIES, ids=str)
@pytest.mark.usefixtures("dataset")
def test_pages_can_be_read_backwards(read, query, sorts):
    """Pages that are read backwards show the same packages in the same order."""
    for sort in sorts:
        parameters = {**query, "sort": sort, "limit": 3}
        forwards = [package["id"] for page in pages(read, "/api/packages", parameters) for package in page]
        last = read("/api/packages", **parameters)
        while last["next"]:
            last = read("/api/packages", **parameters, cursor=last["next"])
        backwards = [package["id"] for package in last["items"]]
        if last["previous"]:
            before = pages(read, "/api/packages", {**parameters, "cursor": last["previous"]}, direction="previous")
            backwards = [package["id"] for page in before[::-1] for package in page] + backwards
        assert backwards == forwards, sort


def test_the_way_back_from_an_empty_page_skips_nothing(read, send_callback, work):
    """If no package of a page matches any more, the page's link to the previous page still skips no package."""
    parameters = {"attention": "SIGNER_LOCKED", "sort": "id", "limit": 1}
    for number in range(9):
        send_callback("SIGNER_LOCKED", package=f"p{number}", sessionUser=BEN, happened_at=NOON - HOUR)
    work()
    page = read("/api/packages", **parameters)
    while page["items"][0]["id"] != "p5":
        page = read("/api/packages", **parameters, cursor=page["next"])
    for number in range(6, 9):
        send_callback("SIGNER_COMPLETE", package=f"p{number}", sessionUser=BEN)
    work()

    empty = read("/api/packages", **parameters, cursor=page["next"])

    assert (empty["items"], empty["next"]) == ([], None)
    assert read("/api/packages", **parameters, cursor=empty["previous"])["items"] == page["items"]


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
def test_pages_of_events_have_all_matches(handlers, request, read, service, query):
    """Full pages list each matching event once, the newest first, even if several handlers ran for the event."""
    handlers.on("SIGNER_COMPLETE")(_succeed)
    handlers.on("PACKAGE_TRASH")(_succeed)
    handlers.on("*")(_succeed_too)
    request.getfixturevalue("dataset")
    with service.database.write() as connection:
        connection.execute(text("UPDATE events SET source = 'reconcile' WHERE id % 3 = 0"))
    everything = [event for page in pages(read, "/api/events", {"limit": 200}) for event in page]

    found = pages(read, "/api/events", {**query, "limit": 2})

    assert [event["id"] for page in found for event in page] == [
        event["id"]
        for event in everything
        if query.get("name", event["name"]) == event["name"]
        and query.get("package", event["package_id"]) == event["package_id"]
        and query.get("source", event["source"]) == event["source"]
        and ("state" not in query or query["state"] in [run["state"] for run in event["dispatches"]])
    ]
    assert are_full(found, 2)


def _succeed(event: Any, package: Any) -> None:
    """A handler that does nothing."""


def _succeed_too(event: Any, package: Any) -> None:
    """Another handler that does nothing."""


@on_sqlite
def test_sqlite_updates_its_statistics_in_time(service, handlers, send_callback, work, clock, read):
    """SQLite uses the index on the package to search parked runs, even if most runs are parked."""

    @handlers.on("PACKAGE_COMPLETE")
    def close_deal(event, package) -> None:
        raise GiveUp("the CRM knows no deal for this package")

    service.housekeeping.turn()  # the first turn runs while the tables are empty
    for number in range(200):
        send_callback("PACKAGE_COMPLETE", package=f"pkg-{number}")
    work()
    clock.forward(timedelta(minutes=10))
    service.housekeeping.turn()

    executed: list[tuple[str, Any]] = []
    event.listen(service.database.engine, "before_cursor_execute", lambda *args: executed.append(args[2:4]))
    read("/api/packages", attention="PARKED_HANDLER")

    with service.database.read() as connection:
        plans = [connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", args).all() for sql, args in list(executed)]
    steps = [row.detail for plan in plans for row in plan]
    assert "SEARCH dispatches USING INDEX ix_dispatches_parked (package_id=?)" in steps, "\n".join(steps)


NAME = "Straße 7, Łódź: Ærø ÉCOLE Παπαδόπουλος 王伟 100%_done ada.lovelace@analytical.example Mül\u00adler"


@pytest.fixture
def names(send_callback, work) -> None:
    """Two packages, one of them with a signer whose name has letters of many scripts."""
    send_callback("SIGNER_COMPLETE", package="pkg-1", sessionUser=NAME)
    send_callback("SIGNER_COMPLETE", package="pkg-2", sessionUser="Strand 7, Lodge: 100 undone")
    work()


@pytest.mark.parametrize(
    "query",
    [
        *("straße", "STRASSE", "łódź", "lodz", "LÓDŹ", "ærø", "aero", "ecole", "École", "e\u0301cole"),
        *("παπαδοπουλος", "ΠΑΠΑΔΌΠΟΥΛΟΣ", "王伟", "伟", "王", "100%_", "%_D", "pkg-1", "7"),
        *("ada.lovelace@analytical.example", "Lovelace@Analytical", "müller", "mu\u200fller"),
        *map(" ".join, permutations(("王伟", "lodz", "7"))),
        "  strasse   100%  ",
    ],
)
@pytest.mark.usefixtures("names")
def test_words_are_found_without_case_and_accents(read, query):
    """A search finds words in any order and script, and treats the wildcards of SQL as ordinary characters."""
    found = [package["id"] for package in read("/api/packages", q=query)["items"]]

    assert "pkg-1" in found
    assert ("pkg-2" in found) == (query == "7")


@pytest.mark.parametrize(
    "query",
    [
        "strasse 8",
        "ada.lovelace@analytics.example",
        "ada.lovelace@analytical.examples",
        "s t r a e l o d z ø p 8",
        "lodz lodge",
        "1_0",
        "100%d",
        "王李",
        "pkg-1 pkg-2",
        "\\",
    ],
)
@pytest.mark.usefixtures("names")
def test_packages_without_one_of_the_words_are_not_found(read, query):
    """A search finds a package only if the package's text contains all words of the query."""
    assert read("/api/packages", q=query)["items"] == []


@pytest.mark.parametrize("query", ["", " ", "\u0301", "\u200f"])
@pytest.mark.usefixtures("names")
def test_a_query_without_words_finds_everything(read, query):
    """A query of white space or format characters contains no words and finds every package."""
    assert len(read("/api/packages", q=query)["items"]) == 2


@given(st.text())
def test_folding_twice_is_folding_once(text):
    """Folding a folded text changes nothing, so stored texts and queries are folded alike."""
    assert fold(fold(text)) == fold(text)


@given(st.text(st.characters(whitelist_categories=["Lu", "Ll"], max_codepoint=0x24F)))
def test_folding_ignores_case_and_accents(text):
    """Folding ignores the case and accents of all Latin letters, composed or decomposed."""
    assert fold(text) == fold(unicodedata.normalize("NFD", text)) == fold(text.casefold())
    assert fold(text).casefold() == fold(text)


@pytest.mark.usefixtures("dataset")
def test_a_package_is_found_by_a_signer_of_a_later_callback(read, send_callback, work):
    """The search text of a package includes a signer that a later callback adds."""
    send_callback("SIGNER_COMPLETE", package="C-egg-1", sessionUser="person-new", happened_at=NOON)
    work()

    assert [package["id"] for package in read("/api/packages", q="SON-NEW")["items"]] == ["C-egg-1"]


# SQL statements that run for minutes.
ENDLESS = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
    "postgresql": "SELECT pg_sleep(300)",
}


def test_a_query_that_takes_too_long_is_stopped(service):
    """A query that exceeds its time limit is stopped, and later statements on the connection have no time limit."""
    database = service.database
    endless = text(ENDLESS[database.engine.dialect.name])

    for _ in range(3):
        with pytest.raises(QueryTimeout), database.read(timeout=timedelta(milliseconds=50)) as connection:
            connection.execute(endless)
        with database.read() as connection:
            assert connection.execute(text("SELECT 1")).scalar() == 1
            if connection.dialect.name == "postgresql":
                assert connection.execute(text("SHOW statement_timeout")).scalar() == "0"


@pytest.fixture
def endless_searches(monkeypatch, service) -> None:
    """Let every search take minutes, and set the time limit of searches to 50 ms."""
    endless = text(f"({ENDLESS[service.database.engine.dialect.name]}) IS NOT NULL")
    if service.database.engine.dialect.name == "postgresql":
        endless = text("pg_sleep(300) IS NOT NULL")
    module = import_module("app.store.queries.packages")
    monkeypatch.setattr(module, "TIME_LIMIT", timedelta(milliseconds=50))
    monkeypatch.setattr(module, "alternatives", lambda wanted, **_: [[endless]] if wanted.q else [[]])


@pytest.mark.usefixtures("dataset", "endless_searches")
def test_a_search_that_takes_too_long_answers_an_empty_page(read):
    """A search that exceeds its time limit returns an empty page with `timed_out`, and other lists still work."""
    page = read("/api/packages", q="egg")

    assert page == {"items": [], "next": None, "previous": None, "timed_out": True}
    assert read("/api/packages")["timed_out"] is False


@pytest.mark.usefixtures("dataset")
def test_law_8_rebuild_finds_and_corrects_wrong_counters(service, flask, counts):
    """`flask rebuild` corrects wrong counters, including a counter that should not exist."""
    before = counts()
    with service.database.write() as connection:
        unknown = counters.PackageKind(trashed=True, deleted=True, type=None, status=None)
        drafts = counters.PackageKind(trashed=False, deleted=False, type="PACKAGE", status="DRAFT")
        counters.add_packages(connection, {drafts: 3, unknown: -1})

    check, repair, second_check = flask("rebuild", "--check"), flask("rebuild"), flask("rebuild", "--check")

    assert (check.exit_code, "number" in check.output) == (1, True), check.output
    assert "2 differences, repaired." in repair.output
    assert second_check.exit_code == 0
    assert counts() == before


@pytest.mark.usefixtures("dataset")
def test_law_8_rebuild_finds_and_corrects_wrong_texts_and_sort_names(service, flask, read):
    """`flask rebuild` restores search texts and sort names, because both follow from a package's claims."""
    with service.database.write() as connection:
        connection.execute(text("UPDATE searches SET text = 'another text' WHERE package_id = 'C-egg-1'"))
        connection.execute(text("DELETE FROM searches WHERE package_id = 'C-egg-2'"))
        connection.execute(text("UPDATE packages SET sort_name = 'zz' WHERE id = 'C-egg-3'"))

    check, repair, second_check = flask("rebuild", "--check"), flask("rebuild"), flask("rebuild", "--check")

    assert check.exit_code == 1
    assert "3 differences, repaired." in repair.output
    assert second_check.exit_code == 0
    assert [package["id"] for package in read("/api/packages", q="c-egg-1")["items"]] == ["C-egg-1"]
    assert [package["id"] for package in read("/api/packages", q="c-egg-2")["items"]] == ["C-egg-2"]


def test_reading_packages_leaves_out_their_claims():
    """Only the digest needs the claims of a package. They are the largest column, so lists do not read them."""
    statement = str(import_module("app.store.queries.packages")._PACKAGES)

    assert "packages.status" in statement
    assert "packages.claims" not in statement


@pytest.fixture
def counts(service) -> Callable[[], list[Any]]:
    """All counters of packages that are not zero."""

    def counts() -> list[Any]:
        with service.database.read() as connection:
            found = connection.execute(text("SELECT * FROM package_counts WHERE number <> 0 ORDER BY 1, 2, 3, 4"))
            return list(map(tuple, found))

    return counts
