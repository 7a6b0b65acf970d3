"""The simulator: who may ask it, and what they see."""

import base64
import json
from datetime import timedelta

import pytest

from app.simulator.account import Account
from app.simulator.auth import CLIENT_ID, CLIENT_SECRET, sender_key
from app.simulator.quirks import Quirks
from tests.conftest import NOON, Clock
from tests.support.onespan_shapes import ERROR_SHAPE
from tests.support.simulated import API_KEY, account_of, client_of, listed, read, steps

TOKEN, OAUTH = "/apitoken/clientApp/accessToken", "/oauth2/token"
CLIENT = {"clientId": CLIENT_ID, "secret": CLIENT_SECRET, "type": "OWNER"}


def account_with(**quirks: int | str) -> Account:
    """A small account that has lived, with many senders."""
    account = Account(5, packages=40, senders=4, quirks=Quirks(**quirks))
    for _ in steps(account):
        pass
    return account


def of(account: Account, *people) -> list[str]:
    """The ids of what the list may show of these senders."""
    senders = {one.id for one in people}
    return [
        one.id
        for one in account.packages()
        if one.sender.id in senders and one.type == "PACKAGE" and not one.trashed and not one.deleted
    ]


@pytest.mark.parametrize(
    "authorization", [None, "", "Basic", "Basic wrong", f"Bearer {API_KEY}", API_KEY, "Bearer a.b"]
)
@pytest.mark.parametrize("path", ["/api/packages", "/api/packages/none", "/api/packages/none/signingStatus", "/other"])
def test_rest_answers_nobody_without_the_api_key(authorization, path):
    """Not even that there is nothing."""
    headers = {"Authorization": authorization} if authorization is not None else {}
    answer = client_of(account_of([])).get(path, headers=headers)

    assert answer.status_code == 401
    ERROR_SHAPE.validate(answer.json)


def test_each_sender_has_a_key_and_sees_what_is_theirs():
    """And the owner sees all."""
    account = account_with()
    for sender in account.people[1:]:
        assert listed(account, key=sender_key(sender)) == of(account, sender) != []

    assert listed(account) == of(account, *account.people)


def test_a_sender_may_not_see_others_packages():
    """403, whether it is read, listed or deleted; 404 only for what never was."""
    account = account_with()
    _, sender, other, *_ = account.people
    theirs, key = of(account, other)[0], sender_key(sender)

    ERROR_SHAPE.validate(read(account, f"/api/packages/{theirs}", status=403, key=key))
    read(account, f"/api/packages/{theirs}/documents/zip", status=403, key=key)
    read(account, "/api/packages", status=403, key=key, ownerUserId=other.id)
    read(account, "/api/packages/never", status=404, key=key)
    headers = {"Authorization": f"Basic {key}"}
    assert client_of(account).delete(f"/api/packages/{theirs}", headers=headers).status_code == 403
    assert not account.package(theirs).deleted


@pytest.mark.parametrize(
    ("sight", "lists_all", "reads", "reads_named"),
    [("all", True, 200, 200), ("managed", False, 200, 200), ("named", False, 403, 200), ("own", False, 403, 403)],
)
def test_what_the_owner_sees_can_be_less(sight, lists_all, reads, reads_named):
    """All, or others' packages only where their owner is named, or not even then."""
    account = account_with(owner_sees=sight)
    owner, sender, other, *_ = account.people
    path = f"/api/packages/{of(account, sender)[0]}"

    assert listed(account) == of(account, *(account.people if lists_all else [owner]))
    read(account, path, status=reads)
    read(account, path, status=reads_named, ownerUserId=sender.id)
    if reads_named == 200:
        assert listed(account, ownerUserId=sender.id) == of(account, sender)
        assert listed(account, ownerEmail=sender.email) == of(account, sender)
    else:
        read(account, "/api/packages", status=403, ownerEmail=other.email)
    assert listed(account, ownerUserId=owner.id) == of(account, owner)


def test_nobody_can_be_named_who_is_not_there():
    """The answer does not say that there is no such sender."""
    read(account_with(), "/api/packages", status=403, ownerUserId="nobody")


def test_what_was_deleted_can_be_forbidden_instead_of_unknown():
    """Nobody knows which it is."""
    account = account_with(deleted_answer="403")
    gone = next(one.id for one in account.packages() if one.deleted)

    read(account, f"/api/packages/{gone}", status=403)
    read(account, "/api/packages/never", status=404)


def test_an_api_token_is_as_good_as_the_key_until_it_ends():
    """The owner's, or a sender's."""
    account, clock = account_with(token_lifetime=60), Clock()
    client, sender = client_of(account, clock=clock), account.people[2]
    whole = client.post(TOKEN, json=CLIENT).json
    theirs = client.post(TOKEN, json={**CLIENT, "type": "SENDER", "email": sender.email}).json

    def count(token: str) -> int | None:
        answer = client.get("/api/packages", headers={"Authorization": f"Bearer {token}"})
        return answer.json.get("count") if answer.status_code == 200 else answer.status_code

    assert whole["expiresAt"] == int((NOON + timedelta(seconds=60)).timestamp() * 1000)
    assert count(whole["accessToken"]) == len(of(account, *account.people))
    assert count(theirs["accessToken"]) == len(of(account, sender))
    assert count(whole["accessToken"][:-2]) == 401
    clock.forward(timedelta(seconds=60))
    assert count(whole["accessToken"]) == 401


def test_the_end_of_an_api_token_can_be_in_seconds():
    """Clients disagree on the unit."""
    answer = client_of(account_of([], quirks=Quirks(token_expires="s"))).post(TOKEN, json=CLIENT)

    assert answer.json["expiresAt"] == int(NOON.timestamp()) + 1800


def test_an_oauth_token_is_a_jwt_for_client_credentials():
    """By HTTP Basic, in base64 this time."""
    account, clock = account_with(), Clock()
    client, sender = client_of(account, clock=clock), account.people[1]
    answer = client.post(
        OAUTH, data={"grant_type": "client_credentials", "sender_id": sender.id}, auth=(CLIENT_ID, CLIENT_SECRET)
    )
    token = answer.json["access_token"]
    head, said, signature = token.split(".")
    headers = {"Authorization": f"Bearer {token}"}

    assert answer.json == {"access_token": token, "token_type": "Bearer", "expires_in": 300}
    assert json.loads(base64.urlsafe_b64decode(head + "=="))["typ"] == "JWT"
    assert json.loads(base64.urlsafe_b64decode(said + "=="))["exp"] == NOON.timestamp() + 300
    assert signature
    assert client.get("/api/packages", headers=headers).json["count"] == len(of(account, sender))
    clock.forward(timedelta(seconds=300))
    assert client.get("/api/packages", headers=headers).status_code == 401


def test_tokens_are_only_for_those_who_know_the_client_app():
    """And only for people who are there."""
    client = client_of(account_of([]))
    form = {"grant_type": "client_credentials"}

    assert client.post(TOKEN, json={**CLIENT, "secret": "wrong"}).status_code == 401
    assert client.post(TOKEN, json={**CLIENT, "type": "SENDER", "email": "nobody@example.com"}).status_code == 401
    assert client.post(TOKEN, data="[]").status_code == 400
    assert client.post(OAUTH, data=form, auth=(CLIENT_ID, "wrong")).status_code == 401
    assert client.post(OAUTH, data=form, headers={"Authorization": "Basic é"}).status_code == 401
    assert client.post(OAUTH, data=form).status_code == 401
    assert client.post(OAUTH, auth=(CLIENT_ID, CLIENT_SECRET)).status_code == 400


@pytest.mark.parametrize("taken", ["key", "token", "oauth"])
def test_an_account_can_take_one_kind_of_credentials_alone(taken):
    """Set to tokens it refuses keys, and the other way round."""
    client = client_of(account_of([], quirks=Quirks(auth=taken)))
    token = client.post(TOKEN, json=CLIENT).json["accessToken"]
    oauth = client.post(OAUTH, data={"grant_type": "client_credentials"}, auth=(CLIENT_ID, CLIENT_SECRET)).json[
        "access_token"
    ]
    shown = {"key": f"Basic {API_KEY}", "token": f"Bearer {token}", "oauth": f"Bearer {oauth}"}

    for kind, authorization in shown.items():
        answer = client.get("/api/packages", headers={"Authorization": authorization})
        assert answer.status_code == (200 if kind == taken else 401)
