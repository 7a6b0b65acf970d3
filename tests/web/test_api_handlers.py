"""The API endpoints of handlers and dispatches, and the replay of many dispatches."""

from datetime import timedelta
from typing import Any

import pytest

from app.handling import Discard, GiveUp, Handlers
from app.store.queries import bounded
from app.store.queries import handlers as reads
from app.web import actions
from app.work import replay
from tests.conftest import HOUR, NOON, on_both


@pytest.fixture
def crm(handlers: Handlers, send_callback, work) -> Handlers:
    """Three handlers: the first has only parked dispatches, the second has discarded dispatches, the third has none."""

    @handlers.on("PACKAGE_COMPLETE", "PACKAGE_DECLINE")
    def close_deal(event, package) -> None:
        raise GiveUp("the CRM knows no deal for this package")

    @handlers.on("*")
    def write_note(event, package) -> None:
        if event.name == "PACKAGE_TRASH":
            raise Discard("nothing to do")

    @handlers.on("KBA_FAILURE")
    def call_the_signer(event, package) -> None:
        """Handle an event that no test of this file sends."""

    for number in range(4):
        send_callback("PACKAGE_CREATE", package=f"pkg-{number}", happened_at=NOON - (9 - number) * HOUR)
        send_callback("PACKAGE_COMPLETE", package=f"pkg-{number}", happened_at=NOON - (4 - number) * HOUR)
    send_callback("PACKAGE_TRASH", package="pkg-0")
    work()
    return handlers


def dispatches(answer: Any) -> list[tuple[str, str, str]]:
    """The handler, event name and package id of each dispatch in a list."""
    return [(run["handler"], run["event_name"], run["package_id"]) for run in answer.json["items"]]


def all_items(api_get: Any, path: str, **query: Any) -> list[Any]:
    """Read a list page by page and return all items."""
    items, cursor = [], {}
    for _ in range(100):
        page = api_get(path, **query, **cursor).json
        items += page["items"]
        if page["next"] is None:
            return items
        cursor = {"cursor": page["next"]}
    raise AssertionError("the pages have no end")


def test_handler_list_has_event_names_and_dispatch_counts(api_get, crm):
    """The handler list has event names and dispatch counts, and includes handlers without dispatches."""
    calls, deals, notes = api_get("/api/handlers").json["items"]

    assert (calls["name"], calls["events"], calls["last_done_at"]) == ("call_the_signer", ["KBA_FAILURE"], None)
    assert (deals["name"], deals["events"]) == ("close_deal", ["PACKAGE_COMPLETE", "PACKAGE_DECLINE"])
    assert (deals["parked"], deals["due"], deals["running"], deals["last_done_at"]) == (4, 0, 0, None)
    assert (notes["events"], notes["parked"], notes["last_done_at"]) == (["*"], 0, "2026-03-02T12:00:00Z")
    assert all_items(api_get, "/api/handlers", limit=1) == [calls, deals, notes]


def test_deleted_handler_is_listed_while_it_has_dispatches(api_get, crm, send_callback, work, service):
    """A deleted handler is listed while its dispatches wait, with null instead of event names."""
    del crm._functions["close_deal"]

    (deals,) = [handler for handler in api_get("/api/handlers").json["items"] if handler["name"] == "close_deal"]

    assert (deals["events"], deals["parked"]) == (None, 4)


def test_counting_stops_at_counted_to(api_get, crm, monkeypatch):
    """Dispatches are counted up to a limit, which the answer contains as `counted_to`."""
    for module in (bounded, reads):
        monkeypatch.setattr(module, "COUNT_LIMIT", 3)

    deals = api_get("/api/handlers").json["items"][1]

    assert (deals["parked"], deals["counted_to"]) == (3, 3)


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ({}, 13),
        ({"handler": "close_deal"}, 4),
        ({"handler": "write_note"}, 9),
        ({"handler": "unknown"}, 0),
        ({"state": "parked"}, 4),
        ({"state": "done"}, 8),
        ({"state": "discarded"}, 1),
        ({"state": "due"}, 0),
        ({"name": "PACKAGE_CREATE"}, 4),
        ({"name": "PACKAGE_COMPLETE"}, 8),
        ({"name": "PACKAGE_COMPLETE", "state": "done"}, 4),
        ({"name": "PACKAGE_COMPLETE", "state": "parked"}, 4),
        ({"name": "PACKAGE_CREATE", "state": "parked"}, 0),
        ({"package": "pkg-0"}, 4),
        ({"package": "pkg-0", "state": "parked"}, 1),
        ({"package": "pkg-0", "handler": "write_note", "name": "PACKAGE_TRASH"}, 1),
        ({"handler": "write_note", "state": "discarded"}, 1),
        ({"handler": "close_deal", "name": "PACKAGE_CREATE"}, 0),
    ],
    ids=str,
)
@on_both
def test_dispatches_are_filtered_and_paged(api_get, crm, query, number):
    """Pages of any size contain each dispatch once, and dispatches for the newest events come first."""
    whole = api_get("/api/dispatches", **query).json

    assert (len(whole["items"]), whole["next"]) == (number, None)
    assert all_items(api_get, "/api/dispatches", limit=3, **query) == whole["items"]
    keys = [(run["event_id"], run["id"]) for run in whole["items"]]
    assert keys == sorted(set(keys), reverse=True)


def test_pages_of_rare_dispatches_are_full(api_get, crm):
    """Filters apply before the page is cut, so a page of rare dispatches is full."""
    first = api_get("/api/dispatches", handler="write_note", name="PACKAGE_CREATE", limit=3).json
    rest = api_get("/api/dispatches", handler="write_note", name="PACKAGE_CREATE", limit=3, cursor=first["next"]).json

    assert [run["package_id"] for run in first["items"]] == ["pkg-3", "pkg-2", "pkg-1"]
    assert ([run["package_id"] for run in rest["items"]], rest["next"]) == (["pkg-0"], None)


def test_dispatch_contains_its_event(api_get, crm):
    """A dispatch has the name, package and time of its event, so a client needs no second request."""
    listed = api_get("/api/dispatches", state="parked").json["items"][0]
    event = api_get(f"/api/events/{listed['event_id']}").json

    assert api_get(f"/api/dispatches/{listed['id']}").json == listed
    assert (listed["event_name"], listed["package_id"]) == (event["name"], event["package_id"])
    assert (listed["happened_at"], listed["error"]) == (event["happened_at"], "the CRM knows no deal for this package")
    assert api_get("/api/dispatches/999").status_code == 404


def test_matching_parked_dispatches_are_counted_then_replayed(api_get, api_post, crm, work):
    """A replay makes all matching parked dispatches due, with all their attempts, and no other dispatches."""
    chosen = {"handler": "close_deal", "since": "2026-03-02T09:00:00Z"}
    counted = api_post("/api/dispatches/replay", **chosen, dry_run=True).json
    assert (counted, len(dispatches(api_get("/api/dispatches", state="parked")))) == ({"count": 3, "more": False}, 4)

    made = api_post("/api/dispatches/replay", **chosen, expect=counted["count"])

    assert made.json == {"count": 3, "more": False}
    assert sorted(package for *_, package in dispatches(api_get("/api/dispatches", state="due"))) == [
        "pkg-1",
        "pkg-2",
        "pkg-3",
    ]
    assert [item["package_id"] for item in api_get("/api/attention", reason="PARKED_HANDLER").json["items"]] == [
        "pkg-0"
    ]
    assert api_get("/api/changes", after=0, limit=200).json["items"][-1]["attribute"] == "attention PARKED_HANDLER"
    work()
    assert len(dispatches(api_get("/api/dispatches", state="parked"))) == 4


def test_replay_of_more_dispatches_than_expected_is_refused(api_get, api_post, crm, send_callback, work):
    """A replay is refused if more dispatches match than the client expects, but not if fewer match."""
    send_callback("PACKAGE_DECLINE", package="pkg-9", sessionUser="ben")
    work()

    refused = api_post("/api/dispatches/replay", handler="close_deal", expect=4)

    assert (refused.status_code, refused.json["error"]["code"]) == (409, "more_than_expected")
    assert "5, not 4" in refused.json["error"]["message"]
    assert dispatches(api_get("/api/dispatches", state="due")) == []
    assert api_post("/api/dispatches/replay", handler="close_deal", expect=6).json["count"] == 5


def test_dispatch_parked_after_the_count_is_not_replayed(api_get, api_post, crm, send_callback, work, *, monkeypatch):
    """A dispatch that is parked after the count is not replayed, whether it is new or existed at the count."""
    make_due = replay.replay
    send_callback("PACKAGE_DECLINE", package="pkg-8", sessionUser="ben")
    work()
    (newest,) = api_get("/api/dispatches", package="pkg-8", state="parked").json["items"]
    (other,) = api_get("/api/dispatches", package="pkg-0", state="parked").json["items"]
    for run in (newest, other):
        api_post(f"/api/dispatches/{run['id']}/replay")

    def park_and_make_due(*args: Any, **more: Any) -> int:
        send_callback("PACKAGE_DECLINE", package="pkg-9", sessionUser="ben")
        work()
        assert len(dispatches(api_get("/api/dispatches", state="parked"))) == 6
        return make_due(*args, **more)

    monkeypatch.setattr(replay, "replay", park_and_make_due)

    assert api_post("/api/dispatches/replay", handler="close_deal", expect=3).json == {"count": 3, "more": False}
    assert sorted(package for *_, package in dispatches(api_get("/api/dispatches", state="parked"))) == [
        "pkg-0",
        "pkg-8",
        "pkg-9",
    ]


def test_too_many_dispatches_for_one_request_are_refused(api_get, api_post, crm, monkeypatch):
    """If too many dispatches match, an API request replays none of them; `flask replay` has no limit."""
    monkeypatch.setattr(actions, "MAX_REPLAYED", 3)

    assert api_post("/api/dispatches/replay", dry_run=True).json == {"count": 3, "more": True}
    refused = api_post("/api/dispatches/replay")

    assert (refused.status_code, refused.json["error"]["code"]) == (409, "too_many")
    assert dispatches(api_get("/api/dispatches", state="due")) == []


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"state": "running"}, "state"),
        ({"handlers": "x"}, "handlers"),
        ({"expect": -1}, "expect"),
        ({"until": 7}, "until"),
    ],
)
def test_misspelled_replay_filter_is_refused(api_get, api_post, crm, members, named):
    """A replay with a misspelled filter is refused, because it must not replay everything."""
    answer = api_post("/api/dispatches/replay", **members)

    assert answer.status_code == 400
    assert answer.json["error"]["message"].startswith(f"{named}:")
    assert dispatches(api_get("/api/dispatches", state="due")) == []


def test_replay_times_are_times_of_onespan(api_get, api_post, crm, clock):
    """The replay filters `since` and `until` compare with `happened_at`, not with the time of receipt."""
    clock.forward(timedelta(days=1))

    assert api_post("/api/dispatches/replay", until="2026-03-02T08:30:00Z", dry_run=True).json["count"] == 1
