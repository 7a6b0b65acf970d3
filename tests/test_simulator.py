"""The simulator: a OneSpan whose lives are plausible, whose wire is exact, and which the service understands."""

import ast
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
import requests
from click.testing import CliRunner
from flask import Flask
from jsonschema import Draft202012Validator
from werkzeug.serving import make_server

from app.onespan.catalogue import CATALOGUE
from app.simulator import ids, rest, wire
from app.simulator.account import Account
from app.simulator.command import simulate
from app.simulator.delivery import Delivery
from app.simulator.packages import CONSENT, Act, Event, Impossible, Package, perform
from app.simulator.server import answering, api
from tests.conftest import ADA, CLEO, HOUR, KEY, NOON, TOKEN, Clock

SEEDS = range(12)
PACKAGES = 40  # of each seed
SECOND = timedelta(seconds=1)
API_KEY = "the-api-key"
AUTHORIZED = {"Authorization": f"Basic {API_KEY}"}
ROOT = Path(__file__).parent.parent

# What the command does is the same whatever the service keeps its rows in.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

# Every step from one status to another, and the event that tells of it; None: OneSpan has no event for it.
LIFECYCLE = {
    ("DRAFT", "SENT"): "PACKAGE_ACTIVATE",
    ("DECLINED", "SENT"): "PACKAGE_ACTIVATE",
    ("SENT", "DRAFT"): "PACKAGE_DEACTIVATE",
    ("SENT", "COMPLETED"): "PACKAGE_COMPLETE",
    ("SENT", "DECLINED"): "PACKAGE_DECLINE",
    ("SENT", "OPTED_OUT"): "PACKAGE_OPT_OUT",
    ("SENT", "EXPIRED"): "PACKAGE_EXPIRE",
    ("EXPIRED", "DRAFT"): None,
    ("COMPLETED", "ARCHIVED"): "PACKAGE_ARCHIVE",
}
BESIDE_THE_STATUS = {"PACKAGE_TRASH", "PACKAGE_RESTORE", "PACKAGE_DELETE"}
BY_SIGNERS = {"DOCUMENT_SIGNED", "DOCUMENT_VIEWED", "SIGNER_COMPLETE", "KBA_FAILURE", "PACKAGE_ATTACHMENT"}


TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"}
TEXT, YES_NO, NUMBER, ANYTHING = {"type": "string"}, {"type": "boolean"}, {"type": "integer"}, {"type": "object"}


def one_of(*values: str) -> dict[str, Any]:
    """One of these texts."""
    return {"type": "string", "enum": list(values)}


def many(shape: dict[str, Any]) -> dict[str, Any]:
    """An array of such."""
    return {"type": "array", "items": shape}


def shape(members: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """An object that has all these members, and may have the optional ones and others."""
    return {"type": "object", "required": list(members), "properties": {**members, **optional}}


# What OneSpan's OpenAPI document 11.51 requires of a package, in our own words.
USER = {
    **dict.fromkeys(("id", "name", "firstName", "lastName", "email", "company", "timezoneId"), TEXT),
    **dict.fromkeys(("created", "updated"), TIME),
    **dict.fromkeys(("userCustomFields", "professionalIdentityFields"), many(ANYTHING)),
}
SENDER = {
    **USER,
    "type": one_of("REGULAR", "MANAGER"),
    "status": one_of("INVITED", "ACTIVE", "LOCKED"),
    "memberships": many(ANYTHING),
    "hasDelegates": YES_NO,
}
SIGNER = {
    **USER,
    "signerType": one_of("ACCOUNT_SENDER", "EXTERNAL_SENDER", "EXTERNAL_SIGNER", "GROUP_SIGNER"),
    "auth": shape(
        {
            "scheme": one_of("NONE", "PROVIDER", "CHALLENGE", "SMS", "SSO", "KBA", "SAA"),
            "challenges": many(ANYTHING),
        }
    ),
    "delivery": shape(dict.fromkeys(("email", "download", "provider"), YES_NO)),
    "knowledgeBasedAuthentication": shape(
        {},
        knowledgeBasedAuthenticationStatus=one_of("NOT_YET_ATTEMPTED", "PASSED", "FAILED", "INVALID_SIGNER", "UPDATED"),
    ),
}
ATTACHMENT = {"id": TEXT, "name": TEXT, "required": YES_NO, "status": one_of("INCOMPLETE", "REJECTED", "COMPLETE")}
ROLE = {
    "id": TEXT,
    "name": TEXT,
    "type": one_of("SIGNER", "SENDER"),
    "index": NUMBER,
    "signers": many(shape(SIGNER)),
    "attachmentRequirements": many(shape(ATTACHMENT)),
}
DOCUMENT = {
    **dict.fromkeys(("id", "name", "description"), TEXT),
    **dict.fromkeys(("index", "size"), NUMBER),
    **dict.fromkeys(("extract", "tagged"), YES_NO),
    "extractionTypes": many(TEXT),
    "fields": many(ANYTHING),
    "pages": many(shape({"id": TEXT, "index": NUMBER, "version": NUMBER})),
    "approvals": many(shape({"role": TEXT}, id=TEXT, optional=YES_NO, accepted=TIME, signed=TIME)),
}
MESSAGE = {
    "status": one_of("NEW", "READ", "TRASHED"),
    "from": shape(USER),
    "to": many(shape(USER)),
    "created": TIME,
    "content": TEXT,
    "documents": many(ANYTHING),
}
PACKAGE = {
    **dict.fromkeys(("id", "name", "description", "emailMessage"), TEXT),
    **dict.fromkeys(("created", "updated"), TIME),
    **dict.fromkeys(("trashed", "autocomplete", "notarized", "bulkSendable"), YES_NO),
    "status": one_of("DRAFT", "SENT", "COMPLETED", "ARCHIVED", "DECLINED", "OPTED_OUT", "EXPIRED"),
    "type": one_of("PACKAGE", "TEMPLATE", "LAYOUT"),
    "visibility": one_of("ACCOUNT", "SENDER"),
    "sender": shape(SENDER),
    "roles": many(shape(ROLE, locked=YES_NO, reassign=YES_NO)),
    "documents": many(shape(DOCUMENT)),
    "messages": many(shape(MESSAGE)),
}
PACKAGE_SHAPE = Draft202012Validator(shape(PACKAGE, due=TIME, completed=TIME))
ERROR_SHAPE = Draft202012Validator(shape({"code": NUMBER, "messageKey": TEXT, "message": TEXT}))


class Step(NamedTuple):
    """What one step did to one package."""

    before: Package | None
    after: Package
    events: list[Event]


def steps(account: Account, *, now: datetime = NOON, pause: timedelta = SECOND) -> Iterator[Step]:
    """Live to the end, a step every `pause`."""
    while not account.is_over:
        now += pause
        before = {one.id: one for one in account.packages()}
        events = account.step(now)
        (after,) = (one for one in account.packages() if before.get(one.id) is not one)
        yield Step(before.get(after.id), after, events)


def bodies(seed: int) -> list[bytes]:
    """All that a small account ever tells."""
    return [wire.body(event) for step in steps(Account(seed, packages=10)) for event in step.events]


@pytest.fixture(scope="module")
def lives() -> list[Step]:
    """Many whole lives."""
    return [step for seed in SEEDS for step in steps(Account(seed, packages=PACKAGES))]


@pytest.fixture(scope="module")
def told(lives: list[Step]) -> dict[str, list[tuple[Package, Event]]]:
    """By package, each event in order, with the package as it then stood."""
    by_package: dict[str, list[tuple[Package, Event]]] = {}
    for step in lives:
        by_package.setdefault(step.after.id, []).extend((step.after, event) for event in step.events)
    return by_package


def test_a_seed_tells_the_same_lives_again():
    """Whatever was found with a seed can be looked at again."""
    assert bodies(7) == bodies(7)
    assert bodies(7) != bodies(8)


def test_every_event_of_the_catalogue_happens_and_no_other(lives):
    """A developer sees each of their handlers run."""
    assert {event.name for step in lives for event in step.events} == set(CATALOGUE)


def test_every_kind_of_bounce_happens(lives):
    """OneSpan's documentation knows four."""
    bounces = {event.message for step in lives for event in step.events if event.name == "EMAIL_BOUNCE"}

    assert bounces == {"BOUNCE", "COMPLAINT", "OOTO", "UNKNOWN"}


def test_statuses_only_take_the_steps_of_the_lifecycle(lives):
    """And each step is told by its own event, or by none where there is none."""
    taken = set()
    for before, after, events in lives:
        if before and before.status != after.status:
            step = before.status, after.status
            taken.add(step)
            assert [event.name for event in events][-1:] == list(filter(None, [LIFECYCLE[step]]))

    assert taken == set(LIFECYCLE)


def test_what_is_no_step_is_told_without_one(lives):
    """No event that stands for a status comes where the status stays."""
    stepping = set(LIFECYCLE.values()) - {None}
    for before, after, events in lives:
        if before and before.status == after.status:
            assert not stepping & {event.name for event in events}


def test_trash_stands_beside_the_status_and_deletion_is_the_end(told):
    """A trashed package waits to be restored or deleted; of a deleted one nothing more is heard."""
    for story in told.values():
        names = [event.name for _, event in story]
        for here, name in enumerate(names):
            then = names[here + 1 :][:1]
            if name == "PACKAGE_TRASH":
                assert then in ([], ["PACKAGE_RESTORE"], ["PACKAGE_DELETE"])
            if name == "PACKAGE_DELETE":
                assert then == []


def test_a_signer_consents_first_and_completes_last(told):
    """Each signer signs every document asked of them once, beginning with the consent."""
    for story in told.values():
        signed: dict[str, list[str]] = {}
        for package, event in story:
            if event.name == "DOCUMENT_SIGNED":
                signed.setdefault(event.session_user, []).append(event.document_id)
            if event.name == "SIGNER_COMPLETE":
                assert sorted(signed[event.session_user]) == sorted(asked_of(package, event.session_user))

        for documents in signed.values():
            assert documents[0] == CONSENT
            assert len(set(documents)) == len(documents)


def test_a_package_completes_when_the_last_signer_has(told):
    """Without anybody's help, or by its sender's hand where it was made so."""
    for story in told.values():
        names = [event.name for _, event in story]
        for here, (package, event) in enumerate(story):
            if event.name == "PACKAGE_COMPLETE":
                before = "SIGNER_COMPLETE" if package.autocomplete else "PACKAGE_READY_FOR_COMPLETE"
                assert names[here - 1] == before
                assert package.is_signed()
                assert (event.session_user == package.sender.id) or package.autocomplete


def test_signers_keep_to_the_signing_order(lives):
    """Who has a later place signs only when all before have; equal places sign in any order."""
    for step in lives:
        for event in step.events:
            if event.name == "DOCUMENT_SIGNED":
                mine = place(step.after, event.session_user)
                earlier = [n for n, role in enumerate(step.after.roles) if role.index < step.after.roles[mine].index]
                assert all(step.after.is_signed(n) for n in earlier if step.after.approvals(n))


def test_some_sign_in_parallel_and_some_in_order(lives):
    """Both kinds of package are there."""
    kinds = {len({role.index for role in step.after.roles}) > 1 for step in lives if len(step.after.roles) > 2}

    assert kinds == {True, False}


def test_a_reassigned_role_gets_a_new_id_and_a_new_signer(lives):
    """The event carries the new role's id, under which the package is shown from then on."""
    reassigned = [step for step in lives if step.events and step.events[0].name == "ROLE_REASSIGN"]
    for before, after, (event,) in reassigned:
        seat = place(before, event.session_user)
        assert after.roles[seat].id == event.more["newRoleId"] != before.roles[seat].id
        assert after.roles[seat].person.id != event.session_user

    assert reassigned


def test_events_of_signers_name_signers_and_the_rest_names_the_sender(lives):
    """`sessionUser` is who did it."""
    for step in lives:
        for event in step.events:
            signers = {role.person.id for role in step.after.roles if role.person}
            if event.name in BY_SIGNERS:
                assert event.session_user in signers
            if event.name in BESIDE_THE_STATUS | {"PACKAGE_CREATE", "PACKAGE_ACTIVATE", "TEMPLATE_CREATE"}:
                assert event.session_user == step.after.sender.id


@pytest.mark.parametrize("pause", [timedelta(0), SECOND], ids=["at once", "slowly"])
def test_no_two_events_of_a_package_share_a_date(pause):
    """Dates go forward by a millisecond at least, even where all happens at once."""
    last: dict[str, str] = {}
    for step in steps(Account(1, packages=30), pause=pause):
        for event in step.events:
            date = wire.timestamp(event.at)
            assert last.get(event.package_id, "") < date
            last[event.package_id] = date


def test_an_account_without_end_goes_on():
    """Until somebody stops it."""
    account = Account(1, packages=None)
    for number in range(2000):
        account.step(NOON + number * SECOND)

    assert not account.is_over
    assert account.ended > 50


@pytest.mark.parametrize(
    ("verb", "change"),
    [
        ("sign", {}),
        ("complete", {"status": "SENT"}),
        ("archive", {"status": "DECLINED"}),
        ("activate", {"status": "COMPLETED"}),
        ("activate", {"trashed": True}),
        ("restore", {}),
        ("delete", {"deleted": True}),
    ],
)
def test_what_cannot_be_done_is_refused(verb, change):
    """A mistake in a history shows at once."""
    account = Account(3, packages=1)
    account.step(NOON)
    (draft,) = account.packages()

    with pytest.raises(Impossible):
        perform(replace(draft, **change), Act(verb), now=NOON)


def test_the_body_of_a_callback_is_onespans():
    """Byte for byte as it was seen on the wire."""
    event = Event("PACKAGE_COMPLETE", "LWsUTvGgE4WpOvaQPT16idnxNj8=", ADA, NOON + timedelta(milliseconds=44))

    assert wire.body(event) == (
        b'{"@class":"com.silanis.esl.packages.event.ESLProcessEvent","name":"PACKAGE_COMPLETE",'
        b'"sessionUser":"ada-who-signs","packageId":"LWsUTvGgE4WpOvaQPT16idnxNj8=","message":null,'
        b'"documentId":null,"createdDate":"2026-03-02T12:00:00.044Z"}'
    )


def test_the_body_carries_what_only_some_events_have(lives):
    """Members of the catalogue, and they are never null there; on other events they are missing or null."""
    common = ["@class", "name", "sessionUser", "packageId", "message", "documentId", "createdDate"]
    for step in lives:
        for event in step.events:
            body = json.loads(wire.body(event))
            carried = set(CATALOGUE[event.name].carries)
            assert list(body)[: len(common)] == common
            assert set(body) == {*common, *carried}
            assert {name for name in body if body[name] is None} == {"message", "documentId"} - carried


def test_ids_look_like_onespans():
    """So that columns, URLs and eyes meet the real thing."""
    dice = Random(5)

    assert re.fullmatch(r"[A-Za-z0-9_-]{27}=", ids.package_id(dice))
    assert re.fullmatch(r"[A-Za-z0-9]{12}", ids.sender_id(dice))
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", ids.uuid(dice))
    assert re.fullmatch(r"[0-9a-f]{48}", ids.document_id(dice))


def test_headers_are_onespans_over_one_connection():
    """The bare key behind Basic, no User-Agent, and the connection is kept."""
    with listening() as heard, Delivery(heard.url, KEY) as delivery:
        for name in ("PACKAGE_CREATE", "PACKAGE_ACTIVATE"):
            assert delivery.post(Event(name, "pkg-1", CLEO, NOON)) is None

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


def test_rest_shows_all_that_the_schema_requires(lives):
    """Packages in every condition, against the required members of OpenAPI document 11.51."""
    stepped = [step for step in lives if not step.before or step.before.status != step.after.status]
    shown = [rest.package(step.after) for step in stepped[::2]]

    assert {one["status"] for one in shown} == {status for step in LIFECYCLE for status in step}
    for one in shown:
        PACKAGE_SHAPE.validate(one)


def test_rest_answers_with_what_it_shows():
    """The list and the package alike, over HTTP."""
    account = lived(5)
    page = read(account, "/api/packages", to=99)["results"]

    for one in page:
        PACKAGE_SHAPE.validate(one)
    assert read(account, f"/api/packages/{page[7]['id']}") == page[7]


def test_rest_shows_who_has_signed(lives):
    """A given signature has a date, one that is asked for has none."""
    for package in [step.after for step in lives[::10]]:
        documents = rest.package(package)["documents"]
        given = [bool(one.get("signed")) for document in documents for one in document["approvals"]]
        assert given == [bool(one.at) for one in package.approvals()]


def test_rest_shows_the_reason_for_declining(lives):
    """In the messages, from the one who declined."""
    step = next(step for step in lives if step.events and step.events[0].name == "PACKAGE_DECLINE")
    (message,) = read(account_of([step.after]), f"/api/packages/{step.after.id}")["messages"]

    assert (message["content"], message["from"]["id"]) == (step.events[0].message, step.events[0].session_user)


@pytest.mark.parametrize("authorization", [None, "", "Basic", "Basic wrong", f"Bearer {API_KEY}", API_KEY])
@pytest.mark.parametrize("path", ["/api/packages", "/api/packages/none", "/api/packages/none/signingStatus", "/other"])
def test_rest_answers_nobody_without_the_api_key(authorization, path):
    """Not even that there is nothing."""
    headers = {"Authorization": authorization} if authorization is not None else {}
    answer = api(account_of([]), api_key=API_KEY, clock=Clock()).test_client().get(path, headers=headers)

    assert answer.status_code == 401
    ERROR_SHAPE.validate(answer.json)


def test_rest_does_not_know_what_was_deleted():
    """What is gone is as what never was."""
    account = lived(5)
    gone = [one.id for one in account.packages() if one.deleted]
    assert gone

    for package_id in (*gone, "never"):
        for path in (f"/api/packages/{package_id}", f"/api/packages/{package_id}/signingStatus"):
            ERROR_SHAPE.validate(read(account, path, status=404))
    assert not {*gone} & {*listed(account), *listed(account, query="trashed")}


def test_rest_lists_by_folder_and_status():
    """The default folder leaves out what was trashed; drafts are also what ended without a signature."""
    account = lived(5)
    there = [one for one in account.packages() if not one.deleted and one.type == "PACKAGE"]

    assert listed(account) == [one.id for one in there if not one.trashed]
    assert listed(account, query="trashed") == [one.id for one in there if one.trashed]
    for query, statuses in (
        ("drafts", {"DRAFT", "DECLINED", "EXPIRED", "OPTED_OUT"}),
        ("DRAFT", {"DRAFT", "DECLINED", "EXPIRED", "OPTED_OUT"}),
        ("inbox", {"SENT", "COMPLETED", "ARCHIVED"}),
        ("COMPLETED", {"COMPLETED"}),
        ("DECLINED", {"DECLINED"}),
    ):
        assert listed(account, query=query) == [one.id for one in there if one.status in statuses and not one.trashed]


def test_rest_lists_templates_where_asked_to():
    """They are no packages."""
    account = lived(5)

    assert listed(account, type="TEMPLATE") == [
        one.id for one in account.packages() if one.type == "TEMPLATE" and not one.deleted and not one.trashed
    ]
    assert listed(account, type="TEMPLATE")


def test_rest_pages_from_nought_with_both_ends_included():
    """`count` is of all pages; without `to` a page has ten, and none has more than a hundred."""
    account = lived(5)
    every = listed(account)
    page = read(account, "/api/packages", **{"from": 3, "to": 6})

    assert [one["id"] for one in page["results"]] == every[3:7]
    assert page["count"] == len(every)
    assert len(read(account, "/api/packages")["results"]) == 10
    assert read(account, "/api/packages", **{"from": len(every)})["results"] == []
    assert read(account, "/api/packages", fields="id", to=0)["results"] == [{"id": every[0]}]


@pytest.mark.parametrize("sort", ["created", "updated", "name", "status"])
def test_rest_sorts_both_ways(sort):
    """By what it shows."""
    account = lived(5)
    up = read(account, "/api/packages", sort=sort, to=99)["results"]
    down = read(account, "/api/packages", sort=sort, to=99, dir="desc")["results"]

    assert [one[sort] for one in up] == sorted(one[sort] for one in up)
    assert down == up[::-1]


@pytest.mark.parametrize(("start", "end"), [("lastUpdatedStartDate", "lastUpdatedEndDate"), ("startDate", "endDate")])
@pytest.mark.parametrize("form", ["%Y-%m-%dZ", "%Y-%m-%dT%H:%M:%SZ"])
def test_rest_lists_what_was_updated_on_whole_days(start, end, form):
    """From the beginning of the first day to the end of the last, in UTC, under either pair of names."""
    account = Account(5, packages=60)
    for _ in steps(account, pause=HOUR):
        pass
    first, last = NOON + timedelta(days=3), NOON + timedelta(days=5)

    found = listed(account, **{start: first.strftime(form), end: last.strftime(form)})

    days = {one.id: one.updated.date() for one in account.packages()}
    assert found == [one for one in listed(account) if first.date() <= days[one] <= last.date()]
    assert 0 < len(found) < len(listed(account))


@pytest.mark.parametrize(
    "query", [{"from": "x"}, {"to": "-1"}, {"sort": "size"}, {"query": "mine"}, {"startDate": "soon"}], ids=str
)
def test_rest_says_which_parameter_is_wrong(query):
    """And does not guess."""
    answer = read(account_of([]), "/api/packages", status=400, **query)

    ERROR_SHAPE.validate(answer)
    assert next(iter(query)) in answer["message"]


def test_rest_tells_the_signing_status(lives):
    """Of the package, of one signer, of one document; a trashed package counts as deleted."""
    step = next(step for step in lives if [one.name for one in step.events][1:] == ["SIGNER_COMPLETE"])
    package, who = step.after, step.events[0].session_user
    path = f"/api/packages/{package.id}/signingStatus"

    assert read(account_of([package]), path) == {"status": "SIGNING_PENDING"}
    assert read(account_of([package]), path, signer=who) == {"status": "SIGNING_COMPLETED"}
    assert read(account_of([package]), path, signer=who, document=CONSENT) == {"status": "SIGNING_COMPLETED"}
    assert read(account_of([replace(package, trashed=True)]), path) == {"status": "DELETED"}
    assert read(account_of([replace(package, status="EXPIRED")]), path) == {"status": "EXPIRED"}
    ERROR_SHAPE.validate(read(account_of([package]), path, status=404, signer="nobody"))


def test_rest_answers_carry_onespans_time():
    """The `Date` header is what a reader measures the difference of clocks by."""
    with answering(api(lived(5), api_key=API_KEY, clock=Clock()), port=0) as address:
        answer = requests.get(f"{address}/api/packages", headers=AUTHORIZED, timeout=10)

    assert answer.headers["Date"] == "Mon, 02 Mar 2026 12:00:00 GMT"
    assert answer.headers["Content-Type"] == "application/json; esl-api-version=11"
    assert len(answer.json()["results"]) == 10


def test_the_service_believes_what_the_simulator_lived(app: Flask, clock: Clock, picture):
    """Every callback is taken, and in the end each package is to the service what it is to OneSpan."""
    account = Account(11, packages=20)
    with serving(app) as url, Delivery(url, KEY) as delivery:
        while not account.is_over:
            clock.forward(SECOND)
            for event in account.step(clock.now):
                assert delivery.post(event) is None

    for truth in account.packages():
        believed = picture(truth.id)
        assert (believed.status, believed.trashed, believed.deleted) == (truth.status, truth.trashed, truth.deleted)
        assert (believed.type, believed.sender.id) == (truth.type, truth.sender.id)
        assert {one.id for one in believed.signers if one.status == "COMPLETED"} == {
            role.person.id for n, role in enumerate(truth.roles) if role.person and truth.is_signed(n)
        }
        assert (believed.completed_at is None) == (truth.completed is None)
    assert delivery.tally.accepted > 200


@on_sqlite
def test_the_command_tells_whole_lives(app: Flask):
    """It ends by itself, says what became of the callbacks, and exits with 0."""
    with serving(app) as url:
        result = run("--packages", "5", "--seed", "2", "--url", url, "--key", KEY)

    assert result.exit_code == 0, result.output
    assert re.fullmatch(r"5 packages, (\d+) callbacks: \1 accepted, 0 refused, 0 unreachable\.\n", result.stdout)
    assert "--seed 2" in result.stderr


@pytest.mark.parametrize(
    "setting", ["the-callback-key", "first=the-callback-key,second=other", " , the-callback-key , old"]
)
def test_the_command_takes_the_first_key_of_the_setting(setting):
    """As it stands in the service's settings, label and all."""
    with listening() as heard:
        result = run("--packages", "1", "--url", heard.url, env={"ONESPAN_CALLBACK_KEYS": setting})

    assert result.exit_code == 0, result.output
    assert {one.headers["authorization"] for one in heard.requests} == {f"Basic {KEY}"}


def test_the_command_takes_a_base64_key_whole():
    """An `=` at the end is no label's."""
    with listening() as heard:
        run("--packages", "1", "--url", heard.url, "--key", "c2VjcmV0IQ==")

    assert heard.requests[0].headers["authorization"] == "Basic c2VjcmV0IQ=="


@pytest.mark.parametrize("setting", [None, "", " , "])
def test_the_command_says_how_to_give_a_key(setting):
    """Where there is none, nothing is sent."""
    result = run("--packages", "1", env={"ONESPAN_CALLBACK_KEYS": setting})

    assert result.exit_code == 2
    assert "flask --env-file instance/settings.env simulate" in result.stderr


@on_sqlite
def test_the_command_says_when_it_is_refused(app: Flask):
    """Once, with the service's own words; it goes on, as OneSpan would, and exits with 1."""
    with serving(app) as url:
        result = run("--packages", "2", "--seed", "2", "--url", url, "--key", "wrong")

    assert result.exit_code == 1
    assert re.search(r"2 packages, (\d+) callbacks: 0 accepted, \1 with 401 refused, 0 unreachable", result.stdout)
    assert result.stderr.count("refused with 401: The request carries none of our callback keys.") == 1
    assert "wrong" not in result.output


def test_the_command_says_when_nobody_answers():
    """In words, at once, and exits with 1."""
    with listening() as heard:
        pass

    result = run("--packages", "0", "--url", heard.url, "--key", KEY)

    assert result.exit_code == 1
    assert f"Nobody answers at {heard.url}. Is the service running there?" in result.stderr
    assert "Traceback" not in result.output
    assert "0 accepted, 0 refused, 1 unreachable" in result.stdout


def test_the_command_goes_on_when_the_service_was_away_for_a_while():
    """What could not be delivered is counted and not sent again."""
    with listening(answers=[200, None, 503, 200]) as heard:
        result = run("--packages", "1", "--seed", "0", "--url", heard.url, "--key", KEY)

    names = [json.loads(one.body)["name"] for one in heard.requests]
    assert result.exit_code == 1
    assert f"1 packages, {len(names)} callbacks: {len(names) - 2} accepted, 1 with 503 refused, 1 unr" in result.stdout
    assert len({one.body for one in heard.requests}) == len(names) > 4


def test_the_command_serves_rest_and_ends_when_told():
    """`--packages 0` goes on until Ctrl-C; then it says what became of it and exits with 0."""
    with (
        listening() as heard,
        playing("--packages", "0", "--rate", "200", "--serve", "0", "--url", heard.url) as process,
    ):
        address = address_in(process)
        wait_until(lambda: len(heard.requests) > 20)
        count = requests.get(f"{address}/api/packages", headers=AUTHORIZED, timeout=10).json()["count"]
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)

    assert count > 0
    assert process.returncode == 0, stderr
    assert f"{len(heard.requests)} accepted, 0 refused, 0 unreachable." in stdout


def test_the_command_answers_on_when_asked_to():
    """With `--keep-serving` what became of the packages can be read until Ctrl-C."""
    arguments = ("--packages", "3", "--seed", "1", "--rate", "10000", "--serve", "0", "--keep-serving")
    with listening() as heard, playing(*arguments, "--url", heard.url) as process:
        address = address_in(process)
        next(line for line in process.stderr if "still answering" in line)
        answer = requests.get(f"{address}/api/packages", headers=AUTHORIZED, timeout=10)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)

    assert answer.status_code == 200
    assert process.returncode == 0


def test_the_command_keeps_serving_only_what_it_serves():
    """Options that go together are said to."""
    result = run("--key", KEY, "--keep-serving")

    assert result.exit_code == 2
    assert "--keep-serving goes with --serve" in result.stderr


@on_sqlite
def test_the_demo_shows_packages_and_ends_when_told(database_url: str, tmp_path: Path):
    """`make demo` starts the service and has it called back; Ctrl-C ends both, and that is a success."""
    address = f"127.0.0.1:{free_port()}"
    (tmp_path / "settings.env").write_text(f"ONESPAN_CALLBACK_KEYS=first={KEY}\nAPI_TOKENS=first={TOKEN}\n")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SETTINGS_FILE": str(tmp_path / "settings.env"),
        "DATABASE_URL": database_url,
        "SPOOL_DIR": str(tmp_path / "spool"),
        "DEMO_LOG": str(tmp_path / "demo.log"),
        "DEMO_RATE": "50",
        "BIND": address,
        "WEB_CONCURRENCY": "1",
    }
    output = tmp_path / "output"
    with output.open("w") as file:
        process = subprocess.Popen(["sh", "deploy/demo.sh"], cwd=ROOT, env=environment, stdout=file, stderr=file)
    try:
        wait_until(lambda: packages_known(address) > 2)
        process.send_signal(signal.SIGINT)
        process.wait(30)
    finally:
        process.terminate()

    assert process.returncode == 0
    assert f'curl -s "http://{address}/api/packages' in output.read_text()
    assert re.search(r"(\d+) callbacks: \1 accepted, 0 refused, 0 unreachable\.\n$", output.read_text())
    assert packages_known(address) == 0


def test_the_demo_leaves_alone_what_runs_there_already():
    """It would show somebody else's packages."""
    other = Flask("other")
    other.add_url_rule("/healthz", view_func=lambda: "fine")
    with serving(other) as url:
        answer = subprocess.run(
            ["sh", "deploy/demo.sh"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "BIND": url.split("/")[2]},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert answer.returncode == 1
    assert "BIND=" in answer.stderr


def test_the_simulator_knows_nothing_of_ours_but_the_catalogue():
    """It can only talk to the service as OneSpan does, over HTTP."""
    for file in (ROOT / "app" / "simulator").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [f"{'.' * node.level}{node.module or ''}"] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                ours = name.split(".")[0] in ("app", "config", "wsgi", "tests", "")
                allowed = re.match(r"app\.(simulator|onespan\.catalogue)(\.|$)", name)
                assert allowed or not ours, f"{file.name} imports {name}"


def asked_of(package: Package, person_id: str) -> list[str]:
    """The documents somebody must sign."""
    mine = place(package, person_id)
    return [one.id for one in package.documents if any(approval.role == mine for approval in one.approvals)]


def place(package: Package, person_id: str) -> int:
    """The place of the role in which somebody sits."""
    (found,) = (n for n, role in enumerate(package.roles) if role.person and role.person.id == person_id)
    return found


def lived(seed: int) -> Account:
    """A small account after all its histories."""
    account = Account(seed, packages=60)
    for _ in steps(account):
        pass
    return account


def account_of(packages: list[Package]) -> Account:
    """An account with just these."""
    account = Account(0, packages=None)
    account._packages = {one.id: one for one in packages}
    return account


def read(account: Account, path: str, *, status: int = 200, **query: Any) -> Any:
    """Read from the simulated REST API, with the key."""
    client = api(account, api_key=API_KEY, clock=Clock()).test_client()
    answer = client.get(path, query_string=query, headers=AUTHORIZED)
    assert answer.status_code == status, answer.text
    return answer.json


def listed(account: Account, **query: Any) -> list[str]:
    """The ids on a long page."""
    return [one["id"] for one in read(account, "/api/packages", to=99, **query)["results"]]


def run(*arguments: str, env: dict[str, str | None] | None = None) -> Any:
    """`flask simulate`, quick."""
    return CliRunner().invoke(simulate, ["--rate", "10000", *arguments], env=env)


@contextmanager
def playing(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command as a process of its own."""
    code = "from app.simulator.command import simulate; simulate()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--key", KEY, "--api-key", API_KEY, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def address_in(process: subprocess.Popen[str]) -> str:
    """Where it says that its REST API answers."""
    said = next(line for line in process.stderr if "REST" in line)
    return re.search(r"http://[\d.:]+\d", said)[0]


def wait_until(condition: Callable[[], bool]) -> None:
    """Until another process has got so far, or a deadline."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def free_port() -> int:
    """One that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def packages_known(address: str) -> int:
    """How many packages a service shows; 0 where none answers yet."""
    try:
        answer = requests.get(
            f"http://{address}/api/packages", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10
        )
    except requests.ConnectionError:
        return 0
    return len(answer.json()["items"])


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    """The service on a free port; gives where callbacks go."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/onespan/callback"
    server.shutdown()
    thread.join()
    server.server_close()


class Heard(NamedTuple):
    """One request as it came in."""

    headers: dict[str, str]
    client: int
    body: bytes


class Listening(NamedTuple):
    """Somebody who takes callbacks."""

    url: str
    requests: list[Heard]


@contextmanager
def listening(answers: tuple[int | None, ...] | list[int | None] = ()) -> Iterator[Listening]:
    """Take callbacks on a free port and keep them; answers these statuses in turn, then 200; None hangs up."""
    requests: list[Heard] = []
    given = iter(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            requests.append(Heard({k.lower(): v for k, v in self.headers.items()}, self.client_address[1], body))
            status = next(given, 200)
            if status is None:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Listening(f"http://127.0.0.1:{server.server_port}/onespan/callback", requests)
    server.shutdown()
    thread.join()
    server.server_close()
