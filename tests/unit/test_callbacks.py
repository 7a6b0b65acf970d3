"""Tests of the callback parser: accepted forms, tolerated deviations, and the reasons for rejection."""

import gzip
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import UnreadableCallback
from app.onespan.callback_members import callback_bodies
from app.onespan.callbacks import Callback, package_of, parse_callback, usual_package
from app.onespan.event_catalogue import CATALOGUE
from tests.conftest import ADA, NOON
from tests.support import fixtures
from tests.support.fixtures import callback
from tests.support.strategies import any_json, examples

FULL = callback("PACKAGE_DECLINE", sessionUser=ADA, message="too expensive", phone="+1 555 0100")
ARBITRARY = settings(max_examples=examples(200))


def parse(members: Any) -> Callback:
    """Return the parsed callback that has these JSON members."""
    return parse_callback(json.dumps(members).encode())


def rejection(body: bytes) -> str:
    """Return the reason why the parser rejects a callback body."""
    with pytest.raises(UnreadableCallback) as caught:
        parse_callback(body)
    return str(caught.value)


def test_captured_activation_is_parsed():
    """The parser reads a real activation callback, which OneSpan's support has published."""
    parsed = parse_callback(fixtures.body("captured_package_activate"))

    assert parsed == Callback(
        name="PACKAGE_ACTIVATE",
        package_id="xT9OeZ-j2jIynQBaLeLdgp9CtZk=",
        session_user="8QS1yr3q8DEZ",
        document_id=None,
        message=None,
        happened_at=datetime(2019, 10, 9, 19, 32, 12, 255000, tzinfo=UTC),
        extra={},
    )
    assert parsed.signer_id is None


def test_captured_completion_is_parsed():
    """The parser reads a real completion callback, whose `sessionUser` is the last signer."""
    parsed = parse_callback(fixtures.body("captured_package_complete"))

    assert (parsed.name, parsed.package_id) == ("PACKAGE_COMPLETE", "LWsUTvGgE4WpOvaQPT16idnxNj8=")
    assert parsed.signer_id == "30ba8506-9819-46aa-a22d-c0114ba34cd0"
    assert parsed.happened_at == datetime(2020, 8, 21, 14, 12, 34, 544000, tzinfo=UTC)


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_documented_event_is_parsed_completely(name):
    """The parser keeps every documented member of the callbacks for all events."""
    members = json.loads(fixtures.body(name))

    parsed = parse_callback(fixtures.body(name))

    assert parsed.name == members.pop("name")
    assert parsed.package_id == members.pop("packageId")
    assert parsed.session_user == members.pop("sessionUser")
    assert parsed.happened_at == datetime.fromisoformat(members.pop("createdDate"))
    assert parsed.document_id == members.pop("documentId", None)
    assert parsed.message == members.pop("message", None)
    assert parsed.extra == members
    assert set(CATALOGUE[name].extra_members) <= json.loads(fixtures.body(name)).keys()


def test_every_event_has_a_documented_body():
    """There is one fixture with the documented body of each event of the catalogue, and no other."""
    documented = {file.stem for file in (fixtures.HERE / "callbacks").glob("[A-Z]*.json")}

    assert documented == set(CATALOGUE)


def test_both_spellings_of_ready_for_completion_are_one_event():
    """The SDKs' spelling PACKAGE_READY_FOR_COMPLETION means the same event as PACKAGE_READY_FOR_COMPLETE."""
    wire, sdk = parse(callback("PACKAGE_READY_FOR_COMPLETE")), parse(callback("PACKAGE_READY_FOR_COMPLETION"))

    assert sdk.name == "PACKAGE_READY_FOR_COMPLETE"
    assert sdk.fingerprint == wire.fingerprint


def test_unknown_event_is_parsed():
    """A callback with an unknown event name is parsed and its name is kept, because OneSpan adds events."""
    assert parse(callback("PACKAGE_FRAMED")).name == "PACKAGE_FRAMED"


def changed(**members: Any) -> bytes:
    """Return the body of a callback in which these members are changed."""
    return json.dumps({**FULL, **members}).encode()


REJECTED = {
    "nothing": (b"", "it is not JSON"),
    "not UTF-8": (b'{"name": "\xe9"}', "it is not UTF-8"),
    "not JSON": (b"name=PACKAGE_COMPLETE", "it is not JSON"),
    "two empty objects": (b"{}{}", "it is not JSON"),
    "an empty array": (b"[]", "it is not a JSON object"),
    "a text": (b'"PACKAGE_COMPLETE"', "it is not a JSON object"),
    "null": (b"null", "it is not a JSON object"),
    "no packageId": (changed(packageId=None), "there is no packageId"),
    "a blank packageId": (changed(packageId=""), "there is no packageId"),
    "packageId is a list": (changed(packageId=["pkg-1", "pkg-2"]), "packageId is not a text"),
    "packageId is an object": (changed(packageId={"name": "pkg-1"}), "packageId is not a text"),
    "packageId is true": (changed(packageId=True), "packageId is not a text"),
    "packageId is too long": (changed(packageId="p" * 256), "packageId is longer than 255 characters"),
    "NUL in an id": (changed(packageId="pkg\0-1"), "packageId has characters that are not allowed in an id"),
    "half a surrogate pair": (changed(packageId="\ud83d"), "packageId has characters that are not allowed in an id"),
    "a packageId that breaks off": (b'{"name": "PACKAGE_COMPLETE", "packageId": "xT9OeZ', "it is not JSON"),
    "a broken gzip stream": (gzip.compress(json.dumps(FULL).encode())[:60], "its gzip stream is broken"),
    "50,000 levels": (b"[" * 50_000 + b"]" * 50_000, "it is nested too deeply"),
    "50,000 objects": (b'{"x":' * 50_000 + b"1" + b"}" * 50_000, "it is nested too deeply"),
}


@pytest.mark.parametrize(("body", "reason"), REJECTED.values(), ids=REJECTED.keys())
def test_body_that_names_no_package_is_rejected_with_reason(body, reason):
    """The reason for rejecting a callback body says what is wrong with the body."""
    assert reason in rejection(body)


@pytest.mark.parametrize(
    "spelling",
    ["2026-03-02T12:00:00.000Z", "2026-03-02T12:00:00Z", "2026-03-02T12:00:00", "2026-03-02T13:00:00.000+01:00"],
)
def test_dates_are_converted_to_utc(spelling):
    """A callback date with an offset is converted to UTC; a date without a time zone is taken as UTC."""
    parsed = parse(callback("PACKAGE_COMPLETE", createdDate=spelling))

    assert parsed.happened_at == NOON
    assert parsed.fingerprint == parse(callback("PACKAGE_COMPLETE")).fingerprint


def test_callback_without_date_is_parsed():
    """A callback without a date is parsed, because old callbacks have no date."""
    assert parse({"name": "PACKAGE_CREATE", "packageId": "pkg-1"}).happened_at is None


def test_ids_of_documented_length_are_accepted():
    """Ids of up to 255 characters, and document ids of up to 256, are accepted in any script."""
    parsed = parse(callback("DOCUMENT_SIGNED", packageId="é" * 255, sessionUser="s" * 255, documentId="d" * 256))

    assert (parsed.package_id, parsed.session_user, parsed.document_id) == ("é" * 255, "s" * 255, "d" * 256)


def test_byte_order_mark_is_accepted():
    """A callback body may begin with a byte order mark, because some senders add this mark."""
    assert parse_callback(b"\xef\xbb\xbf" + json.dumps(FULL).encode()) == parse(FULL)


def test_unknown_members_are_kept():
    """Unknown members of a callback are kept, except `@class`, which does not describe the event."""
    parsed = parse(callback("PACKAGE_COMPLETE", region="eu", tags=["a", {"b": None}]))

    assert parsed.extra == {"region": "eu", "tags": ["a", {"b": None}]}


def test_invalid_characters_are_replaced():
    """NUL and lone surrogates in a callback become replacement characters, at any depth of the JSON."""
    parsed = parse(callback("PACKAGE_DECLINE", message="no\0 \ud83d!", note={"a\0": ["\udc00"]}))

    assert parsed.message == "no\ufffd \ufffd!"
    assert parsed.extra == {"note": {"a\ufffd": ["\ufffd"]}}


def test_surrogate_pair_is_one_character():
    """A character that JSON escapes as a surrogate pair is parsed as a single character."""
    assert parse_callback(b'{"name":"A","packageId":"p","message":"\\ud83d\\ude00"}').message == "\U0001f600"


@pytest.mark.parametrize("number", ["9" * 19, "-" + "9" * 18, "9" * 5000, "1e999", "-1e999"])
def test_large_numbers_are_kept_as_text(number):
    """A number of any length in a callback is accepted and kept as text."""
    parsed = parse_callback(f'{{"name":"A","packageId":"p","x":{number}}}'.encode())

    assert parsed.extra == {"x": number}


SAME_EVENT = {
    "other white space": json.dumps(FULL, indent=4).encode(),
    "other order": json.dumps(dict(reversed(FULL.items()))).encode(),
    "without its nulls": json.dumps({name: value for name, value in FULL.items() if value is not None}).encode(),
    "more nulls": changed(newRoleId=None, region=None),
    "without @class": json.dumps({name: value for name, value in FULL.items() if name != "@class"}).encode(),
    "another zone": changed(createdDate="2026-03-02T07:00:00-05:00"),
    "other escapes": json.dumps(FULL).replace("too", "\\u0074oo").encode(),
    "a byte order mark": b"\xef\xbb\xbf" + json.dumps(FULL).encode(),
}


@pytest.mark.parametrize("body", SAME_EVENT.values(), ids=SAME_EVENT.keys())
def test_law_3_same_event_has_one_fingerprint(body):
    """A callback that a person reformats and posts again keeps its fingerprint."""
    assert parse_callback(body).fingerprint == parse(FULL).fingerprint


def test_law_3_accepted_bodies_keep_their_fingerprints():
    """A body that an earlier version accepted keeps its fingerprint, so a repeat after an upgrade runs no handler."""
    known = json.loads((fixtures.HERE / "fingerprints.json").read_bytes())

    changed_ones = [
        entry["body"] for entry in known if parse_callback(entry["body"].encode()).fingerprint != entry["fingerprint"]
    ]

    assert len(known) >= 100
    assert changed_ones == []


CHANGED_MEMBERS = {
    "name": "PACKAGE_OPT_OUT",
    "packageId": "pkg-2",
    "sessionUser": "ADA-WHO-SIGNS",
    "documentId": "contract",
    "message": "Too expensive",
    "createdDate": "2026-03-02T12:00:00.001Z",
    "phone": "+1 555 0101",
    "comment": "new",
}


@pytest.mark.parametrize("member", CHANGED_MEMBERS)
def test_law_3_different_event_has_different_fingerprint(member):
    """A change of any member changes a callback's fingerprint, even a letter's case or a millisecond."""
    assert parse({**FULL, member: CHANGED_MEMBERS[member]}).fingerprint != parse(FULL).fingerprint


def test_law_3_swapped_members_change_the_fingerprint():
    """Two callbacks have different fingerprints if they have the same values in different members."""
    first = parse(callback("DOCUMENT_SIGNED", sessionUser="a", documentId="b"))
    second = parse(callback("DOCUMENT_SIGNED", sessionUser="b", documentId="a"))

    assert first.fingerprint != second.fingerprint


@ARBITRARY
@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_parsed_or_rejected(body):
    """Arbitrary bytes are parsed as a callback or rejected; the parser raises no other error."""
    _parse_or_reject(body)


anything = any_json()
members = st.sampled_from(("name", "packageId", "sessionUser", "documentId", "message", "createdDate", "newRoleId"))


@ARBITRARY
@given(anything | st.dictionaries(members | st.text(max_size=5), anything, max_size=8))
def test_any_json_is_parsed_or_rejected(value):
    """Arbitrary JSON is parsed or rejected, and every parsed callback has a fingerprint and can be stored."""
    _parse_or_reject(json.dumps(value).encode())


@ARBITRARY
@given(st.dictionaries(members | st.text(max_size=5), anything, max_size=6), st.text(min_size=1, max_size=300))
def test_any_additional_members_are_parsed_or_rejected(more, package_id):
    """A name and a package id are the only required members of a callback; all others are parsed or rejected."""
    _parse_or_reject(json.dumps({**more, "name": "PACKAGE_COMPLETE", "packageId": package_id}).encode())


@ARBITRARY
@given(
    st.dictionaries(members | st.text(max_size=5), anything, max_size=6),
    st.text(min_size=1, max_size=300) | st.from_regex(r"[A-Za-z0-9_%=+/ -]{1,40}", fullmatch=True) | anything,
)
def test_shortcut_for_usual_bodies_reads_what_the_parser_reads(more, package_id):
    """A body that is taken for usual is one callback about the same package as for the full parser."""
    body = json.dumps({"name": "PACKAGE_COMPLETE", **more, "packageId": package_id}).encode()

    if (usual := usual_package(body)) is not None:
        assert usual == package_of(body)
        assert callback_bodies(body) == [body]


def test_documented_callback_is_usual():
    """A callback as OneSpan documents it takes the shortcut."""
    assert usual_package(json.dumps(FULL).encode()) == FULL["packageId"]
    assert usual_package(fixtures.body("captured_package_activate")) is not None


def _parse_or_reject(body: bytes) -> None:
    try:
        parsed = parse_callback(body)
    except UnreadableCallback:
        return
    assert len(parsed.fingerprint) == 64
    for text in (parsed.name, parsed.package_id, parsed.session_user, parsed.message, json.dumps(parsed.extra)):
        assert "\0" not in (text or "")
        (text or "").encode()


@pytest.mark.parametrize("date", ["2026-03-02t12:00:00z", " 2026-03-02T12:00:00.000Z ", "2026-03-02T13:00:00+01:00"])
def test_date_in_any_rfc_3339_form_is_accepted(date):
    """A callback date may use lower case, as RFC 3339 allows, and surrounding blanks are ignored."""
    parsed = parse_callback(json.dumps({"name": "PACKAGE_TRASH", "packageId": "p", "createdDate": date}).encode())

    assert parsed.happened_at == NOON


def test_members_with_equal_cleaned_names_have_a_stable_fingerprint():
    """Member order does not change the fingerprint, even if replaced characters make two names equal."""
    members = {"name": "PACKAGE_TRASH", "packageId": "p", "a\x00": 1, "a\ufffd": 2}
    reordered = dict(reversed(members.items()))

    first, second = (parse_callback(json.dumps(body).encode()) for body in (members, reordered))

    assert first.fingerprint == second.fingerprint
