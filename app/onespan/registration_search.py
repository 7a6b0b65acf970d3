"""Find the event names that OneSpan refuses to register.

Each attempt replaces the account's registration. So the search begins with the events that are registered already,
and only adds to the events of the last accepted attempt. If OneSpan now refuses one of the events that are registered
already, it begins with all others, and only if there are several, with a single event.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from app.errors import RequestRejected

MAX_FIRST_ATTEMPTS = 3  # single events that are tried; if all are refused, events are not the cause
Register = Callable[[Sequence[str]], None]  # registers exactly these events; may raise an `OneSpanError`


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The events that are registered now, if any attempt was accepted, and the events that OneSpan refuses.

    Both are empty if OneSpan refuses even the first attempt, so that the events are not the cause.
    """

    registered: tuple[str, ...]
    refused: tuple[str, ...]


def find_refused(register: Register, events: Sequence[str], *, kept: Sequence[str]) -> SearchResult:
    """Register as many `events` as OneSpan accepts, after it refused all of them together.

    `kept` are those of them that are registered already. The search makes at most three attempts per event. Raises any
    other `OneSpanError` than a refusal; then the last accepted attempt stays registered.
    """
    firsts = [names for names in _first_attempts(events, kept) if names and set(names) != set(events)]
    first = next((names for names in firsts if _is_accepted(register, names)), None)
    if first is None:
        return SearchResult((), ())
    refused = list(dict.fromkeys(names[0] for names in firsts[: firsts.index(first)] if len(names) == 1))
    rest = [name for name in events if name not in {*first, *refused}]
    registered = _add_halves(register, first, rest, refused) if len(rest) > 1 else _add(register, first, rest, refused)
    return SearchResult(registered, tuple(refused))


def _first_attempts(events: Sequence[str], kept: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the events of possible first attempts, those that register most first."""
    if kept:
        yield tuple(kept)
    for left_out in kept:
        yield tuple(name for name in events if name != left_out)
    for name in events[:MAX_FIRST_ATTEMPTS]:
        yield (name,)


def _add(register: Register, base: tuple[str, ...], more: Sequence[str], refused: list[str]) -> tuple[str, ...]:
    """Add events to those that are registered, half by half, and collect the refused ones. Returns all registered."""
    if not more:
        return base
    if _is_accepted(register, (*base, *more)):
        return (*base, *more)
    if len(more) == 1:
        refused.extend(more)
        return base
    return _add_halves(register, base, more, refused)


def _add_halves(register: Register, base: tuple[str, ...], more: Sequence[str], refused: list[str]) -> tuple[str, ...]:
    middle = len(more) // 2
    return _add(register, _add(register, base, more[:middle], refused), more[middle:], refused)


def _is_accepted(register: Register, events: Sequence[str]) -> bool:
    try:
        register(events)
    except RequestRejected:
        return False
    return True
