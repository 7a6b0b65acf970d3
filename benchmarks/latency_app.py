"""The service with one handler, which notes when it began: gunicorn starts `benchmarks.latency_app:create()`."""

import os
import time

from flask import Flask

from app import create_app
from app.handling import Event, Handlers, Package


def create() -> Flask:
    """The app; `BENCHMARK_NOTES` names the file that gets a line `sent began` of every event."""
    handlers = Handlers()
    notes = os.open(os.environ["BENCHMARK_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    @handlers.on("*")
    def note(event: Event, package: Package) -> None:  # noqa: ARG001  (handlers take both)
        os.write(notes, f"{event.message} {time.time():.6f}\n".encode())

    return create_app(handlers=handlers)
