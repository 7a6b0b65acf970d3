"""Credentials and permissions: API keys of the owner and of each sender, API tokens, OAuth 2.0 tokens.

A token is signed and contains its person and expiry, so the simulator stores no tokens.
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
SESSION_COOKIE = "ESIGNLIVE_SESSION_ID"  # the cookie of a signer's session
ACCEPTED_CREDENTIALS = {"any": {"key", "token", "oauth"}, "key": {"key"}, "token": {"token"}, "oauth": {"oauth"}}


class Unauthorized(Exception):
    """The request carries no credentials of this account."""


class Forbidden(Exception):
    """The caller has no permission for the request."""


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated person. `visibility` is one of the values of the quirk `senders_see`."""

    person: Person
    visibility: str

    def owners(self, named_owners: frozenset[str]) -> frozenset[str] | None:
        """Return the senders whose packages the list shows if a request names these owners; None means all senders.

        Raises `Forbidden` if the caller may not see the packages of a named owner.
        """
        if self.visibility == "own" and named_owners - {self.person.id}:
            raise Forbidden
        return named_owners or (None if self.visibility == "all" else frozenset({self.person.id}))

    def may_read(self, package: Package, named_owners: frozenset[str]) -> bool:
        """Return whether the caller may read a package."""
        owner = package.sender.id
        return (
            owner == self.person.id
            or self.visibility in ("all", "managed")
            or (self.visibility == "named" and owner in named_owners)
        )


def sender_key(person: Person) -> str:
    """Return the API key of a sender, which is derived from the sender's id and e-mail address."""
    return base64.b64encode(f"{person.id}:{person.email}".encode()).decode()


class Authenticator:
    """An authenticator that accepts the credentials of one account only."""

    def __init__(
        self, account: Account, *, api_key: str, client_id: str = CLIENT_ID, client_secret: str = CLIENT_SECRET
    ) -> None:
        """`api_key` is the API key of the account's owner."""
        self._account = account
        self._client = (client_id, client_secret)
        self._api_key = api_key

    def caller(self, authorization: str, *, now: datetime) -> Caller:
        """Return the caller with this Authorization header. Raises `Unauthorized` for invalid credentials."""
        scheme, _, secret = authorization.partition(" ")
        if scheme == "Basic":
            return self._caller_for(self._by_key(secret))
        if scheme == "Bearer":
            return self._caller_for(self._by_token(secret, now=now))
        raise Unauthorized

    def api_token(self, body: Mapping[str, object], *, now: datetime) -> tuple[str, datetime]:
        """Return an API token for the owner, or for the sender with `email`, and the expiry of the token.

        Raises `Unauthorized` if `clientId` and `secret` are wrong or the sender is unknown.
        """
        self._check_client(str(body.get("clientId")), str(body.get("secret")))
        person = self._account.owner
        if body.get("type") == "SENDER":
            person = self._find_person(email=body.get("email"))
        expires_at = now + timedelta(seconds=self._account.quirks.token_lifetime)
        return self._signed("token", person, expires_at), expires_at

    def oauth_token(self, authorization: str, *, sender_id: str | None, now: datetime) -> tuple[str, int]:
        """Return an OAuth 2.0 token for client credentials in HTTP Basic, and the token's lifetime in seconds.

        Raises `Unauthorized` if the credentials are wrong or the sender is unknown.
        """
        self._check_client(*_basic(authorization))
        person = self._find_person(id=sender_id) if sender_id else self._account.owner
        lifetime = self._account.quirks.oauth_lifetime
        return self._signed("oauth", person, now + timedelta(seconds=lifetime)), lifetime

    def named_owners(self, query: Mapping[str, str]) -> frozenset[str]:
        """Return the ids of the package owners that a request names. Raises `Forbidden` for an unknown sender."""
        fields = {"ownerUserId": "id", "ownerEmail": "email"}
        named = [(field, query[name]) for name, field in fields.items() if query.get(name)]
        try:
            return frozenset(self._find_person(**{field: value}).id for field, value in named)
        except Unauthorized:
            raise Forbidden from None

    def _caller_for(self, person: Person) -> Caller:
        quirks = self._account.quirks
        return Caller(person, quirks.owner_sees if person is self._account.owner else quirks.senders_see)

    def _by_key(self, secret: str) -> Person:
        people = self._account.people
        keys = [self._api_key, *map(sender_key, people[1:])]
        matches = [hmac.compare_digest(key.encode(), secret.encode()) for key in keys]
        found = [person for person, matches_key in zip(people, matches, strict=True) if matches_key]
        if not found or not self._accepts("key"):
            raise Unauthorized
        return found[0]

    def _by_token(self, token: str, *, now: datetime) -> Person:
        text, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(text).encode()):
            raise Unauthorized
        claims = json.loads(_decoded(text.rpartition(".")[2]))
        if not self._accepts(claims["kind"]) or claims["exp"] <= now.timestamp():
            raise Unauthorized
        return self._find_person(id=claims["sub"])

    def _accepts(self, kind: str) -> bool:
        return kind in ACCEPTED_CREDENTIALS[self._account.quirks.auth]

    def _check_client(self, client_id: str, secret: str) -> None:
        given, expected = f"{client_id}:{secret}", ":".join(self._client)
        if not hmac.compare_digest(given.encode(), expected.encode()):
            raise Unauthorized

    def _find_person(self, **member: object) -> Person:
        ((name, value),) = member.items()
        found = next((person for person in self._account.people if getattr(person, name) == value), None)
        if found is None:
            raise Unauthorized
        return found

    def _signed(self, kind: str, person: Person, expires_at: datetime) -> str:
        """Return a token in the shape of a JWT. An API token has no header part."""
        claims = {"kind": kind, "sub": person.id, "exp": int(expires_at.timestamp())}
        text = _encoded(json.dumps(claims))
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
    """Return user and password from the standard form of HTTP Basic, which is base64."""
    try:
        both = base64.b64decode(authorization.removeprefix("Basic "), validate=True).decode()
    except ValueError:
        raise Unauthorized from None
    user, _, password = both.partition(":")
    return user, password
