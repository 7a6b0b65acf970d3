"""Helpers of the commands: the type of time options, progress, results of checks, and the user's name."""

import getpass
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Literal

import click

Mark = Literal["ok", "warn", "FAIL"]
MAX_COLUMNS = 100  # the longest line of a wrapped text
COLOURS: Mapping[Mark, str] = {"ok": "green", "warn": "yellow", "FAIL": "red"}


class Unusable(click.ClickException):
    """An error with exit code 2: something that the command needs is missing or does not answer."""

    exit_code = 2


class Moment(click.ParamType[datetime]):
    """The type of a time option: a date, or a date and time, in UTC unless an offset is given."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time that the text of an option names, in UTC."""
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a time. Use a form like 2026-01-31 or 2026-01-31T12:00:00Z.", param, ctx)
        try:
            return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
        except OverflowError:
            self.fail(f"{value!r} is out of range.", param, ctx)


def counted(number: int, noun: str) -> str:
    """Format a number with its noun: `1 run`, `2 runs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show progress as a bar on a terminal, and as a line for every 10 % elsewhere."""
    if sys.stderr.isatty():
        with click.progressbar(length=total, label=label, file=sys.stderr) as bar:
            yield bar.update
        return
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        before, done = done * 10 // max(total, 1), done + more
        if done * 10 // max(total, 1) > before:
            click.echo(f"{label}: {done} of {max(done, total)}", err=True)

    yield advance


def beside(head: str, text: str) -> str:
    """Format a text after a heading. On a terminal, a long text is wrapped and indented."""
    return textwrap.fill(
        text,
        min(shutil.get_terminal_size().columns, MAX_COLUMNS) if sys.stdout.isatty() else sys.maxsize,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )


def print_result(mark: Mark, about: str, text: str) -> None:
    """Print the result of a check on one line. On a terminal the mark is coloured."""
    line = beside(f"{mark:4}  {about:13}  ", text)
    click.echo(click.style(mark, fg=COLOURS[mark]) + line[len(mark) :])


def is_interactive() -> bool:
    """Return whether the command runs on a terminal, where a user can answer a question."""
    return sys.stdin.isatty()


def operator() -> str:
    """Return the name of the user who runs the command, for the history."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # the user id has no user name, as in many containers
        return f"cli:{os.getuid()}"
