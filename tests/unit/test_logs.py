"""Tests of log lines: their form, what they leave out, and the limit of lines that clients repeat."""

import io
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from typing import Any

import pytest
import structlog
from gunicorn.config import Config

from app import captured_logs, logs
from app.captured_logs import LibraryRecords, ServiceLogger
from app.logs import LINES_PER_MINUTE, LineLimit

PERSON = "ada@example.com"
LIBRARY = f"{captured_logs.LIBRARY_DIRS[0]}/library.py"


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """A stream in place of standard error, to which lines are written as JSON."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logs.configure("json", process=lambda: "host:1:abc")
    yield stream
    structlog.reset_defaults()


@pytest.fixture
def lines(stream: io.StringIO) -> Callable[[], list[dict[str, Any]]]:
    """The lines that were written."""
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def record(text: str, *arguments: object, name: str = "urllib3", level: int = logging.WARNING, **more: Any) -> None:
    """Handle a record as if a library had logged it, or another `path`."""
    error = more.get("error")
    made = logging.LogRecord(
        name, level, more.get("path", LIBRARY), 7, text, arguments, (type(error), error, None) if error else None
    )
    LibraryRecords().handle(made)


def fail(text: str) -> None:
    """Raise an error with this text."""
    raise ValueError(text)


def test_every_line_says_when_and_where_it_was_written(lines):
    """A line begins with time, level and name, then process, host and version."""
    structlog.get_logger().info("callback.accepted", journal_id=1)

    assert list(lines()[0]) == ["timestamp", "level", "event", "process", "host", "version", "journal_id"]
    assert lines()[0]["process"] == "host:1:abc"
    assert lines()[0]["version"] == logs.code_version()


def test_readable_lines_have_the_same_fields(stream, lines):
    """With LOG_FORMAT=text a line has the same fields, and no address."""
    with redirect_stderr(stream):
        logs.configure("text", process=lambda: "host:1:abc")

    structlog.get_logger().warning("mail.sent", to=PERSON)

    written = stream.getvalue()
    assert all(part in written for part in ("mail.sent", "warning", "host:1:abc", "version=", "***"))
    assert PERSON not in written


@pytest.mark.parametrize(
    "value",
    [f"to {PERSON}", [PERSON], {"to": (PERSON, 1)}, {PERSON: 1}, ValueError(PERSON), b"ada@example.com", f"<{PERSON}>"],
    ids=str,
)
def test_addresses_are_hidden_in_every_value(stream, lines, value):
    """Email addresses are hidden in texts, lists, objects and errors of any line, those of handlers included."""
    structlog.get_logger().info(f"mail to {PERSON}", value=value, number=1.5, flag=True, nothing=None)

    assert "ada@" not in stream.getvalue()
    assert "***" in str(lines()[0]["value"])
    assert (lines()[0]["number"], lines()[0]["flag"], lines()[0]["nothing"]) == (1.5, True, None)


def test_error_of_a_line_is_its_type_and_place(lines):
    """`log.exception` names the type of the error and where it was raised, without message and traceback."""
    log = structlog.get_logger()
    try:
        fail(PERSON)
    except ValueError as error:
        log.exception("mail.failed", stack_info=True)
        log.warning("mail.failed", exc_info=error)
        log.warning("mail.failed", exc_info=sys.exc_info())
    log.exception("mail.failed")  # noqa: LOG004  (there is no error)

    *failed, without = [{key: line.get(key) for key in ("event", "error")} for line in lines()]
    assert failed == [{"event": "mail.failed", "error": "ValueError"}] * 3
    assert without == {"event": "mail.failed", "error": None}
    assert all(line["where"][0].startswith("test_logs.py:") for line in lines()[:3])


def test_text_of_a_library_is_left_out(lines):
    """Of a library a line has only the name, the place and the type of an error; it has none below a warning."""
    record("Retrying %s", f"/?q={PERSON}", error=ValueError("canary"))
    record("GET /?canary 200", level=logging.INFO)
    record("canary: %d", "no number", name="asyncio")

    assert [(line["event"], line["logger"], line.get("error")) for line in lines()] == [
        ("library.logged", "urllib3", "ValueError"),
        ("library.logged", "asyncio", None),
    ]
    assert "canary" not in str(lines())


def test_text_of_a_handlers_own_logger_is_kept(lines):
    """Records of code outside of libraries keep their text, without addresses; a wrong record is named."""
    record("invoice %d for %s", 7, PERSON, path="/srv/app/handlers.py", name="billing", level=logging.INFO)
    record("invoice %d", "seven", path="/srv/app/handlers.py", name="billing")

    assert [(line["event"], line["logger"]) for line in lines()] == [
        ("invoice 7 for ***", "billing"),
        ("library.logged", "billing"),
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Booting worker with pid: 7", "Booting worker with pid: 7"),
        ("Worker (pid:7) was sent SIGKILL! Perhaps out of memory?", "Worker (pid:7) was sent SIGKILL!"),
        ("Error handling request GET /?canary", None),
        ("Exception during worker exit:\ncanary", None),
    ],
)
def test_gunicorn_shows_only_texts_without_requests(lines, text, shown):
    """Lines of gunicorn about processes and signals keep their text; others name the place in gunicorn's code."""
    record(text, name="gunicorn.error")

    (line,) = lines()
    assert line["event"] == "gunicorn.logged"
    assert line.get("text", "").startswith(shown or "")
    assert ("text" in line, line.get("where")) == ((True, None) if shown else (False, ["library.py:7"]))
    assert "canary" not in str(line)


def test_masking_of_addresses_takes_linear_time(lines):
    """A long text without spaces, such as a document in base64, is searched for addresses in a moment."""
    started = time.monotonic()
    record("to ada@example.com: @" + "a" * 200_000)

    (line,) = lines()
    assert "ada@" not in line["event"]
    assert time.monotonic() - started < 1


def test_gunicorns_logger_keeps_its_level_and_names_callers(lines, monkeypatch):
    """Gunicorn's options set the level; own code may use gunicorn's logger; no access line is written."""
    for hook in ("threading.excepthook", "warnings.showwarning", "sys.unraisablehook", "logging.raiseExceptions"):
        monkeypatch.setattr(hook, None)
    cfg = Config()
    cfg.set("loglevel", "warning")
    cfg.set("accesslog", "-")

    logger = ServiceLogger(cfg)
    logger.info("Booting worker with pid: %s", 7)
    logger.warning("reload refused: %s", "a reason")
    logger.access(None, None, {}, None)
    logging.getLogger("gunicorn.error").handlers.clear()

    assert [line["event"] for line in lines()] == ["reload refused: a reason"]


class Seconds:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    """The clock of the limit."""
    return Seconds()


@pytest.fixture
def pass_line(stream, seconds) -> Callable[[str], bool]:
    """Return a function that passes a line to a limit and returns whether the limit lets it through."""
    limit = LineLimit(seconds=seconds)

    def pass_line(event: str) -> bool:
        try:
            return bool(limit(None, "info", {"event": event}))
        except structlog.DropEvent:
            return False

    pass_line.limit = limit
    return pass_line


def test_repeated_lines_are_held_back_and_counted(lines, pass_line, seconds):
    """Of lines that clients repeat, 20 a minute are written; a line then says how many were not."""
    passed = [pass_line("callback.refused") for _ in range(LINES_PER_MINUTE + 5)]
    others = [pass_line("token.refused"), *(pass_line("callback.accepted") for _ in range(LINES_PER_MINUTE + 5))]

    assert passed == [True] * LINES_PER_MINUTE + [False] * 5
    assert all(others)
    assert lines() == []

    seconds.now = 59
    assert not pass_line("callback.refused")
    seconds.now = 60
    structlog.contextvars.bind_contextvars(request_id="of this request only")
    assert pass_line("callback.refused")
    structlog.contextvars.clear_contextvars()

    (line,) = lines()
    assert (line["event"], line["line"], line["lines"]) == ("lines.held_back", "callback.refused", 6)
    assert "request_id" not in line


def test_report_loses_no_count(lines, pass_line):
    """The report of each minute, and that at the end, names what is held back, and nothing twice."""
    for _ in range(LINES_PER_MINUTE + 3):
        pass_line("login.failed")
    pass_line.limit.report()
    pass_line.limit.report()

    assert [(line["line"], line["lines"]) for line in lines()] == [("login.failed", 3)]
    assert pass_line("login.failed")
