"""The registry of handlers: which function wants which event."""

import inspect
from collections.abc import Callable, Iterator

from app.errors import HandlerMistake
from app.onespan.catalogue import CATALOGUE, nearest_name, wire_name
from app.onespan.client import OneSpan
from app.onespan.values import Event, Package

Handler = Callable[[Event, Package], object]

ALL = "*"
NOT_PLAIN = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


class Handlers:
    """The developers' functions, by the events they want. `onespan` is OneSpan's REST API, for them to use."""

    def __init__(self) -> None:
        self.onespan = OneSpan()
        self._functions: dict[str, Handler] = {}
        self._wanted: dict[str, list[str]] = {}

    def on(self, *names: str) -> Callable[[Handler], Handler]:
        """Run the decorated function for every event of these names; `"*"` is all, unknown ones too.

        The function gets the event and its package, both immutable. Its own name names it in the database, so
        renaming it makes it another handler. Raises `HandlerMistake` on a name that is no event's.
        """
        if not names or not all(isinstance(name, str) for name in names):
            raise HandlerMistake('say which event: @handlers.on("PACKAGE_COMPLETE")')
        for name in names:
            if name != ALL and wire_name(name) not in CATALOGUE:
                near = nearest_name(name)
                raise HandlerMistake(f"{name!r} is no event's name" + (f"; is {near} meant?" if near else ""))

        def register(function: Handler) -> Handler:
            self._register(function)
            for name in names:
                wanting = self._wanted.setdefault(wire_name(name), [])
                if function.__name__ not in wanting:
                    wanting.append(function.__name__)
            return function

        return register

    def wanting(self, name: str) -> list[str]:
        """Names of the handlers that want an event of this name, each once."""
        return list(dict.fromkeys([*self._wanted.get(name, ()), *self._wanted.get(ALL, ())]))

    def names_wanted_by(self, handler: str) -> list[str] | None:
        """Names of the events this handler wants; None is all."""
        names = [name for name, wanting in self._wanted.items() if handler in wanting]
        return None if ALL in names else names

    def listening(self) -> dict[str, list[str]]:
        """Every handler, and the events it wants; `*` is all."""
        return {name: self.names_wanted_by(name) or [ALL] for name in self}

    def __iter__(self) -> Iterator[str]:
        """The handlers' names."""
        return iter(self._functions)

    def __getitem__(self, name: str) -> Handler:
        """The function of this name."""
        return self._functions[name]

    def _register(self, function: Handler) -> None:
        name = getattr(function, "__name__", None)
        if name is None:
            raise HandlerMistake(f"{function!r} has no name of its own; write it with def")
        if self._functions.get(name, function) is not function:
            raise HandlerMistake(f"two functions are called {name}; give each its own name")
        try:
            inspect.signature(function).bind(None, None)
        except TypeError:
            raise HandlerMistake(f"{name} must take two arguments, the event and the package") from None
        if any(is_other(function) for is_other in NOT_PLAIN):
            raise HandlerMistake(f"{name} is async or yields; handlers are plain functions, or they would never run")
        self._functions[name] = function
