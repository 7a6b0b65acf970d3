"""The data flow from the receiver to the handlers, end to end in one process."""

from collections.abc import Callable
from itertools import permutations

import pytest

from app.handling import Event, Handlers, Package
from tests.conftest import ADA, HOUR, NOON

STORY = ("PACKAGE_CREATE", "PACKAGE_ACTIVATE", "SIGNER_COMPLETE", "PACKAGE_COMPLETE")


@pytest.mark.parametrize("arrival", list(permutations(STORY)), ids=" ".join)
def test_law_4_order_of_arrival_does_not_matter(stored_package, send_callback, arrival):
    """The latest fact wins in every order of arrival, because OneSpan promises no order of callbacks."""
    for name in arrival:
        send_callback(name, happened_at=NOON + HOUR * STORY.index(name), sessionUser=ADA)

    assert stored_package("pkg-1").status == "COMPLETED"
    assert [signer.status for signer in stored_package("pkg-1").signers] == ["COMPLETED"]


def test_law_3_a_callback_received_twice_is_one_event(send_callback, work, read):
    """A callback that OneSpan or a person sends several times is stored as one event."""
    for _ in range(3):
        send_callback("PACKAGE_COMPLETE")
    work()

    (event,) = read("/api/events")["items"]
    assert event["repeats"] == 2
    assert [callback["id"] for callback in event["callbacks"]] == [1, 2, 3]


def test_a_handler_gets_the_event_and_the_package(send_callback, work, handlers: Handlers):
    """A handler receives the event, and the package in its state after the event."""
    calls: list[tuple[Event, Package]] = []

    @handlers.on("PACKAGE_COMPLETE")
    def remember(event: Event, package: Package) -> None:
        calls.append((event, package))

    send_callback("PACKAGE_COMPLETE", sessionUser=ADA)
    work()

    ((event, package),) = calls
    assert (event.name, event.package_id, event.signer_id) == ("PACKAGE_COMPLETE", "pkg-1", ADA)
    assert (event.happened_at, event.source, len(event.key)) == (NOON, "callback", 32)
    assert package.status == "COMPLETED"


def test_the_worker_stops_when_there_is_nothing_to_do(work: Callable[[], None]):
    """A turn of the worker ends at once if there is no work."""
    work()
