"""Handlers and their runs, as the API shows them; and replay of many."""

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
def crm(handlers: Handlers, tell, work) -> Handlers:
    """Three handlers; of one all runs are parked, of another some are discarded."""

    @handlers.on("PACKAGE_COMPLETE", "PACKAGE_DECLINE")
    def close_deal(event, package) -> None:
        raise GiveUp("the CRM knows no deal for this package")

    @handlers.on("*")
    def note(event, package) -> None:
        if event.name == "PACKAGE_TRASH":
            raise Discard("nothing to do")

    @handlers.on("KBA_FAILURE")
    def call_the_signer(event, package) -> None:
        """Nobody failed yet."""

    for number in range(4):
        tell("PACKAGE_CREATE", package=f"pkg-{number}", happened_at=NOON - (9 - number) * HOUR)
        tell("PACKAGE_COMPLETE", package=f"pkg-{number}", happened_at=NOON - (4 - number) * HOUR)
    tell("PACKAGE_TRASH", package="pkg-0")
    work()
    return handlers


def told(answer: Any) -> list[tuple[str, str, str]]:
    """Handler, event and package of the runs that a list shows."""
    return [(one["handler"], one["event_name"], one["package_id"]) for one in answer.json["items"]]


def walk(ask: Any, path: str, **query: Any) -> list[Any]:
    """All items of a list, read page by page."""
    items, cursor = [], {}
    for _ in range(100):
        page = ask(path, **query, **cursor).json
        items += page["items"]
        if page["next"] is None:
            return items
        cursor = {"cursor": page["next"]}
    raise AssertionError("the pages have no end")


def test_a_handler_is_shown_with_its_events_and_how_its_runs_stand(ask, crm):
    """One that never ran, too."""
    called, deals, note = ask("/api/handlers").json["items"]

    assert (called["name"], called["events"], called["last_done_at"]) == ("call_the_signer", ["KBA_FAILURE"], None)
    assert (deals["name"], deals["events"]) == ("close_deal", ["PACKAGE_COMPLETE", "PACKAGE_DECLINE"])
    assert (deals["parked"], deals["due"], deals["running"], deals["last_done_at"]) == (4, 0, 0, None)
    assert (note["events"], note["parked"], note["last_done_at"]) == (["*"], 0, "2026-03-02T12:00:00Z")
    assert walk(ask, "/api/handlers", limit=1) == [called, deals, note]


def test_a_handler_that_was_deleted_is_shown_while_it_has_runs(ask, crm, tell, work, service):
    """Nobody listens under its name any more; what it owes waits."""
    del crm._functions["close_deal"]

    (deals,) = [one for one in ask("/api/handlers").json["items"] if one["name"] == "close_deal"]

    assert (deals["events"], deals["parked"]) == (None, 4)


def test_counting_ends_somewhere(ask, crm, monkeypatch):
    """And the answer says where."""
    for module in (bounded, reads):
        monkeypatch.setattr(module, "COUNTED", 3)

    deals = ask("/api/handlers").json["items"][1]

    assert (deals["parked"], deals["counted_to"]) == (3, 3)


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ({}, 13),
        ({"handler": "close_deal"}, 4),
        ({"handler": "note"}, 9),
        ({"handler": "nobody"}, 0),
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
        ({"package": "pkg-0", "handler": "note", "name": "PACKAGE_TRASH"}, 1),
        ({"handler": "note", "state": "discarded"}, 1),
        ({"handler": "close_deal", "name": "PACKAGE_CREATE"}, 0),
    ],
    ids=str,
)
@on_both
def test_runs_are_filtered_and_paged(ask, crm, query, number):
    """Those for the newest events first, each once, whatever the size of a page."""
    whole = ask("/api/dispatches", **query).json

    assert (len(whole["items"]), whole["next"]) == (number, None)
    assert walk(ask, "/api/dispatches", limit=3, **query) == whole["items"]
    places = [(one["event_id"], one["id"]) for one in whole["items"]]
    assert places == sorted(set(places), reverse=True)


def test_pages_of_what_is_rare_are_full(ask, crm):
    """Whatever else the handler ran for."""
    first = ask("/api/dispatches", handler="note", name="PACKAGE_CREATE", limit=3).json
    rest = ask("/api/dispatches", handler="note", name="PACKAGE_CREATE", limit=3, cursor=first["next"]).json

    assert [run["package_id"] for run in first["items"]] == ["pkg-3", "pkg-2", "pkg-1"]
    assert ([run["package_id"] for run in rest["items"]], rest["next"]) == (["pkg-0"], None)


def test_a_run_is_shown_with_its_event(ask, crm):
    """So that one need not ask twice."""
    listed = ask("/api/dispatches", state="parked").json["items"][0]
    event = ask(f"/api/events/{listed['event_id']}").json

    assert ask(f"/api/dispatches/{listed['id']}").json == listed
    assert (listed["event_name"], listed["package_id"]) == (event["name"], event["package_id"])
    assert (listed["happened_at"], listed["error"]) == (event["happened_at"], "the CRM knows no deal for this package")
    assert ask("/api/dispatches/999").status_code == 404


def test_all_parked_runs_that_fit_are_counted_and_then_replayed(ask, send, crm, work):
    """They are due with all their attempts before them; nothing else is."""
    chosen = {"handler": "close_deal", "since": "2026-03-02T09:00:00Z"}
    counted = send("/api/dispatches/replay", **chosen, dry_run=True).json
    assert (counted, len(told(ask("/api/dispatches", state="parked")))) == ({"count": 3, "more": False}, 4)

    made = send("/api/dispatches/replay", **chosen, expect=counted["count"])

    assert made.json == {"count": 3, "more": False}
    assert sorted(package for *_, package in told(ask("/api/dispatches", state="due"))) == ["pkg-1", "pkg-2", "pkg-3"]
    assert [one["package_id"] for one in ask("/api/attention", reason="PARKED_HANDLER").json["items"]] == ["pkg-0"]
    assert ask("/api/changes", after=0, limit=200).json["items"][-1]["attribute"] == "attention PARKED_HANDLER"
    work()
    assert len(told(ask("/api/dispatches", state="parked"))) == 4


def test_no_more_are_replayed_than_were_counted(ask, send, crm, tell, work):
    """Whoever said yes to four has not said yes to five; fewer are fine."""
    tell("PACKAGE_DECLINE", package="pkg-9", sessionUser="ben")
    work()

    refused = send("/api/dispatches/replay", handler="close_deal", expect=4)

    assert (refused.status_code, refused.json["error"]["code"]) == (409, "more_than_expected")
    assert "5, not 4" in refused.json["error"]["message"]
    assert told(ask("/api/dispatches", state="due")) == []
    assert send("/api/dispatches/replay", handler="close_deal", expect=6).json["count"] == 5


def test_what_is_parked_after_the_count_is_not_replayed(ask, send, crm, tell, work, monkeypatch):  # noqa: PLR0917  (pytest passes them by name)
    """Whether it was owed before the count or came later."""
    make_due = replay.replay
    tell("PACKAGE_DECLINE", package="pkg-8", sessionUser="ben")
    work()
    (newest,) = ask("/api/dispatches", package="pkg-8", state="parked").json["items"]
    (other,) = ask("/api/dispatches", package="pkg-0", state="parked").json["items"]
    for one in (newest, other):
        send(f"/api/dispatches/{one['id']}/replay")

    def park_and_make_due(*args: Any, **more: Any) -> int:
        tell("PACKAGE_DECLINE", package="pkg-9", sessionUser="ben")
        work()
        assert len(told(ask("/api/dispatches", state="parked"))) == 6
        return make_due(*args, **more)

    monkeypatch.setattr(replay, "replay", park_and_make_due)

    assert send("/api/dispatches/replay", handler="close_deal", expect=3).json == {"count": 3, "more": False}
    assert sorted(package for *_, package in told(ask("/api/dispatches", state="parked"))) == [
        "pkg-0",
        "pkg-8",
        "pkg-9",
    ]


def test_too_many_for_one_request_are_left_to_the_command(ask, send, crm, monkeypatch):
    """Nothing is half done."""
    monkeypatch.setattr(actions, "AT_ONCE", 3)

    assert send("/api/dispatches/replay", dry_run=True).json == {"count": 3, "more": True}
    refused = send("/api/dispatches/replay")

    assert (refused.status_code, refused.json["error"]["code"]) == (409, "too_many")
    assert told(ask("/api/dispatches", state="due")) == []


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"state": "running"}, "state"),
        ({"handlers": "x"}, "handlers"),
        ({"expect": -1}, "expect"),
        ({"until": 7}, "until"),
    ],
)
def test_a_misspelt_replay_replays_nothing(ask, send, crm, members, named):
    """It must not replay everything."""
    answer = send("/api/dispatches/replay", **members)

    assert answer.status_code == 400
    assert answer.json["error"]["message"].startswith(f"{named}:")
    assert told(ask("/api/dispatches", state="due")) == []


def test_the_hour_of_a_replay_is_onespans(ask, send, crm, clock):
    """`since` is about when it happened, not when we heard of it."""
    clock.forward(timedelta(days=1))

    assert send("/api/dispatches/replay", until="2026-03-02T08:30:00Z", dry_run=True).json["count"] == 1
