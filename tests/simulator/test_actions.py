"""The simulator: what one can do by hand over its REST API, and how callbacks are registered."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from flask.testing import FlaskClient

from app.simulator.account import Account
from app.simulator.packages import Event, Package
from app.simulator.quirks import Quirks
from tests.conftest import NOON
from tests.support.onespan_shapes import CALLBACK_SHAPE, ERROR_SHAPE, ROLE_SHAPE
from tests.support.simulated import API_KEY, AUTHORIZED, account_of, client_of, many_steps


class Hand(NamedTuple):
    """Somebody who acts on one package, and what was told of it."""

    account: Account
    package_id: str
    client: FlaskClient
    told: list[Event]

    @property
    def package(self) -> Package:
        """As it stands."""
        return self.account.package(self.package_id)

    def send(self, method: str, path: str = "", body: Any = None) -> Any:
        """Do something to it."""
        url = f"/api/packages/{self.package_id}{path}"
        return self.client.open(url, method=method, json=body, headers=AUTHORIZED)


def hand_on(package: Package, **quirks: str) -> Hand:
    """A hand on an account with that package."""
    account, told = account_of([package], quirks=Quirks(**quirks)), []
    return Hand(account, package.id, client_of(account, tell=told.extend), told)


def one_that_is(status: str, **more: Any) -> Package:
    """A package of that status."""
    found = (step.after for step in many_steps() if (step.after.status, step.after.type) == (status, "PACKAGE"))
    return replace(next(one for one in found if not one.deleted and not one.trashed), **more)


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize(
    ("before", "after", "event"),
    [
        ("DRAFT", "SENT", "PACKAGE_ACTIVATE"),
        ("DECLINED", "SENT", "PACKAGE_ACTIVATE"),
        ("SENT", "DRAFT", "PACKAGE_DEACTIVATE"),
        ("EXPIRED", "DRAFT", None),
        ("COMPLETED", "ARCHIVED", "PACKAGE_ARCHIVE"),
        ("ARCHIVED", "COMPLETED", None),
    ],
)
def test_a_status_can_be_changed(method, before, after, event):
    """By PUT as documented or by POST as an SDK does; what OneSpan has an event for is told."""
    hand = hand_on(one_that_is(before))

    assert hand.send(method, body={"status": after}).status_code == 200
    assert hand.package.status == after
    assert [one.name for one in hand.told] == list(filter(None, [event]))


def test_unarchiving_by_hand_may_be_told():
    """As the quirk says."""
    hand = hand_on(one_that_is("ARCHIVED"), unarchive_event="PACKAGE_UNARCHIVE")
    hand.send("PUT", body={"status": "COMPLETED"})

    assert [one.name for one in hand.told] == ["PACKAGE_UNARCHIVE"]


def test_the_trash_is_a_flag():
    """In and out; what is so already stays so, and is not told."""
    hand = hand_on(one_that_is("COMPLETED"))
    answers = [hand.send("PUT", body={"trashed": value}).status_code for value in (True, True, False)]

    assert answers == [200, 200, 200]
    assert [one.name for one in hand.told] == ["PACKAGE_TRASH", "PACKAGE_RESTORE"]
    assert (hand.package.status, hand.package.trashed) == ("COMPLETED", False)


def test_a_due_date_and_a_name_are_changed_silently():
    """One by one, or with a status."""
    due = NOON + timedelta(days=400)
    hand = hand_on(one_that_is("EXPIRED"))
    hand.send("PUT", body={"name": "Another", "due": due.isoformat()[:-6], "status": "DRAFT"})

    assert (hand.package.name, hand.package.due, hand.package.status, hand.told) == ("Another", due, "DRAFT", [])


def test_deletion_is_for_good():
    """Told once, and then there is nothing."""
    hand = hand_on(one_that_is("SENT"))

    assert [hand.send("DELETE").status_code for _ in range(2)] == [200, 404]
    assert [one.name for one in hand.told] == ["PACKAGE_DELETE"]
    assert hand.package.deleted


def test_a_locked_signer_can_be_let_in():
    """The answer is the role; there is no event for it."""
    package = one_that_is("SENT")
    hand = hand_on(replace(package, roles=(replace(package.roles[0], locked=True), *package.roles[1:])))

    answer = hand.send("POST", f"/roles/{package.roles[0].id}/unlock")

    ROLE_SHAPE.validate(answer.json)
    assert answer.json["locked"] is hand.package.roles[0].locked is False
    assert hand.told == []
    assert hand.send("POST", "/roles/none/unlock").status_code == 404


def test_reminders_are_kept():
    """Who was reminded of what can be looked at; nothing else happens."""
    hand = hand_on(one_that_is("SENT"))
    role = hand.package.roles[0].id
    hand.send("POST", "/notifications", body={"email": "somebody@example.com"})
    hand.send("POST", f"/roles/{role}/notifications")

    assert hand.account.reminders == [(hand.package_id, None), (hand.package_id, role)]
    assert hand.told == []


@pytest.mark.parametrize(
    ("before", "body", "code"),
    [
        ("SENT", {"status": "ARCHIVED"}, 422),
        ("SENT", {"status": "COMPLETED"}, 422),
        ("COMPLETED", {"status": ["SENT"]}, 422),
        ("COMPLETED", {"due": "2030-01-01"}, 422),
        ("SENT", {"due": "soon"}, 400),
        ("SENT", [], 400),
        ("SENT", "text", 400),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(before, body, code):
    """With OneSpan's kind of error."""
    hand = hand_on(one_that_is(before))
    was = hand.package
    answer = hand.send("PUT", body=body)

    assert answer.status_code == code
    ERROR_SHAPE.validate(answer.json)
    assert (hand.package, hand.told) == (was, [])


def test_there_is_one_registration_and_it_is_replaced_whole():
    """Its key comes back in clear; names are taken in either spelling."""
    account = account_of([])
    client = client_of(account)
    before = client.get("/api/callback", headers=AUTHORIZED).json
    for events in (["PACKAGE_COMPLETE", "PACKAGE_READY_FOR_COMPLETION"], ["PACKAGE_TRASH"]):
        wanted = {"url": "https://service.example.com/onespan/callback", "key": "the-key", "events": events}
        answer = client.post("/api/callback", json=wanted, headers=AUTHORIZED)
        CALLBACK_SHAPE.validate(answer.json)
        assert client.get("/api/callback", headers=AUTHORIZED).json == answer.json
        assert answer.json["key"] == "the-key"

    assert before == {}
    assert account.registration.events == {"PACKAGE_TRASH"}
    assert API_KEY not in str(account.registration)


@pytest.mark.parametrize(
    "body", [[], {}, {"url": 1}, {"url": "ftp://a"}, {"url": "http://a", "events": "PACKAGE_TRASH"}], ids=str
)
def test_a_registration_that_cannot_be_is_refused(body):
    """The one before stays."""
    account = account_of([])

    assert client_of(account).post("/api/callback", json=body, headers=AUTHORIZED).status_code == 400
    assert account.registration is None
