"""`flask setup`: settings with fresh secrets, and where everything is."""

import socket

import click
from click import Command
from sqlalchemy import make_url

from config import ROOT, generate_settings, load_settings, settings_file

FIRST_CALLBACK = """
Send a first callback, from another terminal:

  . {file}
  curl {address}/onespan/callback -H "Authorization: Basic ${{ONESPAN_CALLBACK_KEYS#*=}}" \\
    -d '{{"name":"PACKAGE_ACTIVATE","packageId":"my-first-package","createdDate":"2026-01-31T12:00:00.000Z"}}'

and see what became of it at {address}/, or as JSON:

  curl {address}/api/packages/my-first-package -H "Authorization: Bearer ${{API_TOKENS#*=}}"
"""


def setup_command() -> Command:
    """The command."""

    @click.command("setup")
    def command() -> None:
        """Write settings with fresh secrets.

        To instance/settings.env, or SETTINGS_FILE, where there is none; and say where everything is.
        """
        file = settings_file()
        made = generate_settings(file)
        settings = load_settings()
        address = settings.address
        click.echo(f"Settings   {file}{' (made just now, with fresh secrets)' if made else ''}")
        click.echo(f"Database   {make_url(settings.database_url.get_secret_value()).set(query={})!r}")
        click.echo(f"Handlers   {ROOT / 'app' / 'handlers.py'}")
        click.echo(f"Callbacks  {address}/onespan/callback")
        click.echo(f"Pages      {address}/ (log in with DASHBOARD_PASSWORD)")
        click.echo(f"JSON API   {address}/api/")
        click.echo(f"Health     {address}/readyz")
        if _answers(settings.bind):
            click.echo(f"\nSomething listens at {settings.bind} already: stop it, or choose another BIND.", err=True)
        click.echo(FIRST_CALLBACK.format(file=file, address=address))

    return command


def _answers(bind: str) -> bool:
    """Whether a port is taken; a socket in the file system gunicorn takes over."""
    host, _, port = bind.rpartition(":")
    if bind.startswith("unix:"):
        return False
    with socket.socket(socket.AF_INET6 if "[" in host else socket.AF_INET) as caller:
        caller.settimeout(1)
        return caller.connect_ex((host.strip("[]") or "127.0.0.1", int(port))) == 0
