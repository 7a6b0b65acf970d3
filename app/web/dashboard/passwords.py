"""The two passwords, and the key that is made of them."""

import hashlib
import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

HARD = {"n": 2**14, "r": 8, "p": 1}  # 16 MiB and some 50 ms for each guess


@dataclass(frozen=True, slots=True)
class Passwords:
    """Who has `acting` may act, who has `looking` may look; without either nobody comes in."""

    acting: str | None = field(default=None, repr=False)
    looking: str | None = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return bool(self.acting or self.looking)

    def may_act(self, given: str) -> bool | None:
        """Whether this password lets somebody act, or only look (False); None where it is neither.

        Both are compared, in constant time, so that the time taken tells nothing.
        """
        acts, looks = _same(given, self.acting), _same(given, self.looking)
        return acts if acts or looks else None


def session_key(passwords: Passwords, others: Iterable[Iterable[str]]) -> bytes:
    """The key that sessions are signed with, made of all secrets of the service.

    So every process on every host has the same one without a setting of its own; any secret that changes ends all
    sessions; and whoever knows some of the secrets, such as the password that may only look, cannot sign a session
    that may act: where it is the only one, none may. To guess the rest from a session of one's own takes scrypt for
    each guess.
    """
    secrets = [passwords.acting, passwords.looking, *(sorted(kind) for kind in others)]
    return hashlib.scrypt(json.dumps(secrets).encode(), salt=b"sessions of the receiver behind OneSpan Sign", **HARD)


def _same(given: str, password: str | None) -> bool:
    return hmac.compare_digest(_digest(given), _digest(password or "")) and bool(password)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
