"""Callbacks of connectors: the events of packages whose `data.origin` names a registered connector.

OneSpan's documentation does not say whether the account's callback URL gets these events, too: a quirk decides.
"""

import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from app.simulator import callbacks
from app.simulator.account import Account, Registration
from app.simulator.delivery import Delivery
from app.simulator.packages import Event


def addressed(account: Account, event: Event) -> list[Registration | None]:
    """Return the registrations that get an event; None is that of the account, which may be missing."""
    connector = account.registration_for(event.package_id)
    if connector is None:
        return [None]
    wanted: list[Registration | None] = [connector] if event.name in connector.events else []
    return [*wanted, None] if account.quirks.connector_events == "both" else wanted


class Connectors:
    """A thread that posts callbacks to connectors in the order of their events, without mishaps."""

    def __init__(self, account: Account, to_account: Callable[[list[Event]], None]) -> None:
        """`to_account` receives the events that the account's own callback URL gets."""
        self._account = account
        self._to_account = to_account
        self._waiting: SimpleQueue[tuple[Registration, bytes] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._deliver, name="simulated-connectors", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._waiting.put(None)
        self._thread.join()

    def notify(self, events: Iterable[Event]) -> None:
        """Send each event to the registrations that get it."""
        own = []
        for event in events:
            for registration in addressed(self._account, event):
                if registration is None:
                    own.append(event)
                else:
                    body = callbacks.body(event, quirks=self._account.quirks)
                    self._waiting.put((registration, body))
        self._to_account(own)

    def _deliver(self) -> None:
        while callback := self._waiting.get():
            registration, body = callback
            with Delivery(registration.url, registration.key) as delivery:
                delivery.post(body)
