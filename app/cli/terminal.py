"""What the commands share: a time as a parameter, the bar of progress, and how it is said that something is missing."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click


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
