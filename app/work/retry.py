"""One attempt of a handler: call the handler, catch every error, and decide whether and when to retry."""

import inspect
import traceback
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from structlog.contextvars import bound_contextvars

from app.errors import MAX_RETRY_AFTER_SECONDS, Discard, GiveUp, ReceiverError, RetryAfter
from app.onespan.values import Event, Package
from app.registry import Handler
from app.store.dispatches import Outcome, TakenDispatch
from app.store.states import DispatchState
from app.types import Clock, clean

log = structlog.get_logger()

# Delays after the first, second, ... failed attempt. When the last retry fails too, the dispatch is parked.
HANDLER_RETRY_DELAYS = (
    timedelta(seconds=10),
    timedelta(minutes=1),
    timedelta(minutes=10),
    timedelta(hours=1),
    timedelta(hours=6),
)
ATTEMPTS = len(HANDLER_RETRY_DELAYS) + 1
ERROR_LENGTH = 4000  # characters of an error message, and of the end of its traceback


@dataclass(frozen=True, slots=True)
class HandlerRun:
    """A taken dispatch with its handler and the arguments of the call."""

    taken: TakenDispatch
    handler: Handler
    event: Event
    package: Package


def attempt(run: HandlerRun, *, now: Clock) -> Outcome:
    """Run one handler for one event. The function never raises: the outcome has the error."""
    fields: dict[str, Any] = {
        "package_id": run.taken.package_id,
        "event_id": run.event.id,
        "dispatch_id": run.taken.id,
        "name": run.event.name,
        "handler": run.taken.handler,
        "attempt": run.taken.attempt,
    }
    try:
        with bound_contextvars(**fields):  # the handler's own lines carry them too
            if inspect.isawaitable(run.handler(run.event, run.package)):
                raise TypeError("the handler is async, so it did not run; handlers are plain functions")  # noqa: TRY301
    except BaseException as error:  # noqa: BLE001  (a handler may raise anything; only its own run ends)
        return failed(run.taken, error, now=now(), **fields)
    log.debug("handler.done", **fields)
    return Outcome(run.taken, DispatchState.DONE, now())


def failed(taken: TakenDispatch, error: BaseException, *, now: datetime, **fields: Any) -> Outcome:
    """Return the outcome of an attempt that raised this error, and log it with these fields."""
    if isinstance(error, Discard):
        log.info("handler.discarded", **fields)
        return Outcome(taken, DispatchState.DISCARDED, now, _reason(error))
    if isinstance(error, GiveUp):
        log.warning("handler.parked", **fields)
        return Outcome(taken, DispatchState.PARKED, now, _reason(error))
    text = _reason(error) if isinstance(error, RetryAfter) else _explain(error)
    if taken.attempt >= ATTEMPTS:
        log.warning("handler.parked", error=type(error).__name__, **fields)
        return Outcome(taken, DispatchState.PARKED, now, text)
    delay = _delay(error, taken.attempt)
    log.warning("handler.failed", error=type(error).__name__, retry_in=delay.total_seconds(), **fields)
    return Outcome(taken, DispatchState.DUE, now + delay, text)


def _delay(error: BaseException, attempt: int) -> timedelta:
    """Return the delay after this attempt: that of `RetryAfter`, otherwise that of `HANDLER_RETRY_DELAYS`."""
    seconds = getattr(error, "seconds", None) if isinstance(error, RetryAfter) else None
    if isinstance(seconds, float | int) and 0 <= seconds <= MAX_RETRY_AFTER_SECONDS:
        return timedelta(seconds=seconds)
    return HANDLER_RETRY_DELAYS[attempt - 1]


def not_started(taken: TakenDispatch, *, now: datetime) -> Outcome:
    """Return the outcome of a run that got no thread. It does not count as an attempt."""
    due_at = now + HANDLER_RETRY_DELAYS[0]
    return Outcome(taken, DispatchState.DUE, due_at, "the machine had no thread left", counts=False)


def poisoned(taken: TakenDispatch, now: datetime) -> Outcome:
    """Park a dispatch whose last attempt has no result, because its process was killed during that attempt."""
    earlier = f"; before that: {taken.error}" if taken.error else ""
    return Outcome(
        taken, DispatchState.PARKED, now, f"the process died during attempt {ATTEMPTS}{earlier}", counts=False
    )


def _explain(error: BaseException) -> str:
    """Describe an error for the database: one line, then the traceback.

    The description may name persons, so it is never logged.
    """
    head = f"{type(error).__name__}: {_text(error)}"[:ERROR_LENGTH]
    try:
        lines = traceback.format_exception(error)
    except BaseException:  # noqa: BLE001  (formatting calls methods of the error, which may raise)
        lines = traceback.format_tb(error.__traceback__)
    return clean(f"{head}\n\n{''.join(lines).rstrip()[-ERROR_LENGTH:]}")


def _reason(error: ReceiverError) -> str:
    """Return the reason that the handler gave, or else the name of the exception."""
    return (_text(getattr(error, "detail", None) or error) or type(error).__name__)[:ERROR_LENGTH]


def _text(value: object) -> str:
    """Convert a value to text that every database accepts."""
    try:
        return clean(str(value)[:ERROR_LENGTH])
    except BaseException:  # noqa: BLE001  (`__str__` of an exception may raise)
        return f"a {type(value).__name__} that cannot be shown"
