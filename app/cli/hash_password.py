"""`flask hash-password`: print an entry for the setting DASHBOARD_USERS."""

import click
from click import Command
from werkzeug.security import generate_password_hash

from config import MIN_PASSWORD_LENGTH, SAFE_SECRET_LENGTH, parse_users


def hash_password_command() -> Command:
    """Create the command `flask hash-password`."""

    @click.command("hash-password")
    @click.argument("name")
    @click.option("--view-only", is_flag=True, help="The user can see everything and change nothing.")
    def command(name: str, *, view_only: bool) -> None:
        """Ask for a user's password and print an entry for DASHBOARD_USERS.

        The password is not shown, and only its hash is printed. Add the entry to DASHBOARD_USERS in the settings file,
        after a comma or a line break, in single quotes: it contains `$`. Then reload the service.
        """
        entry = f"{name}:{'view:' * view_only}{generate_password_hash(_ask())}"
        try:
            parse_users(entry)
        except ValueError:
            message = "use letters, digits, `_`, `.`, `-` and single spaces, at most 60 characters"
            raise click.BadParameter(message, param_hint="NAME") from None
        click.echo(entry)

    return command


def _ask() -> str:
    password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    if len(password) < MIN_PASSWORD_LENGTH or not password.isprintable():
        raise click.UsageError(f"The password needs {MIN_PASSWORD_LENGTH} characters or more, all printable.")
    if len(password) < SAFE_SECRET_LENGTH:
        click.echo(f"Warning: a password with fewer than {SAFE_SECRET_LENGTH} characters can be guessed.", err=True)
    return password
