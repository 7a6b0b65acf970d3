"""Tests of the simulator: actions over its REST API, and the registration of callbacks."""

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
from tests.support.simulated import API_KEY, AUTHORIZED, account_of, client_of, recorded_steps


class PackageClient(NamedTuple):
    """A REST client for a single package of the simulator, and the events that its actions cause."""

    account: Account
    package_id: str
    client: FlaskClient
    events: list[Event]

    @property
    def package(self) -> Package:
        """The package in its present state."""
        return self.account.package(self.package_id)

    def send(self, method: str, path: str = "", body: Any = None) -> Any:
        """Send a REST request about the package."""
        url = f"/api/packages/{self.package_id}{path}"
        return self.client.open(url, method=method, json=body, headers=AUTHORIZED)


def client_for(package: Package, **quirks: str) -> PackageClient:
    """Return a REST client for a simulated account that contains only this package."""
    account, events = account_of([package], quirks=Quirks(**quirks)), []
    return PackageClient(account, package.id, client_of(account, notify=events.extend), events)


def package_with_status(status: str, **changes: Any) -> Package:
    """Return a simulated package with this status and these changed attributes."""
    packages = (step.after for step in recorded_steps() if (step.after.status, step.after.type) == (status, "PACKAGE"))
    return replace(next(package for package in packages if not package.deleted and not package.trashed), **changes)


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
def test_status_changes(method, before, after, event):
    """A package's status changes by PUT, as documented, or by POST, as one SDK does; the event, if any, is sent."""
    client = client_for(package_with_status(before))

    assert client.send(method, body={"status": after}).status_code == 200
    assert client.package.status == after
    assert [sent.name for sent in client.events] == list(filter(None, [event]))


def test_unarchiving_sends_the_event_of_the_quirk():
    """Un-archiving a package sends the event that the quirk `unarchive_event` names."""
    client = client_for(package_with_status("ARCHIVED"), unarchive_event="PACKAGE_UNARCHIVE")
    client.send("PUT", body={"status": "COMPLETED"})

    assert [event.name for event in client.events] == ["PACKAGE_UNARCHIVE"]


def test_trashed_is_a_flag_beside_the_status():
    """The trash flag is separate from the status; setting the same value again sends no event."""
    client = client_for(package_with_status("COMPLETED"))
    codes = [client.send("PUT", body={"trashed": value}).status_code for value in (True, True, False)]

    assert codes == [200, 200, 200]
    assert [event.name for event in client.events] == ["PACKAGE_TRASH", "PACKAGE_RESTORE"]
    assert (client.package.status, client.package.trashed) == ("COMPLETED", False)


def test_due_date_and_name_change_without_an_event():
    """A request may change due date, name and status together; a new due date or name has no event."""
    due = NOON + timedelta(days=400)
    client = client_for(package_with_status("EXPIRED"))
    client.send("PUT", body={"name": "Another", "due": due.isoformat()[:-6], "status": "DRAFT"})

    package = client.package
    assert (package.name, package.due, package.status, client.events) == ("Another", due, "DRAFT", [])


def test_deletion_is_permanent():
    """The deletion of a package sends one event; every later request for the package answers 404."""
    client = client_for(package_with_status("SENT"))

    assert [client.send("DELETE").status_code for _ in range(2)] == [200, 404]
    assert [event.name for event in client.events] == ["PACKAGE_DELETE"]
    assert client.package.deleted


def test_a_locked_signer_can_be_unlocked():
    """A request that unlocks a signer answers with the role; OneSpan has no event for unlocking."""
    package = package_with_status("SENT")
    client = client_for(replace(package, roles=(replace(package.roles[0], locked=True), *package.roles[1:])))

    answer = client.send("POST", f"/roles/{package.roles[0].id}/unlock")

    ROLE_SHAPE.validate(answer.json)
    assert answer.json["locked"] is client.package.roles[0].locked is False
    assert client.events == []
    assert client.send("POST", "/roles/none/unlock").status_code == 404


def test_reminders_are_recorded():
    """The simulator records reminders so that tests can read them; a reminder has no other effect."""
    client = client_for(package_with_status("SENT"))
    role = client.package.roles[0].id
    client.send("POST", "/notifications", body={"email": "ada@example.com"})
    client.send("POST", f"/roles/{role}/notifications")

    assert client.account.reminders == [(client.package_id, None), (client.package_id, role)]
    assert client.events == []


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
def test_an_impossible_action_is_refused_and_changes_nothing(before, body, code):
    """An impossible action is refused with an error in OneSpan's form, and changes nothing."""
    client = client_for(package_with_status(before))
    original = client.package
    answer = client.send("PUT", body=body)

    assert answer.status_code == code
    ERROR_SHAPE.validate(answer.json)
    assert (client.package, client.events) == (original, [])


def test_a_registration_replaces_the_one_before():
    """A callback registration replaces the previous registration; both spellings of an event name are valid."""
    account = account_of([])
    client = client_of(account)
    before = client.get("/api/callback", headers=AUTHORIZED).json
    for events in (["PACKAGE_COMPLETE", "PACKAGE_READY_FOR_COMPLETION"], ["PACKAGE_TRASH"]):
        body = {"url": "https://service.example.com/onespan/callback", "key": "the-key", "events": events}
        answer = client.post("/api/callback", json=body, headers=AUTHORIZED)
        CALLBACK_SHAPE.validate(answer.json)
        assert client.get("/api/callback", headers=AUTHORIZED).json == answer.json
        assert answer.json["key"] == "the-key"

    assert before == {}
    assert account.registration.events == {"PACKAGE_TRASH"}
    assert API_KEY not in str(account.registration)


@pytest.mark.parametrize(
    "body", [[], {}, {"url": 1}, {"url": "ftp://a"}, {"url": "http://a", "events": "PACKAGE_TRASH"}], ids=str
)
def test_an_invalid_registration_is_refused(body):
    """An invalid callback registration is refused, and the account's registration stays unchanged."""
    account = account_of([])

    assert client_of(account).post("/api/callback", json=body, headers=AUTHORIZED).status_code == 400
    assert account.registration is None
