"""Who asks, and what they may see: API keys of the owner and of each sender, API tokens, OAuth 2.0 tokens.

Tokens need no memory: they say whose they are and until when, and are signed.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.simulator.account import Account
from app.simulator.packages import Package
from app.simulator.people import Person

CLIENT_ID, CLIENT_SECRET = "simulated-client", "simulated-client-secret"
TAKEN = {"any": {"key", "token", "oauth"}, "key": {"key"}, "token": {"token"}, "oauth": {"oauth"}}


class Unauthorized(Exception):
    """The request shows no credentials of this account."""


class Forbidden(Exception):
    """The caller may not see that."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who asks. `sight` is one of the values of the quirk `senders_see`."""

    person: Person
    sight: str

    def owners(self, named: frozenset[str]) -> frozenset[str] | None:
        """The senders whose packages the list shows when the request names these owners; None: everybody's.

        Raises `Forbidden` where it names one whose packages are not for the caller.
        """
        if self.sight == "own" and named - {self.person.id}:
            raise Forbidden
        return named or (None if self.sight == "all" else frozenset({self.person.id}))

    def may_read(self, package: Package, named: frozenset[str]) -> bool:
        """Whether one package is for them."""
        owner = package.sender.id
        return owner == self.person.id or self.sight in ("all", "managed") or (self.sight == "named" and owner in named)


def sender_key(person: Person) -> str:
    """The API key of a sender, who has one beside the account's owner; made up like the person."""
    return base64.b64encode(f"{person.id}:{person.email}".encode()).decode()


class Gate:
    """Knows the credentials of an account, and nobody else's."""

    def __init__(
        self, account: Account, *, api_key: str, client_id: str = CLIENT_ID, client_secret: str = CLIENT_SECRET
    ) -> None:
        """`api_key` is the owner's."""
        self._account = account
        self._client = (client_id, client_secret)
        self._keys = [(api_key, account.owner), *((sender_key(one), one) for one in account.people[1:])]

    def caller(self, authorization: str, *, now: datetime) -> Caller:
        """Who shows this header. Raises `Unauthorized` where it is nobody."""
        scheme, _, secret = authorization.partition(" ")
        if scheme == "Basic":
            return self._seeing(self._by_key(secret))
        if scheme == "Bearer":
            return self._seeing(self._by_token(secret, now=now))
        raise Unauthorized

    def api_token(self, asked: Mapping[str, object], *, now: datetime) -> tuple[str, datetime]:
        """An API token for `clientId` and `secret`, the owner's or the sender's of `email`, and until when it is good.

        Raises `Unauthorized` for other credentials, and where there is no such sender.
        """
        self._check_client(str(asked.get("clientId")), str(asked.get("secret")))
        person = self._account.owner
        if asked.get("type") == "SENDER":
            person = self._somebody(email=asked.get("email"))
        until = now + timedelta(seconds=self._account.quirks.token_lifetime)
        return self._signed("token", person, until), until

    def oauth_token(self, authorization: str, *, sender_id: str | None, now: datetime) -> tuple[str, int]:
        """An OAuth 2.0 token for client credentials in HTTP Basic, and for how many seconds it is good.

        Raises `Unauthorized` for other credentials, and where there is no such sender.
        """
        self._check_client(*_basic(authorization))
        person = self._somebody(id=sender_id) if sender_id else self._account.owner
        lifetime = self._account.quirks.oauth_lifetime
        return self._signed("oauth", person, now + timedelta(seconds=lifetime)), lifetime

    def named(self, query: Mapping[str, str]) -> frozenset[str]:
        """The ids of the owners that a request names. Raises `Forbidden` where there is no such sender."""
        ids = {"ownerUserId": "id", "ownerEmail": "email"}
        asked = [(field, query[name]) for name, field in ids.items() if query.get(name)]
        try:
            return frozenset(self._somebody(**{field: value}).id for field, value in asked)
        except Unauthorized:
            raise Forbidden from None

    def _seeing(self, person: Person) -> Caller:
        quirks = self._account.quirks
        return Caller(person, quirks.owner_sees if person is self._account.owner else quirks.senders_see)

    def _by_key(self, secret: str) -> Person:
        found = [person for key, person in self._keys if hmac.compare_digest(key.encode(), secret.encode())]
        if not found or not self._takes("key"):
            raise Unauthorized
        return found[0]

    def _by_token(self, token: str, *, now: datetime) -> Person:
        text, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(text).encode()):
            raise Unauthorized
        said = json.loads(_decoded(text.rpartition(".")[2]))
        if not self._takes(said["kind"]) or said["exp"] <= now.timestamp():
            raise Unauthorized
        return self._somebody(id=said["sub"])

    def _takes(self, kind: str) -> bool:
        return kind in TAKEN[self._account.quirks.auth]

    def _check_client(self, client_id: str, secret: str) -> None:
        shown, ours = f"{client_id}:{secret}", ":".join(self._client)
        if not hmac.compare_digest(shown.encode(), ours.encode()):
            raise Unauthorized

    def _somebody(self, **member: object) -> Person:
        ((name, value),) = member.items()
        found = next((one for one in self._account.people if getattr(one, name) == value), None)
        if found is None:
            raise Unauthorized
        return found

    def _signed(self, kind: str, person: Person, until: datetime) -> str:
        """A token in the shape of a JWT; an API token is one word."""
        said = {"kind": kind, "sub": person.id, "exp": int(until.timestamp())}
        text = _encoded(json.dumps(said))
        if kind == "oauth":
            text = f"{_encoded(json.dumps({'alg': 'HS256', 'typ': 'JWT'}))}.{text}"
        return f"{text}.{self._signature(text)}"

    def _signature(self, text: str) -> str:
        digest = hmac.new(self._client[1].encode(), text.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decoded(text: str) -> str:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()


def _basic(authorization: str) -> tuple[str, str]:
    """User and password of HTTP Basic, in base64 as the rest of the world has it."""
    try:
        both = base64.b64decode(authorization.removeprefix("Basic "), validate=True).decode()
    except ValueError:
        raise Unauthorized from None
    user, _, password = both.partition(":")
    return user, password
