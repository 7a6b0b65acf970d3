"""The API endpoints that list packages needing attention, and that count packages and attention reasons."""

import json
from typing import Any

import pytest

from app.handling import GiveUp, Handlers
from app.store import journal
from app.store.journal import Entry
from app.store.queries import attention, bounded
from app.store.queries.paging import write_cursor
from tests.conftest import ADA, BEN, CLEO, HOUR, NOON, on_both, onespan_time


@pytest.fixture
def packages_with_issues(send_callback, work, handlers: Handlers, service) -> None:
    """Packages that together have every attention reason; `lease` has two reasons with the same time."""

    @handlers.on("PACKAGE_ACTIVATE")
    def update_crm(event, package) -> None:
        raise GiveUp("no answer\nwith a traceback")

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
    signed = onespan_time(NOON - 10 * HOUR)
    requirements = [
        {"id": "a1", "name": "id.pdf", "required": True, "status": "REJECTED"},
        {"id": "a2", "name": "visa.pdf", "required": True, "status": "INCOMPLETE"},
    ]
    files = {
        **lease,
        "id": "files",
        "documents": [{"id": "d", "approvals": [{"id": "a", "role": "role-1", "signed": signed, "fields": []}]}],
        "roles": [{**lease["roles"][0], "attachmentRequirements": requirements}],
    }
    with service.database.write() as connection:
        for shown, hours in ((lease, 9), (files, 8)):
            body, read_at = json.dumps(shown).encode(), NOON - hours * HOUR
            journal.add(connection, [Entry("snapshot", NOON, body, package_id=shown["id"], read_at=read_at)])
    send_callback("EMAIL_BOUNCE", package="away", sessionUser=ADA, message="OOTO", happened_at=NOON - 10 * HOUR)
    send_callback("SIGNER_COMPLETE", package="away", sessionUser=BEN, happened_at=NOON - 11 * HOUR)
    send_callback("KBA_FAILURE", package="lease", sessionUser=BEN, happened_at=NOON - 2 * HOUR)
    send_callback("EMAIL_BOUNCE", package="lease", sessionUser=BEN, message="BOUNCE", happened_at=NOON - 2 * HOUR)
    send_callback("SIGNER_LOCKED", package="locked", sessionUser=ADA, happened_at=NOON - 3 * HOUR)
    send_callback(
        "PACKAGE_DECLINE", package="declined", sessionUser=BEN, message="too dear", happened_at=NOON - 4 * HOUR
    )
    send_callback("PACKAGE_EXPIRE", package="expired", happened_at=NOON - 5 * HOUR)
    send_callback("PACKAGE_READY_FOR_COMPLETE", package="ready", happened_at=NOON - 6 * HOUR)
    send_callback("PACKAGE_ACTIVATE", package="parked", happened_at=NOON - 7 * HOUR)
    work()


def reasons(answer: Any) -> list[tuple[str, str]]:
    """The package id and the attention reason of each item in a list."""
    return [(item["package_id"], item["reason"]) for item in answer.json["items"]]


ALL = [
    ("parked", "PARKED_HANDLER"),  # the time of this item is now, when the handler failed
    ("lease", "EMAIL_BOUNCE"),
    ("lease", "KBA_FAILURE"),
    ("locked", "SIGNER_LOCKED"),
    ("declined", "DECLINED"),
    ("expired", "EXPIRED"),
    ("ready", "READY_FOR_COMPLETION"),
    ("files", "ATTACHMENT_MISSING"),
    ("files", "ATTACHMENT_REJECTED"),
    ("away", "OUT_OF_OFFICE"),
]


def test_attention_list_is_newest_first(api_get, packages_with_issues):
    """The attention list is sorted newest first and can be filtered by reason."""
    assert reasons(api_get("/api/attention")) == ALL
    for package, reason in ALL:
        assert reasons(api_get("/api/attention", reason=reason)) == [(package, reason)]
    assert api_get("/api/attention", reason="BORED").status_code == 400


def test_item_has_the_person_and_the_package(api_get, packages_with_issues):
    """An attention item has enough data to show it on one line of a page, and to replay its parked dispatch."""
    bounce = api_get("/api/attention", reason="EMAIL_BOUNCE").json["items"][0]
    parked = api_get("/api/attention", reason="PARKED_HANDLER").json["items"][0]

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
    assert (parked["who"], parked["who_name"], parked["detail"]) == ("update_crm", None, "no answer")
    assert api_get(f"/api/dispatches/{parked['dispatch_id']}").json["state"] == "parked"


def test_attention_list_is_paged(api_get, packages_with_issues, service):
    """The pages of the attention list contain each item once, including items with equal or unknown times."""
    with service.database.write() as connection:
        connection.exec_driver_sql("UPDATE attention SET since = NULL WHERE package_id IN ('ready', 'expired')")

    for limit in (1, 2, 3, 50):
        paged, cursor = [], {}
        for _ in range(20):
            page = api_get("/api/attention", limit=limit, **cursor)
            paged += reasons(page)
            if page.json["next"] is None:
                break
            cursor = {"cursor": page.json["next"]}
        dated = [item for item in ALL if item[0] not in ("ready", "expired")]
        undated = [("ready", "READY_FOR_COMPLETION"), ("expired", "EXPIRED")]
        assert paged == [*dated, *undated]  # items without a time are sorted by id, descending
    assert api_get("/api/attention", cursor="7").status_code == 400


def test_parked_dispatches_with_equal_times_are_paged(api_get, handlers, send_callback, work):
    """The pages of the attention list contain each parked dispatch once, even if all failed at the same time."""

    @handlers.on("*")
    def fail(event, package) -> None:
        raise GiveUp("no")

    for name in ("PACKAGE_CREATE", "PACKAGE_ACTIVATE", "PACKAGE_TRASH"):
        for package in ("pkg-1", "pkg-2"):
            send_callback(name, package=package)
    work()
    whole = [item["dispatch_id"] for item in api_get("/api/attention").json["items"]]
    first = api_get("/api/attention", limit=2).json
    second = api_get("/api/attention", limit=2, cursor=first["next"]).json
    third = api_get("/api/attention", limit=2, cursor=second["next"]).json

    assert sorted(whole) == [1, 2, 3, 4, 5, 6]
    assert [item["dispatch_id"] for page in (first, second, third) for item in page["items"]] == whole
    assert third["next"] is None


def test_items_are_counted_by_reason_up_to_a_limit(api_get, packages_with_issues, send_callback, work, monkeypatch):
    """The attention counts have a number for every reason, up to the limit `counted_to`."""
    send_callback("PACKAGE_DECLINE", package="declined-2", sessionUser=BEN)
    work()
    counts = api_get("/api/attention/counts").json

    assert counts == {"reasons": {**dict.fromkeys(attention.REASONS, 1), "DECLINED": 2}, "counted_to": 500}
    monkeypatch.setattr(bounded, "COUNT_LIMIT", 1)
    assert api_get("/api/attention/counts").json["reasons"]["DECLINED"] == 1


def test_resolved_item_disappears(api_get, packages_with_issues, send_callback, work):
    """Later events of a package resolve its attention items, which then leave the list."""
    send_callback("PACKAGE_COMPLETE", package="ready")
    send_callback("PACKAGE_TRASH", package="expired")
    work()

    assert reasons(api_get("/api/attention")) == [item for item in ALL if item[0] not in ("ready", "expired")]


def test_packages_are_counted_by_kind(api_get, packages_with_issues):
    """The API counts packages by status and trash flag, and a page shows these counts in its filters."""
    counts = {(count["status"], count["trashed"]): count["number"] for count in api_get("/api/counts").json["packages"]}

    assert counts[("DECLINED", False)] == counts[("EXPIRED", False)] == 1
    assert sum(counts.values()) == 8


@on_both
@pytest.mark.parametrize("number", [2**31, -(2**31) - 1, 2**62, -(2**62)])
def test_cursor_with_a_large_number_is_accepted(api_get, packages_with_issues, number):
    """A cursor may contain a number of more than 32 bits, because parked dispatches are sorted by dispatch id."""
    for since in ("2026-03-02T12:00:00+00:00", None):
        for reason in ({}, {"reason": "DECLINED"}, {"reason": "PARKED_HANDLER"}):
            assert api_get("/api/attention", cursor=write_cursor(since, "pkg-1", number), **reason).status_code == 200
