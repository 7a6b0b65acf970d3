"""The simulator: its callbacks are exact on the wire, and meet the mishaps that one asks for."""

import json
from datetime import timedelta

from app.onespan.catalogue import CATALOGUE
from app.simulator import wire
from app.simulator.delivery import Delivery
from app.simulator.packages import Event
from tests.conftest import ADA, CLEO, KEY, NOON
from tests.simulated import listening, many_steps


def test_the_body_of_a_callback_is_onespans():
    """Byte for byte as it was seen on the wire."""
    event = Event("PACKAGE_COMPLETE", "LWsUTvGgE4WpOvaQPT16idnxNj8=", ADA, NOON + timedelta(milliseconds=44))

    assert wire.body(event) == (
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
            body = json.loads(wire.body(event))
            carried = set(CATALOGUE[event.name].carries)
            assert list(body)[: len(common)] == common
            assert set(body) == {*common, *carried}
            assert {name for name in body if body[name] is None} == {"message", "documentId"} - carried


def test_headers_are_onespans_over_one_connection():
    """The bare key behind Basic, no User-Agent, and the connection is kept."""
    with listening() as heard, Delivery(heard.url, KEY) as delivery:
        for name in ("PACKAGE_CREATE", "PACKAGE_ACTIVATE"):
            assert delivery.post(wire.body(Event(name, "pkg-1", CLEO, NOON))) is None

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
