"""`flask rebuild`: derive the picture again from the journal."""

import sys

import click
from click import Command

from app.cli.terminal import counted, progress
from app.store import journal
from app.store.db import Database
from app.types import Clock
from app.work import rebuild as rebuilding
from app.work.rebuild import Difference

PERSONAL = ("name", "email")
SHOWN = 50  # differences printed one by one; the rest is counted


def rebuild_command(database: Database, clock: Clock) -> Command:
    """The command."""

    @click.command("rebuild")
    @click.option(
        "--check",
        is_flag=True,
        help="Change nothing; exit with 1 when there is any difference, 2 when it could not look.",
    )
    def command(*, check: bool) -> None:
        """Derive the picture again from the journal.

        Says where packages, signers and documents differ from what is stored, and mends them unless --check is given.
        No handler runs.
        """
        found = 0
        with database.read() as connection:
            total = journal.count_packages(connection)
        with progress("Packages", total) as advance:
            for one in rebuilding.rebuild(database, clock=clock, write=not check, progress=advance):
                found += 1
                if found <= SHOWN:
                    click.echo(_difference(one))
        mended = "" if check or not found else ", mended"
        click.echo(f"{counted(total, 'package')}, {counted(found, 'difference')}{mended}.")
        if check and found:
            sys.exit(1)

    return command


def _difference(one: Difference) -> str:
    """One line, without what names a person."""
    hidden = one.subject != "package" and one.attribute in PERSONAL
    values = " differs" if hidden else f": {one.stored!r} -> {one.derived!r}"
    return f"{one.package_id} {one.subject} {one.attribute}{values}"
