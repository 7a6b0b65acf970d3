"""Law 10: unknown events and members are stored, shown and passed to handlers; the service guesses nothing."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from app.handling import Event, Handlers, Package
from app.onespan.event_catalogue import CATALOGUE, event_type, wire_name
from app.store import journal
from app.store.journal import Entry
from tests.conftest import ADA, HOUR, NOON, on_sqlite


@pytest.fixture
def handled(handlers: Handlers) -> dict[str, list[Event]]:
    """The events that the catch-all handler and the handler for `PACKAGE_COMPLETE` received."""
    handled: dict[str, list[Event]] = {"*": [], "PACKAGE_COMPLETE": []}

    @handlers.on("*")
    def everything(event: Event, package: Package) -> None:
        handled["*"].append(event)

    @handlers.on("PACKAGE_COMPLETE")
    def completed(event: Event, package: Package) -> None:
        handled["PACKAGE_COMPLETE"].append(event)

    return handled


@pytest.fixture
def store_snapshot(service: Any, clock: Any) -> Callable[..., None]:
    """Journal a snapshot of a package, as a fetch does."""

    def store_snapshot(*, at: Any, **members: Any) -> None:
        body = json.dumps({"id": "pkg-1", **members}).encode()
        package_id = members.get("id", "pkg-1")
        with service.database.write() as connection:
            journal.add(connection, [Entry("snapshot", clock(), body, package_id=package_id, read_at=at)])

    return store_snapshot


@pytest.mark.parametrize("name", ["PACKAGE_HATCHED", "package_complete", "Ключ*", "*"])
def test_law_10_unknown_event_is_stored_shown_and_given_to_the_catch_all(
    send_callback, stored_package, read, handled, name
):
    """An unknown event changes no status: OneSpan adds events, and their names do not say what they mean."""
    send_callback("PACKAGE_ACTIVATE", happened_at=NOON - HOUR, sessionUser=ADA)
    before = stored_package("pkg-1")
    send_callback(name, happened_at=NOON, sessionUser=ADA, message="COMPLETED", documentId="doc-1")
    after = stored_package("pkg-1")

    (event,) = read("/api/events", name=name)["items"]
    assert (event["name"], event["package_id"], event["message"]) == (name, "pkg-1", "COMPLETED")
    assert (event["document_id"], event["session_user"], event["signer_id"]) == ("doc-1", ADA, None)
    assert [dispatch["handler"] for dispatch in event["dispatches"]] == ["everything"]
    assert [event.name for event in handled["*"]] == ["PACKAGE_ACTIVATE", name]
    assert handled["PACKAGE_COMPLETE"] == []
    assert (after.status, after.signers, after.documents, after.attention) == (
        before.status,
        before.signers,
        before.documents,
        before.attention,
    )
    assert after.last_event_at == NOON
    assert {change["attribute"] for change in read("/api/packages/pkg-1/history")["items"]} == {"status"}


def test_law_10_unknown_event_of_an_unknown_package_stores_a_package_without_status(
    send_callback, stored_package, read
):
    """An unknown event of an unknown package creates the package with an unknown status."""
    send_callback("PACKAGE_HATCHED", package="egg")

    package = stored_package("egg")
    assert (package.status, package.type, package.name, package.created_at) == (None, None, None, None)
    assert (package.signers, package.documents, package.attention) == ((), (), ())
    assert [item["id"] for item in read("/api/packages")["items"]] == ["egg"]
    assert read("/api/packages/egg/history")["items"] == []


def test_law_10_unknown_members_are_stored_and_passed_on(send_callback, work, read, handled):
    """The API and the handlers get unknown members of a callback, except OneSpan's `@class`."""
    unknown = {"status": "COMPLETED", "trashed": True, "nested": {"list": [1, 2.5, None, "é"]}, "big": 10**15}

    send_callback("PACKAGE_ACTIVATE", **unknown, **{"@class": "com.silanis.esl.packages.event.ESLProcessEvent"})
    work()

    (event,) = read("/api/events")["items"]
    assert event["extra"] == unknown
    assert dict(handled["*"][0].extra) == unknown
    package = read("/api/packages/pkg-1")
    assert (package["status"], package["trashed"]) == ("SENT", False)


def test_law_10_unknown_status_is_shown_unchanged(store_snapshot, send_callback, stored_package, read):
    """An unknown package status is shown unchanged, because OneSpan adds statuses: its archives added four."""
    store_snapshot(at=NOON - HOUR, status="ARCHIVAL_PENDING", type="SCROLL", name="Lease")
    package = stored_package("pkg-1")

    assert (package.status, package.type) == ("ARCHIVAL_PENDING", "SCROLL")
    assert [item["id"] for item in read("/api/packages", status="ARCHIVAL_PENDING")["items"]] == ["pkg-1"]
    assert [item["id"] for item in read("/api/packages", type="SCROLL")["items"]] == ["pkg-1"]

    send_callback("PACKAGE_COMPLETE", happened_at=NOON)
    assert stored_package("pkg-1").status == "COMPLETED"


def test_law_10_snapshot_with_odd_members_is_read_as_far_as_it_is_known(store_snapshot, stored_package):
    """A snapshot with nulls, values of wrong types or new members is still read as far as possible."""
    store_snapshot(
        at=NOON,
        status=None,
        name=7,
        trashed="true",
        due="soon",
        completed={},
        sender=[],
        roles=[None, 3, {"id": None}, {"id": "role-1", "index": "first", "signers": [{"id": ADA, "email": 5}], "x": 1}],
        documents=[{"id": "doc-1", "approvals": [{"role": "role-1", "signed": "never"}]}, {"name": "no id"}],
        hologram={"deep": [1]},
    )

    package = stored_package("pkg-1")
    assert (package.status, package.name, package.trashed, package.due_at) == (None, None, False, None)
    assert [(signer.id, signer.order, signer.email, signer.status) for signer in package.signers] == [
        (ADA, None, None, "PENDING")
    ]
    assert [(document.id, document.signed_by) for document in package.documents] == [("doc-1", ())]


@on_sqlite
@pytest.mark.parametrize("name", sorted(name for name, kind in CATALOGUE.items() if "status" not in kind.package))
def test_law_10_event_without_a_status_leaves_it_unknown(send_callback, stored_package, name):
    """If the first event of a package says nothing about the status, the status of the package is unknown."""
    send_callback(name, sessionUser=ADA, message="BOUNCE", documentId="doc-1")

    assert stored_package("pkg-1").status is None


def test_both_spellings_of_ready_are_one_event(send_callback, work, read, handlers):
    """`PACKAGE_READY_FOR_COMPLETION` of the SDKs and `PACKAGE_READY_FOR_COMPLETE` in callbacks are one event."""

    @handlers.on("PACKAGE_READY_FOR_COMPLETION")
    def by_constant(event: Event, package: Package) -> None:
        pass

    @handlers.on("PACKAGE_READY_FOR_COMPLETE")
    def by_wire(event: Event, package: Package) -> None:
        pass

    send_callback("PACKAGE_READY_FOR_COMPLETE")
    send_callback("PACKAGE_READY_FOR_COMPLETION")
    work()

    for spelling in ("PACKAGE_READY_FOR_COMPLETE", "PACKAGE_READY_FOR_COMPLETION"):
        (event,) = read("/api/events", name=spelling)["items"]
        assert (event["name"], event["repeats"]) == ("PACKAGE_READY_FOR_COMPLETE", 1)
        assert [dispatch["handler"] for dispatch in event["dispatches"]] == ["by_constant", "by_wire"]
    assert wire_name("PACKAGE_READY_FOR_COMPLETION") == "PACKAGE_READY_FOR_COMPLETE"


def test_law_10_unknown_event_claims_nothing():
    """An event that is not in the catalogue claims nothing, not even that the package exists."""
    assert not event_type("PACKAGE_HATCHED").package
    assert not event_type("PACKAGE_HATCHED").signer


def test_law_10_undated_unknown_event_is_dated_at_its_arrival(send_callback, read, work, clock):
    """An unknown event without a date gets its time of arrival, and an equal callback much later is a new event."""
    send_callback("PACKAGE_HATCHED", happened_at=None)
    clock.forward(timedelta(minutes=4))
    send_callback("PACKAGE_HATCHED", happened_at=None)
    clock.forward(timedelta(minutes=30))
    send_callback("PACKAGE_HATCHED", happened_at=None)
    work()

    newest, first = read("/api/events")["items"]
    assert (first["happened_at"], first["repeats"]) == ("2026-03-02T12:00:00Z", 1)
    assert (newest["happened_at"], newest["repeats"]) == ("2026-03-02T12:34:00Z", 0)
