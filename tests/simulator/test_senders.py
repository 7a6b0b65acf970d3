"""Tests of the simulator: senders of an account, callbacks of connectors, and a service that receives them."""

import json

import pytest
import requests

from app.simulator import callbacks
from app.simulator.auth import sender_key
from app.simulator.connectors import Connectors
from app.simulator.quirks import Quirks
from app.simulator.server import api, serve_in_thread
from app.work.reconcile import RunRequest
from tests.conftest import Clock, on_sqlite
from tests.simulator.test_sending import BEN, LEASE, Client
from tests.support.onespan_shapes import CALLBACK_SHAPE, SENDER_SHAPE, SENDERS_SHAPE
from tests.support.simulated import API_KEY, AUTHORIZED, account_of, callback_server, wait_until
from tests.support.simulation import Simulation, with_onespan

EVENTS = ["PACKAGE_CREATE", "PACKAGE_ACTIVATE", "PACKAGE_TRASH"]


def test_senders_are_invited_listed_changed_and_deleted():
    """Senders are listed in pages, the owner first; an invited sender is shown with what was sent."""
    client = Client()
    invited = client.call("POST", "/account/senders", {**BEN, "title": "Head of sales", "type": "MANAGER"})
    SENDER_SHAPE.validate(invited)
    assert (invited["status"], invited["title"], invited["type"]) == ("INVITED", "Head of sales", "MANAGER")
    page = client.call("GET", "/account/senders?from=1&to=2")
    SENDERS_SHAPE.validate(page)
    assert (page["count"], len(page["results"])) == (4, 2)
    assert client.call("GET", "/account/senders")["results"][0]["id"] == client.account.owner.id
    assert client.call("GET", "/account/senders?search=BEN@")["results"] == [invited]
    path = f"/account/senders/{invited['id']}"
    changed = client.call("POST", path, {"firstName": "Benno", "email": "other@example.com", "status": "ACTIVE"})
    assert (changed["firstName"], changed["email"], changed["title"]) == ("Benno", BEN["email"], "Head of sales")
    assert client.call("POST", f"{path}/invite") == client.call("GET", path) == changed
    client.call("DELETE", path)

    client.call("GET", path, status=404)
    client.call("DELETE", f"/account/senders/{client.account.owner.id}", status=403)


@pytest.mark.parametrize("body", [{}, {"email": 7}, {"email": ""}, [], {"first": True}], ids=str)
def test_an_invalid_invitation_is_refused(body):
    """An invitation needs an e-mail address that no other sender has."""
    client = Client()
    taken = {"email": client.account.people[1].email}
    for refused in (body, taken):
        client.call("POST", "/account/senders", refused, status=400)

    assert len(client.account.people) == 3


def test_an_invited_sender_has_an_api_key():
    """An invited sender sends with an own API key, which ends with the sender's deletion."""
    client = Client()
    sender = client.call("POST", "/account/senders", BEN)
    own_key = {"headers": {"Authorization": f"Basic {sender_key(client.account.people[-1])}"}}
    path = client.create(LEASE, **own_key)
    assert client.read(path)["sender"]["id"] == sender["id"]
    client.call("DELETE", f"/account/senders/{sender['id']}")

    client.call("GET", path, status=401, **own_key)
    assert client.read(path)["sender"]["id"] == sender["id"]


def test_connectors_have_their_own_registration():
    """The registration of each connector is apart from that of the account and of other connectors."""
    client = Client()
    client.call("GET", "/callback/connectors/sharepoint", status=404)
    body = {"url": "https://connector.example.com/x", "key": "k", "events": EVENTS}
    shown = client.call("POST", "/callback/connectors/sharepoint", body)
    CALLBACK_SHAPE.validate(shown)

    assert client.call("GET", "/callback/connectors/sharepoint") == shown
    client.call("GET", "/callback/connectors/dynamics", status=404)
    client.call("POST", "/callback/connectors/dynamics", {"url": "x"}, status=400)
    assert client.account.registration is None


@pytest.mark.parametrize(("quirk", "own"), [("both", ["PACKAGE_CREATE", "PACKAGE_DELETE"] * 2), ("connector", [])])
def test_a_connector_gets_the_events_of_its_packages(quirk, own):
    """A connector gets the registered events of the packages that name it, in order and with its key."""
    account, to_account = account_of([], quirks=Quirks(connector_events=quirk)), []
    with callback_server() as server, Connectors(account, to_account.extend) as connectors:
        app = api(account, api_key=API_KEY, clock=Clock(), notify=connectors.notify)
        with serve_in_thread(app, port=0) as address:
            register = {"url": server.url, "key": "connector-key", "events": EVENTS}
            session = requests.Session()
            session.headers.update(AUTHORIZED)
            session.post(f"{address}/api/callback/connectors/sharepoint", json=register, timeout=10)
            for origin in ("sharepoint", "dynamics"):
                package = {**LEASE, "data": {"origin": origin}, "status": "SENT"}
                created = session.post(f"{address}/api/packages", json=package, timeout=10).json()["id"]
                session.put(f"{address}/api/packages/{created}", json={"trashed": True}, timeout=10)
                session.delete(f"{address}/api/packages/{created}", timeout=10)
            wait_until(lambda: len(server.requests) >= len(EVENTS))

    assert [json.loads(request.body)["name"] for request in server.requests] == EVENTS
    assert {request.headers["authorization"] for request in server.requests} == {"Basic connector-key"}
    lifes = [event.name for event in to_account if event.name in ("PACKAGE_CREATE", "PACKAGE_DELETE")]
    assert lifes == (own or ["PACKAGE_CREATE", "PACKAGE_DELETE"])


@pytest.fixture
def settings(settings):
    """Settings with the address of the simulated OneSpan."""
    return with_onespan(settings)


@on_sqlite
def test_the_service_follows_a_package_that_is_sent_over_the_api(service, post, handlers, clock):
    """The service ends with the state of OneSpan, by callbacks alone and after a reconcile run."""
    simulation = Simulation(service, post, handlers=handlers, clock=clock)
    client = Client(simulation.account, clock=clock)
    path = client.create({**LEASE, "data": {"crm": "4711"}})
    client.call("POST", path, {"status": "SENT"})
    client.sign(path, "ada-1")
    client.sign(path, "ben")
    simulation.post(*map(callbacks.body, client.events))
    simulation.settle()
    assert simulation.stored_package(path.rpartition("/")[2]).status == "COMPLETED"
    simulation.reconcile(RunRequest(backfill=True))

    assert simulation.differences() == []
