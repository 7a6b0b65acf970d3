"""The two passwords of the dashboard, and the key that signs sessions."""

import hashlib
import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

SCRYPT = {"n": 2**14, "r": 8, "p": 1}  # each guess of a secret costs 16 MiB and about 50 ms


@dataclass(frozen=True, slots=True)
class Passwords:
    """The password for full access and the password for view-only access. Without a password no login works."""

    full_access: str | None = field(default=None, repr=False)
    view_only: str | None = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return bool(self.full_access or self.view_only)

    def check(self, given: str) -> bool | None:
        """Return True for the password for full access, False for view-only access, None for a wrong password.

        The given password is compared with both passwords in constant time, so the time taken reveals nothing.
        """
        is_full_access, is_view_only = _matches(given, self.full_access), _matches(given, self.view_only)
        return is_full_access if is_full_access or is_view_only else None


def session_key(passwords: Passwords, other_secrets: Iterable[Iterable[str]]) -> bytes:
    """Return the key that signs sessions, which is derived from all secrets of the service.

    Every process on every host has the same key without a setting for it, and changing any secret ends all sessions.
    Knowing some of the secrets, such as the view-only password, is not enough to sign a session with full access.
    If the view-only password is the only secret, no session has full access. scrypt makes it expensive to guess the
    other secrets.
    """
    secrets = [passwords.full_access, passwords.view_only, *(sorted(kind) for kind in other_secrets)]
    return hashlib.scrypt(json.dumps(secrets).encode(), salt=b"sessions of the receiver behind OneSpan Sign", **SCRYPT)


def _matches(given: str, password: str | None) -> bool:
    return hmac.compare_digest(_digest(given), _digest(password or "")) and bool(password)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
