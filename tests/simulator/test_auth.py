"""Tests of the simulator's authentication: credentials, and what each caller may see."""

import base64
import json
from datetime import timedelta

import pytest

from app.simulator.account import Account
from app.simulator.auth import CLIENT_ID, CLIENT_SECRET, sender_key
from app.simulator.quirks import Quirks
from tests.conftest import NOON, Clock
from tests.support.onespan_shapes import ERROR_SHAPE
from tests.support.simulated import API_KEY, account_of, client_of, listed_ids, read, steps

TOKEN, OAUTH = "/apitoken/clientApp/accessToken", "/oauth2/token"
CLIENT = {"clientId": CLIENT_ID, "secret": CLIENT_SECRET, "type": "OWNER"}


def account_with(**quirks: int | str) -> Account:
    """Return a small finished account with several senders and these quirks."""
    account = Account(5, packages=40, senders=4, quirks=Quirks(**quirks))
    for _ in steps(account):
        pass
    return account


def visible_ids(account: Account, *people) -> list[str]:
    """Return the ids of these senders' packages that the list may show."""
    senders = {person.id for person in people}
    return [
        package.id
        for package in account.packages()
        if package.sender.id in senders and package.type == "PACKAGE" and not package.trashed and not package.deleted
    ]


@pytest.mark.parametrize(
    "authorization", [None, "", "Basic", "Basic wrong", f"Bearer {API_KEY}", API_KEY, "Bearer a.b"]
)
@pytest.mark.parametrize("path", ["/api/packages", "/api/packages/none", "/api/packages/none/signingStatus", "/other"])
def test_every_path_requires_an_api_key(authorization, path):
    """Every path without a valid API key answers 401, even a path that does not exist."""
    headers = {"Authorization": authorization} if authorization is not None else {}
    answer = client_of(account_of([])).get(path, headers=headers)

    assert answer.status_code == 401
    ERROR_SHAPE.validate(answer.json)


def test_each_sender_has_a_key_and_sees_own_packages():
    """Each sender has an API key and sees only the sender's own packages; the owner sees every package."""
    account = account_with()
    for sender in account.people[1:]:
        assert listed_ids(account, key=sender_key(sender)) == visible_ids(account, sender) != []

    assert listed_ids(account) == visible_ids(account, *account.people)


def test_a_sender_may_not_see_other_senders_packages():
    """A sender gets 403 for other senders' packages, and 404 only for packages that never existed."""
    account = account_with()
    _, sender, other, *_ = account.people
    theirs, key = visible_ids(account, other)[0], sender_key(sender)

    ERROR_SHAPE.validate(read(account, f"/api/packages/{theirs}", status=403, key=key))
    read(account, f"/api/packages/{theirs}/documents/zip", status=403, key=key)
    read(account, "/api/packages", status=403, key=key, ownerUserId=other.id)
    read(account, "/api/packages/never", status=404, key=key)
    headers = {"Authorization": f"Basic {key}"}
    assert client_of(account).delete(f"/api/packages/{theirs}", headers=headers).status_code == 403
    assert not account.package(theirs).deleted


@pytest.mark.parametrize(
    ("visibility", "lists_all", "reads", "reads_named"),
    [("all", True, 200, 200), ("managed", False, 200, 200), ("named", False, 403, 200), ("own", False, 403, 403)],
)
def test_the_owner_may_see_less(visibility, lists_all, reads, reads_named):
    """A quirk limits the owner to named senders' packages, or to the owner's own packages."""
    account = account_with(owner_sees=visibility)
    owner, sender, other, *_ = account.people
    path = f"/api/packages/{visible_ids(account, sender)[0]}"

    assert listed_ids(account) == visible_ids(account, *(account.people if lists_all else [owner]))
    read(account, path, status=reads)
    read(account, path, status=reads_named, ownerUserId=sender.id)
    if reads_named == 200:
        assert listed_ids(account, ownerUserId=sender.id) == visible_ids(account, sender)
        assert listed_ids(account, ownerEmail=sender.email) == visible_ids(account, sender)
    else:
        read(account, "/api/packages", status=403, ownerEmail=other.email)
    assert listed_ids(account, ownerUserId=owner.id) == visible_ids(account, owner)


def test_an_unknown_owner_is_forbidden():
    """A list of an unknown sender's packages answers 403, so it does not reveal whether a sender exists."""
    read(account_with(), "/api/packages", status=403, ownerUserId="unknown")


def test_a_deleted_package_can_answer_403():
    """A quirk makes a deleted package answer 403, because OneSpan's real answer is unknown."""
    account = account_with(deleted_answer="403")
    deleted = next(package.id for package in account.packages() if package.deleted)

    read(account, f"/api/packages/{deleted}", status=403)
    read(account, "/api/packages/never", status=404)


def test_an_api_token_replaces_the_key_until_it_expires():
    """An API token of the owner or of a sender replaces the API key until the token expires."""
    account, clock = account_with(token_lifetime=60), Clock()
    client, sender = client_of(account, clock=clock), account.people[2]
    owners = client.post(TOKEN, json=CLIENT).json
    senders = client.post(TOKEN, json={**CLIENT, "type": "SENDER", "email": sender.email}).json

    def count(token: str) -> int | None:
        answer = client.get("/api/packages", headers={"Authorization": f"Bearer {token}"})
        return answer.json.get("count") if answer.status_code == 200 else answer.status_code

    assert owners["expiresAt"] == int((NOON + timedelta(seconds=60)).timestamp() * 1000)
    assert count(owners["accessToken"]) == len(visible_ids(account, *account.people))
    assert count(senders["accessToken"]) == len(visible_ids(account, sender))
    assert count(owners["accessToken"][:-2]) == 401
    clock.forward(timedelta(seconds=60))
    assert count(owners["accessToken"]) == 401


def test_the_expiry_of_an_api_token_can_be_in_seconds():
    """A quirk writes the expiry of an API token in seconds, because known clients disagree on the unit."""
    answer = client_of(account_of([], quirks=Quirks(token_expires="s"))).post(TOKEN, json=CLIENT)

    assert answer.json["expiresAt"] == int(NOON.timestamp()) + 1800


def test_an_oauth_token_is_a_jwt_for_client_credentials():
    """An OAuth token is a JWT, which a client gets for credentials sent by HTTP Basic in base64."""
    account, clock = account_with(), Clock()
    client, sender = client_of(account, clock=clock), account.people[1]
    answer = client.post(
        OAUTH, data={"grant_type": "client_credentials", "sender_id": sender.id}, auth=(CLIENT_ID, CLIENT_SECRET)
    )
    token = answer.json["access_token"]
    header, claims, signature = token.split(".")
    headers = {"Authorization": f"Bearer {token}"}

    assert answer.json == {"access_token": token, "token_type": "Bearer", "expires_in": 300}
    assert json.loads(base64.urlsafe_b64decode(header + "=="))["typ"] == "JWT"
    assert json.loads(base64.urlsafe_b64decode(claims + "=="))["exp"] == NOON.timestamp() + 300
    assert signature
    assert client.get("/api/packages", headers=headers).json["count"] == len(visible_ids(account, sender))
    clock.forward(timedelta(seconds=300))
    assert client.get("/api/packages", headers=headers).status_code == 401


def test_tokens_require_the_credentials_of_the_client_app():
    """The simulator issues a token only for the client app's credentials and an existing sender."""
    client = client_of(account_of([]))
    form = {"grant_type": "client_credentials"}

    assert client.post(TOKEN, json={**CLIENT, "secret": "wrong"}).status_code == 401
    assert client.post(TOKEN, json={**CLIENT, "type": "SENDER", "email": "unknown@example.com"}).status_code == 401
    assert client.post(TOKEN, data="[]").status_code == 400
    assert client.post(OAUTH, data=form, auth=(CLIENT_ID, "wrong")).status_code == 401
    assert client.post(OAUTH, data=form, headers={"Authorization": "Basic é"}).status_code == 401
    assert client.post(OAUTH, data=form).status_code == 401
    assert client.post(OAUTH, auth=(CLIENT_ID, CLIENT_SECRET)).status_code == 400


@pytest.mark.parametrize("accepted", ["key", "token", "oauth"])
def test_an_account_can_accept_only_one_kind_of_credentials(accepted):
    """A quirk makes an account accept only one kind of credentials and refuse all other kinds."""
    client = client_of(account_of([], quirks=Quirks(auth=accepted)))
    token = client.post(TOKEN, json=CLIENT).json["accessToken"]
    form = {"grant_type": "client_credentials"}
    oauth = client.post(OAUTH, data=form, auth=(CLIENT_ID, CLIENT_SECRET)).json["access_token"]
    headers = {"key": f"Basic {API_KEY}", "token": f"Bearer {token}", "oauth": f"Bearer {oauth}"}

    for kind, authorization in headers.items():
        answer = client.get("/api/packages", headers={"Authorization": authorization})
        assert answer.status_code == (200 if kind == accepted else 401)
