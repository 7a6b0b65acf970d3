"""The passwords of the dashboard, shared and of named users, and the key that signs sessions."""

import hashlib
import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from werkzeug.security import check_password_hash

from app.web.dashboard.user import FULL_ACCESS, VIEW_ACCESS, User, clean_name

SCRYPT = {"n": 2**14, "r": 8, "p": 1}  # each guess of a secret costs 16 MiB and about 50 ms


@dataclass(frozen=True, slots=True)
class NamedUser:
    """A user with an own password, of which only the hash is known."""

    name: str
    password_hash: str = field(repr=False)
    has_full_access: bool = True


@dataclass(frozen=True, slots=True)
class Passwords:
    """The shared passwords for full and for view-only access, and the named users. Without any no login works."""

    full_access: str | None = field(default=None, repr=False)
    view_only: str | None = field(default=None, repr=False)
    users: tuple[NamedUser, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.full_access or self.view_only or self.users)

    @property
    def can_give_full_access(self) -> bool:
        """Whether any login has full access."""
        return bool(self.full_access or any(user.has_full_access for user in self.users))

    @property
    def has_shared(self) -> bool:
        """Whether a shared password is set."""
        return bool(self.full_access or self.view_only)

    def accounts(self, name: str) -> tuple[str, ...]:
        """Return the accounts that a login with this name tries: that of the named user, or those of all others."""
        found = self._find(name)
        return (f"user:{found.name}",) if found else (FULL_ACCESS, VIEW_ACCESS)

    def user(self, name: str, given: str, *, account: str | None = None) -> User | None:
        """Return the user with this password, or None for a wrong one. With `account` only this account is tried.

        The name of a named user needs this user's password. The time taken reveals neither a password nor whether
        there is a user of this name.
        """
        found = self._find(name)
        if self.users:
            is_hash_right = check_password_hash((found or self.users[0]).password_hash, given)
            if found:
                return User(found.name, has_full_access=found.has_full_access, is_named=True) if is_hash_right else None
        is_full_access = _matches(given, self.full_access) and account in (None, FULL_ACCESS)
        is_view_only = _matches(given, self.view_only) and account in (None, VIEW_ACCESS)
        return User(clean_name(name), has_full_access=is_full_access) if is_full_access or is_view_only else None

    def _find(self, name: str) -> NamedUser | None:
        wanted = clean_name(name).casefold()
        return next((user for user in self.users if user.name.casefold() == wanted), None)


def session_key(passwords: Passwords, other_secrets: Iterable[Iterable[str]]) -> bytes:
    """Return the key that signs sessions, which is derived from all secrets of the service.

    Every process on every host has the same key without a setting for it, and changing any secret ends all sessions.
    Knowing some of the secrets, such as the view-only password, is not enough to sign a session with full access.
    If the view-only password is the only secret, no session has full access. scrypt makes it expensive to guess the
    other secrets.
    """
    secrets = [passwords.full_access, passwords.view_only, *(sorted(kind) for kind in other_secrets)]
    if passwords.users:
        secrets.append(sorted(f"{user.name}:{user.has_full_access}:{user.password_hash}" for user in passwords.users))
    return hashlib.scrypt(json.dumps(secrets).encode(), salt=b"sessions of the receiver behind OneSpan Sign", **SCRYPT)


def _matches(given: str, password: str | None) -> bool:
    return hmac.compare_digest(_digest(given), _digest(password or "")) and bool(password)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
