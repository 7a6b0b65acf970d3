"""Structured log lines: a `noun.participle` event name, with data in separate fields.

Secrets and email addresses are never logged.
"""

import io
import logging
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Literal, TextIO, cast

import structlog
from structlog.typing import Processor

APP_DIR = Path(__file__).parent
TRACEBACK_FRAMES = 5  # number of innermost frames in `app/` that are logged, besides the frame that raised


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


def configure(log_format: Literal["json", "text"]) -> None:
    """Write log lines to standard error, as JSON or as readable text."""
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if log_format == "text"
        else structlog.processors.JSONRenderer()
    )
    # Silence APScheduler's own tracebacks; the scheduler module logs a failed turn.
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _SafeStream(sys.stderr))),
        cache_logger_on_first_use=False,
    )
