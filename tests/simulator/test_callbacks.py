"""Tests of the simulator's callbacks, which have OneSpan's exact form and meet mishaps at the given rates."""

import json
from dataclasses import replace
from datetime import timedelta
from random import Random

from app.onespan.event_catalogue import CATALOGUE
from app.simulator import callbacks
from app.simulator.account import Registration
from app.simulator.delivery import Delivery
from app.simulator.outbox import Mishaps, Outbox, OutgoingCallback, schedule
from app.simulator.packages import Event
from app.simulator.quirks import Quirks
from tests.conftest import ADA, CLEO, KEY, NOON
from tests.support.simulated import SECOND, callback_server, recorded_steps


def test_the_body_has_onespans_exact_form():
    """The body of a simulated callback has OneSpan's exact form, byte for byte as in a public capture."""
    event = Event("PACKAGE_COMPLETE", "LWsUTvGgE4WpOvaQPT16idnxNj8=", ADA, NOON + timedelta(milliseconds=44))

    assert callbacks.body(event) == (
        b'{"@class":"com.silanis.esl.packages.event.ESLProcessEvent","name":"PACKAGE_COMPLETE",'
        b'"sessionUser":"ada-who-signs","packageId":"LWsUTvGgE4WpOvaQPT16idnxNj8=","message":null,'
        b'"documentId":null,"createdDate":"2026-03-02T12:00:00.044Z"}'
    )


def test_the_body_has_the_optional_members_of_its_event():
    """Optional members have a value only in callbacks of events for which the catalogue lists them."""
    common = ["@class", "name", "sessionUser", "packageId", "message", "documentId", "createdDate"]
    for step in recorded_steps():
        for event in step.events:
            body = json.loads(callbacks.body(event))
            optional = set(CATALOGUE[event.name].extra_members)
            assert list(body)[: len(common)] == common
            assert set(body) == {*common, *optional}
            assert {name for name in body if body[name] is None} == {"message", "documentId"} - optional


def test_headers_have_onespans_exact_form_over_one_connection():
    """Callbacks have OneSpan's headers: the bare key after Basic and an empty User-Agent, over one connection."""
    with callback_server() as server, Delivery(server.url, KEY) as delivery:
        for name in ("PACKAGE_CREATE", "PACKAGE_ACTIVATE"):
            assert delivery.post(callbacks.body(Event(name, "pkg-1", CLEO, NOON))) is None

    first, second = server.requests
    assert first.headers == {
        "host": server.url.split("/")[2],
        "accept-encoding": "gzip,deflate",
        "user-agent": "",
        "authorization": f"Basic {KEY}",
        "content-type": "application/json; charset=utf-8",
        "content-length": str(len(first.body)),
    }
    assert first.client == second.client


def sample_events(count: int = 200) -> list[Event]:
    """Return events of simulated stories, dated a second apart."""
    events = [event for step in recorded_steps()[: count * 2] for event in step.events][:count]
    return [replace(event, at=NOON + number * SECOND) for number, event in enumerate(events)]


def scheduled(**mishaps: float) -> list[OutgoingCallback]:
    """Return the scheduled callbacks of the sample events, with these mishaps."""
    return schedule(sample_events(), now=NOON, rng=Random(7), mishaps=Mishaps(**mishaps))


def test_on_a_good_day_all_callbacks_arrive_at_once_and_in_order():
    """Without mishaps, all callbacks arrive at once and in order, whatever the random generator draws."""
    assert scheduled() == [(NOON, callbacks.body(event), ()) for event in sample_events()]


def test_dropped_callbacks_are_missing_and_the_others_unchanged():
    """With a drop rate of 0.1, about a tenth of the callbacks is missing and the others are unchanged."""
    left = scheduled(drop=0.1)

    assert 160 < len(left) < 198
    assert {callback.body for callback in left} < {callbacks.body(event) for event in sample_events()}
    assert scheduled(drop=1) == []


def test_repeated_callbacks_arrive_again_within_ten_seconds():
    """Repeated callbacks arrive within ten seconds, unchanged or reformatted as if a person had reposted them."""
    repeats: dict[str, list[OutgoingCallback]] = {}
    for callback in scheduled(repeat=1):
        repeats.setdefault(json.dumps(json.loads(callback.body)), []).append(callback)

    assert {len(same) for same in repeats.values()} == {2, 3}
    assert all(NOON <= callback.due <= NOON + 10 * SECOND for same in repeats.values() for callback in same)
    assert {len({callback.body for callback in same}) for same in repeats.values()} == {1, 2}


def test_delayed_callbacks_arrive_within_the_maximum_delay():
    """With a delay rate of 0.5, about half of the callbacks arrive late, within an hour."""
    callbacks_ = scheduled(delay=0.5, delay_by=3600)
    late = [callback.due - NOON for callback in callbacks_ if callback.mishaps == ("delayed",)]

    assert 70 < len(late) < 130
    assert max(late) <= 3600 * SECOND
    assert max(late) > 3000 * SECOND


def test_reordered_callbacks_arrive_after_later_ones():
    """Reordered callbacks arrive after later callbacks, and no callback is lost."""
    bodies = [callback.body for callback in scheduled(reorder=0.3)]

    assert bodies != [callbacks.body(event) for event in sample_events()]
    assert sorted(bodies) == sorted(callbacks.body(event) for event in sample_events())


def test_undated_callbacks_have_no_created_date():
    """Undated callbacks have no `createdDate`, like callbacks in old captures."""
    bodies = [json.loads(callback.body) for callback in scheduled(undated=0.5)]

    assert {"createdDate" in body for body in bodies} == {True, False}


def test_the_same_seed_gives_the_same_mishaps():
    """The same seed gives the same mishaps, so a bad day can be replayed."""
    assert scheduled(drop=0.2, repeat=0.2, delay=0.2) == scheduled(drop=0.2, repeat=0.2, delay=0.2)


def test_quirks_change_the_body():
    """Quirks change the body of a callback: another spelling of a name, no nulls, and the date of sending."""
    event = Event("PACKAGE_READY_FOR_COMPLETE", "pkg-1", CLEO, NOON)
    quirks = Quirks(ready_name="PACKAGE_READY_FOR_COMPLETION", unused_fields="absent", created_date="sent")

    (callback,) = schedule([event], now=NOON + SECOND, rng=Random(0), quirks=quirks)

    body = json.loads(callback.body)
    assert body.pop("@class")
    assert body == {
        "name": "PACKAGE_READY_FOR_COMPLETION",
        "sessionUser": CLEO,
        "packageId": "pkg-1",
        "createdDate": "2026-03-02T12:00:01.000Z",
    }


def test_the_outbox_returns_due_callbacks_and_counts_mishaps():
    """The outbox returns no callback twice or early, and loses only the dropped callbacks."""
    outbox = Outbox(Random(1), mishaps=Mishaps(drop=0.1, repeat=0.2, delay=0.5, delay_by=100))
    outbox.put(sample_events(), now=NOON)
    now, bodies = NOON, []
    while len(outbox):
        now = max(now, outbox.next_due)
        bodies += outbox.take_due(now)

    counts = outbox.mishap_counts
    assert outbox.next_due is None
    assert len(bodies) == 200 - counts["dropped"] + counts["repeated"]
    assert min(counts["dropped"], counts["repeated"], counts["delayed"]) > 5
    assert now <= NOON + 110 * SECOND


def test_only_registered_events_are_sent():
    """Only registered events are sent; without a registration, every event is sent."""
    registration = Registration("http://127.0.0.1/", "key", frozenset({"PACKAGE_COMPLETE"}))
    outbox = Outbox(Random(1), registered=lambda: registration)
    outbox.put([Event(name, "pkg-1", CLEO, NOON) for name in CATALOGUE], now=NOON)

    assert [json.loads(body)["name"] for body in outbox.take_due(NOON)] == ["PACKAGE_COMPLETE"]


def test_callbacks_go_to_the_registered_url():
    """Callbacks go to the registered URL with the registered key, or to the default URL without a registration."""
    with callback_server() as default, callback_server() as other:
        without_key = Registration(other.url, "", frozenset())
        registrations = iter([None, Registration(other.url, "other-key", frozenset()), without_key])
        with Delivery(default.url, KEY, registered=lambda: next(registrations)) as delivery:
            assert [delivery.post(b"{}") for _ in range(3)] == [None, None, None]

    assert [request.headers["authorization"] for request in default.requests] == [f"Basic {KEY}"]
    assert [request.headers.get("authorization") for request in other.requests] == ["Basic other-key", None]
