"""The commands, one module for each family: they parse, call one function, and say what came of it."""

import copy
from collections.abc import Callable
from typing import Any

import click
from click import Command
from sqlalchemy.exc import OperationalError

from app.cli.rebuild import rebuild_command
from app.cli.replay import replay_command
from app.cli.setup import setup_command
from app.cli.terminal import Unusable
from app.cli.worker import worker_command
from app.simulator.command import simulate
from app.store.db import Database
from app.work.attempt import Clock
from app.work.dispatch import Handlers
from app.work.worker import Worker
from config import SettingsError, require_settings_file

Check = Callable[[], str | None]


def commands(
    database: Database,
    worker: Worker,
    *,
    handlers: Handlers,
    clock: Clock,
    readiness: Check,
    callback_key: str | None,
) -> list[Command]:
    """All commands of this service, but for `flask db`. `readiness` says what is wrong with the database."""
    return [
        setup_command(),
        with_database(worker_command(worker, readiness)),
        with_database(replay_command(database, handlers, clock), readiness),
        with_database(rebuild_command(database, clock), readiness),
        _simulate_command(callback_key),
    ]


def with_database(command: Command, readiness: Check = lambda: None) -> Command:
    """The same command; where its settings file or its database is not as it must be it says so, and exits with 2."""
    run = command.invoke

    def invoke(context: click.Context) -> Any:
        try:
            require_settings_file()
            if problem := readiness():
                raise Unusable(problem)
            return run(context)
        except SettingsError as problem:
            raise Unusable(str(problem)) from None
        except OperationalError as error:
            raise Unusable(f"The database does not answer: {str(error.orig).strip()}") from None

    command.invoke = invoke  # type: ignore[method-assign, assignment]
    return command


def _simulate_command(callback_key: str | None) -> Command:
    """The simulator's, which by default posts with our key."""
    command = copy.copy(simulate)
    command.context_settings = {"default_map": {"key": f"first={callback_key}" if callback_key else None}}
    return command
