"""Authentication at OneSpan's API: by an API key, a client-app token or an OAuth 2 token.

An account accepts one of these three kinds of credentials (OneSpan's "Managing API access and authentication
settings").
"""

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import requests
from requests.auth import AuthBase

from app.errors import (
    CredentialsRejected,
    NotPermitted,
    OneSpanNotFound,
    RequestRejected,
    UnreadableAnswer,
    WrongAddress,
)
from app.onespan.transport import TIMEOUTS, check, new_session, parse_json, translated_faults

RENEW_BEFORE_SECONDS = 60.0  # how long before its expiry a token is renewed; at most half of its lifetime
Flow = Literal["client-app", "oauth2"]

MAX_EPOCH_SECONDS = 1e11  # a larger epoch is in milliseconds; in seconds it would be the year 5138


class Credentials(Protocol):
    """Credentials that authenticate a request. `name` identifies them and reveals no secret."""

    name: str

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the Authorization header to a request."""
        ...

    def renew(self, rejected: requests.PreparedRequest) -> bool:
        """Handle a 401 answer. Returns whether another attempt of the request may succeed."""
        ...


class ApiKey(AuthBase):
    """Credentials that send `Authorization: Basic <key>`, with the key unchanged, because it is already base64."""

    def __init__(self, key: str) -> None:
        self.name = _name_of(key)
        self._header = f"Basic {key}"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the Authorization header to a request."""
        request.headers["Authorization"] = self._header
        return request

    def renew(self, rejected: requests.PreparedRequest) -> bool:  # noqa: ARG002  (a key cannot be renewed)
        """Return False, because an API key cannot be renewed."""
        return False


class Token(AuthBase):
    """Credentials that send `Authorization: Bearer <token>`.

    `fetch` returns a token and its expiry (epoch, in seconds); `client_id` identifies the client.
    """

    def __init__(
        self, fetch: Callable[[], tuple[str, float]], *, client_id: str, clock: Callable[[], float] = time.time
    ) -> None:
        self.name = _name_of(client_id)
        self._fetch = fetch
        self._clock = clock
        self._token = ""
        self._renew_at = 0.0
        self._lock = threading.Lock()

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the Authorization header; request a new token if the old one is about to expire."""
        with self._lock:
            if self._clock() >= self._renew_at:
                self._token, expires_at = self._fetch()
                self._renew_at = expires_at - min(RENEW_BEFORE_SECONDS, (expires_at - self._clock()) / 2)
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request

    def renew(self, rejected: requests.PreparedRequest) -> bool:
        """Discard the rejected token, unless another thread has already renewed it."""
        with self._lock:
            if rejected.headers.get("Authorization") == f"Bearer {self._token}":
                self._renew_at = 0.0
        return True


@dataclass(frozen=True, slots=True)
class ApiConnection:
    """The address of OneSpan (`https://sandbox.esignlive.com`, without a path) and the credentials for it."""

    address: str
    credentials: Credentials


def api_connection(
    address: str, *, api_key: str | None, client_id: str | None, secret: str | None, flow: Flow
) -> ApiConnection | None:
    """Return the connection to OneSpan for these settings; None if the settings have no credentials.

    `flow` says how a client id gets its tokens: with `client-app` from `/apitoken`, with `oauth2` (the client
    credentials grant of OAuth 2) from `/oauth2/token`.
    """
    if api_key:
        return ApiConnection(address, ApiKey(api_key))
    if not client_id or not secret:
        return None
    session = new_session()

    def client_token() -> tuple[str, float]:
        body = {"clientId": client_id, "secret": secret, "type": "OWNER"}
        return parse_client_token(_fetch(session, f"{address}/apitoken/clientApp/accessToken", json=body))

    def oauth2_token() -> tuple[str, float]:
        requested_at = time.time()
        body = {"grant_type": "client_credentials"}
        answer = _fetch(session, f"{address}/oauth2/token", data=body, auth=(client_id, secret))
        return parse_oauth2_token(answer, now=requested_at)

    return ApiConnection(address, Token(oauth2_token if flow == "oauth2" else client_token, client_id=client_id))


def _name_of(credential: str) -> str:
    """Return a short hash that identifies a credential and reveals nothing about it."""
    return f"api-{hashlib.sha256(credential.encode()).hexdigest()[:8]}"


def _fetch(session: requests.Session, url: str, **more: Any) -> Any:
    """Request a token. A refusal concerns the credentials, and never the package or page that needs the token."""
    more.setdefault("auth", lambda request: request)  # keeps the library `requests` from reading a .netrc file
    with (
        translated_faults(url.partition("/apitoken")[0].partition("/oauth2")[0]),
        session.post(url, timeout=TIMEOUTS, allow_redirects=False, **more) as answer,
    ):
        try:
            check(answer)
        except OneSpanNotFound as problem:
            raise WrongAddress(f"its token endpoint answers {problem.detail}") from None
        except (NotPermitted, RequestRejected) as problem:
            raise CredentialsRejected(f"the token endpoint answers {problem.detail}") from None
        return parse_json(answer)


def parse_client_token(answer: object) -> tuple[str, float]:
    """Parse the answer of `POST /apitoken/clientApp/accessToken` into a token and its expiry.

    `expiresAt` is an epoch. OneSpan's Java SDK reads the epoch as milliseconds, other sources as seconds, so its size
    decides the unit.
    """
    match answer:
        case {"accessToken": str(token), "expiresAt": int() | float() as epoch} if token:
            return token, epoch / 1000 if epoch > MAX_EPOCH_SECONDS else float(epoch)
    raise UnreadableAnswer("there is no accessToken with its expiresAt")


def parse_oauth2_token(answer: object, *, now: float) -> tuple[str, float]:
    """Parse the answer of `POST /oauth2/token` (RFC 6749, 5.1) into a token and its expiry."""
    match answer:
        case {"access_token": str(token), "expires_in": int() | float() as seconds} if token:
            return token, now + seconds
    raise UnreadableAnswer("there is no access_token with its expires_in")
