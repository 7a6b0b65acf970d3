"""Every error the receiver raises. The docstring of a class is its message; web and CLI choose status codes."""

import math
from typing import Any

MAX_RETRY_AFTER_SECONDS = 30 * 24 * 3600  # the longest time for which `RetryAfter` can postpone a run


class ReceiverError(Exception):
    """Something went wrong in the receiver."""

    def __init__(self, detail: str | None = None) -> None:
        message = (type(self).__doc__ or "").strip().partition("\n")[0]
        super().__init__(f"{message.rstrip('.')}: {detail}" if detail else message)
        self.detail = detail


class InvalidCallbackKey(ReceiverError):
    """The request carries no valid callback key."""


class UnreadableCallback(ReceiverError):
    """The callback's body cannot be read."""


class BodyTooLarge(UnreadableCallback):
    """The callback's body is too large once it is decompressed."""


class UnreadablePackage(ReceiverError):
    """The package in OneSpan's answer cannot be read."""


class OneSpanError(ReceiverError):
    """A request to OneSpan's REST API failed."""


class OneSpanNotConfigured(OneSpanError):
    """OneSpan is not configured: set ONESPAN_URL, and ONESPAN_API_KEY or a client id and secret."""


class WrongAddress(OneSpanError):
    """The server at ONESPAN_URL is not OneSpan's API: check that it is your region's address, without a path."""


class CredentialsRejected(OneSpanError):
    """OneSpan rejected the credentials: check their kind, and that they belong to the region in ONESPAN_URL."""


class FirewallRefused(OneSpanError):
    """Something in front of OneSpan refuses the requests, such as its firewall: have this server's address allowed."""


class NotPermitted(OneSpanError):
    """The credentials do not permit this in OneSpan."""


class OneSpanNotFound(OneSpanError):
    """Not found in OneSpan, or not visible to the credentials."""

    def __init__(self, detail: str | None = None, *, answer: Any = None) -> None:
        super().__init__(detail)
        self.answer = answer  # OneSpan's 404 answer, for the journal


class UnusableId(OneSpanNotFound):
    """OneSpan cannot be asked for this id, because it is empty or has a part `.` or `..`."""


class RequestRejected(OneSpanError):
    """OneSpan rejected the request."""


class Throttled(OneSpanError):
    """OneSpan received too many requests; try again later."""

    def __init__(self, seconds: float | None = None) -> None:
        super().__init__(f"in {seconds:.0f} s" if seconds is not None else None)
        self.seconds = seconds  # seconds to wait before the next request; None if OneSpan does not say


class OneSpanUnavailable(OneSpanError):
    """OneSpan is unavailable."""


class UnsendableRequest(OneSpanError):
    """The request cannot be sent: a setting, an id or a token has characters that HTTP does not allow."""


class UnreadableAnswer(OneSpanError):
    """OneSpan's answer cannot be read."""


class InconsistentList(OneSpanError):
    """OneSpan's list of packages is inconsistent."""


class StorageUnavailable(ReceiverError):
    """The callback cannot be stored, neither in the database nor in the spool."""


class EntryRejected(ReceiverError):
    """The database rejects a spooled entry."""


class QueryTimeout(ReceiverError):
    """The query took too long and was stopped."""


class InvalidHandler(ReceiverError):
    """A handler in app/handlers.py cannot be registered."""


class ReconcileRunning(ReceiverError):
    """A reconcile is already running; wait until it ends."""


class DispatchRunning(ReceiverError):
    """The dispatch is running; replay it after it ends."""


class MoreThanExpected(ReceiverError):
    """More runs match now than were expected."""


class TooManyRuns(ReceiverError):
    """Too many runs match for one request; choose fewer."""


class RetryAfter(ReceiverError):
    """The handler asks to be run again later."""

    def __init__(self, seconds: float, reason: str | None = None) -> None:
        seconds = float(seconds)
        if not math.isfinite(seconds) or seconds < 0:
            raise ValueError(f"RetryAfter takes seconds from now, not {seconds}")
        super().__init__(reason)
        self.seconds = min(seconds, MAX_RETRY_AFTER_SECONDS)


class GiveUp(ReceiverError):
    """The handler gives up: a retry cannot help, and a person must fix the cause."""


class Discard(ReceiverError):
    """The handler discards the run: there is nothing to do."""
