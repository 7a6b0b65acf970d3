"""The simulator: its callbacks are exact on the wire, and meet the mishaps that one asks for."""

import json
from dataclasses import replace
from datetime import timedelta
from random import Random

from app.onespan.catalogue import CATALOGUE
from app.simulator import callbacks
from app.simulator.account import Registration
from app.simulator.delivery import Delivery
from app.simulator.outbox import Letter, Mishaps, Outbox, carry
from app.simulator.packages import Event
from app.simulator.quirks import Quirks
from tests.conftest import ADA, CLEO, KEY, NOON
from tests.support.simulated import SECOND, listening, many_steps


def test_the_body_of_a_callback_is_onespans():
    """Byte for byte as it was seen on the wire."""
    event = Event("PACKAGE_COMPLETE", "LWsUTvGgE4WpOvaQPT16idnxNj8=", ADA, NOON + timedelta(milliseconds=44))

    assert callbacks.body(event) == (
        b'{"@class":"com.silanis.esl.packages.event.ESLProcessEvent","name":"PACKAGE_COMPLETE",'
        b'"sessionUser":"ada-who-signs","packageId":"LWsUTvGgE4WpOvaQPT16idnxNj8=","message":null,'
        b'"documentId":null,"createdDate":"2026-03-02T12:00:00.044Z"}'
    )


def test_the_body_carries_what_only_some_events_have():
    """Members of the catalogue, and they are never null there; on other events they are missing or null."""
    lives = many_steps()
    common = ["@class", "name", "sessionUser", "packageId", "message", "documentId", "createdDate"]
    for step in lives:
        for event in step.events:
            body = json.loads(callbacks.body(event))
            carried = set(CATALOGUE[event.name].carries)
            assert list(body)[: len(common)] == common
            assert set(body) == {*common, *carried}
            assert {name for name in body if body[name] is None} == {"message", "documentId"} - carried


def test_headers_are_onespans_over_one_connection():
    """The bare key behind Basic, no User-Agent, and the connection is kept."""
    with listening() as heard, Delivery(heard.url, KEY) as delivery:
        for name in ("PACKAGE_CREATE", "PACKAGE_ACTIVATE"):
            assert delivery.post(callbacks.body(Event(name, "pkg-1", CLEO, NOON))) is None

    first, second = heard.requests
    assert first.headers == {
        "host": heard.url.split("/")[2],
        "accept-encoding": "gzip,deflate",
        "user-agent": "",
        "authorization": f"Basic {KEY}",
        "content-type": "application/json; charset=utf-8",
        "content-length": str(len(first.body)),
    }
    assert first.client == second.client


def happened(many: int = 200) -> list[Event]:
    """So many events, a second apart."""
    told = [event for step in many_steps()[: many * 2] for event in step.events][:many]
    return [replace(event, at=NOON + number * SECOND) for number, event in enumerate(told)]


def carried(**mishaps: float) -> list[Letter]:
    """What becomes of them."""
    return carry(happened(), now=NOON, dice=Random(7), mishaps=Mishaps(**mishaps))


def test_on_a_good_day_all_arrive_at_once_and_in_order():
    """Nothing befalls them, and the dice do not matter."""
    assert carried() == [(NOON, callbacks.body(event), ()) for event in happened()]


def test_what_is_dropped_is_not_there_and_the_rest_is_unharmed():
    """A tenth, more or less."""
    left = carried(drop=0.1)

    assert 160 < len(left) < 198
    assert {one.body for one in left} < {callbacks.body(event) for event in happened()}
    assert carried(drop=1) == []


def test_what_is_repeated_says_the_same_again_within_ten_seconds():
    """In the same bytes, or in those of somebody who posted it by hand."""
    times: dict[str, list[Letter]] = {}
    for one in carried(repeat=1):
        times.setdefault(json.dumps(json.loads(one.body)), []).append(one)

    assert {len(same) for same in times.values()} == {2, 3}
    assert all(NOON <= one.due <= NOON + 10 * SECOND for same in times.values() for one in same)
    assert {len({one.body for one in same}) for same in times.values()} == {1, 2}


def test_what_is_delayed_comes_later_but_not_by_more_than_was_said():
    """Half of them within an hour."""
    late = [one.due - NOON for one in carried(delay=0.5, delay_by=3600) if one.mishaps == ("delayed",)]

    assert 70 < len(late) < 130
    assert max(late) <= 3600 * SECOND
    assert max(late) > 3000 * SECOND


def test_what_is_reordered_is_overtaken():
    """By others of the same instant."""
    bodies = [one.body for one in carried(reorder=0.3)]

    assert bodies != [callbacks.body(event) for event in happened()]
    assert sorted(bodies) == sorted(callbacks.body(event) for event in happened())


def test_what_is_undated_has_no_date_at_all():
    """As old captures had none."""
    bodies = [json.loads(one.body) for one in carried(undated=0.5)]

    assert {"createdDate" in one for one in bodies} == {True, False}


def test_the_same_dice_do_the_same_to_the_same_events():
    """A bad day can be lived again."""
    assert carried(drop=0.2, repeat=0.2, delay=0.2) == carried(drop=0.2, repeat=0.2, delay=0.2)


def test_the_wire_has_quirks():
    """Another spelling, no nulls, the date of sending."""
    event = Event("PACKAGE_READY_FOR_COMPLETE", "pkg-1", CLEO, NOON)
    quirks = Quirks(ready_name="PACKAGE_READY_FOR_COMPLETION", unused_fields="absent", created_date="sent")

    (letter,) = carry([event], now=NOON + SECOND, dice=Random(0), quirks=quirks)

    body = json.loads(letter.body)
    assert body.pop("@class")
    assert body == {
        "name": "PACKAGE_READY_FOR_COMPLETION",
        "sessionUser": CLEO,
        "packageId": "pkg-1",
        "createdDate": "2026-03-02T12:00:01.000Z",
    }


def test_the_outbox_gives_out_what_has_arrived_and_counts_what_befell_it():
    """Nothing twice, nothing before its time, nothing lost but what was dropped."""
    outbox = Outbox(Random(1), mishaps=Mishaps(drop=0.1, repeat=0.2, delay=0.5, delay_by=100))
    outbox.put(happened(), now=NOON)
    now, taken = NOON, []
    while len(outbox):
        now = max(now, outbox.next_due)
        taken += outbox.due(now)

    befallen = outbox.befallen
    assert outbox.next_due is None
    assert len(taken) == 200 - befallen["dropped"] + befallen["repeated"]
    assert min(befallen["dropped"], befallen["repeated"], befallen["delayed"]) > 5
    assert now <= NOON + 110 * SECOND


def test_only_registered_events_are_told():
    """As the account's one registration says; all are, where there is none."""
    registration = Registration("http://127.0.0.1/", "key", frozenset({"PACKAGE_COMPLETE"}))
    outbox = Outbox(Random(1), registered=lambda: registration)
    outbox.put([Event(name, "pkg-1", CLEO, NOON) for name in CATALOGUE], now=NOON)

    assert [json.loads(body)["name"] for body in outbox.due(NOON)] == ["PACKAGE_COMPLETE"]


def test_callbacks_go_where_they_are_registered_to():
    """With that key, or without one; where nothing is registered, where they usually go."""
    with listening() as usual, listening() as other:
        without_key = Registration(other.url, "", frozenset())
        places = iter([None, Registration(other.url, "other-key", frozenset()), without_key])
        with Delivery(usual.url, KEY, registered=lambda: next(places)) as delivery:
            assert [delivery.post(b"{}") for _ in range(3)] == [None, None, None]

    assert [one.headers["authorization"] for one in usual.requests] == [f"Basic {KEY}"]
    assert [one.headers.get("authorization") for one in other.requests] == ["Basic other-key", None]
