"""Runs a program in a fork of a process that has already imported the service, as imports take most of a start.

The module imports nothing of the tests, so that the fork contains only what a process of the service contains.
"""

import os
import sys
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

PROGRAMS = {
    "flask": "flask.cli:main",
    "gunicorn": "gunicorn.app.wsgiapp:run",
    "simulate": "app.simulator.command:simulate",
}
_forkserver = get_context("forkserver")
_forkserver.set_forkserver_preload(["app", "gunicorn.app.wsgiapp", "gunicorn.workers.gasgi", __name__])


def start(command: list[str], *, env: dict[str, str], folder: Path, log: Path) -> BaseProcess:
    """Start a program with these arguments, and append its output to the file `log`."""
    process = _forkserver.Process(target=_run, args=(command, env, folder, log), daemon=True)
    process.start()
    return process


def _run(command: list[str], env: dict[str, str], folder: Path, log: Path) -> None:
    """Become the program, in a process group of its own."""
    os.setsid()
    with log.open("ab") as output:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(output.fileno(), stream.fileno())
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = env.get("PYTHONPATH", "").split(os.pathsep)
    if command[0] not in PROGRAMS:  # a program that runs other code than that which this process has imported
        os.execve(command[0], command, env)
    sys.argv = command
    module, _, function = PROGRAMS[command[0]].partition(":")
    sys.exit(getattr(import_module(module), function)())
