"""How we show OneSpan who we are: an API key, or a token that is fetched and renewed.

An account takes one of the three and refuses the others (OneSpan's "Managing API access and authentication settings").
"""

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import requests
from requests.auth import AuthBase

from app.errors import UnreadableAnswer
from app.onespan.transport import TIMEOUTS, check, faults_explained, new_session, read_json

EARLY = 60.0  # seconds before its end at which a token is renewed; half of its life where that is shorter
Flow = Literal["client-app", "oauth2"]

MILLISECONDS = 1e11  # an epoch beyond this is counted in milliseconds: in seconds it would be the year 5138


class Access(Protocol):
    """What a request is signed with. `renew` says whether another try can help after a 401; `name` tells no secret."""

    name: str

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign a request."""
        ...

    def renew(self, refused: requests.PreparedRequest) -> bool:
        """Take note of a 401."""
        ...


class ApiKey(AuthBase):
    """`Authorization: Basic <key>`, the key as it is; it looks like base64 already."""

    def __init__(self, key: str) -> None:
        self.name = _name_of(key)
        self._header = f"Basic {key}"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign a request."""
        request.headers["Authorization"] = self._header
        return request

    def renew(self, refused: requests.PreparedRequest) -> bool:  # noqa: ARG002  (a key stays what it is)
        """There is nothing to renew."""
        return False


class Token(AuthBase):
    """`Authorization: Bearer <token>`. `fetch` gets a token and when it ends (epoch, seconds); `of` is the client."""

    def __init__(
        self, fetch: Callable[[], tuple[str, float]], *, of: str, clock: Callable[[], float] = time.time
    ) -> None:
        self.name = _name_of(of)
        self._fetch = fetch
        self._clock = clock
        self._token = ""
        self._until = 0.0
        self._renewing = threading.Lock()

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign a request, with a new token where the old one is about to end."""
        with self._renewing:
            if self._clock() >= self._until:
                self._token, ends = self._fetch()
                self._until = ends - min(EARLY, (ends - self._clock()) / 2)
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request

    def renew(self, refused: requests.PreparedRequest) -> bool:
        """Forget the token that was refused, unless another thread has renewed it meanwhile."""
        with self._renewing:
            if refused.headers.get("Authorization") == f"Bearer {self._token}":
                self._until = 0.0
        return True


@dataclass(frozen=True, slots=True)
class Connection:
    """Where OneSpan is (`https://sandbox.esignlive.com`, without a path) and how we show who we are."""

    address: str
    access: Access


def connection_to(
    address: str, *, api_key: str | None, client_id: str | None, secret: str | None, flow: Flow
) -> Connection | None:
    """How to reach OneSpan with what the settings have; None where they have no credentials.

    `flow` says where the tokens of a client id come from: of a client app from `/apitoken`, by OAuth 2's client
    credentials from `/oauth2/token`.
    """
    if api_key:
        return Connection(address, ApiKey(api_key))
    if not client_id or not secret:
        return None
    session = new_session()

    def client_token() -> tuple[str, float]:
        wanted = {"clientId": client_id, "secret": secret, "type": "OWNER"}
        return read_client_token(_fetch(session, f"{address}/apitoken/clientApp/accessToken", json=wanted))

    def oauth2_token() -> tuple[str, float]:
        began = time.time()
        wanted = {"grant_type": "client_credentials"}
        answer = _fetch(session, f"{address}/oauth2/token", data=wanted, auth=(client_id, secret))
        return read_oauth2_token(answer, now=began)

    return Connection(address, Token(oauth2_token if flow == "oauth2" else client_token, of=client_id))


def _name_of(credential: str) -> str:
    """So long that no two are alike, so short that nothing can be learned from it."""
    return f"api-{hashlib.sha256(credential.encode()).hexdigest()[:8]}"


def _fetch(session: requests.Session, url: str, **more: Any) -> Any:
    more.setdefault("auth", lambda request: request)  # nobody's: not what a .netrc file would say
    with (
        faults_explained(url.partition("/apitoken")[0].partition("/oauth2")[0]),
        session.post(url, timeout=TIMEOUTS, allow_redirects=False, **more) as answer,
    ):
        check(answer)
        return read_json(answer)


def read_client_token(answer: object) -> tuple[str, float]:
    """The answer of `POST /apitoken/clientApp/accessToken`.

    `expiresAt` is an epoch; the Java SDK takes it for milliseconds, others for seconds, so its size decides.
    """
    match answer:
        case {"accessToken": str(token), "expiresAt": int() | float() as ends} if token:
            return token, ends / 1000 if ends > MILLISECONDS else float(ends)
    raise UnreadableAnswer("there is no accessToken with its expiresAt")


def read_oauth2_token(answer: object, *, now: float) -> tuple[str, float]:
    """The answer of `POST /oauth2/token` (RFC 6749, 5.1)."""
    match answer:
        case {"access_token": str(token), "expires_in": int() | float() as seconds} if token:
            return token, now + seconds
    raise UnreadableAnswer("there is no access_token with its expires_in")
