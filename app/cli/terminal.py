"""What the commands share: a time as a parameter, the bar of progress, how it is said what is well and what is not."""

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
    """What a command needs is not there."""

    exit_code = 2


class Moment(click.ParamType[datetime]):
    """A time in UTC, with or without its time of day."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read it."""
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time; say 2026-01-31 or 2026-01-31T12:00:00Z.", param, ctx)
        try:
            return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
        except OverflowError:
            self.fail(f"{value!r} is outside of the calendar.", param, ctx)


def counted(number: int, noun: str) -> str:
    """A number and what there are so many of."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; elsewhere a line at every tenth of the way."""
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


def beside(head: str, says: str) -> str:
    """Both on one line; on a terminal what is too long for it is wrapped beside the head."""
    return textwrap.fill(
        says,
        shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )


def judge(mark: Mark, about: str, says: str) -> None:
    """Say how something is. On a terminal the mark has a colour."""
    line = beside(f"{mark:4}  {about:13}  ", says)
    click.echo(click.style(mark, fg=COLOURS[mark]) + line[len(mark) :])


def can_ask() -> bool:
    """Whether there is somebody to answer."""
    return sys.stdin.isatty()


def operator() -> str:
    """Who runs the command, for the history."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a user id that has no name, as in many a container
        return f"cli:{os.getuid()}"
