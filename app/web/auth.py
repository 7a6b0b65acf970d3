"""Authentication by shared keys: the callback keys and the API tokens."""

import hashlib
import hmac
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple


class ApiToken(NamedTuple):
    """A bearer token of the JSON API. Without `may_act` it can only read; it ends with its `last_day` (UTC)."""

    label: str
    secret: str
    may_act: bool = True
    last_day: date | None = None

    def has_ended(self, now: datetime) -> bool:
        """Whether the last day of the token is over."""
        return self.last_day is not None and now >= datetime.combine(self.last_day, time(), UTC) + timedelta(days=1)


def authenticate(authorization: str | None, *, scheme: str, keys: Iterable[tuple[str, str]]) -> str | None:
    """Return the label of the key in the raw `Authorization` header, or None if it is not one of `keys`.

    The header is `<scheme> <key>` with the raw key, neither base64 nor `user:password`. `keys` are (label, key) pairs.
    All keys are compared, each in constant time, so the response time reveals nothing. Without keys every request is
    refused.
    """
    given_scheme, _, credentials = (authorization or "").partition(" ")
    given = _digest(credentials.encode("latin-1", "replace").strip())  # WSGI decodes header bytes as latin-1
    matching = [label for label, key in keys if hmac.compare_digest(given, _digest(key.encode())) and key]
    return matching[0] if matching and given_scheme.lower() == scheme else None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
