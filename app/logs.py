"""Log lines: `noun.participle` and data beside it, never inside. No secret, no signer's e-mail, ever."""

import io
import logging
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Literal, TextIO, cast

import structlog
from structlog.typing import Processor

OURS = Path(__file__).parent
PLACES = 5  # of a traceback: our innermost ones, and the last of all


class _Patient(io.TextIOBase):
    """Standard error, or nowhere when it is gone: a line that cannot be written must not end the work it tells of."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write if that is possible."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if that is possible."""
        with suppress(OSError, ValueError):
            self._stream.flush()


def what_and_where(error: BaseException) -> dict[str, object]:
    """An error for a log line: its kind and place, never its text, which may quote a row, and with it a person.

    A database's error is called by its own name, such as `UndefinedTable`.
    """
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames[:-1] if OURS in Path(frame.filename).parents]
    where = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in [*ours[-PLACES:], *frames[-1:]]]
    return {"error": type(getattr(error, "orig", None) or error).__name__, "where": where}


def configure(form: Literal["json", "text"]) -> None:
    """Write our lines to standard error: as JSON for machines, as text for people."""
    last: Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if form == "text"
        else structlog.processors.JSONRenderer()
    )
    # APScheduler would print tracebacks of its own; a turn that fails is logged where it is offered.
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Patient(sys.stderr))),
        cache_logger_on_first_use=False,
    )
