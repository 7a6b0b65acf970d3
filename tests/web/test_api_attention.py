"""What needs a person's hand, of all packages."""

import json
from typing import Any

import pytest

from app.handling import GiveUp, Handlers
from app.store import journal
from app.store.journal import Entry
from app.store.queries import attention, bounded
from app.store.queries.paging import write_cursor
from tests.conftest import ADA, BEN, CLEO, HOUR, NOON, on_both


@pytest.fixture
def needy(tell, work, handlers: Handlers, service) -> None:
    """Packages that need a hand, each for another reason; one for two at the same instant."""

    @handlers.on("PACKAGE_ACTIVATE")
    def tell_the_crm(event, package) -> None:
        raise GiveUp("nobody answers\nwith a traceback")

    lease = {
        "id": "lease",
        "name": "Lease",
        "status": "SENT",
        "sender": {"id": CLEO, "firstName": "Cleo", "email": "cleo@example.com"},
        "due": "2026-03-05T12:00:00Z",
        "documents": [],
        "roles": [
            {
                "id": "role-1",
                "index": 1,
                "type": "SIGNER",
                "signers": [{"id": BEN, "firstName": "Ben", "lastName": "Signer"}],
            }
        ],
    }
    with service.database.write() as connection:
        body = json.dumps(lease).encode()
        journal.add(connection, [Entry("snapshot", NOON, body, package_id="lease", read_at=NOON - 9 * HOUR)])
    tell("KBA_FAILURE", package="lease", sessionUser=BEN, happened_at=NOON - 2 * HOUR)
    tell("EMAIL_BOUNCE", package="lease", sessionUser=BEN, message="BOUNCE", happened_at=NOON - 2 * HOUR)
    tell("SIGNER_LOCKED", package="locked", sessionUser=ADA, happened_at=NOON - 3 * HOUR)
    tell("PACKAGE_DECLINE", package="declined", sessionUser=BEN, message="too dear", happened_at=NOON - 4 * HOUR)
    tell("PACKAGE_EXPIRE", package="expired", happened_at=NOON - 5 * HOUR)
    tell("PACKAGE_READY_FOR_COMPLETE", package="ready", happened_at=NOON - 6 * HOUR)
    tell("PACKAGE_ACTIVATE", package="parked", happened_at=NOON - 7 * HOUR)
    work()


def reasons(answer: Any) -> list[tuple[str, str]]:
    """Package and reason of what a list shows."""
    return [(one["package_id"], one["reason"]) for one in answer.json["items"]]


ALL = [
    ("parked", "PARKED_HANDLER"),  # since now: it is the handler that failed
    ("lease", "EMAIL_BOUNCE"),
    ("lease", "KBA_FAILURE"),
    ("locked", "SIGNER_LOCKED"),
    ("declined", "DECLINED"),
    ("expired", "EXPIRED"),
    ("ready", "READY_FOR_COMPLETION"),
]


def test_what_needs_a_hand_is_listed_newest_first(ask, needy):
    """All of it, or one reason's."""
    assert reasons(ask("/api/attention")) == ALL
    for package, reason in ALL:
        assert reasons(ask("/api/attention", reason=reason)) == [(package, reason)]
    assert ask("/api/attention", reason="BORED").status_code == 400


def test_it_says_whom_it_is_about_and_what_is_known(ask, needy):
    """Enough for a line of a page, and for replaying what is parked."""
    bounce = ask("/api/attention", reason="EMAIL_BOUNCE").json["items"][0]
    parked = ask("/api/attention", reason="PARKED_HANDLER").json["items"][0]

    assert bounce == {
        "package_id": "lease",
        "package_name": "Lease",
        "status": "SENT",
        "sender": {"id": CLEO, "name": "Cleo", "email": "cleo@example.com"},
        "due_at": "2026-03-05T12:00:00Z",
        "reason": "EMAIL_BOUNCE",
        "since": "2026-03-02T10:00:00Z",
        "who": BEN,
        "who_name": "Ben Signer",
        "detail": "BOUNCE",
        "dispatch_id": None,
    }
    assert (parked["who"], parked["who_name"], parked["detail"]) == ("tell_the_crm", None, "nobody answers")
    assert ask(f"/api/dispatches/{parked['dispatch_id']}").json["state"] == "parked"


def test_it_is_paged(ask, needy, service):
    """Each once, two of the same instant and those of an unknown time too."""
    with service.database.write() as connection:
        connection.exec_driver_sql("UPDATE attention SET since = NULL WHERE package_id IN ('ready', 'expired')")

    for limit in (1, 2, 3, 50):
        walked, cursor = [], {}
        for _ in range(10):
            page = ask("/api/attention", limit=limit, **cursor)
            walked += reasons(page)
            if page.json["next"] is None:
                break
            cursor = {"cursor": page.json["next"]}
        assert walked == [*ALL[:-2], ALL[-1], ALL[-2]]  # of those the id decides, and the last comes first
    assert ask("/api/attention", cursor="7").status_code == 400


def test_many_parked_runs_of_one_instant_are_paged(ask, handlers, tell, work):
    """Each once."""

    @handlers.on("*")
    def fail(event, package) -> None:
        raise GiveUp("no")

    for name in ("PACKAGE_CREATE", "PACKAGE_ACTIVATE", "PACKAGE_TRASH"):
        for package in ("pkg-1", "pkg-2"):
            tell(name, package=package)
    work()
    whole = [one["dispatch_id"] for one in ask("/api/attention").json["items"]]
    first = ask("/api/attention", limit=2).json
    second = ask("/api/attention", limit=2, cursor=first["next"]).json
    third = ask("/api/attention", limit=2, cursor=second["next"]).json

    assert sorted(whole) == [1, 2, 3, 4, 5, 6]
    assert [one["dispatch_id"] for page in (first, second, third) for one in page["items"]] == whole
    assert third["next"] is None


def test_it_is_counted_by_reason_up_to_a_number(ask, needy, tell, work, monkeypatch):
    """A reason of which there is none is there with a zero."""
    tell("PACKAGE_DECLINE", package="declined-2", sessionUser=BEN)
    work()
    counts = ask("/api/attention/counts").json

    assert counts == {"reasons": {**dict.fromkeys(attention.REASONS, 1), "DECLINED": 2}, "counted_to": 500}
    monkeypatch.setattr(bounded, "COUNTED", 1)
    assert ask("/api/attention/counts").json["reasons"]["DECLINED"] == 1


def test_what_is_solved_is_no_longer_there(ask, needy, tell, work):
    """It goes by itself."""
    tell("PACKAGE_COMPLETE", package="ready")
    tell("PACKAGE_TRASH", package="expired")
    work()

    assert reasons(ask("/api/attention")) == ALL[:5]


def test_packages_are_counted_by_kind(ask, needy):
    """For the filter on top of a list."""
    counted = {(one["status"], one["trashed"]): one["number"] for one in ask("/api/counts").json["packages"]}

    assert counted[("DECLINED", False)] == counted[("EXPIRED", False)] == 1
    assert sum(counted.values()) == 6


@on_both
@pytest.mark.parametrize("place", [2**31, -(2**31) - 1, 2**62, -(2**62)])
def test_a_cursor_of_another_reason_may_have_a_large_number(ask, needy, place):
    """Runs of handlers are sorted by theirs, which grow beyond what other reasons have."""
    for since in ("2026-03-02T12:00:00+00:00", None):
        for reason in ({}, {"reason": "DECLINED"}, {"reason": "PARKED_HANDLER"}):
            assert ask("/api/attention", cursor=write_cursor(since, "pkg-1", place), **reason).status_code == 200
