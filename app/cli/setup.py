"""`flask setup`: create settings with new secrets, and print the addresses of the service."""

import socket

import click
from click import Command
from sqlalchemy import make_url

from config import ROOT, generate_settings, load_settings, settings_file

FIRST_CALLBACK = """
Send a first callback from another terminal:

  . {file}
  curl {address}/onespan/callback -H "Authorization: Basic ${{ONESPAN_CALLBACK_KEYS#*=}}" \\
    -d '{{"name":"PACKAGE_ACTIVATE","packageId":"my-first-package","createdDate":"2026-01-31T12:00:00.000Z"}}'

See the result at {address}/, or as JSON:

  curl {address}/api/packages/my-first-package -H "Authorization: Bearer ${{API_TOKENS#*=}}"
"""


def setup_command() -> Command:
    """Create the command `flask setup`."""

    @click.command("setup")
    def command() -> None:
        """Create a settings file with new secrets.

        Writes instance/settings.env (or SETTINGS_FILE) unless it exists. Then prints the database, the addresses of
        the service, and a curl command that sends a first callback.
        """
        file = settings_file()
        created = generate_settings(file)
        settings = load_settings()
        address = settings.address
        click.echo(f"Settings   {file}{' (created, with new secrets)' if created else ''}")
        click.echo(f"Database   {make_url(settings.database_url.get_secret_value()).set(query={})!r}")
        click.echo(f"Handlers   {ROOT / 'app' / 'handlers.py'}")
        click.echo(f"Callbacks  {address}/onespan/callback")
        click.echo(f"Pages      {address}/ (log in with DASHBOARD_PASSWORD)")
        click.echo(f"JSON API   {address}/api/")
        click.echo(f"Health     {address}/readyz")
        if _is_taken(settings.bind):
            text = f"\n{settings.bind} is already in use. Stop the program that uses it, or set another BIND."
            click.echo(text, err=True)
        click.echo(FIRST_CALLBACK.format(file=file, address=address))

    return command


def _is_taken(bind: str) -> bool:
    """Return whether another program listens at a port; a Unix socket is free, because Gunicorn replaces it."""
    host, _, port = bind.rpartition(":")
    if bind.startswith("unix:"):
        return False
    with socket.socket(socket.AF_INET6 if "[" in host else socket.AF_INET) as client:
        client.settimeout(1)
        return client.connect_ex((host.strip("[]") or "127.0.0.1", int(port))) == 0
