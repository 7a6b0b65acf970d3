"""Every error of ours. A class's docstring is its message; HTTP codes are given at the edge."""

import math

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


class NothingTakesIt(ReceiverError):
    """Neither the database nor the spool can take the callback."""


class EntryRefused(ReceiverError):
    """The database does not take a spooled entry as it is."""


class HandlerMistake(ReceiverError):
    """A handler in app/handlers.py cannot be registered."""


class StillRunning(ReceiverError):
    """The dispatch is running now; replay it when it has ended."""


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
