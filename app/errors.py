"""Every error of ours. A class's docstring is its message; HTTP codes are given at the edge."""

import math


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


class HandlerMistake(ReceiverError):
    """A handler in app/handlers.py cannot be registered."""


class StillRunning(ReceiverError):
    """The dispatch is running now; replay it when it has ended."""


class RetryAfter(ReceiverError):
    """Raised by a handler: run me again after so many seconds."""

    def __init__(self, seconds: float, reason: str | None = None) -> None:
        if not math.isfinite(seconds) or seconds < 0:
            raise ValueError(f"RetryAfter takes seconds from now, not {seconds}")
        super().__init__(reason)
        self.seconds = min(seconds, 30 * 24 * 3600)


class GiveUp(ReceiverError):
    """Raised by a handler: trying again cannot help, park me for a person."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class Discard(ReceiverError):
    """Raised by a handler: there is nothing to do here, end it quietly."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
