"""Tests of the simulator with a client of OneSpan's published API: it drafts, sends, signs, trashes and deletes."""

import base64
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from app.simulator.account import Account
from app.simulator.packages import CONSENT, Event
from app.simulator.quirks import Quirks
from tests.conftest import Clock
from tests.support.onespan_shapes import (
    APPROVAL_SHAPE,
    DOCUMENT_SHAPE,
    ERROR_SHAPE,
    PACKAGE_SHAPE,
    ROLE_SHAPE,
    ROLES_SHAPE,
)
from tests.support.simulated import API_KEY, AUTHORIZED, ROOT, account_of, client_of, listed_ids

PDF = b"%PDF-1.4\n1 0 obj<</Type /Page>>endobj\n2 0 obj<</Type/Page>>endobj\n3 0 obj<</Type/Pages>>endobj"
ADA = {"firstName": "Ada", "lastName": "Abel", "email": "ada@example.com", "title": "Dr"}
BEN = {"firstName": "Ben", "lastName": "Brandt", "email": "ben@example.com"}
FIELD = {"type": "SIGNATURE", "subtype": "FULLNAME", "page": 0, "left": 10.5, "top": 20.0, "width": 200, "height": 50}
LEASE = {
    "name": "Lease, Abel",
    "description": "Two years",
    "data": {"crm": "4711"},
    "settings": {"ceremony": {"declineButton": True}},
    "anUnknownMember": {"kept": [1, 2]},
    "due": "2030-01-01T00:00:00Z",
    "roles": [
        {"id": "ada", "index": 1, "signers": [{"id": "ada-1", **ADA}], "reassign": True},
        {"id": "ben", "index": 2, "signers": [BEN]},
    ],
    "documents": [
        {
            "id": "lease",
            "name": "The lease",
            "approvals": [{"role": "ada", "fields": [FIELD]}, {"id": "by-ben", "role": "ben"}],
        },
        {"id": "annex", "name": "Annex A", "approvals": [{"role": "ada"}]},
    ],
}


class Client:
    """A client of the published REST API, with an API key, and the events that its requests cause."""

    def __init__(self, account: Account | None = None, *, clock: Clock | None = None) -> None:
        self.account = account or account_of([])
        self.events: list[Event] = []
        self._http = client_of(self.account, notify=self.events.extend, clock=clock)

    def call(self, method: str, path: str, body: Any = None, *, status: int = 200, **more: Any) -> Any:
        """Send a request and return the JSON of the answer, if any. An error must have OneSpan's form."""
        given = {"headers": AUTHORIZED, **({"json": body} if body is not None else {}), **more}
        answer = self._http.open(f"/api{path}", method=method, **given)
        assert answer.status_code == status, answer.text
        if status >= 400:
            ERROR_SHAPE.validate(answer.json)
        return answer.json if answer.data else None

    def create(self, package: dict[str, Any], **more: Any) -> str:
        """Create a package and return its path."""
        return f"/packages/{self.call('POST', '/packages', package, **more)['id']}"

    def read(self, path: str) -> Any:
        """Read a package in the form of OneSpan's schema."""
        package = self.call("GET", path)
        PACKAGE_SHAPE.validate(package)
        return package

    def sign(self, path: str, signer: str, *documents: str, status: int = 200) -> None:
        """Sign documents, or all, in a session of a signer."""
        signed = {"handdrawn": "", "documents": [{"id": document} for document in documents]}
        with self.session(path, signer):
            self.call("POST", f"{path}/documents/signed_documents", signed, headers={}, status=status)

    def upload(self, path: str, signer: str, attachment: str, *, status: int = 200) -> None:
        """Upload an attachment in a session of a signer."""
        with self.session(path, signer):
            data = {"file": (io.BytesIO(PDF), "passport.pdf")}
            self.call("POST", f"{path}/attachment/{attachment}", headers={}, data=data, status=status)

    @contextmanager
    def session(self, path: str, signer: str) -> Iterator[None]:
        """Send requests with the cookie of a signer's session."""
        body = {"packageId": path.rpartition("/")[2], "signerId": signer}
        token = self.call("POST", "/authenticationTokens/signer/multiUse", body)["value"]
        session = self._http.get("/auth", query_string={"signerAuthenticationToken": token}).json["sessionToken"]
        self._http.set_cookie("ESIGNLIVE_SESSION_ID", session)
        yield
        self._http.delete_cookie("ESIGNLIVE_SESSION_ID")

    @property
    def names(self) -> list[str]:
        """The names of all events so far."""
        return [event.name for event in self.events]


@pytest.fixture
def client() -> Client:
    """A client of an empty account."""
    return Client()


def test_a_package_is_drafted_sent_signed_trashed_restored_and_deleted(client):
    """A whole life over the published API; every step sends its event, in order."""
    path = client.create(LEASE)
    assert client.read(path)["status"] == "DRAFT"
    client.call("POST", path, {"status": "SENT"})
    assert client.call("GET", f"{path}/signingStatus") == {"status": "SIGNING_PENDING"}
    client.sign(path, "ada-1", "lease")
    client.sign(path, "ada-1")
    client.sign(path, "ben")
    package = client.read(path)
    client.call("POST", path, {"trashed": True})
    assert client.read(path)["trashed"] is True
    client.call("PUT", path, {"trashed": False})
    client.call("DELETE", path)

    assert package["status"] == "COMPLETED"
    assert all(approval["signed"] for document in package["documents"][1:] for approval in document["approvals"])
    assert all(approval["accepted"] for document in package["documents"] for approval in document["approvals"])
    assert client.names == [
        *("PACKAGE_CREATE", "PACKAGE_ACTIVATE"),
        *("DOCUMENT_SIGNED", "DOCUMENT_SIGNED", "DOCUMENT_SIGNED", "SIGNER_COMPLETE"),
        *("DOCUMENT_SIGNED", "DOCUMENT_SIGNED", "SIGNER_COMPLETE", "PACKAGE_COMPLETE"),
        *("PACKAGE_TRASH", "PACKAGE_RESTORE", "PACKAGE_DELETE"),
    ]
    documents = [event.document_id for event in client.events if event.document_id]
    assert documents == [CONSENT, "lease", "annex", CONSENT, "lease"]
    assert [event.at for event in client.events] == sorted({event.at for event in client.events})
    client.call("GET", path, status=404)


def test_a_package_shows_what_was_sent(client):
    """Members are shown as they were sent, unknown ones too; ids, types and dates are generated."""
    package = client.read(client.create(LEASE))

    assert {name: package[name] for name in ("name", "description", "data", "settings", "anUnknownMember")} == {
        name: LEASE[name] for name in ("name", "description", "data", "settings", "anUnknownMember")
    }
    assert package["due"] == "2030-01-01T00:00:00.000Z"
    ada, ben, sender = package["roles"]
    assert (ada["id"], ada["index"], ada["signers"][0]["id"], ada["signers"][0]["title"]) == ("ada", 1, "ada-1", "Dr")
    assert ben["signers"][0]["email"] == "ben@example.com"
    assert ben["signers"][0]["id"]
    assert (sender["type"], sender["signers"][0]["id"]) == ("SENDER", client.account.owner.id)
    assert [document["id"] for document in package["documents"]] == [CONSENT, "lease", "annex"]
    by_ada, by_ben = package["documents"][1]["approvals"]
    assert by_ada["fields"][0].items() >= FIELD.items()
    assert by_ada["id"]
    assert by_ben.items() >= {"id": "by-ben", "role": "ben", "optional": False}.items()
    assert [field["type"] for field in by_ben["fields"]] == ["SIGNATURE"]
    assert listed_ids(client.account) == [package["id"]]


def test_a_package_can_be_sent_at_once(client):
    """With status SENT the package is created and sent by one request."""
    assert client.read(client.create({**LEASE, "status": "SENT"}))["status"] == "SENT"
    assert client.names == ["PACKAGE_CREATE", "PACKAGE_ACTIVATE"]


@pytest.mark.parametrize("payload_is_file", [False, True])
def test_files_come_with_the_json(client, payload_is_file):
    """A multipart body has the JSON as `payload`, as form field or as file, and one `file` for each document."""
    text = json.dumps(LEASE)
    payload = (io.BytesIO(text.encode()), "payload.json", "application/json") if payload_is_file else text
    files = [(io.BytesIO(content), "a.pdf") for content in (PDF, b"%PDF-1.4 annex")]
    path = client.create(None, data={"payload": payload, "file": files}, content_type="multipart/form-data")

    lease = client.call("GET", f"{path}/documents/lease")
    DOCUMENT_SHAPE.validate(lease)
    assert (lease["size"], len(lease["pages"])) == (len(PDF), 2)
    original = client_of(client.account).get(f"/api{path}/documents/annex/original", headers=AUTHORIZED)
    assert original.data == b"%PDF-1.4 annex"


def test_documents_come_in_the_order_of_their_index(client):
    """Documents take the order of `index`; files belong to the documents in the order of the JSON."""
    documents = [{"id": "second", "name": "B", "index": 2}, {"id": "first", "name": "A", "index": 1}]
    data = {"payload": json.dumps({"name": "A", "documents": documents}), "file": [(io.BytesIO(PDF), "b.pdf")]}
    path = client.create(None, data=data, content_type="multipart/form-data")

    assert [document["id"] for document in client.read(path)["documents"]] == [CONSENT, "first", "second"]
    assert len(client.call("GET", f"{path}/documents/second")["pages"]) == 2
    client.call("GET", f"{path}/documents/first/original", status=404)


def test_a_file_without_a_document_is_refused(client):
    """A multipart body may not have more files than documents."""
    data = {"payload": json.dumps({"name": "A"}), "file": [(io.BytesIO(PDF), "b.pdf")]}

    client.call("POST", "/packages", data=data, content_type="multipart/form-data", status=400)


@pytest.mark.parametrize(
    "changed",
    [
        {"name": None},
        {"name": ""},
        {"name": 7},
        {"type": "FORM"},
        {"status": "COMPLETED"},
        {"due": "soon"},
        {"due": "0001-01-01T00:00:00+14:00"},
        {"roles": {"id": "ada"}},
        {"roles": [{"signers": [{"firstName": "Ada"}]}]},
        {"roles": [*LEASE["roles"], {"id": "ada", "signers": [BEN]}]},
        {"documents": [{"name": "A", "approvals": [{"role": "zoe"}]}]},
        {"documents": [{"name": "A", "approvals": [{}]}]},
        {"documents": [{"id": "a", "name": "A"}, {"id": "a", "name": "B"}]},
        {"documents": [{"name": "A", "base64Content": "?"}]},
        {"sender": {"email": "stranger@example.com"}},
    ],
    ids=str,
)
def test_an_invalid_package_is_refused(client, changed):
    """An invalid package is refused with an error in OneSpan's form, and nothing is created."""
    client.call("POST", "/packages", {**LEASE, **changed}, status=400)

    assert client.account.packages() == client.events == []


def test_a_package_without_a_signer_for_a_signature_cannot_be_sent(client):
    """A role without a signer keeps a draft from being sent, also at once; a template can never be sent."""
    placeholder = {**LEASE, "roles": [{"id": "ada"}, {"id": "ben", "signers": [BEN]}]}
    client.call("POST", "/packages", {**placeholder, "status": "SENT"}, status=422)
    assert client.account.packages() == []
    for package in (placeholder, {**LEASE, "type": "TEMPLATE"}):
        client.call("PUT", client.create(package), {"status": "SENT"}, status=422)

    assert client.names == ["PACKAGE_CREATE", "TEMPLATE_CREATE"]


def test_members_of_a_package_change(client):
    """A request changes the named members and the status together, or nothing at all."""
    path = client.create(LEASE)
    before = client.read(path)
    for unchanged in (before, dict.fromkeys(before)):
        client.call("PUT", path, unchanged)
        assert client.read(path)["updated"] == before["updated"]
    client.call("PUT", path, {"name": ""}, status=400)
    changed = {"description": "Three years", "data": {"crm": "4712"}, "autocomplete": False, "name": "B"}
    client.call("PUT", path, {**changed, "status": "ARCHIVED"}, status=422)
    assert client.read(path) == before
    client.call("PUT", path, {**changed, "status": "SENT"})
    after = client.read(path)

    assert after.items() >= {**changed, "status": "SENT"}.items()
    assert after["anUnknownMember"] == LEASE["anUnknownMember"]
    assert after["updated"] > before["updated"]


def test_a_package_is_cloned_from_a_template(client):
    """A clone has the documents and seats of the template, with the signers of the request."""
    seats = [{"id": "tenant", "name": "Tenant"}]
    documents = [{"id": "lease", "name": "The lease", "approvals": [{"role": "tenant"}]}]
    given = {"description": "Two years", "data": {"crm": "4711"}, "emailMessage": "Please sign."}
    template = client.create({"name": "Lease", "type": "TEMPLATE", "roles": seats, "documents": documents, **given})
    body = {"name": "Lease, Abel", "roles": [{"id": "tenant", "signers": [ADA]}], "status": "SENT"}
    package = client.read(f"/packages/{client.call('POST', f'{template}/clone', body)['id']}")

    assert (package["type"], package["name"], package["status"]) == ("PACKAGE", "Lease, Abel", "SENT")
    assert package.items() >= given.items()
    assert package["roles"][0]["signers"][0]["email"] == "ada@example.com"
    assert package["documents"][1]["approvals"][0]["role"] == "tenant"
    assert client.read(template)["roles"][0]["signers"] == []
    assert client.names == ["TEMPLATE_CREATE", "PACKAGE_CREATE", "PACKAGE_ACTIVATE"]


def test_documents_of_a_draft_change(client):
    """Documents are added, alone or several at once, changed, put in order and deleted."""
    path = client.create({"name": "A", "roles": LEASE["roles"]})
    added = client.call("POST", f"{path}/documents", {"id": "b", "name": "B", "approvals": [{"role": "ada"}]})
    DOCUMENT_SHAPE.validate(added)
    encoded = base64.b64encode(PDF).decode()
    several = [{"id": "c", "name": "C", "base64Content": encoded}, {"id": "d", "name": "D"}]
    assert [document["id"] for document in client.call("POST", f"{path}/documents", several)] == ["c", "d"]
    changed = client.call("PUT", f"{path}/documents/b", {"name": "Bee", "extract": True})
    assert (changed["name"], changed["extract"], len(changed["approvals"])) == ("Bee", True, 1)
    client.call("PUT", f"{path}/documents", [{"id": "d", "index": 1}, {"id": "b", "index": 3}, {"id": "c", "index": 2}])
    assert [document["id"] for document in client.read(path)["documents"]] == [CONSENT, "d", "c", "b"]
    client.call("DELETE", f"{path}/documents/d")
    client.call("DELETE", f"{path}/documents", ["c"])

    assert [document["id"] for document in client.read(path)["documents"]] == [CONSENT, "b"]
    for method in ("GET", "PUT", "DELETE"):
        client.call(method, f"{path}/documents/none", {}, status=404)


def test_requested_signatures_of_a_draft_change(client):
    """Signatures and their fields are requested, changed, moved to another role and removed; the consent follows."""
    path = client.create(LEASE)
    lease = f"{path}/documents/lease/approvals"
    added = client.call("POST", lease, {"id": "second", "role": "ada", "optional": True})
    APPROVAL_SHAPE.validate(added)
    assert client.call("POST", f"{lease}/", {"role": "zoe"}, status=400)
    assert client.call("PUT", f"{lease}/second", {"role": "ben", "optional": False})["role"] == "ben"
    field = client.call("POST", f"{lease}/second/fields", {"name": "Place", "type": "INPUT"})
    assert client.call("PUT", f"{lease}/second/fields/{field['id']}", {"value": "Ghent"})["value"] == "Ghent"
    assert client.call("GET", f"{lease}/second")["fields"][1:] == [{**field, "value": "Ghent"}]
    client.call("DELETE", f"{lease}/second/fields/{field['id']}")
    client.call("DELETE", f"{lease}/by-ben")
    assert len(client.call("GET", f"{path}/documents/{CONSENT}")["approvals"]) == 2
    kept = client.call("PUT", f"{lease}/", [{"id": "only", "role": "ada"}])
    assert [approval["id"] for approval in kept] == ["only"]
    assert [approval["role"] for approval in client.call("GET", f"{path}/documents/{CONSENT}")["approvals"]] == ["ada"]
    assert client.call("GET", f"{path}/documents/lease/signers/ada-1/approvals") == kept
    client.call("GET", f"{lease}/second", status=404)


def test_documents_of_a_sent_package_stay(client):
    """Documents and signatures of a package that is sent cannot change before it is a draft again."""
    path = client.create({**LEASE, "status": "SENT"})
    client.call("POST", f"{path}/documents", {"name": "B"}, status=422)
    client.call("DELETE", f"{path}/documents/lease/approvals/by-ben", status=422)
    client.call("DELETE", f"{path}/roles/ben", status=422)
    client.call("PUT", path, {"status": "DRAFT"})

    client.call("DELETE", f"{path}/documents/annex")


def test_roles_of_a_draft_change(client):
    """Roles are added, read, put in order and deleted, with their signatures."""
    path = client.create(LEASE)
    added = client.call("POST", f"{path}/roles", {"signers": [{**BEN, "email": "zoe@example.com"}], "index": 3})
    ROLE_SHAPE.validate(added)
    roles = client.call("PUT", f"{path}/roles", [{"id": "ada", "index": 5}, {"id": added["id"], "index": 4}])
    ROLES_SHAPE.validate(roles)
    assert {role["id"]: role["index"] for role in roles["results"]}.items() >= {"ada": 5, added["id"]: 4}.items()
    client.call("DELETE", f"{path}/roles/ada")
    package = client.read(path)

    assert [role["id"] for role in package["roles"]][:1] == ["ben"]
    assert [approval["role"] for document in package["documents"] for approval in document["approvals"]] == ["ben"] * 2
    client.call("DELETE", f"{path}/roles/{package['roles'][1]['id']}", status=400)
    client.call("PUT", f"{path}/roles/none", {}, status=404)


@pytest.mark.parametrize(
    "signer",
    [{"id": "ada-1", **ADA, "email": "ada.abel@example.com"}, {**ADA, "email": "ada.abel@example.com"}],
    ids=["with its id", "without an id"],
)
def test_a_corrected_address_has_no_event(client, signer):
    """The correction of a signer's address in a sent package sends no event, but changes `updated`."""
    path = client.create({**LEASE, "status": "SENT"})
    before = client.read(path)
    answer = client.call("PUT", f"{path}/roles/ada", {"signers": [signer]})
    after = client.read(path)

    assert answer == after["roles"][0]
    assert (answer["signers"][0]["id"], answer["signers"][0]["email"]) == ("ada-1", "ada.abel@example.com")
    assert after["updated"] > before["updated"]
    assert "ROLE_REASSIGN" not in client.names


@pytest.mark.parametrize("signer", [BEN, {"id": "zoe-1", **ADA, "email": "zoe@example.com"}], ids=["name", "id"])
def test_another_person_in_a_sent_package_is_a_reassignment(client, signer):
    """The sender gives a seat to another person: the signatures start again, and the sender causes the event."""
    path = client.create({**LEASE, "status": "SENT"})
    client.sign(path, "ada-1", "lease")
    role = client.call("PUT", f"{path}/roles/ada", {"id": "ada", "signers": [signer]})

    event = client.events[-1]
    assert (event.name, event.session_user, event.extra) == (
        "ROLE_REASSIGN",
        client.account.owner.id,
        {"newRoleId": "ada"},
    )
    assert role["signers"][0]["id"] == signer.get("id", role["signers"][0]["id"]) != "ada-1"
    approvals = client.call("GET", f"{path}/documents/lease/signers/{role['signers'][0]['id']}/approvals")
    assert len(approvals) == 1


def test_a_signer_who_has_signed_cannot_be_replaced(client):
    """A seat that has signed everything cannot be given to another person."""
    path = client.create({**LEASE, "status": "SENT"})
    client.sign(path, "ada-1")

    client.call("PUT", f"{path}/roles/ada", {"signers": [BEN]}, status=422)


def test_signers_sign_in_their_order(client):
    """A signer cannot sign a draft, nor before those with a smaller index have signed."""
    path = client.create(LEASE)
    client.sign(path, "ada-1", status=422)
    client.call("PUT", path, {"status": "SENT"})
    client.sign(path, "ben", status=422)
    client.sign(path, "ada", "none", status=404)
    client.sign(path, "ada")
    assert client.call("GET", f"{path}/documents/lease/signers/ada-1/approvals") == []
    client.sign(path, "ben")

    assert client.read(path)["status"] == "COMPLETED"


def test_the_sender_signs_with_the_api_key(client):
    """A caller with an API key signs as the sender, document by document or all at once, and for no other person."""
    owner = client.account.owner
    me = {"id": "me", "signers": [{"email": owner.email, "firstName": "C", "lastName": "C"}]}
    documents = [{"id": name, "name": name, "approvals": [{"role": "me"}]} for name in ("a", "b", "c")]
    path = client.create({"name": "A", "roles": [me], "documents": documents, "status": "SENT"})
    client.call("POST", f"{path}/documents/signConfirm", {"id": "b", "handdrawn": ""})
    signed = [event.document_id for event in client.events if event.name == "DOCUMENT_SIGNED"]
    client.call("POST", f"{path}/documents/signed_documents", {"documents": [], "handdrawn": ""})

    assert signed == [CONSENT, "b"]
    assert client.read(path)["status"] == "COMPLETED"
    other = client.create({**LEASE, "status": "SENT"})
    client.call("POST", f"{other}/documents/signed_documents", {"documents": [], "handdrawn": ""}, status=422)


def test_a_session_of_a_signer_is_for_signing_one_package_only(client):
    """A session opens nothing else, a token for single use opens one session, and an unknown token opens none."""
    path, other = client.create({**LEASE, "status": "SENT"}), client.create({**LEASE, "status": "SENT"})
    body = {"packageId": path.rpartition("/")[2], "signerId": "ada-1"}
    token = client.call("POST", "/authenticationTokens/signer/singleUse", body)["value"]
    http = client_of(client.account)
    with_token = {"query_string": {"signerAuthenticationToken": token}}
    assert [http.get("/auth").status_code, http.get("/transaction/sign").status_code] == [401, 401]
    codes = [client._http.get("/auth", **with_token).status_code for _ in range(2)]
    client.call("GET", path, headers={}, status=401)
    client.call("POST", f"{other}/documents/signed_documents", {}, headers={}, status=401)

    assert codes == [200, 401]
    client.call("POST", "/authenticationTokens/signer/singleUse", {**body, "signerId": "none"}, status=404)
    client.call("POST", f"{path}/documents/signed_documents", {}, headers={})


@pytest.mark.parametrize(("action", "last"), [("sign", "SIGNER_COMPLETE"), ("decline", "PACKAGE_DECLINE")])
def test_the_signing_url_leads_to_a_page(client, action, last):
    """The signing URL opens a page in place of OneSpan's ceremony, with which a person signs or declines."""
    path = client.create({**LEASE, "name": "<Lease>", "status": "SENT"})
    url = client.call("GET", f"{path}/roles/ada/signingUrl")["url"]
    page = client._http.get(url, follow_redirects=True)
    assert "&lt;Lease&gt;" in page.text
    assert "Annex A" in page.text
    page = client._http.post("/transaction/sign", data={"action": action, "reason": "Too long."})

    assert page.status_code == 200
    assert client.events[-1].name == last
    assert (client.events[-1].message or "Too long.") == "Too long."
    assert ("Nothing is left" in page.text) is (action == "sign")


def test_an_optional_signature_is_not_awaited(client):
    """A package completes without optional and disabled signatures, if each signer has made the others."""
    asked = [{"role": "ada"}, {"role": "ada", "optional": True}, {"role": "ben"}, {"role": "ben", "disabled": True}]
    documents = [{"id": str(number), "name": "A", "approvals": [part]} for number, part in enumerate(asked)]
    path = client.create({**LEASE, "documents": documents, "status": "SENT"})
    client.sign(path, "ada-1", "0")
    client.sign(path, "ben")
    package = client.read(path)

    assert package["status"] == "COMPLETED"
    signed = ["signed" in document["approvals"][0] for document in package["documents"][1:]]
    assert signed == [True, False, True, False]
    assert [package["documents"][4]["approvals"][0]["disabled"]] == [True]


def test_everything_is_signed_by_one_request(client):
    """A request signs optional signatures, too, although the last required one completes the package."""
    documents = [
        {"id": "lease", "name": "The lease", "approvals": [{"role": "ada"}]},
        {"id": "survey", "name": "Survey", "approvals": [{"role": "ada", "optional": True}]},
    ]
    path = client.create({**LEASE, "documents": documents, "status": "SENT"})
    client.sign(path, "ada-1")
    signed = [event.document_id for event in client.events if event.name == "DOCUMENT_SIGNED"]

    assert signed == [CONSENT, "survey", "lease"]
    assert client.read(path)["status"] == "COMPLETED"


def test_a_member_signs_in_every_seat(client):
    """Who signs for a group and also in a seat of their own signs in both."""
    members = [{"userId": "ada", **ADA}, {"userId": "ben-1", **BEN}]
    group = {"signerType": "AD_HOC_GROUP_SIGNER", "email": "g@example.com", "group": {"members": members}}
    roles = [{"id": "board", "signers": [group]}, {"id": "ada", "signers": [{"id": "ada", **ADA}]}]
    asked = [{"role": "board"}, {"role": "ada"}]
    documents = [{"id": part["role"], "name": "A", "approvals": [part]} for part in asked]
    path = client.create({"name": "Lease", "roles": roles, "documents": documents, "status": "SENT"})
    client.sign(path, "ada")

    assert client.names.count("SIGNER_COMPLETE") == 2
    assert client.call("GET", path)["status"] == "COMPLETED"


@pytest.mark.parametrize("member", ["ada", "ben-1"])
@pytest.mark.parametrize(("signer_type", "address"), [("GROUP_SIGNER", None), ("AD_HOC_GROUP_SIGNER", "g@example.com")])
def test_any_member_signs_for_a_group(signer_type, address, member):
    """A group is one seat: any member signs for all, with the member's own id; members may have a role of their own."""
    client = Client(account_of([], quirks=Quirks(reviewer_type="VIEWER")))
    members = [{"userId": "ada", "memberType": "REGULAR", **ADA}, {"userId": "ben-1", "memberType": "REGULAR", **BEN}]
    group = {"signerType": signer_type, "email": address, "group": {"name": "Board", "members": members}}
    roles = [{"id": "board", "signers": [group]}, {"id": "ada", "signers": [{"id": "ada", **ADA}]}]
    documents = [{"id": "lease", "name": "The lease", "approvals": [{"role": "board"}]}]
    path = client.create({"name": "Lease", "roles": roles, "documents": documents, "status": "SENT"})
    shown = client.call("GET", path)["roles"][0]["signers"][0]
    client.sign(path, member)

    assert (shown["signerType"], shown["group"]["name"]) == (signer_type, "Board")
    assert client.call("GET", path)["roles"][1]["type"] == "SIGNER"
    assert [member["userId"] for member in shown["group"]["members"]] == ["ada", "ben-1"]
    assert client.call("GET", path)["status"] == "COMPLETED"
    assert {event.session_user for event in client.events[2:]} == {member}


def test_attachments_are_requested(client):
    """A role shows the attachments that are requested of its signer."""
    wanted = [{"name": "Passport", "required": False}, {"id": "proof", "name": "Proof", "description": "Of address"}]
    path = client.create({"name": "A", "roles": [{"signers": [ADA], "attachmentRequirements": wanted}]})
    passport, proof = client.read(path)["roles"][0]["attachmentRequirements"]

    assert passport.items() >= {"name": "Passport", "required": False, "status": "INCOMPLETE"}.items()
    assert proof.items() >= {"id": "proof", "description": "Of address", "required": True}.items()


def test_attachments_are_uploaded_and_rejected(client):
    """A signer uploads an attachment; the sender rejects it by its status; another file completes it again."""
    roles = [{"id": "ada", "signers": [ADA], "attachmentRequirements": [{"id": "passport", "name": "Passport"}]}]
    path = client.create({**LEASE, "roles": [*roles, LEASE["roles"][1]], "status": "SENT"})

    def statuses() -> list[str]:
        return [part["status"] for part in client.read(path)["roles"][0]["attachmentRequirements"]]

    client.upload(path, "ada", "passport")
    uploaded = client.read(path)["roles"][0]
    client.call("PUT", f"{path}/roles/ada", uploaded)
    assert statuses() == ["COMPLETE"]
    (part,) = uploaded["attachmentRequirements"]
    rejected = {**uploaded, "attachmentRequirements": [{**part, "status": "REJECTED", "comment": "Blurred."}]}
    client.call("PUT", f"{path}/roles/ada", rejected)
    assert statuses() == ["REJECTED"]
    client.upload(path, "ada", "passport")
    client.upload(path, "ada", "none", status=404)

    assert statuses() == ["COMPLETE"]
    assert client.names[2:] == ["PACKAGE_ATTACHMENT"] * 2
    assert client.events[-1].message == "Passport"


def test_a_signer_needs_only_a_phone(client):
    """A signer with a phone and no e-mail address is notified by SMS only."""
    signer = {"firstName": "Ada", "lastName": "Abel", "phone": "+3225550100"}
    path = client.create({"name": "A", "roles": [{"signers": [signer]}]})

    shown = client.call("GET", path)["roles"][0]["signers"][0]
    assert (shown["phone"], shown["email"]) == ("+3225550100", None)


def test_a_declined_package_can_be_corrected_and_sent_again(client):
    """After a signer declined, the sender changes the documents and sends the package again."""
    path = client.create({**LEASE, "status": "SENT"})
    client._http.get(client.call("GET", f"{path}/roles/ada/signingUrl")["url"])
    client._http.post("/transaction/sign", data={"action": "decline", "reason": "No."})
    client.call("DELETE", f"{path}/documents/annex")
    client.call("POST", path, {"status": "SENT"})

    assert client.read(path)["status"] == "SENT"
    assert client.names[-2:] == ["PACKAGE_DECLINE", "PACKAGE_ACTIVATE"]


def test_a_sender_sends_for_another_sender(client):
    """The sender of a package is the caller, or the sender that it names by e-mail address or id."""
    owner, other, _ = client.account.people
    assert client.read(client.create({"name": "A"}))["sender"]["email"] == owner.email
    for named in ({"email": other.email.upper()}, {"id": other.id}):
        package = client.read(client.create({"name": "B", "sender": named}))
        assert (package["sender"]["id"], package["roles"][0]["signers"][0]["id"]) == (other.id, other.id)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b'"text"', b"\xff"),
        *(b'{"name": "A", "x": NaN}', b'{"name": "A", "x": 1e999}', b'{"name": "A\\ud800"}'),
    ],
    ids=repr,
)
def test_a_body_that_is_no_json_object_is_refused(client, body):
    """A body that is no JSON object is refused with an error in OneSpan's form."""
    client.call("POST", "/packages", data=body, status=400)
    client.call("POST", "/packages", data={"payload": body.decode("latin-1")}, status=400)


def test_the_example_in_the_documentation_works(client):
    """The package of the example in docs/simulator.md can be sent, with the signing URL that the page names."""
    text = (ROOT / "docs" / "simulator.md").read_text("utf-8")
    (body,) = re.findall(r"/api/packages -d '(.+?)'\n", text, flags=re.DOTALL)
    path = client.create(json.loads(body))

    assert client.read(path)["status"] == "SENT"
    assert client.call("GET", f"{path}/roles/ada/signingUrl")["roleId"] == "ada"


def test_requests_need_credentials(client):
    """A request without credentials is refused."""
    client.call("POST", "/packages", LEASE, headers={}, status=401)
    client.call("POST", "/packages", LEASE, headers={"Authorization": f"Basic {API_KEY}x"}, status=401)
