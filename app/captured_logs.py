"""Log records of gunicorn and other libraries, in the form of the service's own lines.

A library's text may quote a request, a URL or the parameters of a statement. So a line says only which library logged,
where, and the type of the error. The texts of gunicorn that are known to quote no request are shown.
"""

import logging
import re
import sys
import sysconfig
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
from gunicorn.glogging import Logger

from app.logs import error_fields

# Without the level of the service's own logger: that of gunicorn decides (`--log-level`).
log = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET))

LIBRARY_DIRS = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
GUNICORN = "gunicorn.error"
# Beginnings of gunicorn's texts that quote no request.
GUNICORN_TEXTS = re.compile(
    r"Starting gunicorn|Listening at:|Using worker:|ASGI server listening on|Connection in use:|Invalid address:"
    r"|connection to .* failed:|Can't connect to|Booting worker|Worker exiting \(pid:|Worker \(pid:|WORKER TIMEOUT"
    r"|Worker shutting down|Parent changed|Handling signal:|(Ignoring unknown|Unhandled) signal:|Hang up:"
    r"|Shutting down:|Quick shutdown|graceful stop of workers|Master has been promoted|USR2 signal ignored"
    r"|Waiting for \d+ connections|Forcing close of|Autorestarting worker|No keepalived connections"
)


class LibraryRecords(logging.Handler):
    """Writes the records of `logging` as structured lines.

    Records of the integrators' own code keep their text. Of libraries other than gunicorn only warnings and errors are
    written.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            fields = _fields(record)
        except Exception as error:  # noqa: BLE001  (arguments that do not fit the text; logging must not fail)
            fields = {"event": "library.logged", "logger": record.name, **error_fields(error)}
        if fields:
            log.log(record.levelno, **fields)


class ServiceLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """The logger of gunicorn, whose lines become lines of the service. It writes no line for each request."""

    def setup(self, cfg: Any) -> None:
        """Set the level, and send all lines to the service's log, whatever file gunicorn's options name."""
        super().setup(cfg)
        self.error_log.handlers = [LibraryRecords()]
        for name in ("critical", "error", "warning", "info", "debug", "exception"):
            setattr(self, name, getattr(self.error_log, name))  # without gunicorn's wrapper a record knows its caller
        capture_uncaught()

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        """Write nothing: an access line quotes a URL. The proxy in front logs requests."""


def capture_records() -> None:
    """Send the records of all libraries, and of `logging` in handlers, to the service's log."""
    # Silence APScheduler's own tracebacks; the scheduler module logs a failed turn.
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
    root = logging.getLogger()
    if not any(isinstance(handler, LibraryRecords) for handler in root.handlers):
        root.addHandler(LibraryRecords())
        root.setLevel(logging.INFO)


def capture_uncaught() -> None:
    """Log warnings, and errors that end a thread, instead of writing them to standard error with their messages."""

    def log_warning(_: Warning | str, category: type[Warning], filename: str, lineno: int, *__: object) -> None:
        log.warning("python.warned", warning=category.__name__, where=[f"{Path(filename).name}:{lineno}"])

    def log_thread(failure: threading.ExceptHookArgs) -> None:
        if failure.exc_type is not SystemExit:
            error = failure.exc_value or failure.exc_type()
            log.error("thread.failed", thread=failure.thread and failure.thread.name, **error_fields(error))

    def log_unraisable(failure: Any) -> None:
        log.error("object.failed", **error_fields(failure.exc_value or failure.exc_type()))

    logging.raiseExceptions = False  # otherwise `logging` prints the arguments of a record that it cannot format
    warnings.showwarning = log_warning  # type: ignore[assignment]  # Python passes positions
    threading.excepthook = log_thread
    sys.unraisablehook = log_unraisable


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    """Return the fields of a record's line; none if the record is not written."""
    error = record.exc_info[1] if record.exc_info else None
    described = error_fields(error) if error else {}
    if not record.pathname.startswith(LIBRARY_DIRS):
        return {"event": record.getMessage(), "logger": record.name} | described
    described = {"where": [f"{Path(record.pathname).name}:{record.lineno}"]} | described
    if record.name == GUNICORN:
        return _gunicorn_fields(record, described)
    return {"event": "library.logged", "logger": record.name} | described if record.levelno >= logging.WARNING else {}


def _gunicorn_fields(record: logging.LogRecord, described: dict[str, object]) -> dict[str, Any]:
    text = record.getMessage()
    if record.exc_info:
        return {"event": "gunicorn.failed"} | described
    return {"event": "gunicorn.logged"} | ({"text": text} if GUNICORN_TEXTS.match(text) else described)
