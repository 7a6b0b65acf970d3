"""Carries callbacks to the service, and counts what became of them."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import requests

from app.simulator import callbacks
from app.simulator.account import Registration

PATIENCE = 10.0  # seconds for an answer


def counted(number: int, noun: str) -> str:
    """A number and what there are so many of."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


@dataclass
class Tally:
    """What became of the callbacks; `refused` counts by HTTP status."""

    accepted: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    unreachable: int = 0

    @property
    def sent(self) -> int:
        """All of them."""
        return self.accepted + self.refused.total() + self.unreachable

    @property
    def is_clean(self) -> bool:
        """Every one was accepted."""
        return self.accepted == self.sent

    def __str__(self) -> str:
        refused = ", ".join(f"{times} with {status}" for status, times in sorted(self.refused.items())) or "0"
        became = f"{self.accepted} accepted, {refused} refused, {self.unreachable} unreachable"
        return f"{counted(self.sent, 'callback')}: {became}"


class Delivery:
    """Posts callbacks one after another over one connection. As OneSpan, it sends none a second time."""

    def __init__(self, url: str, key: str, *, registered: Callable[[], Registration | None] = lambda: None) -> None:
        """`url` and `key` count where nothing is registered."""
        self.tally = Tally()
        self._usual = (url, key)
        self._registered = registered
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy, and no .netrc that would put another Authorization
        self._session.headers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._session.close()

    def post(self, body: bytes) -> str | None:
        """Send one; returns None where it was accepted, otherwise what went wrong, in words."""
        registration = self._registered()
        url, key = (registration.url, registration.key) if registration else self._usual
        try:
            answer = self._session.post(
                url, data=body, headers=callbacks.headers(key), timeout=PATIENCE, allow_redirects=False
            )
        except requests.Timeout:
            self.tally.unreachable += 1
            return f"{url} did not answer within {PATIENCE:.0f} seconds."
        except requests.RequestException:
            self.tally.unreachable += 1
            return f"Nobody answers at {url}. Is the service running there?"
        if answer.ok and answer.status_code < 300:  # noqa: PLR2004
            self.tally.accepted += 1
            return None
        self.tally.refused[answer.status_code] += 1
        return f"{url} refused with {answer.status_code}: {_reason(answer)}"


def _reason(answer: requests.Response) -> str:
    """The first words of the answer; a JSON answer of the service says them in `error.message`."""
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return " ".join(answer.text.split())[:200] or "no reason given"
