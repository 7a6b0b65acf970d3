"""The simulator: its REST API shows packages as OneSpan documents it."""

from dataclasses import replace

import requests

from app.simulator import rest_json
from app.simulator.packages import CONSENT, STATUSES
from app.simulator.server import answering, api
from tests.conftest import Clock
from tests.support.onespan_shapes import ERROR_SHAPE, PACKAGE_SHAPE
from tests.support.simulated import API_KEY, AUTHORIZED, account_of, listed, lived, many_steps, read


def test_rest_shows_all_that_the_schema_requires():
    """Packages in every condition, against the required members of OpenAPI document 11.51."""
    lives = many_steps()
    stepped = [step for step in lives if not step.before or step.before.status != step.after.status]
    shown = [rest_json.package(step.after) for step in stepped[::6]]

    assert {one["status"] for one in shown} == STATUSES
    for one in shown:
        PACKAGE_SHAPE.validate(one)


def test_rest_answers_with_what_it_shows():
    """The list and the package alike, over HTTP."""
    account = lived(5)
    page = read(account, "/api/packages", to=99)["results"]

    for one in page:
        PACKAGE_SHAPE.validate(one)
    assert read(account, f"/api/packages/{page[7]['id']}") == page[7]


def test_rest_shows_who_has_signed():
    """A given signature has a date, one that is asked for has none."""
    lives = many_steps()
    for package in [step.after for step in lives[::10]]:
        documents = rest_json.package(package)["documents"]
        given = [bool(one.get("signed")) for document in documents for one in document["approvals"]]
        assert given == [bool(one.at) for one in package.approvals()]


def test_rest_shows_the_reason_for_declining():
    """In the messages, from the one who declined."""
    lives = many_steps()
    step = next(step for step in lives if step.events and step.events[0].name == "PACKAGE_DECLINE")
    (message,) = read(account_of([step.after]), f"/api/packages/{step.after.id}")["messages"]

    assert (message["content"], message["from"]["id"]) == (step.events[0].message, step.events[0].session_user)


def test_rest_does_not_know_what_was_deleted():
    """What is gone is as what never was."""
    account = lived(5)
    gone = [one.id for one in account.packages() if one.deleted]
    assert gone

    for package_id in (*gone, "never"):
        for path in (f"/api/packages/{package_id}", f"/api/packages/{package_id}/signingStatus"):
            ERROR_SHAPE.validate(read(account, path, status=404))
    assert not {*gone} & {*listed(account), *listed(account, query="trashed")}


def test_rest_tells_the_signing_status():
    """Of the package, of one signer, of one document; a trashed package counts as deleted."""
    lives = many_steps()
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
