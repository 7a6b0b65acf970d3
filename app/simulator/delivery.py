"""Delivery of callbacks to the service, with a count of the outcomes."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import requests

from app.simulator import callbacks
from app.simulator.account import Registration
from app.simulator.odd_callbacks import content_encoding

ANSWER_TIMEOUT_SECONDS = 10.0


def pluralize(count: int, noun: str) -> str:
    """Return a count with its noun, in the plural unless the count is 1."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


@dataclass
class DeliveryCounts:
    """The number of callbacks with each outcome. `refused` has a number for each HTTP status."""

    accepted: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    unreachable: int = 0

    @property
    def sent(self) -> int:
        """The number of callbacks sent."""
        return self.accepted + self.refused.total() + self.unreachable

    @property
    def is_clean(self) -> bool:
        """Whether every callback was accepted."""
        return self.accepted == self.sent

    def __str__(self) -> str:
        refused = [f"{count} refused ({status})" for status, count in sorted(self.refused.items())] or ["0 refused"]
        outcomes = f"{self.accepted} accepted, {', '.join(refused)}, {self.unreachable} unreachable"
        return f"{pluralize(self.sent, 'callback')}: {outcomes}"


class Delivery:
    """A client that posts callbacks one after another over one connection. Like OneSpan, the client never retries."""

    def __init__(self, url: str, key: str, *, registered: Callable[[], Registration | None] = lambda: None) -> None:
        """`url` and `key` apply while the account has no registration for callbacks."""
        self.counts = DeliveryCounts()
        self._default = (url, key)
        self._registered = registered
        self._session = requests.Session()
        self._session.trust_env = False  # use no proxy, and no .netrc, which would replace the Authorization header
        self._session.headers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._session.close()

    def post(self, body: bytes) -> str | None:
        """Send a callback. Return None if the service accepts the callback, otherwise a sentence about the failure."""
        registration = self._registered()
        url, key = (registration.url, registration.key) if registration else self._default
        try:
            headers = {**callbacks.headers(key), **content_encoding(body)}
            answer = self._session.post(
                url, data=body, headers=headers, timeout=ANSWER_TIMEOUT_SECONDS, allow_redirects=False
            )
        except requests.Timeout:
            self.counts.unreachable += 1
            return f"{url} did not answer within {ANSWER_TIMEOUT_SECONDS:.0f} seconds."
        except requests.RequestException:
            self.counts.unreachable += 1
            return f"No answer from {url}. Is the service running there?"
        if answer.ok and answer.status_code < 300:  # noqa: PLR2004
            self.counts.accepted += 1
            return None
        self.counts.refused[answer.status_code] += 1
        return f"{url} refused with {answer.status_code}: {_reason(answer)}"


def _reason(answer: requests.Response) -> str:
    """Return `error.message` of the service's JSON answer, or the first 200 characters of another answer."""
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return " ".join(answer.text.split())[:200] or "no reason given"
