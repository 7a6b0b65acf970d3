"""Structured log lines: a `noun.participle` event name, with data in separate fields.

Secrets and email addresses are never logged.
"""

import contextvars
import hashlib
import io
import logging
import os
import re
import socket
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

log = structlog.get_logger()

APP_DIR = Path(__file__).parent
TRACEBACK_FRAMES = 5  # number of innermost frames in `app/` that are logged, besides the frame that raised
EMAIL_ADDRESS = re.compile(r"(?<![^\s@])[^\s@]+@[^\s@]+")  # from the beginning of a word, which takes linear time
# Lines that clients can cause without a key, a token or a login.
REPEATABLE_LINES = {
    *("callback.refused", "callback.too_large", "token.refused", "login.failed", "login.refused"),
    *("request.failed", "request.malformed", "database.unavailable", "library.logged", "gunicorn.failed"),
}
LINES_PER_MINUTE = 20  # lines of one kind that a process writes in a minute, if clients can repeat them at will


class _SafeStream(io.TextIOBase):
    """Standard error that ignores write errors, so that a closed stream never interrupts the work being logged."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text; drop it if the stream is closed."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream; do nothing if the stream is closed."""
        with suppress(OSError, ValueError):
            self._stream.flush()


def error_fields(error: BaseException) -> dict[str, object]:
    """Return the fields that describe an error in a log line: its type and where it was raised.

    The message is left out, because it may quote a row with personal data.
    For a database error the type is the driver's, such as `UndefinedTable`.
    """
    frames = traceback.extract_tb(error.__traceback__)
    app_frames = [frame for frame in frames[:-1] if APP_DIR in Path(frame.filename).parents]
    where = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in [*app_frames[-TRACEBACK_FRAMES:], *frames[-1:]]]
    return {"error": type(getattr(error, "orig", None) or error).__name__, "where": where}


class LineLimit:
    """Holds back lines that clients repeat, so that a flood of requests cannot fill the disk.

    A line `lines.held_back` reports for each kind how many lines are missing, within about a minute if `report` is
    called once a minute.
    """

    def __init__(self, *, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._began = seconds()
        self._counts: Counter[tuple[str, str | None]] = Counter()

    def __call__(self, logger: WrappedLogger, method: str, line: EventDict) -> EventDict:  # noqa: ARG002  (structlog)
        """Return the line, or drop it if there were too many of its kind in this minute."""
        if line["event"] not in REPEATABLE_LINES:
            return line
        if self._seconds() - self._began >= 60:  # noqa: PLR2004  (a minute)
            self.report()
        kind = (line["event"], line.get("logger"))
        with self._lock:
            self._counts[kind] += 1
            is_held_back = self._counts[kind] > LINES_PER_MINUTE
        if is_held_back:
            raise structlog.DropEvent
        return line

    def report(self) -> None:
        """Log how many lines were held back since the last report, and let lines through again."""
        with self._lock:
            counts, self._counts, self._began = self._counts, Counter(), self._seconds()
        for (event, name), number in counts.items():
            if number > LINES_PER_MINUTE:
                fields = {"line": event, "lines": number - LINES_PER_MINUTE} | ({"logger": name} if name else {})
                # In an empty context, because the lines belong to many requests.
                contextvars.Context().run(log.warning, "lines.held_back", **fields)


def configure(log_format: Literal["json", "text"], *, process: Callable[[], str | None] = lambda: None) -> LineLimit:
    """Write log lines to standard error, as JSON or as readable text.

    `process` returns the name of this process, or None before it has one. The result limits repeated lines; call its
    `report` every minute.
    """
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if log_format == "text"
        else structlog.processors.JSONRenderer()
    )
    limit = LineLimit()
    structlog.configure(
        processors=[
            limit,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _origin(process),
            _describe_error,
            _hide_addresses,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _SafeStream(sys.stderr))),
        cache_logger_on_first_use=False,
    )
    return limit


@cache
def code_version() -> str:
    """Return a text that differs between two versions of the code in `app/`, the handlers included."""
    digest = hashlib.sha256()
    for module in sorted(APP_DIR.rglob("*.py")):
        digest.update(module.read_bytes())
    return digest.hexdigest()[:12]


def _origin(process: Callable[[], str | None]) -> Processor:
    """Return a processor that adds where a line comes from; a field of the same name in the line remains."""
    fixed = {"host": socket.gethostname(), "version": code_version()}

    def add_origin(logger: WrappedLogger, method: str, line: EventDict) -> EventDict:  # noqa: ARG001  (structlog)
        first = {"timestamp": line["timestamp"], "level": line["level"], "event": line["event"]}
        return {**first, "process": process() or f"{fixed['host']}:{os.getpid()}", **fixed, **line}

    return add_origin


def _describe_error(logger: WrappedLogger, method: str, line: EventDict) -> EventDict:  # noqa: ARG001  (structlog)
    """Replace the error of `log.exception` by its type and place, because its message may quote personal data."""
    line.pop("stack_info", None)
    match line.pop("exc_info", None):
        case BaseException() as error:
            pass
        case (_, error, _):
            pass
        case exc_info:
            error = sys.exc_info()[1] if exc_info else None
    return {**error_fields(error), **line} if error else line


def _hide_addresses(logger: WrappedLogger, method: str, line: EventDict) -> EventDict:  # noqa: ARG001  (structlog)
    return {name: _without_addresses(value) for name, value in line.items()}


def _without_addresses(value: Any) -> Any:
    """Return a value of a log line in which each email address is replaced by `***`."""
    match value:
        case None | int() | float():
            return value
        case str():
            return EMAIL_ADDRESS.sub("***", value) if "@" in value else value
        case Mapping():
            return {_without_addresses(str(name)): _without_addresses(item) for name, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_without_addresses(item) for item in value]
    return _without_addresses(repr(value))
