"""Who may come in: whoever carries one of our keys."""

import hashlib
import hmac
from collections.abc import Iterable


def authenticate(authorization: str | None, *, scheme: str, keys: Iterable[tuple[str, str]]) -> str | None:
    """The label of the key that the raw `Authorization` header carries, or None: not one of ours.

    The header is `<scheme> <key>`, the key as it is, neither base64 nor `user:password`. `keys` are (label, key)
    pairs; every one is compared, each in constant time, so that the time taken tells nothing. Without keys
    nobody comes in.
    """
    said, _, told = (authorization or "").partition(" ")
    given = _digest(told.encode("latin-1", "replace").strip())  # WSGI gives a header's bytes as latin-1
    fitting = [label for label, key in keys if hmac.compare_digest(given, _digest(key.encode())) and key]
    return fitting[0] if fitting and said.lower() == scheme else None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
