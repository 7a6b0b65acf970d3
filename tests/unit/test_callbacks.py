"""Reading one callback: what is understood, what is forgiven, what is refused and why."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import UnreadableCallback
from app.onespan.callbacks import Callback, read_callback
from app.onespan.catalogue import CATALOGUE
from tests.conftest import ADA, NOON
from tests.support import fixtures
from tests.support.fixtures import callback
from tests.support.strategies import any_json, examples

FULL = callback("PACKAGE_DECLINE", sessionUser=ADA, message="too expensive", phone="+1 555 0100")
ARBITRARY = settings(max_examples=examples(200))


def read(members: Any) -> Callback:
    """Read a callback from its members."""
    return read_callback(json.dumps(members).encode())


def refusal(body: bytes) -> str:
    """Why a body is refused."""
    with pytest.raises(UnreadableCallback) as refused:
        read_callback(body)
    return str(refused.value)


def test_a_captured_activation_is_read():
    """A real body, published by OneSpan's support."""
    told = read_callback(fixtures.body("captured_package_activate"))

    assert told == Callback(
        name="PACKAGE_ACTIVATE",
        package_id="xT9OeZ-j2jIynQBaLeLdgp9CtZk=",
        session_user="8QS1yr3q8DEZ",
        document_id=None,
        message=None,
        happened_at=datetime(2019, 10, 9, 19, 32, 12, 255000, tzinfo=UTC),
        extra={},
    )
    assert told.signer_id is None


def test_a_captured_completion_is_read():
    """A real body; its `sessionUser` is the last who signed."""
    told = read_callback(fixtures.body("captured_package_complete"))

    assert (told.name, told.package_id) == ("PACKAGE_COMPLETE", "LWsUTvGgE4WpOvaQPT16idnxNj8=")
    assert told.signer_id == "30ba8506-9819-46aa-a22d-c0114ba34cd0"
    assert told.happened_at == datetime(2020, 8, 21, 14, 12, 34, 544000, tzinfo=UTC)


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_documented_event_is_read_whole(name):
    """All 22: nothing that OneSpan documents of an event is lost."""
    members = json.loads(fixtures.body(name))

    told = read_callback(fixtures.body(name))

    assert told.name == members.pop("name")
    assert told.package_id == members.pop("packageId")
    assert told.session_user == members.pop("sessionUser")
    assert told.happened_at == datetime.fromisoformat(members.pop("createdDate"))
    assert told.document_id == members.pop("documentId", None)
    assert told.message == members.pop("message", None)
    assert told.extra == members
    assert set(CATALOGUE[name].carries) <= json.loads(fixtures.body(name)).keys()


def test_there_are_22_documented_events():
    """The catalogue and the documentation speak of the same ones."""
    documented = {file.stem for file in (fixtures.HERE / "callbacks").glob("[A-Z]*.json")}

    assert documented == set(CATALOGUE)
    assert len(documented) == 22


def test_both_spellings_of_ready_for_completion_are_one_event():
    """The SDKs spell it -ION, the wire does not."""
    wire, sdk = read(callback("PACKAGE_READY_FOR_COMPLETE")), read(callback("PACKAGE_READY_FOR_COMPLETION"))

    assert sdk.name == "PACKAGE_READY_FOR_COMPLETE"
    assert sdk.fingerprint == wire.fingerprint


def test_an_event_nobody_has_heard_of_is_read():
    """OneSpan adds events; their names are kept as they are."""
    assert read(callback("PACKAGE_FRAMED")).name == "PACKAGE_FRAMED"


def changed(**members: Any) -> bytes:
    """A readable callback with other members."""
    return json.dumps({**FULL, **members}).encode()


REFUSED = {
    "nothing": (b"", "it is not JSON"),
    "not UTF-8": (b'{"name": "\xe9"}', "it is not UTF-8"),
    "not JSON": (b"name=PACKAGE_COMPLETE", "it is not JSON"),
    "half of it": (json.dumps(FULL).encode()[:-9], "it is not JSON"),
    "two objects": (b"{}{}", "it is not JSON"),
    "an array": (json.dumps([FULL]).encode(), "it is not a JSON object"),
    "a text": (b'"PACKAGE_COMPLETE"', "it is not a JSON object"),
    "null": (b"null", "it is not a JSON object"),
    "no name": (changed(name=None), "there is no name"),
    "a blank name": (changed(name=""), "there is no name"),
    "no packageId": (changed(packageId=None), "there is no packageId"),
    "a blank packageId": (changed(packageId=""), "there is no packageId"),
    "name is a number": (changed(name=7), "name is not a text"),
    "packageId is a list": (changed(packageId=["pkg-1"]), "packageId is not a text"),
    "sessionUser is an object": (changed(sessionUser={"id": ADA}), "sessionUser is not a text"),
    "documentId is true": (changed(documentId=True), "documentId is not a text"),
    "message is a list": (changed(message=["no"]), "message is not a text"),
    "newRoleId is a number": (changed(newRoleId=5), "newRoleId is not a text"),
    "createdDate is a number": (changed(createdDate=1772452800000), "createdDate is not a text"),
    "name is too long": (changed(name="n" * 256), "name is longer than 255 characters"),
    "packageId is too long": (changed(packageId="p" * 256), "packageId is longer than 255 characters"),
    "sessionUser is too long": (changed(sessionUser="s" * 256), "sessionUser is longer than 255 characters"),
    "documentId is too long": (changed(documentId="d" * 257), "documentId is longer than 256 characters"),
    "newRoleId is too long": (changed(newRoleId="r" * 257), "newRoleId is longer than 256 characters"),
    "NUL in an id": (changed(packageId="pkg\0"), "packageId has characters that are not allowed in an id"),
    "half a surrogate pair in an id": (
        changed(sessionUser="\ud83d"),
        "sessionUser has characters that are not allowed in an id",
    ),
    "a member twice": (b'{"name": "A", "packageId": "p", "name": "B"}', "a member occurs twice"),
    "a member twice deep down": (
        b'{"name": "A", "packageId": "p", "more": [{"in": {"x": 1, "x": 1}}]}',
        "a member occurs twice",
    ),
    "NaN": (b'{"name": "A", "packageId": "p", "x": NaN}', "NaN is not a JSON number"),
    "Infinity": (b'{"name": "A", "packageId": "p", "x": [Infinity]}', "Infinity is not a JSON number"),
    "-Infinity": (b'{"name": "A", "packageId": "p", "x": -Infinity}', "-Infinity is not a JSON number"),
    "21 levels": (b'{"name": "A", "packageId": "p", "x": ' + b"[" * 20 + b"]" * 20 + b"}", "it is nested too deeply"),
    "50,000 levels": (b"[" * 50_000 + b"]" * 50_000, "it is nested too deeply"),
    "50,000 objects": (b'{"x":' * 50_000 + b"1" + b"}" * 50_000, "it is nested too deeply"),
    "a date of nonsense": (changed(createdDate="yesterday"), "createdDate is not a date"),
    "a 31st of February": (changed(createdDate="2026-02-31T12:00:00.000Z"), "createdDate is not a date"),
    "a date before all time": (changed(createdDate="0001-01-01T00:00:00+14:00"), "createdDate is not a date"),
    "a date after all time": (changed(createdDate="9999-12-31T23:59:59-14:00"), "createdDate is not a date"),
}


@pytest.mark.parametrize(("body", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_read_is_refused_with_its_reason(body, reason):
    """Who reads the answer or the journal learns what is wrong with the body."""
    assert reason in refusal(body)


@pytest.mark.parametrize(
    "spelling",
    ["2026-03-02T12:00:00.000Z", "2026-03-02T12:00:00Z", "2026-03-02T12:00:00", "2026-03-02T13:00:00.000+01:00"],
)
def test_a_date_is_utc_however_it_is_spelled(spelling):
    """OneSpan writes `Z`; an offset is understood, and no zone is UTC."""
    told = read(callback("PACKAGE_COMPLETE", createdDate=spelling))

    assert told.happened_at == NOON
    assert told.fingerprint == read(callback("PACKAGE_COMPLETE")).fingerprint


def test_a_callback_without_a_date_is_read():
    """Old ones have none."""
    assert read({"name": "PACKAGE_CREATE", "packageId": "pkg-1"}).happened_at is None


def test_ids_of_the_documented_size_are_read_whole():
    """Up to 255 and 256 characters, any script."""
    told = read(callback("DOCUMENT_SIGNED", packageId="é" * 255, sessionUser="s" * 255, documentId="d" * 256))

    assert (told.package_id, told.session_user, told.document_id) == ("é" * 255, "s" * 255, "d" * 256)


def test_a_byte_order_mark_is_forgiven():
    """Some senders put one first."""
    assert read_callback(b"\xef\xbb\xbf" + json.dumps(FULL).encode()) == read(FULL)


def test_members_nobody_knows_are_kept():
    """Nothing that OneSpan says is lost; `@class` is not about the event."""
    told = read(callback("PACKAGE_COMPLETE", region="eu", tags=["a", {"b": None}]))

    assert told.extra == {"region": "eu", "tags": ["a", {"b": None}]}


def test_texts_are_cleaned_of_what_no_database_takes():
    """A NUL and half of a surrogate pair become a replacement character, wherever they stand."""
    told = read(callback("PACKAGE_DECLINE", message="no\0 \ud83d!", note={"a\0": ["\udc00"]}))

    assert told.message == "no\ufffd \ufffd!"
    assert told.extra == {"note": {"a\ufffd": ["\ufffd"]}}


def test_a_whole_surrogate_pair_is_a_character():
    """JSON may spell it in two halves."""
    assert read_callback(b'{"name":"A","packageId":"p","message":"\\ud83d\\ude00"}').message == "\U0001f600"


@pytest.mark.parametrize("number", ["9" * 19, "-" + "9" * 18, "9" * 5000, "1e999", "-1e999"])
def test_numbers_no_column_holds_are_kept_as_they_were_written(number):
    """Of any length."""
    told = read_callback(f'{{"name":"A","packageId":"p","x":{number}}}'.encode())

    assert told.extra == {"x": number}


RETOLD = {
    "other white space": json.dumps(FULL, indent=4).encode(),
    "other order": json.dumps(dict(reversed(FULL.items()))).encode(),
    "without its nulls": json.dumps({name: value for name, value in FULL.items() if value is not None}).encode(),
    "more nulls": changed(newRoleId=None, region=None),
    "without @class": json.dumps({name: value for name, value in FULL.items() if name != "@class"}).encode(),
    "another zone": changed(createdDate="2026-03-02T07:00:00-05:00"),
    "other escapes": json.dumps(FULL).replace("too", "\\u0074oo").encode(),
    "a byte order mark": b"\xef\xbb\xbf" + json.dumps(FULL).encode(),
}


@pytest.mark.parametrize("body", RETOLD.values(), ids=RETOLD.keys())
def test_law_3_the_same_fact_has_one_fingerprint(body):
    """However it is written: a callback posted again by hand looks different and is the same."""
    assert read_callback(body).fingerprint == read(FULL).fingerprint


OTHERS = {
    "name": "PACKAGE_OPT_OUT",
    "packageId": "pkg-2",
    "sessionUser": "ADA-WHO-SIGNS",
    "documentId": "contract",
    "message": "Too expensive",
    "createdDate": "2026-03-02T12:00:00.001Z",
    "phone": "+1 555 0101",
    "comment": "new",
}


@pytest.mark.parametrize("member", OTHERS)
def test_law_3_another_fact_has_another_fingerprint(member):
    """Whatever member differs, in case or by a millisecond."""
    assert read({**FULL, member: OTHERS[member]}).fingerprint != read(FULL).fingerprint


def test_law_3_members_do_not_run_into_each_other():
    """The same words in another member are another fact."""
    one = read(callback("DOCUMENT_SIGNED", sessionUser="a", documentId="b"))
    other = read(callback("DOCUMENT_SIGNED", sessionUser="b", documentId="a"))

    assert one.fingerprint != other.fingerprint


@ARBITRARY
@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_read_or_refused(body):
    """Nothing else happens, whatever comes in."""
    _read_or_refused(body)


anything = any_json()
members = st.sampled_from(("name", "packageId", "sessionUser", "documentId", "message", "createdDate", "newRoleId"))


@ARBITRARY
@given(anything | st.dictionaries(members | st.text(max_size=5), anything, max_size=8))
def test_any_json_is_read_or_refused(value):
    """So too when it almost looks like a callback; what is read can be told apart and written down."""
    _read_or_refused(json.dumps(value).encode())


@ARBITRARY
@given(st.dictionaries(members | st.text(max_size=5), anything, max_size=6), st.text(min_size=1, max_size=300))
def test_any_members_beside_the_two_that_must_be_are_read_or_refused(more, package_id):
    """The same with a name and a package."""
    _read_or_refused(json.dumps({**more, "name": "PACKAGE_COMPLETE", "packageId": package_id}).encode())


def _read_or_refused(body: bytes) -> None:
    try:
        told = read_callback(body)
    except UnreadableCallback:
        return
    assert len(told.fingerprint) == 64
    for text in (told.name, told.package_id, told.session_user, told.message, json.dumps(told.extra)):
        assert "\0" not in (text or "")
        (text or "").encode()


@pytest.mark.parametrize("date", ["2026-03-02t12:00:00z", " 2026-03-02T12:00:00.000Z ", "2026-03-02T13:00:00+01:00"])
def test_a_date_may_be_spelt_in_any_way_the_standard_has(date):
    """RFC 3339 takes small letters; a person may have put a blank."""
    told = read_callback(json.dumps({"name": "PACKAGE_TRASH", "packageId": "p", "createdDate": date}).encode())

    assert told.happened_at == NOON


def test_members_that_become_one_when_cleaned_are_the_same_in_any_order():
    """A fingerprint is of what is said, not of how."""
    members = {"name": "PACKAGE_TRASH", "packageId": "p", "a\x00": 1, "a\ufffd": 2}
    turned = dict(reversed(members.items()))

    first, second = (read_callback(json.dumps(one).encode()) for one in (members, turned))

    assert first.fingerprint == second.fingerprint
