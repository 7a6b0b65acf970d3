"""Everything that functions in `app/handlers.py` import.

Register a function for one or more events; it gets the event and its package:

    from app.handling import Event, GiveUp, Handlers, Package, RetryAfter

    handlers = Handlers()

    @handlers.on("PACKAGE_COMPLETE")
    def file_signed_documents(event: Event, package: Package) -> None:
        ...

`Event`, `Package`, `Signer` and `Document` are immutable values. Times in them are aware and in UTC.

A function that raises is run again. Three exceptions change that:

- `RetryAfter(seconds, reason)`: run the function again after this time.
- `GiveUp(reason)`: trying again cannot help; park this run for a person to look at.
- `Discard(reason)`: there is nothing to do.

These names are stable. `app.errors` has the errors of the REST client. Everything else in this project may change.
"""

from app.errors import Discard, GiveUp, RetryAfter
from app.onespan.values import Document, Event, Package, Signer
from app.registry import Handlers

__all__ = ["Discard", "Document", "Event", "GiveUp", "Handlers", "Package", "RetryAfter", "Signer"]
