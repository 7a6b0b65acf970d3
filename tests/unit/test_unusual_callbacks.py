"""Tests of callbacks that are not as documented: whatever names a package is read as far as possible."""

import codecs
import json
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.onespan.callback_dates import date_of
from app.onespan.callback_members import callback_bodies
from app.onespan.callbacks import Callback, UnusualCallback, parse_callback
from app.onespan.event_catalogue import event_type
from tests.conftest import ADA, NOON
from tests.support.fixtures import callback
from tests.support.strategies import any_json, examples

SIGNED = callback("DOCUMENT_SIGNED", sessionUser=ADA, documentId="contract")
BODY = json.dumps(SIGNED).encode()
AT = datetime(2026, 11, 20, 10, tzinfo=UTC)


def parse(**members: Any) -> Callback:
    """Parse the callback of a signed document, in which these members are changed."""
    return parse_callback(json.dumps({**SIGNED, **members}).encode())


DATES = {
    "seconds": 1795168800,
    "milliseconds": 1795168800000,
    "microseconds": 1795168800000000,
    "seconds with a fraction": 1795168800.0,
    "seconds as text": "1795168800",
    "milliseconds as text": "1795168800000",
    "whole seconds": "2026-11-20T10:00:00Z",
    "lower case": "2026-11-20t10:00:00.000z",
    "comma": "2026-11-20T10:00:00,000Z",
    "nine digits": "2026-11-20T10:00:00.000000000Z",
    "blank for T": "2026-11-20 10:00:00Z",
    "no zone": "2026-11-20T10:00:00",
    "blank before Z": "2026-11-20 10:00:00 Z",
    "blank before the offset": "2026-11-20 11:00:00 +0100",
    "offset without colon": "2026-11-20T11:00:00+0100",
    "unknown local offset": "2026-11-20T10:00:00-00:00",
    "leap second": "2026-11-20T09:59:60Z",
    "Java": "Fri Nov 20 10:00:00 UTC 2026",
    "Java in New York": "Fri Nov 20 05:00:00 EST 2026",
    "Java in Paris": "Fri Nov 20 11:00:00 CET 2026",
    "Java with an offset": "Fri Nov 20 11:00:00 GMT+01:00 2026",
    "HTTP": "Fri, 20 Nov 2026 10:00:00 GMT",
    "JSON date": "/Date(1795168800000)/",
    "JSON date with an offset": "/Date(1795168800000+0200)/",
    "zone id": "2026-11-20T10:00:00Z[UTC]",
    "zone id after an offset": "2026-11-20T11:00:00+01:00[Europe/Paris]",
    "zone id without an offset": "2026-11-20T11:00:00[Europe/Paris]",
    "zone name": "2026-11-20 05:00:00 EST",
}


@pytest.mark.parametrize("date", DATES.values(), ids=DATES)
def test_date_in_any_form_is_read(date):
    """A callback date is read in every form that integrators have received, and the event stays the same."""
    parsed = parse(createdDate=date)

    assert parsed.happened_at == AT
    assert not parsed.is_partly_read
    assert parsed.fingerprint == parse(createdDate="2026-11-20T10:00:00.000Z").fingerprint


def test_date_in_another_form_is_also_kept_as_sent():
    """The extra members show a date as it was sent, unless the date has a usual form."""
    assert parse(createdDate=1795168800000).extra == {"createdDate": 1795168800000}
    assert parse(createdDate="2026-11-20T10:00:00Z[UTC]").extra == {"createdDate": "2026-11-20T10:00:00Z[UTC]"}
    assert parse(createdDate="2026-11-20 11:00:00+01:00").extra == {}


@pytest.mark.parametrize(
    "date",
    [
        *(True, 5, -1795168800, 10**30, [2026, 11, 20], {"date": 1795168800}, "yesterday", "2026-02-31T12:00:00Z"),
        *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "9999-12-31T23:59:60Z"),
        *("Fri Nov 20 10:00:00 IST 2026", "2026-11-20T10:00:00[Mars/Base]", "2026-11-20T10:00:00[../zone]"),
    ],
)
def test_unreadable_date_is_no_date(date):
    """A date that cannot be read, or has two meanings, is kept in the extra members, and the package is fetched."""
    parsed = parse(createdDate=date)

    assert parsed.happened_at is None
    assert json.dumps(parsed.extra["createdDate"]) in (json.dumps(date), json.dumps(str(date)))
    assert parsed.is_partly_read


def test_digits_are_seconds_even_if_they_look_like_a_year():
    """A date of 13 digits is in milliseconds, and keeps the fingerprint of versions that read it as the year 1712."""
    parsed = parse(createdDate="1712010100000")

    assert parsed.happened_at == datetime(2024, 4, 1, 22, 21, 40, tzinfo=UTC)
    assert parsed.fingerprint == parse(createdDate="1712-01-01T00:00:00Z").fingerprint


@given(st.text() | st.integers() | st.floats() | st.from_regex(r"[0-9:TZ+./\[\]A-Z -]{5,40}"))
def test_any_date_is_read_or_ignored(value):
    """No value makes the reading of a date fail."""
    date = date_of(value)

    assert date is None or date.tzinfo == UTC


ID_FORMS = [(3, "3"), ({"id": ADA, "email": "ada@example.com"}, ADA), ([ADA], ADA), ("ada\0", "ada")]


@pytest.mark.parametrize(("sent", "read"), ID_FORMS)
@pytest.mark.parametrize(("member", "field"), [("sessionUser", "session_user"), ("documentId", "document_id")])
def test_id_of_another_type_is_read(member, field, sent, read):
    """A number, an object with an id, and a list with one id are read as the id."""
    parsed = parse(**{member: sent})

    assert getattr(parsed, field) == read
    assert not parsed.is_partly_read
    assert parsed.fingerprint == parse(**{member: read}).fingerprint


@pytest.mark.parametrize("sent", [True, {"name": "Ada"}, ["a", "b"], [], "i" * 257, "a\0b", "\ud83d"])
@pytest.mark.parametrize(("member", "field"), [("sessionUser", "session_user"), ("documentId", "document_id")])
def test_unreadable_id_is_kept_as_sent(member, field, sent):
    """An id that cannot be read is kept in the extra members, and the package is fetched."""
    parsed = parse(**{member: sent})

    assert getattr(parsed, field) is None
    assert member in parsed.extra
    assert parsed.is_partly_read


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (5, "5"),
        ({"name": "id.pdf"}, "id.pdf"),
        ({"content": "no"}, "no"),
        (["no"], "no"),
        (["a", "b"], None),
        ({}, None),
    ],
)
def test_message_of_another_type_is_read(sent, read):
    """A message that is a number, an object or a list is read as a text where one text is meant."""
    parsed = parse(message=sent)

    assert parsed.message == read
    assert parsed.extra == {"message": sent}
    assert parsed.is_partly_read == (read is None)


def test_new_role_of_another_type_is_read():
    """The extra member `newRoleId` is a text or absent, because rules compare it with ids."""
    assert parse(newRoleId=5).extra == {"newRoleId": "5", "newRoleId as sent": 5}
    assert parse(newRoleId={"id": "role-2"}).extra["newRoleId"] == "role-2"
    assert parse(newRoleId=["a", "b"]).extra == {"newRoleId as sent": ["a", "b"]}


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        *((["pkg-1"], "pkg-1"), ({"id": " pkg-1"}, "pkg-1"), ("\ufeffpkg-1\u3000", "pkg-1")),
        *((" pkg-1 ", "pkg-1"), ("\tpkg-1\u00a0", "pkg-1"), ("\0pkg-1\0", "pkg-1"), (17, "17")),
        *(("xT9OeZ%3D", "xT9OeZ="), ("xT9OeZ%3d", "xT9OeZ="), ("xT9OeZ%253D", "xT9OeZ="), ("%20xT9OeZ%3D", "xT9OeZ=")),
        *(
            ("100%", "100%"),
            ("a%zz", "a%zz"),
            ("50%25", "50%25"),
            ("%C3%A9", "%C3%A9"),
            ("x+y/z=", "x+y/z="),
            ("Pkg-1", "Pkg-1"),
            ("xT9OeZ=\r\n", "xT9OeZ="),
        ),
    ],
)
def test_package_id_is_the_true_id(sent, read):
    """A package id that is padded, percent-encoded or a number is read as the id that OneSpan knows."""
    assert parse(packageId=sent).package_id == read


@pytest.mark.parametrize("member", ["event", "type", "eventName", "eventType"])
def test_validsign_name_is_read(member):
    """ValidSign's members for the event name are read where `name` is absent, and are extra members otherwise."""
    without_name = {name: value for name, value in SIGNED.items() if name != "name"}
    parsed = parse_callback(json.dumps({**without_name, member: "DOCUMENT_SIGNED"}).encode())

    assert parsed.fingerprint == parse().fingerprint
    assert not parsed.is_partly_read
    assert parse(**{member: "PACKAGE_TRASH"}).name == "DOCUMENT_SIGNED"
    assert parse(**{member: "PACKAGE_TRASH"}).extra == {member: "PACKAGE_TRASH"}


def test_known_name_wins_over_a_name_of_something_else():
    """`name` may be the package's name; then another member names the event, and the fingerprint stays."""
    parsed = parse(name="My contract", event="PACKAGE_COMPLETE")

    assert parsed.name == "PACKAGE_COMPLETE"
    assert parsed.fingerprint == "af755d8c749ae59cc7164004c7db1407937e02ba359230e22d8eb9537b10252c"
    assert parse(name="My contract", event="PACKAGE_COMPLETE", message={"text": "x"}).name == "PACKAGE_COMPLETE"
    assert parse(name="My contract", event="SIGNED").name == "My contract"
    assert parse(name="PACKAGE_NEW", event="PACKAGE_COMPLETE").name == "PACKAGE_NEW"


def test_known_name_wins_among_several_members():
    """If several members may have the event's name, the one that the catalogue knows is used."""
    parsed = parse(name=None, type="callback", eventName="PACKAGE_COMPLETE", event="ESL")

    assert parsed.name == "PACKAGE_COMPLETE"
    assert parsed.extra == {"type": "callback", "event": "ESL"}


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        *((sent, "UNKNOWN") for sent in (None, "", "  ", {"x": 1}, ["PACKAGE_TRASH"], True, "n" * 256)),
        *((7, "7"), ("sign\0ed", "sign\ufffded"), ("document signed", "document signed")),
    ],
)
def test_law_10_unreadable_name_claims_nothing(sent, read):
    """An event without a readable name is stored, claims nothing, and its package is fetched."""
    parsed = parse(name=sent)

    assert parsed.name == read
    assert event_type(parsed.name).name == ""
    assert parsed.is_partly_read


def test_blanks_around_a_name_are_ignored():
    """A name with blanks around it is the known event, under the fingerprint that earlier versions gave it."""
    parsed = parse(name=" DOCUMENT_SIGNED ")

    assert parsed.name == "DOCUMENT_SIGNED"
    assert parsed.fingerprint != parse().fingerprint
    assert not parsed.is_partly_read


ENCODED = {
    "Latin-1": json.dumps({**SIGNED, "note": "Müller"}, ensure_ascii=False).encode("latin-1"),
    "Latin-1 after the mark of UTF-8": codecs.BOM_UTF8
    + json.dumps(json.dumps({**SIGNED, "note": "Müller"}, ensure_ascii=False), ensure_ascii=False).encode("latin-1"),
    "cp1252": json.dumps({**SIGNED, "note": "“Müller”"}, ensure_ascii=False).encode("cp1252"),
    "UTF-16 with a mark": json.dumps(SIGNED).encode("utf-16"),
    "UTF-16 without": json.dumps(SIGNED).encode("utf-16-le"),
    "UTF-32": json.dumps(SIGNED).encode("utf-32"),
    "an array": b"[" + BODY + b"]",
    "garbage after it": BODY + b"\r\n--boundary--",
    "garbage before it": b")]}',\n" + BODY,
    "NULs around it": b"\0" + BODY + b"\0\0",
    "twice": BODY + BODY,
    "JSON in a JSON text": json.dumps(json.dumps(SIGNED)).encode(),
    "inside another object": json.dumps({"payload": {"callback": SIGNED}}).encode(),
    "inside another member": b'{"payload": ' + BODY + b', "broken": ',
    "percent-encoded": quote(BODY).encode(),
    "percent-encoded in a form": b"payload=" + quote_plus(BODY).encode(),
    "names in another case": json.dumps({name.upper(): value for name, value in SIGNED.items()}).encode(),
    "names with underscores": re.sub(rb'[a-z](?=[A-Z]\w*": )', lambda match: match[0] + b"_", BODY),
    "breaks off": BODY[:-1] + b', "note": "it breaks o',
    "breaks off inside a character": BODY[:-1] + b', "note": "\xc3',
    "a comma too much": BODY[:-1] + b",}",
    "a line break in a text": BODY[:-1] + b', "note": "two\nlines"}',
    "single quotes": str({name: value for name, value in SIGNED.items() if value is not None}).encode(),
    "NaN": BODY[:-1] + b', "note": NaN}',
    "Infinity": BODY[:-1] + b', "note": [-Infinity]}',
    "21 levels": BODY[:-1] + b', "note": ' + b"[" * 20 + b"]" * 20 + b"}",
    "20,000 levels": b'{"note": ' + b"[" * 20_000 + b"]" * 20_000 + b"," + BODY[1:],
    "a member twice": BODY[:-1] + b', "note": 1, "note": 2}',
    "an id twice": BODY[:-1] + b', "packageId": "pkg-1"}',
}


@pytest.mark.parametrize("body", ENCODED.values(), ids=ENCODED)
def test_body_in_another_encoding_is_read(body):
    """Whatever encloses a callback or follows it, the callback is read and the package is fetched."""
    parsed = parse_callback(body)

    assert (parsed.name, parsed.package_id) == ("DOCUMENT_SIGNED", "pkg-1")
    assert (parsed.session_user, parsed.document_id, parsed.happened_at) == (ADA, "contract", NOON)
    assert parsed.is_partly_read


def test_form_fields_are_read():
    """The fields of a form are read like the members of a JSON object."""
    parsed = parse_callback(b"name=PACKAGE_COMPLETE&packageId=xT9OeZ%3D&createdDate=2026-03-02T12%3A00%3A00Z")

    assert (parsed.name, parsed.package_id, parsed.happened_at) == ("PACKAGE_COMPLETE", "xT9OeZ=", NOON)


def test_repeated_member_has_its_first_readable_value():
    """Of the different values of a member, the first that can be read counts, and all are kept."""
    first, second = b'"name": "X", "sessionUser": [], "x": 1', b'"name": "PACKAGE_TRASH", "sessionUser": "ada", "x": 2'

    parsed = parse_callback(b'{"packageId": "p", ' + first + b", " + second + b"}")

    assert (parsed.name, parsed.session_user) == ("PACKAGE_TRASH", "ada")
    assert parsed.extra == {"name": ["X", "PACKAGE_TRASH"], "sessionUser": [[], "ada"], "x": [1, 2]}


def test_equal_values_of_a_member_are_one_value():
    """A member that is repeated with the same value has this value, at any depth."""
    twice = b'"name": "PACKAGE_TRASH", "x": {"y": 1, "y": 1}, "name": "PACKAGE_TRASH"'

    parsed = parse_callback(b'{"packageId": "p", ' + twice + b"}")

    assert (parsed.name, parsed.extra) == ("PACKAGE_TRASH", {"x": {"y": 1}})


def test_escaped_member_of_a_message_is_no_package_id():
    """Members inside a quoted text are not taken for members of the callback."""
    body = json.dumps({"message": json.dumps(SIGNED), "name": "PACKAGE_TRASH", "packageId": "true-id"}).encode()

    assert parse_callback(body[:-1]).package_id == "true-id"


def test_several_callbacks_are_split():
    """Several objects in an array, in an object or one after the other are as many callbacks; any other body is one."""
    other = json.dumps({**SIGNED, "packageId": "pkg-2"}).encode()

    for sent in (b" [%b,%b]", b"[[%b], [%b]]", b'{"events": [%b, %b]}', b"%b\n%b\n", b"\0%b%b }"):
        bodies = callback_bodies(sent % (BODY, other))

        assert [parse_callback(body).package_id for body in bodies] == ["pkg-1", "pkg-2"]
    for body in (BODY, b"[" + BODY + b"]", b"[1, 2]", b"[", b"", b"[" * 50_000):
        assert callback_bodies(body) == [body]


SECONDARY = st.sampled_from(
    ("name", "sessionUser", "documentId", "message", "createdDate", "newRoleId", "event", "type", "@class", "note")
)


@settings(max_examples=examples(300))
@given(
    st.dictionaries(SECONDARY | st.text(max_size=5), any_json(st.text(), keys=st.text(max_size=5)), max_size=8),
    st.sampled_from(("utf-8", "utf-16", "latin-1")),
    st.sampled_from((b"", b"}", b"garbage", b"\xff", b"\0")),
)
def test_any_other_members_leave_the_package_recognisable(members, encoding, garbage):
    """Whatever the other members are, the package is recognised, and what could not be read causes a fetch."""
    members = {**{name: value for name, value in members.items() if name != "packageId"}, "packageId": "pkg-1"}
    parsed = parse_callback(json.dumps(members).encode(encoding) + garbage)

    assert parsed.package_id == "pkg-1"
    assert parsed.name
    assert len(parsed.fingerprint) == 64
    assert parsed.is_partly_read or not garbage
    for name in ("sessionUser", "documentId", "message", "createdDate"):
        lost = members.get(name) not in (None, "") and parsed.extra.get(name) is not None
        assert not lost or isinstance(parsed, UnusualCallback)
