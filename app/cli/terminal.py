"""Shared by the commands: the type of time options, progress, lines with a mark, who runs the command."""

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
COLOURS: Mapping[Mark, str] = {"ok": "green", "warn": "yellow", "FAIL": "red"}


class Unusable(click.ClickException):
    """The command cannot run: something that it needs is missing or does not answer. Exit code 2."""

    exit_code = 2


class Moment(click.ParamType[datetime]):
    """An option value: a date, or a date and time; UTC unless it has an offset."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Parse the value."""
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
    """Show progress: a bar on a terminal, elsewhere a line for every 10 %."""
    if sys.stderr.isatty():
        with click.progressbar(length=total, label=label, file=sys.stderr) as bar:
            yield bar.update
        return
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        before, done = done * 10 // max(total, 1), done + more
        if done * 10 // max(total, 1) > before:
            click.echo(f"{label}: {done} of {total}", err=True)

    yield advance


def beside(head: str, text: str) -> str:
    """Format a text after a head. On a terminal, long text is wrapped and indented."""
    return textwrap.fill(
        text,
        shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize,
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
    """Return whether a person can answer a question."""
    return sys.stdin.isatty()


def operator() -> str:
    """Return who runs the command, for the history."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # the user id has no name, as in many containers
        return f"cli:{os.getuid()}"
