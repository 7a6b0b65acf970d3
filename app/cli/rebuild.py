"""`flask rebuild`: derive the package tables again from the journal."""

import sys

import click
from click import Command

from app.cli.terminal import counted, progress
from app.store import journal, versions
from app.store.db import Database
from app.types import Clock
from app.work import rebuild as rebuilding
from app.work.rebuild import Difference

PERSONAL = ("name", "email")  # attributes that may name a person, so their values are not printed
MAX_PRINTED = 50  # number of differences to print; further differences are only counted


def rebuild_command(database: Database, clock: Clock) -> Command:
    """Create the command `flask rebuild`."""

    @click.command("rebuild")
    @click.option(
        "--check",
        is_flag=True,
        help="Change nothing. Exits with 1 if there is a difference, 2 if the check cannot run.",
    )
    def command(*, check: bool) -> None:
        """Rebuild all packages from the journal.

        Prints where stored packages, signers and documents differ from the journal, and repairs them. With --check
        nothing is changed, and packages that the worker derives again after an upgrade are left out. No handler runs.
        """
        count = 0
        with database.read() as connection:
            total = journal.count_packages(connection)
            outdated = versions.count_outdated(connection) if check else 0
        with progress("Packages", total) as advance:
            for difference in rebuilding.rebuild(database, clock=clock, write=not check, progress=advance):
                count += 1
                if count <= MAX_PRINTED:
                    click.echo(_line(difference))
        repaired = "" if check or not count else ", repaired"
        click.echo(f"{counted(total, 'package')}, {counted(count, 'difference')}{repaired}.")
        if outdated:
            click.echo(f"{counted(outdated, 'package')} not checked: the worker derives them again after the upgrade.")
        if check and count:
            sys.exit(1)

    return command


def _line(difference: Difference) -> str:
    """Format a difference between a stored and a derived value, without values that name a person."""
    is_hidden = difference.subject != "package" and difference.attribute in PERSONAL
    values = " differs" if is_hidden else f": {difference.stored!r} -> {difference.derived!r}"
    return f"{difference.package_id} {difference.subject} {difference.attribute}{values}"
