"""The JSON API: members of the answers, filters, paging, errors, and the OpenAPI document."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from jsonschema import Draft202012Validator
from sqlalchemy import text

from app import EXTENSION, create_app
from app.handling import Event, GiveUp, Handlers, Package
from app.store import journal
from app.store.journal import Entry
from config import Settings
from tests.conftest import ADA, BEN, CLEO, HOUR, NOON, TOKEN, Clock, on_both, on_sqlite, onespan_time
from tests.support.openapi_check import assert_documented

# The JSON members that clients rely on. New members may be added, but no member may be removed or renamed.
PACKAGE = (
    "id name type status status_at trashed deleted sender created_at updated_at due_at completed_at signers_total"
    " signers_completed attention documents signers next_signers last_event_at read_at"
)
SENDER = "id name email"
SIGNER = "id role_id name email order status status_at locked email_bounce kba_failures"
DOCUMENT = "id name signed_by signed_at"
EVENT = (
    "id name package_id signer_id document_id message happened_at first_received_at source repeats callbacks dispatches"
)
DISPATCH = "id handler state attempts due_at finished_at error"
CHANGE = "id package_id subject attribute old new happened_at recorded_at cause"
CAUSE = "kind id"
UTC_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")

PUBLIC_PATHS = ("/api/", "/api/openapi.json")

LEASE = {
    "id": "LWsUTvGg/E4WpOva=",
    "name": "Lease 100% for_Ada",
    "type": "PACKAGE",
    "status": "SENT",
    "trashed": False,
    "created": onespan_time(NOON - 9 * HOUR),
    "updated": onespan_time(NOON - 2 * HOUR),
    "due": onespan_time(NOON + 48 * HOUR),
    "sender": {"id": CLEO, "firstName": "Cleo", "lastName": "Sender", "email": "cleo@example.com"},
    "roles": [
        {
            "id": "role-1",
            "index": 1,
            "type": "SIGNER",
            "signers": [{"id": ADA, "firstName": "Ada", "lastName": "Signer", "email": "Ada@Example.com"}],
        },
        {"id": "role-2", "index": 2, "type": "SIGNER", "signers": [{"id": BEN, "firstName": "Ben", "email": "b@x.y"}]},
    ],
    "documents": [
        {
            "id": "doc-1",
            "name": "Lease",
            "approvals": [
                {"role": "role-1", "signed": onespan_time(NOON - 3 * HOUR)},
                {"role": "role-2", "signed": None},
            ],
        }
    ],
}


@pytest.fixture
def show(service: Any, clock: Clock) -> Callable[..., None]:
    """Add a snapshot of a package to the journal, as a fetch does. The snapshot is an hour old."""

    def show(**members: Any) -> None:
        entry = Entry("snapshot", clock(), json.dumps(members).encode(), package_id=members["id"], read_at=NOON - HOUR)
        with service.database.write() as connection:
            journal.add(connection, [entry])

    return show


@pytest.fixture
def lease(show: Any, send_callback: Any, work: Any, handlers: Handlers) -> str:
    """The id of a package with signers, documents, attention reasons, a parked dispatch and a repeated callback."""

    @handlers.on("EMAIL_BOUNCE")
    def notify_cleo(event: Event, package: Package) -> None:
        raise GiveUp("no answer")

    show(**LEASE)
    for _ in range(2):
        send_callback(
            "EMAIL_BOUNCE", package=LEASE["id"], sessionUser=BEN, message="BOUNCE", happened_at=NOON - HOUR / 2
        )
    send_callback("KBA_FAILURE", package=LEASE["id"], sessionUser=BEN, happened_at=NOON - HOUR / 4)
    work()
    return LEASE["id"]


def path_of(package_id: str) -> str:
    """The API path of a package."""
    return f"/api/packages/{quote(package_id, safe='')}"


def members(*pairs: tuple[str, Any]) -> Iterator[tuple[str, Any]]:
    """All (name, value) pairs of JSON members at every depth."""
    for name, value in pairs:
        yield name, value
        if isinstance(value, dict):
            yield from members(*value.items())
        elif isinstance(value, list):
            yield from members(*((name, item) for item in value))


def test_package_has_all_documented_members(api_get, lease):
    """The API answer for a package has every documented member, with the values that OneSpan reported."""
    shown = api_get(path_of(lease)).json

    assert set(PACKAGE.split()) <= set(shown)
    assert shown["id"] == lease
    assert (shown["name"], shown["type"], shown["status"]) == ("Lease 100% for_Ada", "PACKAGE", "SENT")
    assert (shown["trashed"], shown["deleted"]) == (False, False)
    assert shown["sender"] == {"id": CLEO, "name": "Cleo Sender", "email": "cleo@example.com"}
    assert shown["created_at"] == "2026-03-02T03:00:00Z"
    assert shown["due_at"] == "2026-03-04T12:00:00Z"
    assert shown["last_event_at"] == shown["updated_at"] == "2026-03-02T11:45:00Z"
    assert shown["read_at"] == "2026-03-02T11:00:00Z"
    assert (shown["signers_total"], shown["signers_completed"], shown["next_signers"]) == (2, 1, [BEN])
    ada, ben = shown["signers"]
    for signer in (ada, ben):
        assert set(SIGNER.split()) <= set(signer)
    assert (ada["id"], ada["role_id"], ada["name"], ada["email"]) == (ADA, "role-1", "Ada Signer", "Ada@Example.com")
    assert (ada["order"], ada["status"], ada["locked"], ada["email_bounce"]) == (1, "COMPLETED", False, None)
    assert (ben["order"], ben["status"], ben["email_bounce"], ben["kba_failures"]) == (2, "PENDING", "BOUNCE", 1)
    (document,) = shown["documents"]
    assert set(DOCUMENT.split()) <= set(document)
    assert (document["id"], document["name"], document["signed_by"]) == ("doc-1", "Lease", [ADA])
    assert document["signed_at"] == "2026-03-02T09:00:00Z"
    assert [(item["reason"], item["since"], item["who"]) for item in shown["attention"]] == [
        ("KBA_FAILURE", "2026-03-02T11:45:00Z", BEN),
        ("EMAIL_BOUNCE", "2026-03-02T11:30:00Z", BEN),
        ("PARKED_HANDLER", "2026-03-02T12:00:00Z", "notify_cleo"),
    ]
    assert api_get("/api/packages").json == {"items": [shown], "next": None, "previous": None, "timed_out": False}


def test_event_has_all_documented_members(api_get, lease):
    """The API answer for an event includes the callbacks and the dispatches of the event."""
    listed = api_get("/api/events", name="EMAIL_BOUNCE").json
    (event,) = listed["items"]

    assert set(listed) == {"items", "next", "previous"}
    assert set(EVENT.split()) <= set(event)
    assert (event["name"], event["package_id"], event["signer_id"]) == ("EMAIL_BOUNCE", lease, BEN)
    assert (event["document_id"], event["message"], event["source"]) == (None, "BOUNCE", "callback")
    assert (event["happened_at"], event["first_received_at"]) == ("2026-03-02T11:30:00Z", "2026-03-02T12:00:00Z")
    assert event["repeats"] == 1
    assert [callback["key"] for callback in event["callbacks"]] == ["test", "test"]
    assert json.loads(event["callbacks"][0]["body"])["sessionUser"] == BEN
    (dispatch,) = event["dispatches"]
    assert set(DISPATCH.split()) <= set(dispatch)
    assert (dispatch["handler"], dispatch["state"], dispatch["attempts"]) == ("notify_cleo", "parked", 1)
    assert dispatch["error"] == "no answer"
    assert dispatch["finished_at"] == "2026-03-02T12:00:00Z"
    assert api_get(f"/api/events/{event['id']}").json == event


def test_law_8_every_change_has_a_cause_that_can_be_read(api_get, lease):
    """Every change in a package's history names its cause; for a callback, the cause is the callback's journal id."""
    history = api_get(f"{path_of(lease)}/history").json
    feed = api_get("/api/changes").json

    assert history["items"] == feed["items"]
    for change in history["items"]:
        assert set(CHANGE.split()) <= set(change)
        assert set(CAUSE.split()) <= set(change["cause"])
        assert change["package_id"] == lease
    journal_ids = [callback["id"] for event in api_get("/api/events").json["items"] for callback in event["callbacks"]]
    by_kind = {change["cause"]["kind"]: change for change in history["items"]}
    assert set(by_kind) == {"callback", "snapshot", "dispatch"}
    assert by_kind["callback"]["cause"]["id"] in journal_ids
    ids = [change["id"] for change in history["items"]]
    assert ids == sorted(ids)
    assert ("package", "status", None, "SENT") in {
        (change["subject"], change["attribute"], change["old"], change["new"])
        for change in history["items"]
        if change["attribute"] == "status"
    }


def test_times_are_utc_with_a_z_and_keep_their_microseconds(api_get, send_callback, work, *, show, lease, clock):
    """On both databases, all times in API answers are ISO 8601 in UTC and keep their microseconds."""
    clock.forward(timedelta(microseconds=123456))
    send_callback("PACKAGE_TRASH", package="pkg-1", happened_at=NOON - timedelta(milliseconds=1))
    show(**{**LEASE, "due": "2026-03-05T13:30:00.250+01:00"})
    work()

    for path in ("/api/packages", "/api/events", "/api/changes", path_of("pkg-1"), f"{path_of(lease)}/history"):
        for name, value in members(("answer", api_get(path).json)):
            if (name.endswith("_at") or name == "since") and value is not None:
                assert UTC_TIME.fullmatch(value), (path, name, value)
    trashed = api_get(f"{path_of('pkg-1')}/history").json["items"][0]
    assert trashed["happened_at"] == "2026-03-02T11:59:59.999000Z"
    assert trashed["recorded_at"] == "2026-03-02T12:00:00.123456Z"
    assert api_get(path_of("pkg-1")).json["updated_at"] == "2026-03-02T11:59:59.999000Z"


def test_old_and_new_times_of_a_change_have_a_z(api_get, lease):
    """The old and new values of a changed due date are times in UTC that end with Z."""
    (due,) = [change for change in api_get("/api/changes").json["items"] if change["attribute"] == "due_at"]

    assert (due["old"], due["new"]) == (None, "2026-03-04T12:00:00Z")


@pytest.fixture
def listed(send_callback: Any, show: Any, work: Any, lease: str) -> Callable[..., list[str]]:
    """Add packages of every kind. Returns a function that gives the sorted package ids of an API answer."""
    send_callback(
        "PACKAGE_DECLINE", package="declined", sessionUser=BEN, message="too dear", happened_at=NOON - 5 * HOUR
    )
    send_callback("PACKAGE_TRASH", package="trashed", happened_at=NOON - 6 * HOUR)
    send_callback("PACKAGE_DELETE", package="deleted", happened_at=NOON - 7 * HOUR)
    send_callback("TEMPLATE_CREATE", package="template", happened_at=NOON - 8 * HOUR)
    send_callback("PACKAGE_EXPIRE", package="expired", happened_at=NOON - 8 * HOUR)
    send_callback("PACKAGE_HATCHED", package="egg", happened_at=NOON - 9 * HOUR)
    show(id="sibling", name="lease 100x forXada", status="COMPLETED", sender={"email": "Other@Example.com"})
    work()
    return lambda answer: sorted(item["id"] for item in answer.json["items"])


LEASE_ID = LEASE["id"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"status": "SENT"}, [LEASE_ID]),
        ({"status": ["SENT", "EXPIRED"]}, [LEASE_ID, "expired"]),
        ({"status": "sent"}, []),
        ({"trashed": "true"}, ["trashed"]),
        ({"trashed": "false", "deleted": "false"}, [LEASE_ID, "declined", "egg", "expired", "sibling", "template"]),
        ({"deleted": "true"}, ["deleted"]),
        ({"deleted": "1"}, ["deleted"]),
        ({"type": "TEMPLATE"}, ["template"]),
        ({"type": "PACKAGE"}, [LEASE_ID]),
        ({"q": "lease"}, [LEASE_ID, "sibling"]),
        ({"q": "LEASE 100"}, [LEASE_ID, "sibling"]),
        ({"q": "100%"}, [LEASE_ID]),
        ({"q": "for_a"}, [LEASE_ID]),
        ({"q": "\\"}, []),
        ({"q": "lwsutvgg/"}, [LEASE_ID]),
        ({"q": "CLEO@example"}, [LEASE_ID]),
        ({"q": "other@"}, ["sibling"]),
        ({"q": "ada signer"}, [LEASE_ID]),
        ({"q": "ada@EXAMPLE.com"}, [LEASE_ID]),
        ({"q": "nowhere"}, []),
        ({"signer": ADA}, [LEASE_ID]),
        ({"signer": ADA.upper()}, []),
        ({"signer": BEN}, [LEASE_ID, "declined"]),
        ({"signer": "ADA@example.COM"}, [LEASE_ID]),
        ({"signer": "ada@example"}, []),
        ({"attention": "any"}, [LEASE_ID, "declined", "expired"]),
        ({"attention": "KBA_FAILURE"}, [LEASE_ID]),
        ({"attention": "EMAIL_BOUNCE"}, [LEASE_ID]),
        ({"attention": "PARKED_HANDLER"}, [LEASE_ID]),
        ({"attention": "DECLINED"}, ["declined"]),
        ({"attention": "EXPIRED"}, ["expired"]),
        ({"attention": "SIGNER_LOCKED"}, []),
        ({"attention": "READY_FOR_COMPLETION"}, []),
        ({"updated_since": "2026-03-02T06:00:00Z"}, [LEASE_ID, "declined", "trashed"]),
        ({"updated_since": "2026-03-02T06:00:00.001Z"}, [LEASE_ID, "declined"]),
        ({"updated_since": "2026-03-02T07:00:00+01:00"}, [LEASE_ID, "declined", "trashed"]),
        ({"updated_since": "2026-03-02T07:00:00 01:00"}, [LEASE_ID, "declined", "trashed"]),
        ({"updated_since": "2026-03-02 06:00"}, [LEASE_ID, "declined", "trashed"]),
        ({"updated_since": "2026-03-03"}, []),
        ({"updated_until": "2026-03-02T06:00:00Z"}, ["deleted", "egg", "expired", "template", "trashed"]),
        ({"updated_since": "2026-03-02T05:00:00Z", "updated_until": "2026-03-02T06:00:00Z"}, ["deleted", "trashed"]),
        ({"created_since": "2026-03-01"}, [LEASE_ID, "template"]),
        ({"created_since": "2026-03-03"}, []),
        ({"created_until": "2026-03-03"}, [LEASE_ID, "template"]),
        ({"created_until": "2026-03-01"}, []),
        ({"status": "SENT", "attention": "any", "q": "lease", "trashed": "false", "signer": BEN}, [LEASE_ID]),
        ({"status": "SENT", "attention": "DECLINED"}, []),
    ],
    ids=str,
)
def test_packages_are_filtered(api_get, listed, query, found):
    """Each filter of the package list works alone and in combination with other filters."""
    assert listed(api_get("/api/packages", **query)) == sorted(found)


@on_both
def test_filters_find_the_same_packages_on_both_databases(api_get, listed):
    """The two databases treat case and wildcards differently, but the filters find the same packages."""
    for query, found in (
        ({"q": "LEASE 100"}, [LEASE_ID, "sibling"]),
        ({"q": "100%"}, [LEASE_ID]),
        ({"q": "for_a"}, [LEASE_ID]),
        ({"q": "\\"}, []),
        ({"signer": "ADA@example.COM"}, [LEASE_ID]),
        ({"signer": ADA.upper()}, []),
        ({"attention": "any"}, [LEASE_ID, "declined", "expired"]),
        ({"status": ["SENT", "EXPIRED"]}, [LEASE_ID, "expired"]),
        ({"status": "sent"}, []),
        ({"trashed": "true"}, ["trashed"]),
        ({"updated_since": "2026-03-02T06:00:00Z"}, [LEASE_ID, "declined", "trashed"]),
    ):
        assert listed(api_get("/api/packages", **query)) == sorted(found), query


def test_search_ignores_case_in_any_alphabet(show, work, api_get):
    """A search ignores the case of letters in any alphabet, including Cyrillic and accented letters."""
    show(id="pkg-1", name="Convention École über Ключ")
    work()

    for word in ("École", "école", "ÉCOLE", "über", "ÜBER", "ключ", "КЛЮЧ"):
        assert [package["id"] for package in api_get("/api/packages", q=word).json["items"]] == ["pkg-1"], word


def test_pages_contain_every_package_once_in_both_directions(api_get, show, work, listed):
    """Pages of any size contain every package once, in both directions; packages without a sort value come last."""
    for number in range(3):
        show(id=f"equal-{number}", name="equal", created=onespan_time(NOON - HOUR), due=onespan_time(NOON))
    work()

    def forwards(sort: str, limit: int) -> list[str]:
        """All package ids, read page by page from the first page."""
        ids: list[str] = []
        cursor: dict[str, str] = {}
        for _ in range(30):
            page = api_get("/api/packages", sort=sort, limit=limit, **cursor).json
            assert len(page["items"]) <= limit
            ids += [package["id"] for package in page["items"]]
            if page["next"] is None:
                return ids
            cursor = {"cursor": page["next"]}
        raise AssertionError("the pages have no end")

    def backwards(sort: str, limit: int) -> list[str]:
        """All package ids, read backwards from the last page."""
        page = api_get("/api/packages", sort=sort, limit=limit).json
        assert page["previous"] is None
        while page["next"]:
            page = api_get("/api/packages", sort=sort, limit=limit, cursor=page["next"]).json
        ids = [package["id"] for package in page["items"]]
        while page["previous"]:
            page = api_get("/api/packages", sort=sort, limit=limit, cursor=page["previous"]).json
            assert page["next"]
            ids = [package["id"] for package in page["items"]] + ids
        return ids

    for key in ("updated_at", "created_at", "due_at", "status_at", "name", "id"):
        whole = api_get("/api/packages", sort=key).json["items"]
        ids = [package["id"] for package in whole]
        assert len(ids) == len(set(ids)) == 11
        assert forwards(key, 1) == forwards(key, 3) == forwards(key, 11) == ids
        with_value = [package["id"] for package in whole if package[key] is not None]
        descending = with_value[::-1] + [package_id for package_id in ids[::-1] if package_id not in with_value]
        assert forwards(f"-{key}", 2) == forwards(f"-{key}", 10) == descending
        assert backwards(key, 1) == backwards(key, 3) == ids
        assert backwards(f"-{key}", 2) == descending
        values = [package[key] for package in whole]
        if key != "name":  # the database's collation decides the order of names
            assert values == sorted(values, key=lambda value: (value is None, value or ""))


@pytest.mark.parametrize("sort", ["id", "-id", "created_at", "-created_at", "due_at", "name"])
def test_previous_of_an_empty_page_skips_no_package(api_get, send_callback, work, sort):
    """A next or previous page that has become empty leads back to its neighbour and skips no package."""
    for number in range(6):
        send_callback("PACKAGE_CREATE", package=f"p{number}", happened_at=NOON - HOUR)
    work()

    def page(cursor: str | None) -> tuple[list[str], Any]:
        query = {"cursor": cursor} if cursor else {}
        answer = api_get("/api/packages", status="DRAFT", sort=sort, limit=2, **query).json
        return [package["id"] for package in answer["items"]], answer

    first, first_page = page(None)
    second, second_page = page(first_page["next"])
    third, _ = page(second_page["next"])
    assert len({*first, *second, *third}) == 6
    for package_id in (*first, *third):
        send_callback("PACKAGE_ACTIVATE", package=package_id)
    work()

    before, page_before = page(second_page["previous"])
    after, page_after = page(second_page["next"])

    assert (before, page_before["previous"]) == (after, page_after["next"]) == ([], None)
    assert page(page_before["next"])[0] == page(page_after["previous"])[0] == second


@on_sqlite
@pytest.mark.parametrize("name", ["n" * 180, "é" * 60, "😀" * 40, "n" * 3000])
def test_cursor_of_a_long_name_is_accepted(api_get, show, work, name):
    """A cursor contains the sort value, but is short enough for a URL even if that value is a long name."""
    for number in range(3):
        show(id=f"pkg-{number}" + "x" * 240, name=name)
    work()

    for sort in ("name", "-updated_at"):
        first = api_get("/api/packages", sort=sort, limit=2).json
        answer = api_get("/api/packages", sort=sort, limit=2, cursor=first["next"])
        assert answer.status_code == 200, answer.text
        assert len(first["next"]) < 2000  # a cursor must fit into a request line
        assert len(answer.json["items"]) == 1


def test_events_are_filtered_and_paged(api_get, send_callback, listed):
    """The event list is sorted newest first, and each of its filters works alone."""
    everything = [event["id"] for event in api_get("/api/events").json["items"]]

    def names(**query: Any) -> list[str]:
        return [event["name"] for event in api_get("/api/events", **query).json["items"]]

    assert everything == sorted(everything, reverse=True)
    assert names(package=LEASE_ID) == ["KBA_FAILURE", "EMAIL_BOUNCE"]
    assert names(package=LEASE_ID.lower()) == []
    assert names(name="PACKAGE_TRASH") == ["PACKAGE_TRASH"]
    assert names(state="parked") == ["EMAIL_BOUNCE"]
    assert names(state="done") == names(source="reconcile") == []
    assert len(names(source="callback")) == len(everything)
    paged: list[int] = []
    cursor: dict[str, str] = {}
    for _ in range(len(everything)):
        page = api_get("/api/events", limit=3, **cursor).json
        paged += [event["id"] for event in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert paged == everything


def test_history_is_paged(api_get, lease):
    """The pages of a package's history contain each change once, oldest first."""
    whole = api_get(f"{path_of(lease)}/history").json
    paged: list[Any] = []
    cursor: dict[str, str] = {}
    for _ in range(len(whole["items"])):
        page = api_get(f"{path_of(lease)}/history", limit=4, **cursor).json
        paged += page["items"]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}

    assert whole["next"] is None
    assert paged == whole["items"]


@on_sqlite
def test_page_has_one_to_two_hundred_items(api_get, send_callback, work):
    """A page of a list has 50 items by default, and from 1 to 200 items with the parameter `limit`."""
    for number in range(201):
        send_callback("PACKAGE_CREATE", package=f"pkg-{number}")
    work()

    for path in ("/api/packages", "/api/events", "/api/changes"):
        assert len(api_get(path).json["items"]) == 50
        assert len(api_get(path, limit=1).json["items"]) == 1
        assert len(api_get(path, limit=200).json["items"]) == 200
        for limit in ("0", "201", "-1", "ten", "", "1e1", "1.5"):
            answer = api_get(path, limit=limit)
            assert answer.status_code == 400, limit
            assert "limit" in answer.json["error"]["message"]


@on_sqlite
@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        ("/api/packages", "trashed", "perhaps"),
        ("/api/packages", "deleted", ""),
        ("/api/packages", "attention", "BORED"),
        ("/api/packages", "updated_since", "yesterday"),
        ("/api/packages", "updated_since", "2026-13-01"),
        ("/api/packages", "updated_since", "0001-01-01T00:00:00+14:00"),
        ("/api/packages", "sort", "colour"),
        ("/api/packages", "sort", "--name"),
        ("/api/packages", "q", "x" * 257),
        ("/api/packages", "q", "nul\0"),
        ("/api/packages", "signer", "nul\0"),
        ("/api/packages", "status", "nul\0"),
        ("/api/packages", "status", ["x"] * 51),
        ("/api/packages", "type", "x" * 257),
        ("/api/packages", "cursor", "not-a-cursor"),
        ("/api/packages", "cursor", ""),
        ("/api/packages", "q", ["first", "second"]),
        ("/api/packages", "stauts", "SENT"),
        ("/api/packages", "offset", "10"),
        ("/api/events", "state", "waiting"),
        ("/api/events", "source", "rumour"),
        ("/api/events", "name", "nul\0"),
        ("/api/events", "package", "x" * 257),
        ("/api/events", "cursor", "x"),
        ("/api/events", "cursor", "-1"),
        ("/api/events", "cursor", "9" * 19),
        ("/api/events", "status", "SENT"),
        ("/api/events/1", "limit", "1"),
        ("/api/changes", "after", "-1"),
        ("/api/changes", "after", "x"),
        ("/api/changes", "after", str(2**63)),
        ("/api/changes", "wait", "26"),
        ("/api/changes", "wait", "-1"),
        ("/api/changes", "wait", "nan"),
        ("/api/changes", "wait", "inf"),
        ("/api/changes", "cursor", "1"),
        ("/api/packages/pkg-1", "limit", "1"),
        ("/api/packages/pkg-1/history", "cursor", "x"),
        ("/api/packages/pkg-1/history", "after", "1"),
        ("/api/packages/pkg-1/history", "limit", "0"),
    ],
)
def test_invalid_parameter_is_400_and_the_message_names_it(client, send_callback, work, *, path, name, value):
    """A request with a misspelled filter is refused, because it must not return everything."""
    send_callback("PACKAGE_CREATE")
    work()

    answer = client.get(path, query_string={name: value}, headers={"Authorization": f"Bearer {TOKEN}"})

    assert (answer.status_code, answer.json["error"]["code"]) == (400, "bad_parameter"), answer.text
    assert answer.json["error"]["message"].startswith(f"{name}:")


FORWARD = False


def cursor_of(*values: Any) -> str:
    """A forged cursor that encodes the given values."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        cursor_of("name", "x", "y", FORWARD),
        cursor_of("-updated_at", "not a time", "y", FORWARD),
        cursor_of("-updated_at", "2026-01-01T00:00:00", "y", FORWARD),
        cursor_of("-updated_at", "0001-01-01T00:00:00+14:00", "y", FORWARD),
        cursor_of("-updated_at", "2026-01-01T00:00:00Z", "\ud800", FORWARD),
        cursor_of("-updated_at", "2026-01-01T00:00:00Z", "\0", FORWARD),
        cursor_of("-updated_at", 7, "y", FORWARD),
        cursor_of("-updated_at", "2026-01-01T00:00:00Z", 7, FORWARD),
        cursor_of("-updated_at", "2026-01-01T00:00:00Z", "y"),
        cursor_of("-updated_at", "2026-01-01T00:00:00Z", "y", "back"),
        cursor_of(),
        base64.b64encode(b"{}").decode(),
        base64.b64encode(b'"abc"').decode(),
        base64.b64encode(b"[" * 180).decode(),
        base64.b64encode(b"[" * 1400).decode(),
        base64.b64encode(b"\xff").decode(),
        "====",
        "é",
        "%",
    ],
)
@on_sqlite
def test_invalid_cursor_is_400(api_get, cursor):
    """A cursor that is forged, truncated or made for another sort order gets 400."""
    answer = api_get("/api/packages", cursor=cursor)

    assert (answer.status_code, answer.json["error"]["code"]) == (400, "bad_parameter"), answer.text
    assert answer.json["error"]["message"].startswith("cursor:")


def test_cursor_of_another_sort_order_is_400(api_get, listed):
    """A cursor contains the sort order of its list, and is refused with another sort order."""
    cursor = api_get("/api/packages", sort="name", limit=2).json["next"]

    assert api_get("/api/packages", sort="name", cursor=cursor).status_code == 200
    assert api_get("/api/packages", sort="-name", cursor=cursor).status_code == 400
    assert api_get("/api/packages", cursor=cursor).status_code == 400


def test_unchanged_answer_is_304(client, send_callback, work):
    """The ETag of an API answer changes exactly when the answer changes."""
    send_callback("PACKAGE_ACTIVATE", happened_at=NOON - HOUR)
    work()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    paths = ("/api/packages", "/api/packages/pkg-1", "/api/packages/pkg-1/history", "/api/events", "/api/changes")
    tags = {path: client.get(path, headers=headers).headers["ETag"] for path in paths}

    same = [client.get(path, headers={**headers, "If-None-Match": f'"other", {tags[path]}'}) for path in paths]
    send_callback("PACKAGE_COMPLETE")
    work()
    changed = [client.get(path, headers={**headers, "If-None-Match": tags[path]}) for path in paths]

    assert [(answer.status_code, answer.data) for answer in same] == [(304, b"")] * len(paths)
    assert [answer.status_code for answer in changed] == [200] * len(paths)
    assert all(answer.headers["ETag"] not in tags.values() for answer in changed)
    assert all("no-cache" in answer.headers["Cache-Control"] for answer in (*same, *changed))


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer no",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN}x",
        f"Bearer test={TOKEN}",
        f"Bearer {TOKEN.upper()}",
    ],
)
@on_sqlite
def test_law_2_request_without_a_valid_token_is_401(app: Flask, client, header):
    """Every method of every API route needs a token, except the OpenAPI document and the reference page."""
    headers = {"Authorization": header} if header is not None else {}
    for rule in app.url_map.iter_rules():
        if not rule.rule.startswith("/api/") or rule.rule in PUBLIC_PATHS:
            continue
        path = re.sub(r"<int:\w+>", "1", re.sub(r"<path:\w+>", "pkg-1", rule.rule))
        for method in sorted(rule.methods - {"OPTIONS"}):
            answer = client.open(path, method=method, headers=headers)
            assert answer.status_code == 401, (method, path)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            if method != "HEAD":
                assert answer.json["error"]["code"] == "no_token"


@on_sqlite
def test_every_token_is_valid_and_without_tokens_the_api_is_closed(database_url, tmp_path):
    """Every configured token opens the API, with or without a label; without tokens every request gets 401."""
    tokens = {
        "front=first-token,second-token,third=dG9rZW4tdG9rZW4=": ["first-token", "second-token", "dG9rZW4tdG9rZW4="],
        "": [],
        " , ,": [],
    }
    for setting, valid in tokens.items():
        settings = Settings(database_url=database_url, api_tokens=setting, spool_dir=tmp_path / "spool")
        app = create_app(settings, handlers=Handlers(), clock=Clock())
        client = app.test_client()
        for token in ("first-token", "second-token", "dG9rZW4tdG9rZW4=", "", "front=first-token", "token-2", "None"):
            for scheme in ("Bearer", "bearer"):
                answer = client.get("/api/packages", headers={"Authorization": f"{scheme} {token}"})
                assert answer.status_code == (200 if token in valid else 401), (setting, token)
        app.extensions[EXTENSION].database.close()


IDS = (
    "LWsUTvGgE4WpOvaQPT16idnxNj8=",
    "lwsutvgge4wpovaqpt16idnxnj8=",
    "with/slash",
    "with/slash/history/x",
    "50%",
    "50%25",
    "a?b#c&d;e",
    "a b+c",
    "äß😀",
    "history",
    "x" * 255,
    "dot.json",
    "...",
    "trailing/",
)


def test_any_package_id_can_be_requested(api_get, send_callback, work):
    """OneSpan chooses the package ids, so their case and every character matter, on both databases."""
    for number, package_id in enumerate(IDS):
        send_callback("PACKAGE_ATTACHMENT", package=package_id, sessionUser=f"signer-{number}", message="passport")
    work()

    for number, package_id in enumerate(IDS):
        shown = api_get(path_of(package_id))
        assert (shown.status_code, shown.json["id"]) == (200, package_id)
        assert [signer["id"] for signer in shown.json["signers"]] == [f"signer-{number}"]
        history = api_get(f"{path_of(package_id)}/history").json["items"]
        assert {change["package_id"] for change in history} == {package_id}
        events = api_get("/api/events", package=package_id).json["items"]
        assert [event["package_id"] for event in events] == [package_id]
    assert sorted(package["id"] for package in api_get("/api/packages").json["items"]) == sorted(IDS)


@on_sqlite
def test_package_id_with_adjacent_slashes_can_be_requested(api_get, send_callback, work):
    """The router must not merge adjacent slashes of a package id."""
    for package_id in ("a//b", "/a", "//"):
        send_callback("PACKAGE_ACTIVATE", package=package_id)
    work()

    for package_id in ("a//b", "/a", "//"):
        answer = api_get(path_of(package_id))
        assert (answer.status_code, answer.json["id"]) == (200, package_id)


def test_signer_and_document_ids_are_case_sensitive(send_callback, stored_package):
    """Ids that differ only by case belong to two different signers or documents."""
    for who in ("Ab=", "aB="):
        send_callback("DOCUMENT_SIGNED", sessionUser=who, documentId=who)

    package = stored_package("pkg-1")
    assert sorted(signer.id for signer in package.signers) == ["Ab=", "aB="]
    signed_by = {document.id: document.signed_by for document in package.documents}
    assert signed_by == {"Ab=": ("Ab=",), "aB=": ("aB=",)}


@pytest.mark.parametrize(
    "path",
    [
        "/api/packages/",
        "/api/packages/unknown",
        "/api/packages/unknown/history",
        "/api/packages/nul%00",
        "/api/packages/pkg-1/histories",
        "/api/packages/pkg-1/history/1",
        "/api/events/",
        "/api/events/0",
        "/api/events/999",
        "/api/events/9223372036854775808",
        "/api/events/-1",
        "/api/events/first",
        "/api/events/1/x",
        "/api/changes/1",
        "/api/dispatches/1",
        "/api/callbacks/999",
        "/api/callbacks/9223372036854775808",
        "/api/openapi.json/x",
        "/onespan",
        "/onespan/callback/x",
    ],
)
@on_sqlite
def test_unknown_path_or_id_is_404_in_json(client, send_callback, work, path):
    """A request for an unknown path or id gets an error in JSON, never a page or a redirect."""
    send_callback("PACKAGE_CREATE")
    work()

    answer = client.get(path, headers={"Authorization": f"Bearer {TOKEN}"})

    assert answer.status_code == 404, answer.text
    assert answer.json["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/packages"),
        ("PUT", "/api/packages/pkg-1"),
        ("DELETE", "/api/packages/pkg-1"),
        ("POST", "/api/packages/pkg-1/history"),
        ("POST", "/api/events"),
        ("PATCH", "/api/events/1"),
        ("POST", "/api/changes"),
        ("GET", "/api/dispatches/1/replay"),
        ("POST", "/api/openapi.json"),
    ],
)
@on_sqlite
def test_wrong_method_is_405_in_json_with_an_allow_header(client, method, path):
    """The `Allow` header of a 405 answer lists the allowed methods."""
    answer = client.open(path, method=method, headers={"Authorization": f"Bearer {TOKEN}"})

    assert (answer.status_code, answer.json["error"]["code"]) == (405, "method_not_allowed")
    assert ("POST" if method == "GET" else "GET") in answer.headers["Allow"]


@on_sqlite
def test_head_equals_get_without_its_body(client, lease):
    """The answer to HEAD has the same status and headers as the answer to GET, but no body."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    for path in ("/api/packages", path_of(lease), f"{path_of(lease)}/history", "/api/events/1", "/api/changes"):
        got, head = client.get(path, headers=headers), client.head(path, headers=headers)
        assert (head.status_code, head.data) == (200, b"")
        assert (head.headers["ETag"], head.headers["Content-Length"]) == (
            got.headers["ETag"],
            got.headers["Content-Length"],
        )


def test_parked_dispatch_is_replayed(client, api_get, work, lease, api_document):
    """A replayed dispatch becomes due with all its attempts, and the history shows that its attention reason closed."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    dispatch = api_get("/api/events", state="parked").json["items"][0]["dispatches"][0]
    attention = [item["reason"] for item in api_get(path_of(lease)).json["attention"]]

    answer = client.post(f"/api/dispatches/{dispatch['id']}/replay", headers=headers)

    assert_documented(api_document, "post", answer)
    assert (answer.status_code, set(answer.json)) == (200, set(DISPATCH.split()))
    assert {**answer.json, "due_at": ""} == {
        "id": dispatch["id"],
        "handler": "notify_cleo",
        "state": "due",
        "attempts": 0,
        "due_at": "",
        "finished_at": None,
        "error": None,
    }
    assert [item["reason"] for item in api_get(path_of(lease)).json["attention"]] == attention[:-1]
    last = api_get(f"{path_of(lease)}/history").json["items"][-1]
    assert (last["subject"], last["attribute"], last["old"], last["new"]) == (
        "handler:notify_cleo",
        "attention PARKED_HANDLER",
        True,
        None,
    )
    assert last["cause"] == {"kind": "dispatch", "id": dispatch["id"]}
    work()
    assert [item["reason"] for item in api_get(path_of(lease)).json["attention"]] == attention


def test_replay_of_an_unknown_or_running_dispatch_is_refused(service, client, api_get, lease, api_document):
    """Replaying an unknown dispatch gets 404, a running dispatch 409, and a query parameter 400; nothing changes."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with service.database.write() as connection:
        connection.execute(text("UPDATE dispatches SET state = 'running', due_at = '2999-01-01 00:00:00.000000'"))
    before = api_get("/api/events").json

    answers = {
        path: client.post(f"/api/dispatches/{path}", headers=headers)
        for path in ("999/replay", "9223372036854775808/replay", "1/replay", "1/replay?force=1")
    }

    for answer in list(answers.values())[:3]:
        assert_documented(api_document, "post", answer)
    assert [answer.status_code for answer in answers.values()] == [404, 404, 409, 400]
    assert answers["1/replay"].json["error"]["code"] == "still_running"
    assert "force" in answers["1/replay?force=1"].json["error"]["message"]
    assert api_get("/api/events").json == before


@on_sqlite
def test_document_is_valid_and_covers_every_route(app: Flask, client):
    """The OpenAPI document needs no token, has no broken references, and describes exactly the routes of the API."""
    answer = client.get("/api/openapi.json")
    document = answer.json

    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert re.fullmatch(r"3\.\d+\.\d+", document["openapi"])
    assert document["info"]["title"]
    assert document["info"]["version"]
    routes = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods & {"GET", "POST", "PUT", "PATCH", "DELETE"}
        if rule.rule.startswith("/api/")
    }
    documented = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    assert documented == routes
    for name, target in members(("document", document)):
        if name == "$ref":
            node: Any = document
            for key in target.removeprefix("#/").split("/"):
                node = node[key]
            assert node
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_operation_is_described(api_document):
    """Each operation in the OpenAPI document has a summary, described parameters, errors and its token requirement."""
    for path, operations in api_document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], path
            assert operation["security"] == ([] if path in PUBLIC_PATHS else [{"bearer": []}])
            assert ("401" in operation["responses"]) == (path not in PUBLIC_PATHS)
            in_path = [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"]
            assert in_path == re.findall(r"{(\w+)}", path)
            for parameter in operation["parameters"]:
                assert parameter["description"], (path, parameter["name"])
            if "{" in path:
                assert "404" in operation["responses"], path
            if any(parameter["in"] == "query" for parameter in operation["parameters"]):
                assert "400" in operation["responses"], (path, method)
    packages = api_document["paths"]["/api/packages"]["get"]["parameters"]
    assert {parameter["name"] for parameter in packages} == {
        "status",
        "trashed",
        "deleted",
        "unverified",
        "type",
        "q",
        "signer",
        "attention",
        "updated_since",
        "updated_until",
        "created_since",
        "created_until",
        "sort",
        "limit",
        "cursor",
    }
    events = api_document["paths"]["/api/events"]["get"]["parameters"]
    assert {parameter["name"] for parameter in events} == {"package", "name", "source", "state", "limit", "cursor"}
    changes = api_document["paths"]["/api/changes"]["get"]["parameters"]
    assert {parameter["name"] for parameter in changes} == {"after", "limit", "wait"}


def test_event_with_many_repeats_lists_its_first_callbacks(send_callback, work, api_get):
    """An event lists only its first 20 callbacks to keep the answer small; `repeats` counts all repeated callbacks."""
    for _ in range(30):
        send_callback("PACKAGE_COMPLETE")
    work()

    (event,) = api_get("/api/events").json["items"]
    assert event["repeats"] == 29
    assert [callback["id"] for callback in event["callbacks"]] == list(range(1, 21))


@pytest.mark.parametrize("name", ["ΠΑΠΑΔΟΠΟΥΛΟΣ", "İstanbul", "Straße", "100 %_/\\"])
def test_name_is_found_by_its_exact_text(name, service, read):
    """A package is found by its exact name, although the databases have different lower-casing rules."""
    snapshot = {"id": "pkg-1", "name": name, "status": "SENT", "roles": [], "documents": []}
    with service.database.write() as connection:
        entry = Entry("snapshot", NOON, json.dumps(snapshot).encode(), package_id="pkg-1", read_at=NOON)
        journal.add(connection, [entry])
    service.digest.turn()

    assert [package["name"] for package in read("/api/packages", q=name)["items"]] == [name]
    assert read("/api/packages", q=name + "!")["items"] == []


@pytest.mark.parametrize("package", ["a\nb", "line\r\nline", "/", "a//b/"])
def test_any_id_that_the_receiver_accepts_can_be_requested(package, send_callback, stored_package, client):
    """Every package id that the receiver accepts can be requested, even with line breaks and slashes."""
    send_callback("PACKAGE_CREATE", package=package)
    stored_package(package)

    answer = client.get(f"/api/packages/{quote(package, safe='')}", headers={"Authorization": f"Bearer {TOKEN}"})

    assert (answer.status_code, answer.json["id"]) == (200, package)


def test_if_match_is_ignored(client, send_callback, stored_package):
    """A GET request ignores the `If-Match` header, which applies to writes only."""
    send_callback("PACKAGE_CREATE")
    stored_package("pkg-1")

    answer = client.get("/api/packages/pkg-1", headers={"Authorization": f"Bearer {TOKEN}", "If-Match": '"other"'})

    assert (answer.status_code, answer.json["id"]) == (200, "pkg-1")


def test_common_errors_of_every_operation_are_documented(client, api_document):
    """The OpenAPI document describes the success and the common errors of every operation."""
    paths = api_document["paths"]

    for path, methods in paths.items():
        for operation in methods.values():
            needed = {"500", "503"} if path in PUBLIC_PATHS else {"400", "401", "500", "503"}
            assert needed <= operation["responses"].keys()
            assert {"200", "202"} & operation["responses"].keys()


def test_empty_signer_filter_matches_nothing(read, send_callback, stored_package):
    """An empty `signer` filter finds no packages, while a list without the filter contains all packages."""
    send_callback("SIGNER_COMPLETE", sessionUser=ADA)
    stored_package("pkg-1")

    assert read("/api/packages", signer="")["items"] == []
    assert len(read("/api/packages", signer=ADA)["items"]) == 1


SCOPED_TOKENS = (
    "all=token-all,reader:read=token-read,actor:act=token-act,ended:2026-03-01=token-ended,last:2026-03-02=token-last"
)


@pytest.fixture
def scoped(settings, handlers, clock) -> Iterator[Callable[..., Any]]:
    """Send a request to the API of an app whose tokens have scopes and last days."""
    tokens = Settings(api_tokens=SCOPED_TOKENS).api_tokens
    app = create_app(settings.model_copy(update={"api_tokens": tokens}), handlers=handlers, clock=clock)

    def scoped(method: str, path: str, token: str) -> Any:
        return app.test_client().open(path, method=method, headers={"Authorization": f"Bearer {token}"})

    yield scoped
    app.extensions[EXTENSION].database.close()


@pytest.mark.parametrize(
    ("token", "reads", "acts"),
    [("token-all", 200, 409), ("token-act", 200, 409), ("token-read", 200, 403), ("token-last", 200, 409)],
)
def test_action_needs_the_scope_act(scoped, token, reads, acts):
    """A token with the scope `read` gets 403 for actions; with `act`, or without a scope, a token may do all."""
    assert scoped("GET", "/api/packages", token).status_code == reads
    assert scoped("HEAD", "/api/packages", token).status_code == reads
    for path in ("/api/reconciles", "/api/packages/pkg-1/read"):
        answer = scoped("POST", path, token)
        assert answer.status_code == acts
        if acts == 403:
            assert answer.json["error"]["code"] == "read_only_token"
            assert "reader can only read" in answer.json["error"]["message"]
    assert scoped("POST", "/api/dispatches/1/replay", token).status_code == (403 if acts == 403 else 404)


def test_ended_token_is_401_and_says_so(scoped, clock):
    """A token works until the end of its last day in UTC; then the answer says that it ended."""
    ended = scoped("GET", "/api/packages", "token-ended")
    assert (ended.status_code, ended.json["error"]["code"]) == (401, "token_ended")
    assert "ended on 2026-03-01" in ended.json["error"]["message"]
    assert scoped("POST", "/api/reconciles", "token-ended").status_code == 401

    clock.forward(12 * HOUR - timedelta(seconds=1))
    assert scoped("GET", "/api/packages", "token-last").status_code == 200
    clock.forward(timedelta(seconds=1))
    assert scoped("GET", "/api/packages", "token-last").status_code == 401
