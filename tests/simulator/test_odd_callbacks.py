"""Tests of the simulator's unusual callbacks: one part differs, and each still names its event and package."""

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import pytest

from app.simulator import callbacks
from app.simulator.delivery import Delivery
from app.simulator.odd_callbacks import FORMS, decoded, decompressed
from app.simulator.packages import Event
from app.simulator.quirks import Quirks
from tests.conftest import ADA, KEY, NOON
from tests.support.simulated import callback_server, recorded_steps

AT = NOON + timedelta(milliseconds=44)
PACKAGE = "LWsUTvGgE4WpOvaQPT16idnxNj8="
SIGNED = Event("DOCUMENT_SIGNED", PACKAGE, ADA, AT, document_id="doc-1")
DECLINED = Event("PACKAGE_DECLINE", PACKAGE, ADA, AT, message="één pagina")


def body(form: str, event: Event = SIGNED) -> bytes:
    """Return the body of a callback in this form."""
    return callbacks.body(event, quirks=Quirks(odd_members=form))


def members(form: str, event: Event = SIGNED) -> dict[str, object]:
    """Return the members of a callback in this form."""
    return json.loads(decoded(body(form, event)))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_names_its_event_and_package(form):
    """In every form the event and the package can be recognised, and at most one member differs from the usual form."""
    for event in (SIGNED, DECLINED, replace(SIGNED, at=None), Event("PACKAGE_EXPIRE", PACKAGE, None, NOON)):
        usual, odd = members("none", event), members(form, event)

        assert event.name in [odd.get(name) for name in ("name", "event", "type", "eventName", "eventType")]
        assert unquote(str(odd["packageId"])).strip() == PACKAGE
        assert len({name for name in usual if odd.get(name) != usual[name]}) <= 1


@pytest.mark.parametrize(
    ("form", "date"),
    [
        ("date-ms", 1772452800044),
        ("date-ms-text", "1772452800044"),
        ("date-s", 1772452800),
        ("date-s-text", "1772452800"),
        ("date-java", "Mon Mar 02 12:00:00 UTC 2026"),
        ("date-net", "/Date(1772452800044)/"),
        ("date-zone", "2026-03-02T12:00:00.044Z[UTC]"),
        ("date-twice", "2026-03-02T12:00:00.044Z"),
    ],
)
def test_dates_have_another_form(form, date):
    """`createdDate` has a form that integrators have seen; the other members have their usual form."""
    assert members(form) == {**members("none"), "createdDate": date}
    assert body(form).count(b"createdDate") == (2 if form == "date-twice" else 1)


@pytest.mark.parametrize(
    ("form", "member", "value"),
    [
        ("id-encoded", "packageId", PACKAGE.replace("=", "%3D")),
        ("id-padded", "packageId", f" {PACKAGE} "),
        ("name-eventType", "eventType", "DOCUMENT_SIGNED"),
        ("message-object", "message", {"name": "id.pdf"}),
        ("user-object", "sessionUser", {"id": ADA}),
        ("document-object", "documentId", {"id": "doc-1"}),
    ],
)
def test_other_members_have_another_form(form, member, value):
    """Another member has another type, value or name."""
    assert members(form)[member] == value


def test_a_number_replaces_only_an_unused_document():
    """A number replaces only an unused `documentId`, because it would lose the id of a document."""
    assert members("document-number", DECLINED)["documentId"] == 3
    assert members("document-number", SIGNED)["documentId"] == "doc-1"


@pytest.mark.parametrize("charset", ["latin-1", "cp1252"])
def test_bodies_have_another_encoding(charset):
    """A body is in another encoding; a body that has other characters stays in UTF-8."""
    beyond = replace(DECLINED, message="één pagina 🙁")

    assert json.loads(body(charset, DECLINED).decode(charset)) == members("none", DECLINED)
    assert body(charset, beyond) == body("none", beyond)


@pytest.mark.parametrize(("form", "unpack"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_compressed_bodies_say_so(form, unpack):
    """A compressed body has the header `Content-Encoding`, and its content is unchanged."""
    with callback_server() as server, Delivery(server.url, KEY) as delivery:
        delivery.post(body(form))
        delivery.post(body("none"))

    first, second = server.requests
    assert (first.headers["content-encoding"], unpack(first.body)) == (form, second.body)
    assert "content-encoding" not in second.headers


def mixed() -> Iterator[tuple[Event, bytes]]:
    """Yield events of simulated stories with their bodies in mixed forms."""
    for event in (event for step in recorded_steps()[:1200] for event in step.events):
        yield event, body("mixed", event)


def test_mixed_forms_lose_nothing():
    """Mixed forms vary from callback to callback; each keeps names, ids, texts and the milliseconds of dates."""
    usual, lossy = 0, 0
    for event, sent in mixed():
        odd = json.loads(decoded(sent))
        date = odd.get("createdDate")
        kept = [str(value) for value in odd.values()]
        usual += sent == callbacks.body(event)
        lossy += (
            isinstance(date, int) and datetime.fromtimestamp(date / (1 if date < 10**11 else 1000), UTC) != event.at
        )
        for text in filter(None, (event.session_user, event.document_id, event.message)):
            assert any(text in value for value in kept)

    assert (usual < 300, lossy) == (True, 0)


def test_the_same_callback_has_the_same_form_each_time():
    """A repeated callback has the same bytes, and a reposted one can still be read."""
    for event, sent in list(mixed())[:200]:
        again = body("mixed", event)
        assert again == sent
        assert json.loads(callbacks.reformatted(sent)) == json.loads(decoded(sent))


def test_all_forms_occur_when_mixed():
    """Mixed forms include compressed bodies, other names for `name`, other types and repeated members."""
    bodies = [sent for _, sent in mixed()]
    texts = [decoded(sent) for sent in bodies]

    assert any(decompressed(sent) != sent for sent in bodies)
    for part in ('"eventName":', "%3D", "/Date(", "[UTC]", ' UTC 2026"', '"documentId":{', '"sessionUser":{', '" '):
        assert any(part in text for text in texts), part
    assert any(text.count('"createdDate"') == 2 for text in texts)
    assert not any('"documentId":3' in text for text in texts)


@pytest.mark.parametrize("quirk", ["absent", "null"])
def test_an_undated_callback_has_no_date_or_null(quirk):
    """An undated callback lacks `createdDate`, or has null, by a quirk."""
    sent = json.loads(callbacks.body(replace(SIGNED, at=None), quirks=Quirks(undated=quirk)))

    assert sent.get("createdDate", "absent") == {"absent": "absent", "null": None}[quirk]
