"""One run of one handler: called, whatever it does, and what is to become of it."""

import inspect
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from app.errors import LONGEST_WAIT, Discard, GiveUp, ReceiverError, RetryAfter
from app.onespan.values import Event, Package
from app.registry import Handler
from app.store.dispatches import Outcome, Taken
from app.types import Clock, clean

log = structlog.get_logger()

# How long we wait after the first, second, ... failed attempt; after the last of them the dispatch is parked.
RETRIES = (
    timedelta(seconds=10),
    timedelta(minutes=1),
    timedelta(minutes=10),
    timedelta(hours=1),
    timedelta(hours=6),
)
ATTEMPTS = len(RETRIES) + 1
ERROR_LENGTH = 4000  # characters of what a handler says, and of a traceback, counted from its end


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one handler, with all it needs."""

    taken: Taken
    handler: Handler
    event: Event
    package: Package


def attempt(run: Run, *, now: Clock) -> Outcome:
    """Run one handler for one event, whatever it does, and say how that went."""
    told: dict[str, Any] = {
        "event_id": run.event.id,
        "name": run.event.name,
        "handler": run.taken.handler,
        "attempt": run.taken.attempt,
    }
    try:
        if inspect.isawaitable(run.handler(run.event, run.package)):
            raise TypeError("the handler is async, so it did not run; handlers are plain functions")  # noqa: TRY301
    except BaseException as error:  # noqa: BLE001  (a handler may raise anything; it ends its own run only)
        return _not_done(run, error, now=now(), told=told)
    log.debug("handler.done", **told)
    return Outcome(run.taken, "done", now())


def _not_done(run: Run, error: BaseException, *, now: datetime, told: Mapping[str, Any]) -> Outcome:
    if isinstance(error, Discard):
        log.info("handler.discarded", **told)
        return Outcome(run.taken, "discarded", now, _reason(error))
    if isinstance(error, GiveUp):
        log.warning("handler.parked", **told)
        return Outcome(run.taken, "parked", now, _reason(error))
    text = _reason(error) if isinstance(error, RetryAfter) else _explain(error)
    if run.taken.attempt >= ATTEMPTS:
        log.warning("handler.parked", error=type(error).__name__, **told)
        return Outcome(run.taken, "parked", now, text)
    wait = _wait(error, run.taken.attempt)
    log.warning("handler.failed", error=type(error).__name__, retry_in=wait.total_seconds(), **told)
    return Outcome(run.taken, "due", now + wait, text)


def _wait(error: BaseException, attempt: int) -> timedelta:
    """How long to wait after this attempt: as the handler says, or as the table does."""
    seconds = getattr(error, "seconds", None) if isinstance(error, RetryAfter) else None
    if isinstance(seconds, float | int) and 0 <= seconds <= LONGEST_WAIT:
        return timedelta(seconds=seconds)
    return RETRIES[attempt - 1]


def hopeless(taken: Taken, now: datetime) -> Outcome:
    """A dispatch that was tried often enough, and whose last attempt ended without a word: its process was killed."""
    before = f"; before that: {taken.error}" if taken.error else ""
    return Outcome(taken, "parked", now, f"the process died during attempt {ATTEMPTS}{before}", counts=False)


def _explain(error: BaseException) -> str:
    """What went wrong in one line, then where. For the database: it may name persons, so no log line has it."""
    head = f"{type(error).__name__}: {_text(error)}"[:ERROR_LENGTH]
    try:
        lines = traceback.format_exception(error)
    except BaseException:  # noqa: BLE001  (it formats the error, which may be anything)
        lines = traceback.format_tb(error.__traceback__)
    return clean(f"{head}\n\n{''.join(lines).rstrip()[-ERROR_LENGTH:]}")


def _reason(end: ReceiverError) -> str:
    """What the handler said of it; a subclass of theirs may say it in a way of its own."""
    return (_text(getattr(end, "detail", None) or end) or type(end).__name__)[:ERROR_LENGTH]


def _text(said: object) -> str:
    """What a handler said, as text that every database takes."""
    try:
        return clean(str(said)[:ERROR_LENGTH])
    except BaseException:  # noqa: BLE001  (an exception may be unable to say what it is)
        return f"a {type(said).__name__} that cannot be shown"
