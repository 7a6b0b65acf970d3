"""The registry of handlers: which function runs for which event."""

import inspect
from collections.abc import Callable, Iterator

from app.errors import InvalidHandler
from app.onespan.client import OneSpan
from app.onespan.event_catalogue import CATALOGUE, nearest_name, wire_name
from app.onespan.values import Event, Package

Handler = Callable[[Event, Package], object]

ALL = "*"  # used in place of an event name to subscribe to every event
NOT_PLAIN = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


class Handlers:
    """The integrator's functions, by the events they subscribe to. `onespan` is a client of OneSpan's REST API."""

    def __init__(self) -> None:
        self.onespan = OneSpan()
        self._functions: dict[str, Handler] = {}
        self._subscribed: dict[str, list[str]] = {}

    def on(self, *names: str) -> Callable[[Handler], Handler]:
        """Run the decorated function for every event of these names; `"*"` is every event, unknown names included.

        The function gets the event and its package, both immutable. The database identifies a handler by the
        function's name, so a renamed function is another handler. Raises `InvalidHandler` for an unknown event name
        and for a function that cannot be a handler.
        """
        if not names or not all(isinstance(name, str) for name in names):
            raise InvalidHandler('name an event: @handlers.on("PACKAGE_COMPLETE")')
        for name in names:
            if name != ALL and wire_name(name) not in CATALOGUE:
                near = nearest_name(name)
                raise InvalidHandler(f"{name!r} is not an event" + (f"; did you mean {near}?" if near else ""))

        def register(function: Handler) -> Handler:
            self._register(function)
            for name in names:
                subscribed = self._subscribed.setdefault(wire_name(name), [])
                if function.__name__ not in subscribed:
                    subscribed.append(function.__name__)
            return function

        return register

    def handlers_for(self, name: str) -> list[str]:
        """Return the names of the handlers to run for an event of this name, each once."""
        return list(dict.fromkeys([*self._subscribed.get(name, ()), *self._subscribed.get(ALL, ())]))

    def events_of(self, handler: str) -> list[str] | None:
        """Return the names of the events that this handler subscribes to; None means every event."""
        names = [name for name, subscribed in self._subscribed.items() if handler in subscribed]
        return None if ALL in names else names

    def subscriptions(self) -> dict[str, list[str]]:
        """Return the names of the events that each handler subscribes to; `*` means every event."""
        return {name: self.events_of(name) or [ALL] for name in self}

    def __iter__(self) -> Iterator[str]:
        """The handlers' names."""
        return iter(self._functions)

    def __getitem__(self, name: str) -> Handler:
        """Return the handler of this name."""
        return self._functions[name]

    def _register(self, function: Handler) -> None:
        name = getattr(function, "__name__", None)
        if name is None:
            raise InvalidHandler(f"{function!r} has no name; define it with def")
        if self._functions.get(name, function) is not function:
            raise InvalidHandler(f"two functions are named {name}; rename one of them")
        try:
            inspect.signature(function).bind(None, None)
        except TypeError:
            raise InvalidHandler(f"{name} must take two arguments, the event and the package") from None
        if any(is_special(function) for is_special in NOT_PLAIN):
            raise InvalidHandler(f"{name} is async or a generator and would never run; write a plain function")
        self._functions[name] = function
