"""The `flask` commands, a module per family. A command parses options, calls a function and prints the result."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import click
from click import Command
from sqlalchemy.exc import OperationalError, ProgrammingError

from app.checks import Check
from app.cli.callback import callback_group
from app.cli.doctor import doctor_command
from app.cli.hash_password import hash_password_command
from app.cli.rebuild import rebuild_command
from app.cli.reconcile import Turns, reconcile_command
from app.cli.replay import replay_command
from app.cli.setup import setup_command
from app.cli.terminal import Unusable
from app.cli.worker import worker_command
from app.errors import OneSpanError
from app.registry import Handlers
from app.simulator.command import simulate
from app.store.db import Database
from app.types import Clock
from app.work.worker import Worker
from config import Key, Settings, SettingsError, require_settings_file

NO_RIGHTS = ("42501", "3F000")  # PostgreSQL's error codes insufficient_privilege and invalid_schema_name


def commands(
    settings: Settings,
    handlers: Handlers,
    *,
    database: Database,
    worker: Worker,
    turns: Turns,
    clock: Clock,
    schema_problem: Callable[[], str | None],
    critical_checks: Sequence[Check],
    note_checks: Sequence[Check],
) -> list[Command]:
    """Create all commands except `flask db`. Most of them need a database without a `schema_problem`."""
    return [
        setup_command(),
        hash_password_command(),
        with_database(worker_command(worker, schema_problem, warnings=settings.warnings)),
        with_database(replay_command(database, handlers, clock), schema_problem),
        with_database(rebuild_command(database, clock), schema_problem),
        with_database(reconcile_command(database, handlers.onespan, turns, clock), schema_problem),
        with_database(callback_group(settings, handlers)),
        doctor_command(
            settings,
            handlers,
            database=database,
            clock=clock,
            critical_checks=critical_checks,
            note_checks=note_checks,
        ),
        _simulate_command(settings.callback_keys),
    ]


def with_database(command: Command, readiness: Callable[[], str | None] = lambda: None) -> Command:
    """Wrap a command so that it reports a missing settings file, database or OneSpan and exits with code 2."""
    command, run = copy.copy(command), command.invoke  # a copy, because all apps of a process share `flask db`

    def invoke(context: click.Context) -> Any:
        try:
            require_settings_file()
            if problem := readiness():
                raise Unusable(problem)
            return run(context)
        except (SettingsError, OneSpanError) as problem:
            raise Unusable(str(problem)) from None
        except OperationalError as error:
            raise Unusable(f"The database does not answer: {str(error.orig).strip()}") from None
        except ProgrammingError as error:
            if getattr(error.orig, "sqlstate", None) not in NO_RIGHTS:
                raise
            advice = "make the user in DATABASE_URL the owner of the database (ALTER DATABASE name OWNER TO user)"
            raise Unusable(f"The database refuses access: {str(error.orig).partition(chr(10))[0]}; {advice}.") from None

    command.invoke = invoke  # type: ignore[method-assign, assignment]
    return command


def _simulate_command(keys: Sequence[Key]) -> Command:
    """Create the command `flask simulate`, which posts with the newest callback key by default."""
    command = copy.copy(simulate)
    newest = f"first={keys[0].secret.get_secret_value()}" if keys else None
    command.context_settings = {"default_map": {"key": newest}}
    return command
