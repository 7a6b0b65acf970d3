"""Every error of ours. A class's docstring is its message; HTTP codes are given at the edge."""

import math
from typing import Any

LONGEST_WAIT = 30 * 24 * 3600  # seconds that a handler can put itself off


class ReceiverError(Exception):
    """Something went wrong in the receiver."""

    def __init__(self, detail: str | None = None) -> None:
        message = (type(self).__doc__ or "").strip().partition("\n")[0]
        super().__init__(f"{message.rstrip('.')}: {detail}" if detail else message)
        self.detail = detail


class NotOneSpan(ReceiverError):
    """The request carries none of our callback keys."""


class UnreadableCallback(ReceiverError):
    """The callback's body cannot be read."""


class UnreadablePackage(ReceiverError):
    """What OneSpan showed of a package cannot be read."""


class OneSpanError(ReceiverError):
    """OneSpan's REST API did not do what was asked of it."""


class NoOneSpan(OneSpanError):
    """There is no OneSpan to ask: set ONESPAN_URL, and ONESPAN_API_KEY or a client id with its secret."""


class WrongAddress(OneSpanError):
    """What answers at ONESPAN_URL is not OneSpan's API: is it the address of your region, without a path?"""


class KeyRefused(OneSpanError):
    """OneSpan does not take our credentials: are they of the region in ONESPAN_URL, and the kind its account takes?"""


class NotPermitted(OneSpanError):
    """Our credentials may not do or see this in OneSpan."""


class NotThere(OneSpanError):
    """OneSpan has no such thing, or none that our credentials can see."""

    def __init__(self, detail: str | None = None, *, answer: Any = None) -> None:
        super().__init__(detail)
        self.answer = answer  # how it said so


class RefusedByOneSpan(OneSpanError):
    """OneSpan refuses the request."""


class Throttled(OneSpanError):
    """OneSpan asks us to come back later."""

    def __init__(self, seconds: float | None = None) -> None:
        super().__init__(f"in {seconds:.0f} s" if seconds is not None else None)
        self.seconds = seconds  # how much later, where it says so


class OneSpanDown(OneSpanError):
    """OneSpan does not answer, or with a fault of its own; try again later."""


class UnsendableRequest(OneSpanError):
    """The request cannot be sent: a setting, an id or a token has characters that no header or URL can carry."""


class UnreadableAnswer(OneSpanError):
    """OneSpan's answer cannot be read."""


class UnsteadyList(OneSpanError):
    """OneSpan's list of packages does not add up."""


class NothingTakesIt(ReceiverError):
    """Neither the database nor the spool can take the callback."""


class EntryRefused(ReceiverError):
    """The database does not take a spooled entry as it is."""


class QueryTimeout(ReceiverError):
    """The query took too long and was stopped."""


class HandlerMistake(ReceiverError):
    """A handler in app/handlers.py cannot be registered."""


class UnderWay(ReceiverError):
    """A reconcile is under way; wait for its end."""


class StillRunning(ReceiverError):
    """The dispatch is running now; replay it when it has ended."""


class MoreThanExpected(ReceiverError):
    """By now more runs are chosen than were expected."""


class TooMany(ReceiverError):
    """So many runs are chosen that they would keep this request for too long."""


class RetryAfter(ReceiverError):
    """The handler asks to be run again later."""

    def __init__(self, seconds: float, reason: str | None = None) -> None:
        seconds = float(seconds)
        if not math.isfinite(seconds) or seconds < 0:
            raise ValueError(f"RetryAfter takes seconds from now, not {seconds}")
        super().__init__(reason)
        self.seconds = min(seconds, LONGEST_WAIT)


class GiveUp(ReceiverError):
    """The handler says that trying again cannot help: a person has to look."""


class Discard(ReceiverError):
    """The handler says that there is nothing to do."""
